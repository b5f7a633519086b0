"""What the process node makes of pods, as the API shows it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from primo_local.cluster import LocalCluster
from support.local_cluster import (
    FOR_EVER,
    Namespace,
    Obj,
    condition,
    container_status,
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

MESSAGE = "/dev/termination-log"
DEAF = 'trap "" TERM; echo deaf; while :; do sleep 0.05; done'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("local")
    with LocalCluster.start(folder / "state", gpus=2, workdir=folder) as cluster:
        yield cluster


@pytest.fixture
def ns(running: LocalCluster) -> Iterator[Namespace]:
    with namespace_in(running) as ns:
        yield ns


# --- how containers end


@pytest.mark.parametrize(
    ("script", "phase", "code", "reason"),
    [
        pytest.param("exit 0", "Succeeded", 0, "Completed", id="zero is success"),
        pytest.param("exit 3", "Failed", 3, "Error", id="anything else is not"),
        pytest.param("kill -9 $$$$", "Failed", 137, "Error", id="a signal counts from 128"),
    ],
)
def test_a_pod_ends_as_its_main_container_does(
    ns: Namespace, script: str, phase: str, code: int, reason: str
) -> None:
    ns.run_pod("p", shell(f"printf said >{MESSAGE}; {script}"))
    pod = ns.wait_phase("p", "Succeeded", "Failed")
    assert pod["status"]["phase"] == phase
    end = ended(pod)
    assert (end["exitCode"], end["reason"], end["message"]) == (code, reason, "said")
    assert end["startedAt"] <= end["finishedAt"]
    assert condition(pod, "Ready")["status"] == "False"


def test_a_running_pod_is_ready_and_has_an_address(ns: Namespace) -> None:
    ns.run_pod("p", shell(FOR_EVER), initContainers=[sidecar()])
    pod = ns.wait_condition("pods", "p", "Ready")
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"] == "127.0.0.1"
    for name in ("PodScheduled", "Initialized", "ContainersReady", "PodReadyToStartContainers"):
        assert condition(pod, name)["status"] == "True", name
    assert container_status(pod, "sidecar")["started"]


def test_the_log_is_the_message_of_a_failure_that_left_none(ns: Namespace) -> None:
    script = "echo ValueError: bad lr >&2; exit 1"
    ns.run_pod("p", shell(script, terminationMessagePolicy="FallbackToLogsOnError"))
    assert ended(ns.wait_phase("p", "Failed"))["message"] == "ValueError: bad lr\n"


def test_a_pod_with_many_containers_has_short_messages(ns: Namespace) -> None:
    script = f'head -c 5000 /dev/zero | tr "\\0" x >{MESSAGE}'
    ns.run_pod("p", *(shell(script, f"c{number}") for number in range(5)))
    pod = ns.wait_phase("p", "Succeeded")
    assert [len(ended(pod, f"c{number}")["message"]) for number in range(5)] == [2457] * 5


def test_a_container_that_fails_is_started_again_in_its_pod(ns: Namespace) -> None:
    script = "test -e /scratch/once || { touch /scratch/once; echo first; exit 7; }; echo second"
    mount = [{"name": "scratch", "mountPath": "/scratch"}]
    ns.run_pod(
        "p",
        shell(script, volumeMounts=mount),
        restartPolicy="OnFailure",
        volumes=[{"name": "scratch", "emptyDir": {}}],
    )
    main = container_status(ns.wait_phase("p", "Succeeded"))
    assert main["restartCount"] == 1
    assert main["lastState"]["terminated"]["exitCode"] == 7
    assert ns.log("p") == "second\n"
    assert ns.log("p", previous=True) == "first\n"


# --- init containers and sidecars


def test_init_containers_run_one_after_another_before_the_main_one(ns: Namespace) -> None:
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    ns.run_pod(
        "p",
        shell("cat /v/order", **mount),
        initContainers=[
            shell("sleep 0.2; echo first >>/v/order", "first", **mount),
            shell("echo second >>/v/order", "second", **mount),
        ],
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    ns.wait_phase("p", "Succeeded")
    assert ns.log("p") == "first\nsecond\n"


def test_a_failed_init_container_fails_the_pod_and_main_never_starts(ns: Namespace) -> None:
    ns.run_pod("p", shell("echo no"), initContainers=[shell("exit 4", "init")])
    pod = ns.wait_phase("p", "Failed")
    assert ended(pod, "init")["exitCode"] == 4
    assert "waiting" in container_status(pod)["state"]


def test_a_sidecar_has_the_last_word_and_no_say(ns: Namespace) -> None:
    script = f'trap "cat /v/x >{MESSAGE}; exit 9" TERM; while :; do sleep 0.05; done'
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    ns.run_pod(
        "p",
        shell("printf result >/v/x", **mount),
        initContainers=[sidecar(script, **mount)],
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    pod = ns.wait_phase("p", "Succeeded")
    assert ended(pod, "sidecar")["message"] == "result"
    assert ended(pod, "sidecar")["exitCode"] == 9
    assert ended(pod)["finishedAt"] <= ended(pod, "sidecar")["finishedAt"]


def test_a_sidecar_that_ends_is_started_again_and_its_message_kept(ns: Namespace) -> None:
    crash = (
        f"test -e /v/once || {{ touch /v/once; printf early >{MESSAGE}; exit 5; }}; "
        f'trap "printf final >{MESSAGE}; exit 0" TERM; touch /v/up; while :; do sleep 0.05; done'
    )
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    ns.run_pod(
        "p",
        shell("until test -e /v/up; do sleep 0.05; done", **mount),
        initContainers=[sidecar(crash, **mount)],
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    status = container_status(ns.wait_phase("p", "Succeeded"), "sidecar")
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["message"] == "early"
    assert status["state"]["terminated"]["message"] == "final"


def test_a_sidecar_that_does_not_listen_is_killed_and_its_message_kept(ns: Namespace) -> None:
    deaf = f'trap "" TERM; printf partial >{MESSAGE}; touch /v/up; while :; do sleep 0.05; done'
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    ns.run_pod(
        "p",
        shell("until test -e /v/up; do sleep 0.05; done", **mount),
        initContainers=[sidecar(deaf, **mount)],
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    end = ended(ns.wait_phase("p", "Succeeded"), "sidecar")
    assert (end["exitCode"], end["message"]) == (137, "partial")


def test_a_pod_past_its_own_deadline_fails_and_stays(ns: Namespace) -> None:
    ns.run_pod("p", shell(FOR_EVER), activeDeadlineSeconds=1)
    pod = ns.wait_phase("p", "Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"
    assert ended(pod)["exitCode"] == 143


# --- containers that cannot start


def test_a_container_without_a_command_waits_and_says_why(ns: Namespace) -> None:
    ns.run_pod("p", {"name": "main", "image": "registry/trainer"})
    pod = ns.wait("pods", "p", lambda p: _waits(p) == "ErrImageNeverPull", "the reason")
    assert pod["status"]["phase"] == "Pending"
    assert "must set command" in container_status(pod)["state"]["waiting"]["message"]


def test_a_program_that_does_not_exist_is_a_start_error(ns: Namespace) -> None:
    ns.run_pod("p", {"name": "main", "image": "i", "command": ["no-such-program"]})
    end = ended(ns.wait_phase("p", "Failed"))
    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert '"no-such-program": executable file not found in $PATH' in end["message"]


def test_a_container_waits_for_its_config_map(ns: Namespace) -> None:
    source = {"configMapKeyRef": {"name": "late", "key": "word"}}
    ns.run_pod("p", shell("echo $WORD", env=[{"name": "WORD", "valueFrom": source}]))
    pod = ns.wait("pods", "p", lambda p: _waits(p) == "CreateContainerConfigError", "reason")
    assert container_status(pod)["state"]["waiting"]["message"] == 'configmap "late" not found'
    ns.create("configmaps", "late", data={"word": "at last"})
    ns.wait_phase("p", "Succeeded")
    assert ns.log("p") == "at last\n"


def test_a_host_path_is_refused(ns: Namespace) -> None:
    volume = {"name": "v", "hostPath": {"path": "/"}}
    ns.run_pod("p", shell("exit 0"), volumes=[volume])
    pod = ns.wait_phase("p", "Failed")
    assert "hostPath is refused" in pod["status"]["message"]


def _waits(pod: Obj) -> str:
    statuses = pod["status"].get("containerStatuses") or [{}]
    reason: str = (statuses[0].get("state", {}).get("waiting") or {}).get("reason", "")
    return reason


# --- environment and volumes


def test_variables_are_those_of_the_pod_and_none_of_the_node(ns: Namespace) -> None:
    ns.create("secrets", "s", stringData={"key": "hidden"})
    variables = [
        {"name": "A", "value": "a"},
        {"name": "B", "value": "$(A)b $$(A) $(NONE)"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
        {"name": "NO", "valueFrom": {"secretKeyRef": {"name": "n", "key": "k", "optional": True}}},
    ]
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    container = {"command": ["python", "-c", program], "env": variables}
    ns.run_pod("p", {"name": "main", "image": "i", **container})
    ns.wait_phase("p", "Succeeded")
    found = json.loads(ns.log("p"))
    declared = {"A": "a", "B": "ab $(A) $(NONE)", "POD": "p", "S": "hidden"}
    assert {name: found[name] for name in declared} == declared
    allowed = {"PATH", "HOME", "TMPDIR", "HOSTNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ"}
    allowed |= {"VIRTUAL_ENV", "LD_LIBRARY_PATH"}
    allowed |= {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"}
    assert set(found) - set(declared) <= allowed
    assert found["HOME"] != os.environ.get("HOME")


def test_config_maps_and_secrets_are_files(ns: Namespace) -> None:
    ns.create("configmaps", "c", data={"a.txt": "from a map"})
    ns.create("secrets", "s", stringData={"b.txt": "from a secret"})
    mounts = [{"name": "c", "mountPath": "/etc/c"}, {"name": "s", "mountPath": "/etc/s"}]
    ns.run_pod(
        "p",
        shell("cat /etc/c/a.txt; echo; cat /etc/s/b.txt", volumeMounts=mounts),
        volumes=[
            {"name": "c", "configMap": {"name": "c"}},
            {"name": "s", "secret": {"secretName": "s"}},
        ],
    )
    ns.wait_phase("p", "Succeeded")
    assert ns.log("p") == "from a map\nfrom a secret"


def test_a_claim_is_bound_and_keeps_its_data_between_pods(ns: Namespace) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    ns.create("persistentvolumeclaims", "c", spec=spec)
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/checkpoints"}]}
    ns.run_pod("first", shell("echo 17 >/checkpoints/epoch", **mount), volumes=[volume])
    ns.wait_phase("first", "Succeeded")
    ns.run_pod("second", shell("cat /checkpoints/epoch", **mount), volumes=[volume])
    ns.wait_phase("second", "Succeeded")
    assert ns.log("second") == "17\n"
    assert ns.get("persistentvolumeclaims", "c")["status"]["phase"] == "Bound"


def test_an_empty_dir_over_its_limit_evicts_the_pod(ns: Namespace) -> None:
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    ns.run_pod(
        "p",
        shell(f"head -c 3000000 /dev/zero >/v/big; {FOR_EVER}", **mount),
        volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}],
    )
    pod = ns.wait_phase("p", "Failed")
    assert pod["status"]["reason"] == "Evicted"
    expected = 'Usage of EmptyDir volume "v" exceeds the limit "1Mi"'
    assert expected in pod["status"]["message"]
    assert ended(pod)["reason"] == "ContainerStatusUnknown"


# --- devices


def test_a_device_is_lent_to_one_pod_at_a_time(ns: Namespace) -> None:
    script = f"echo device $CUDA_VISIBLE_DEVICES; {FOR_EVER}"
    for name in ("a", "b", "c"):
        ns.run_pod(name, shell(script, resources=gpus(1)))
        ns.wait_condition("pods", name, "PodScheduled", "False" if name == "c" else "True")
    refused = condition(ns.get("pods", "c"), "PodScheduled")
    assert refused["reason"] == "Unschedulable"
    assert refused["message"] == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    for name in ("a", "b"):
        ns.wait_said(name, "device")
    assert {ns.log("a"), ns.log("b")} == {"device 0\n", "device 1\n"}
    freed = ns.log("a")
    ns.delete("pods", "a")
    ns.wait_phase("c", "Running")
    ns.wait_said("c", "device")
    assert ns.log("c") == freed


def test_a_pod_that_asked_for_no_device_sees_none(ns: Namespace) -> None:
    ns.run_pod("p", shell("echo [$CUDA_VISIBLE_DEVICES]"))
    ns.wait_phase("p", "Succeeded")
    assert ns.log("p") == "[]\n"


# --- deletion


def test_a_deleted_pod_says_its_last_words_in_the_events_of_a_watch(ns: Namespace) -> None:
    listens = f'trap "printf bye >{MESSAGE}; exit 3" TERM; echo up; while :; do sleep 0.05; done'
    ns.run_pod("p", shell(listens), initContainers=[sidecar()], terminationGracePeriodSeconds=9)
    ns.wait_said("p", "up")
    version = ns.get("pods", "p")["metadata"]["resourceVersion"]
    ns.delete("pods", "p")
    *_, (kind_before, before), (kind, last) = ns.watch_pods(version, "DELETED")
    assert (kind_before, kind) == ("MODIFIED", "DELETED")
    for pod in (before, last):
        assert ended(pod)["message"] == "bye"
        assert ended(pod, "sidecar")["message"] == "final"
    assert last["status"]["phase"] == "Failed"


def test_a_deaf_container_is_killed_after_the_grace_period(ns: Namespace) -> None:
    ns.run_pod("p", shell(DEAF), terminationGracePeriodSeconds=2)
    ns.wait_said("p", "deaf")
    version = ns.get("pods", "p")["metadata"]["resourceVersion"]
    ns.delete("pods", "p")
    _, last = ns.watch_pods(version, "DELETED")[-1]
    assert ended(last)["exitCode"] == 137


def test_an_evicted_pod_shows_that_it_was_disrupted(ns: Namespace) -> None:
    ns.run_pod("p", shell(FOR_EVER))
    version = ns.wait_phase("p", "Running")["metadata"]["resourceVersion"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    status, answer = ns.kube("POST", ns.path("pods", "p", "eviction"), eviction)
    assert status == 201, answer
    _, last = ns.watch_pods(version, "DELETED")[-1]
    assert condition(last, "DisruptionTarget")["reason"] == "EvictionByEvictionAPI"
    assert ended(last)["exitCode"] == 143


@needs_proc
def test_nothing_of_a_deleted_pod_goes_on_running(ns: Namespace) -> None:
    mark = f"MARK={ns.name}-{os.getpid()}"
    daemons = f"setsid sh -c '{FOR_EVER}' & (setsid setsid {FOR_EVER} &) ; echo up; {FOR_EVER}"
    variables = [{"name": "MARK", "value": mark.removeprefix("MARK=")}]
    ns.run_pod("p", shell(daemons, env=variables), initContainers=[sidecar(env=variables)])
    ns.wait_said("p", "up")
    eventually(lambda: len(processes(mark)) >= 4, "the daemons run")
    ns.delete("pods", "p")
    ns.wait_gone("pods", "p")
    assert processes(mark) == set()


# --- logs


def test_logs_can_be_cut_and_dated(ns: Namespace) -> None:
    ns.run_pod("p", shell("for i in 1 2 3; do echo line $i; done"))
    ns.wait_phase("p", "Succeeded")
    assert ns.log("p") == "line 1\nline 2\nline 3\n"
    assert ns.log("p", tail_lines=2) == "line 2\nline 3\n"
    assert ns.log("p", limit_bytes=6) == "line 1"
    stamp, words = ns.log("p", tail_lines=1, timestamps=True).split(" ", 1)
    assert stamp.endswith("Z")
    assert words == "line 3\n"
    assert ns.log("p", since_seconds=3600) == ns.log("p")


def test_a_followed_log_ends_with_its_container(ns: Namespace) -> None:
    ns.run_pod("p", shell("echo one; sleep 0.5; echo two"))
    ns.wait_said("p", "one")
    assert ns.log("p", follow=True) == "one\ntwo\n"


def test_the_story_of_a_pod_is_told_in_events(ns: Namespace) -> None:
    ns.run_pod("p", shell(FOR_EVER))
    ns.wait_phase("p", "Running")
    eventually(lambda: {"Scheduled", "Started"} <= set(ns.reasons("p")), "events")
    ns.delete("pods", "p")
    eventually(lambda: "Killing" in ns.reasons("p"), "the event of the end")


def test_containers_run_in_the_working_directory_of_the_cluster(
    ns: Namespace, running: LocalCluster
) -> None:
    ns.run_pod("p", shell("pwd"))
    ns.wait_phase("p", "Succeeded")
    assert Path(ns.log("p").strip()) == running.state_dir.parent
