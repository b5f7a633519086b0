"""What the Job controller makes of Jobs, with pods that really run."""

from collections.abc import Iterator

import pytest

from primo_local.cluster import LocalCluster
from support.local_cluster import (
    FOR_EVER,
    Namespace,
    condition,
    ended,
    gpus,
    namespace_in,
    needs_proc,
    processes,
    shell,
    sidecar,
)
from support.waiting import eventually

pytestmark = pytest.mark.cluster

SECOND_TRY = "test -e /data/once || { touch /data/once; exit 1; }"
CLAIM = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
DATA = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
MOUNT = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("local")
    with LocalCluster.start(folder / "state", workdir=folder, job_backoff_s=0.2) as cluster:
        yield cluster


@pytest.fixture
def ns(running: LocalCluster) -> Iterator[Namespace]:
    with namespace_in(running) as ns:
        yield ns


def test_a_job_is_complete_when_its_pod_is(ns: Namespace) -> None:
    ns.run_job("j", shell("exit 0"), initContainers=[sidecar()])
    job = ns.wait_condition("jobs", "j", "Complete")
    assert condition(job, "SuccessCriteriaMet")["reason"] == "CompletionsReached"
    assert job["status"]["succeeded"] == 1
    assert "active" not in job["status"]
    assert job["status"]["uncountedTerminatedPods"] == {}
    pod = ns.pod_of("j")
    assert ended(pod, "sidecar")["message"] == "final"
    assert not pod["metadata"].get("finalizers")
    labels = pod["metadata"]["labels"]
    for key in ("batch.kubernetes.io/controller-uid", "controller-uid"):
        assert labels[key] == job["metadata"]["uid"]
    eventually(lambda: {"SuccessfulCreate", "Completed"} <= set(ns.reasons("j")), "its events")


def test_a_job_that_may_not_repeat_fails_with_its_pod(ns: Namespace) -> None:
    ns.run_job("j", shell("exit 1"))
    job = ns.wait_condition("jobs", "j", "Failed")
    for name in ("FailureTarget", "Failed"):
        assert condition(job, name)["reason"] == "BackoffLimitExceeded"
    assert job["status"]["failed"] == 1
    assert ns.pod_of("j")["status"]["phase"] == "Failed"


def test_a_failed_pod_is_replaced_within_the_backoff_limit(ns: Namespace) -> None:
    ns.create("persistentvolumeclaims", "data", spec=CLAIM)
    ns.run_job("j", shell(SECOND_TRY, **MOUNT), job={"backoffLimit": 2}, volumes=[DATA])
    job = ns.wait_condition("jobs", "j", "Complete")
    assert (job["status"]["succeeded"], job["status"]["failed"]) == (1, 1)
    assert sorted(pod["status"]["phase"] for pod in ns.items("pods")) == ["Failed", "Succeeded"]


def test_a_failure_that_the_policy_names_ends_the_job_at_once(ns: Namespace) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    limits = {"backoffLimit": 5, "podFailurePolicy": {"rules": [rule]}}
    ns.run_job("j", shell("exit 42"), job=limits)
    job = ns.wait_condition("jobs", "j", "Failed")
    assert condition(job, "Failed")["reason"] == "PodFailurePolicy"
    assert "exit code 42" in condition(job, "Failed")["message"]


def test_a_job_past_its_deadline_fails_when_its_pod_has_gone(ns: Namespace) -> None:
    limits = {"activeDeadlineSeconds": 1}
    ns.run_job("j", shell(FOR_EVER), job=limits, initContainers=[sidecar()])
    job = ns.wait_condition("jobs", "j", "Failed")
    assert condition(job, "Failed")["reason"] == "DeadlineExceeded"
    assert ns.items("pods") == []


def test_a_job_runs_its_completions_a_few_at_a_time(ns: Namespace) -> None:
    counts = {"completions": 5, "parallelism": 3}
    ns.run_job("j", shell("exit 0", resources=gpus(1)), job=counts)
    job = ns.wait_condition("jobs", "j", "Complete")
    assert job["status"]["succeeded"] == 5
    assert len(ns.items("pods")) == 5


def test_a_suspended_job_gives_up_its_pod_and_makes_another_when_resumed(ns: Namespace) -> None:
    ns.run_job("j", shell(FOR_EVER))
    first = ns.pod_of("j")["metadata"]["name"]
    ns.wait_phase(first, "Running")
    ns.patch("jobs", "j", {"spec": {"suspend": True}})
    ns.wait_condition("jobs", "j", "Suspended")
    ns.wait_gone("pods", first)
    ns.patch("jobs", "j", {"spec": {"suspend": False}})
    second = ns.pod_of("j")["metadata"]["name"]
    assert second != first
    ns.wait_phase(second, "Running")
    job = ns.wait_condition("jobs", "j", "Suspended", "False")
    assert "failed" not in job["status"]


def test_a_pod_deleted_under_a_job_counts_as_failed(ns: Namespace) -> None:
    ns.run_job("j", shell(FOR_EVER))
    pod = ns.pod_of("j")["metadata"]["name"]
    ns.wait_phase(pod, "Running")
    ns.delete("pods", pod)
    job = ns.wait_condition("jobs", "j", "Failed")
    assert condition(job, "Failed")["reason"] == "BackoffLimitExceeded"
    ns.wait_gone("pods", pod)


@needs_proc
@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
def test_a_deleted_job_leaves_neither_pod_nor_process(ns: Namespace, propagation: str) -> None:
    mark = {"name": "MARK", "value": f"{ns.name}-{ns.cluster.state_dir}"}
    ns.run_job("j", shell(FOR_EVER, env=[mark]), initContainers=[sidecar(env=[mark])])
    pod = ns.pod_of("j")["metadata"]["name"]
    ns.wait_phase(pod, "Running")
    assert processes(f"MARK={mark['value']}")
    ns.delete("jobs", "j", propagationPolicy=propagation)
    ns.wait_gone("jobs", "j")
    ns.wait_gone("pods", pod)
    assert processes(f"MARK={mark['value']}") == set()


def test_a_pod_that_its_job_has_left_behind_can_be_deleted(ns: Namespace) -> None:
    ns.run_job("j", shell(FOR_EVER))
    pod = ns.pod_of("j")["metadata"]["name"]
    ns.wait_phase(pod, "Running")
    ns.delete("jobs", "j", propagationPolicy="Orphan")
    ns.wait_gone("jobs", "j")
    ns.delete("pods", pod)
    ns.wait_gone("pods", pod)


def test_a_finished_job_goes_when_its_time_has_come(ns: Namespace) -> None:
    ns.run_job("j", shell("exit 0"))
    ns.wait_condition("jobs", "j", "Complete")
    pod = ns.pod_of("j")["metadata"]["name"]
    ns.patch("jobs", "j", {"spec": {"ttlSecondsAfterFinished": 0}})
    ns.wait_gone("jobs", "j")
    ns.wait_gone("pods", pod)
