"""The operator as a process, against the local cluster, with real pods."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from primo_cli.kube import Kube, KubeError
from primo_cli.run import COMPLETED, _follow
from primo_local.cluster import LocalCluster
from support.cluster import Operator, study
from support.kubectl import kubectl
from support.waiting import eventually

pytestmark = pytest.mark.cluster
FIDELITY = {"name": "epochs", "min": 1, "max": 3, "eta": 3}


def phase(kube: Kube, name: str) -> str:
    found = kube.get("PriMOStudy", name, "default")
    return str(((found or {}).get("status") or {}).get("phase"))


def ended(kube: Kube, name: str) -> dict[str, Any]:
    eventually(lambda: phase(kube, name) in ("Completed", "Failed"), f"{name} ends")
    found = kube.get("PriMOStudy", name, "default")
    assert found
    return found


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in found["status"]["conditions"] if c["type"] == kind)


def jobs(cluster: LocalCluster, name: str) -> list[dict[str, Any]]:
    text = kubectl(cluster.kubeconfig, "get", "jobs", "-l", f"primo.dev/study={name}", "-o", "json")
    items: list[dict[str, Any]] = json.loads(text)["items"]
    return items


def test_a_study_runs_over_its_rungs_to_its_front(kube: Kube, operator: Operator) -> None:
    given = study("rungs", algorithm={"name": "primo"}, fidelity=FIDELITY, budget={"trials": 6})
    kube.apply(given, "default")
    found = ended(kube, "rungs")
    assert condition(found, "Completed")["reason"] == "BudgetExhausted"
    trials = kube.trials("rungs", "default")
    assert [t["spec"]["number"] for t in trials] == list(range(6))
    for trial in trials:
        x = trial["spec"]["parameters"]["x"]
        for seen in trial["status"]["observations"]:
            assert seen["values"]["error"] == pytest.approx(x / seen["fidelity"])
    assert any(len(t["status"]["observations"]) > 1 for t in trials)
    assert found["status"]["frontSize"] == len(found["status"]["front"]) >= 1


def test_a_second_run_of_an_edited_study_waits_for_its_own_end(
    kube: Kube, operator: Operator, tmp_path: Path
) -> None:
    picture = tmp_path / "front.png"
    mine = {
        "apiVersion": "primo.dev/v1alpha1",
        "kind": "PriMOTrial",
        "metadata": {"name": "mine"},
        "spec": {"study": "again", "parameters": {"x": 0.5}},
    }
    first = study("again", budget={"trials": 2}, retention={"jobs": "None"})
    assert _follow(kube, [mine, first], "default", picture, lambda: None) == COMPLETED
    second = study("again", budget={"trials": 3})
    assert _follow(kube, [mine, second], "default", picture, lambda: None) == COMPLETED
    found = kube.get("PriMOStudy", "again", "default")
    assert found
    assert found["status"]["progress"] == "3/3"
    assert "retention" not in found["spec"]


def test_a_killed_operator_loses_nothing_and_repeats_nothing(
    kube: Kube, operator: Operator, local_cluster: LocalCluster
) -> None:
    kube.apply(study("killed", budget={"trials": 8}), "default")
    for seen in (1, 3, 5):
        eventually(lambda n=seen: len(kube.trials("killed", "default")) >= n, f"{seen} trials")
        operator.kill()
        operator.restart()
    found = ended(kube, "killed")
    trials = kube.trials("killed", "default")
    assert [t["spec"]["number"] for t in trials] == list(range(8))
    assert {t["status"]["phase"] for t in trials} == {"Completed"}
    runs = [run["job"] for t in trials for run in t["status"]["runs"]]
    assert len(runs) == len(set(runs))
    made = {job["metadata"]["name"] for job in jobs(local_cluster, "killed")}
    assert made <= set(runs)
    assert found["status"]["trials"]["completed"] == 8


def test_runs_under_way_survive_an_upgrade_of_the_operator(
    kube: Kube, operator: Operator, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    given = study("upgraded", budget={"trials": 4})
    (container,) = given["spec"]["trialTemplate"]["spec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": "GATE", "value": str(gate)}]
    kube.apply(given, "default")

    def running() -> int:
        statuses = [t.get("status") or {} for t in kube.trials("upgraded", "default")]
        return sum(status.get("phase") == "Running" for status in statuses)

    eventually(lambda: running() == 2, "two trials run")
    before = {job["metadata"]["uid"] for job in jobs(local_cluster, "upgraded")}
    operator.stop()
    sidecar = "primo-sidecar:99.0.0"
    log = tmp_path / "next.log"
    upgraded = Operator(local_cluster.kubeconfig, log, PRIMO_SIDECAR_IMAGE=sidecar)
    try:
        gate.touch()
        found = ended(kube, "upgraded")
    finally:
        upgraded.stop()
    assert found["status"]["trials"]["completed"] == 4
    trials = kube.trials("upgraded", "default")
    assert [len(trial["status"]["runs"]) for trial in trials] == [1] * 4
    images = {
        job["metadata"]["uid"]: job["spec"]["template"]["spec"]["initContainers"][0]["image"]
        for job in jobs(local_cluster, "upgraded")
    }
    assert {uid for uid, image in images.items() if image != sidecar} == before
    assert len(images) == 4


@pytest.mark.parametrize(
    ("mode", "reason", "words"),
    [
        ("crash", "Failed", "ValueError: bad mode"),
        ("silent", "MetricsUnavailable", "nothing was reported"),
        ("garbage", "MetricsUnavailable", "line 1"),
        ("nan", "Diverged", "error is nan"),
    ],
)
def test_a_trial_that_fails_says_why_and_the_study_goes_on(
    kube: Kube, operator: Operator, mode: str, reason: str, words: str
) -> None:
    parameters = [
        {"name": "mode", "categorical": {"choices": [mode, "good"]}},
        {"name": "x", "ordinal": {"values": [0.25, 0.75]}},
    ]
    kube.apply(study(f"fails-{mode}", parameters=parameters), "default")
    found = ended(kube, f"fails-{mode}")
    trials = kube.trials(f"fails-{mode}", "default")
    bad = [t for t in trials if t["spec"]["parameters"]["mode"] == mode]
    assert {t["status"]["phase"] for t in bad} == {"Failed"}
    assert {t["status"]["reason"] for t in bad} == {reason}
    assert words in bad[0]["status"]["message"]
    assert found["status"]["phase"] == "Completed"
    assert found["status"]["trials"]["completed"] == 2


def test_a_study_learns_from_another_and_from_a_prior_that_comes_later(
    kube: Kube, operator: Operator
) -> None:
    problem: dict[str, Any] = {
        "parameters": [
            {"name": "x", "float": {"min": 0, "max": 1}},
            {"name": "taste", "categorical": {"choices": ["plain", "spiced"]}},
            {"name": "heat", "float": {"min": 0, "max": 1}, "when": {"taste": ["spiced"]}},
        ],
        "constraints": [{"metric": "kmacs", "atMost": 0.5}],
    }
    kube.apply(study("source", **problem, budget={"trials": 6}), "default")
    found = ended(kube, "source")
    trials = kube.trials("source", "default")
    for trial in trials:
        given = trial["spec"]["parameters"]
        assert ("heat" in given) == (given["taste"] == "spiced")
        (seen,) = trial["status"]["observations"]
        assert seen["constrained"] == {"kmacs": pytest.approx(1 - given["x"])}
        assert seen["feasible"] == (seen["constrained"]["kmacs"] <= 0.5)
    broken = [t for t in trials if not t["status"]["observations"][0]["feasible"]]
    assert found["status"]["infeasible"] == len(broken)
    assert {e["trial"] for e in found["status"].get("front", ())}.isdisjoint(
        t["spec"]["number"] for t in broken
    )

    learner = {**problem, "algorithm": {"name": "primo"}}
    learner["warmStart"] = [{"study": "source"}, {"study": "nowhere"}]
    kube.apply(study("learner", **learner, budget={"trials": 2}), "default")
    started = condition(ended(kube, "learner"), "WarmStarted")
    assert (started["status"], started["reason"]) == ("False", "StudyNotFound")
    assert started["message"].startswith("source: 6 trials; nowhere: ")

    priors = [{"objective": "error", "parameters": [{"name": "heat", "center": 0.9}]}]
    kube.apply(study("learner", **learner, budget={"trials": 3}, priors=priors), "default")

    def status() -> dict[str, Any]:
        return dict((kube.get("PriMOStudy", "learner", "default") or {})["status"])

    eventually(lambda: status()["trials"]["completed"] == 3, "it goes on")
    assert status()["priors"] == [{"objective": "error", "fromTrial": 2}]
    why = [t["spec"]["suggestion"] for t in kube.trials("learner", "default")]
    assert {suggestion["stage"] for suggestion in why} == {"Optimizing"}
    assert [suggestion.get("priors") for suggestion in why] == [None, None, ["error"]]


def test_a_script_that_only_writes_event_files_is_tuned(kube: Kube, operator: Operator) -> None:
    objectives = [
        {"name": "error", "goal": "Minimize", "metric": "error", "reduce": "Mean"},
        {"name": "cost", "goal": "Minimize", "metric": "cost"},
    ]
    given = study("events", objectives=objectives, reports={"tensorboard": "/runs"})
    (container,) = given["spec"]["trialTemplate"]["spec"]["template"]["spec"]["containers"]
    container["command"] = ["python", "tensorboard_trial.py", "$(PRIMO_PARAM_X)", "/runs"]
    kube.apply(given, "default")
    ended(kube, "events")
    for trial in kube.trials("events", "default"):
        assert trial["status"]["phase"] == "Completed", trial["status"]
        x = trial["spec"]["parameters"]["x"]
        (seen,) = trial["status"]["observations"]
        assert seen["values"]["error"] == pytest.approx(x * (1 + 1 / 2 + 1 / 3) / 3)
        assert seen["values"]["cost"] == pytest.approx(1 - x)


def test_a_pod_deleted_after_its_last_report_is_run_again_and_its_values_are_not_taken(
    kube: Kube, operator: Operator, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    markers = [str(tmp_path / "one"), str(tmp_path / "two")]
    parameters = [
        {"name": "marker", "categorical": {"choices": markers}},
        {"name": "x", "ordinal": {"values": [0.25, 0.75]}},
    ]
    kube.apply(study("deletes", parameters=parameters, budget={"trials": 1}), "default")
    eventually(lambda: any(map(os.path.exists, markers)), "the first run has reported all")
    label = "primo.dev/study=deletes"
    kubectl(local_cluster.kubeconfig, "delete", "pods", "-l", label, "--timeout=60s")
    ended(kube, "deletes")
    (trial,) = kube.trials("deletes", "default")
    assert [run["reason"] for run in trial["status"]["runs"]] == ["Lost", "Completed"]
    (seen,) = trial["status"]["observations"]
    assert seen["values"]["error"] == trial["spec"]["parameters"]["x"]


def test_deleting_a_running_study_leaves_nothing(
    kube: Kube, operator: Operator, local_cluster: LocalCluster
) -> None:
    slow = [
        {"name": "mode", "categorical": {"choices": ["good", "slow"]}},
        {"name": "x", "float": {"min": 0, "max": 1}},
    ]
    given = study("deleted", parameters=slow, parallelism=4, budget={"trials": 8})
    kube.apply(given, "default")
    eventually(
        lambda: any(
            (t.get("status") or {}).get("phase") == "Running"
            and t["spec"]["parameters"]["mode"] == "slow"
            for t in kube.trials("deleted", "default")
        ),
        "a slow trial runs",
    )
    kubectl(local_cluster.kubeconfig, "delete", "primostudy", "deleted", "--timeout=60s")

    def left() -> str:
        return kubectl(
            local_cluster.kubeconfig,
            "get",
            "primotrials,jobs,pods",
            "-l",
            "primo.dev/study=deleted",
            "-o",
            "name",
        )

    eventually(lambda: not left().strip(), "everything of it is gone")
    eventually(lambda: not _processes("trial.py"), "no process is left")


def test_a_template_that_the_cluster_refuses_is_said_in_its_words(
    kube: Kube, operator: Operator
) -> None:
    given = study("refused")
    pod = given["spec"]["trialTemplate"]["spec"]["template"]["spec"]
    pod["containers"][0]["volumeMounts"] = [{"name": "nowhere", "mountPath": "/x"}]
    kube.apply(given, "default")
    found = ended(kube, "refused")
    failed = condition(found, "Failed")
    assert failed["reason"] == "InvalidTemplate"
    assert "volumeMounts" in failed["message"]
    assert "nowhere" in failed["message"]
    assert kube.trials("refused", "default") == []


def test_our_own_rules_for_a_template_name_the_field(kube: Kube, operator: Operator) -> None:
    given = study("typo")
    pod = given["spec"]["trialTemplate"]["spec"]["template"]["spec"]
    pod["containers"][0]["args"] = ["--x=$(PRIMO_PARAM_Y)"]
    kube.apply(given, "default")
    failed = condition(ended(kube, "typo"), "Failed")
    assert failed["reason"] == "InvalidTemplate"
    assert "PRIMO_PARAM_Y" in failed["message"]
    assert "args[0]" in failed["message"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"typo": 1}, 'unknown field "spec.typo"'),
        ({"parameters": [{"name": "x", "float": {"min": 2, "max": 1}}]}, "min must be below max"),
        (
            {"priors": [{"objective": "speed", "parameters": [{"name": "x", "center": 0.5}]}]},
            "a prior names an objective that is not there",
        ),
        (
            {"trialTemplate": {"spec": {"template": {"spec": {"containers": []}}}}},
            "containers",
        ),
    ],
)
def test_a_mistake_is_refused_at_the_door(
    kube: Kube, local_cluster: LocalCluster, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    manifest = tmp_path / "study.json"
    manifest.write_text(json.dumps(study("wrong", **change)))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        kubectl(local_cluster.kubeconfig, "apply", "-f", str(manifest))
    assert words in refused.value.stderr
    with pytest.raises(KubeError):
        kube.apply(study("wrong", **change), "default")


def _processes(word: str) -> list[str]:
    """Command lines of processes that hold a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"python {word}" in line or f"/{word}" in line.split(" ")[1:2]:
            found.append(line)
    return found


SLOW = [
    {"name": "mode", "categorical": {"choices": ["good", "slow"]}},
    {"name": "x", "float": {"min": 0, "max": 1}},
]


def own_trial(name: str, of: str, **parameters: Any) -> dict[str, Any]:
    return {
        "apiVersion": "primo.dev/v1alpha1",
        "kind": "PriMOTrial",
        "metadata": {"name": name},
        "spec": {"study": of, "parameters": parameters},
    }


def reason(kube: Kube, trial: str) -> tuple[str | None, str | None]:
    found = kube.get("PriMOTrial", trial, "default") or {}
    status = found.get("status") or {}
    return status.get("phase"), status.get("reason")


def test_a_user_steers_a_study(kube: Kube, operator: Operator, local_cluster: LocalCluster) -> None:
    """Trials of her own, stop, retry, suspend, a new template and more budget, by kubectl alone."""
    config = local_cluster.kubeconfig
    kube.apply(own_trial("slow-one", "steered", mode="slow", x=0.5), "default")
    kube.apply(own_trial("wrong-one", "steered", mode="slow", x=7), "default")
    fields = {"parallelism": 1, "budget": {"trials": 1}, "retention": {"jobs": "None"}}
    given = study("steered", parameters=SLOW, **fields)
    kube.apply(given, "default")
    eventually(lambda: reason(kube, "slow-one")[0] == "Running", "her own trial runs")
    eventually(lambda: reason(kube, "wrong-one") == ("Failed", "InvalidTrial"), "a bad one says so")
    operator.kill()
    operator.restart()

    kubectl(config, "annotate", "primotrial", "slow-one", "primo.dev/stop=too slow")
    eventually(lambda: reason(kube, "slow-one") == ("Stopped", "Stopped"), "it is stopped")
    found = ended(kube, "steered")
    assert found["status"]["trials"]["stopped"] == 1
    eventually(lambda: not _processes("trial.py"), "its process has ended")

    def patch(**spec: Any) -> None:
        kubectl(config, "patch", "primostudy", "steered", "--type=merge", "-p", _json(spec))

    patch(suspend=True, budget={"trials": 2})
    kubectl(config, "wait", "--for=condition=Suspended", "primostudy/steered", "--timeout=60s")
    container = given["spec"]["trialTemplate"]["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "MODE", "value": "good"}]
    patch(trialTemplate=given["spec"]["trialTemplate"])
    annotations = ["primo.dev/stop-", "primo.dev/retry=1"]
    kubectl(config, "annotate", "primotrial", "slow-one", *annotations)
    patch(suspend=False)
    kubectl(config, "wait", "--for=condition=Completed", "primostudy/steered", "--timeout=90s")
    own = kube.get("PriMOTrial", "slow-one", "default")
    assert own
    assert own["status"]["phase"] == "Completed"
    first, second = own["status"]["runs"]
    assert first["template"] != second["template"]
    assert own["spec"]["number"] == 0
    eventually(lambda: not jobs(local_cluster, "steered"), "no Job is kept")
    assert own["spec"]["suggestion"] == {"origin": "User"}
    kubectl(config, "delete", "primostudy", "steered", "--timeout=60s")
    eventually(lambda: kube.get("PriMOTrial", "slow-one", "default") is None, "it goes too")
    kubectl(config, "delete", "primotrial", "wrong-one", "--timeout=60s")


def _json(spec: dict[str, Any]) -> str:
    return json.dumps({"spec": spec})


def test_a_run_that_waits_says_for_what_and_is_taken_back_when_the_study_is_suspended(
    kube: Kube, operator: Operator, local_cluster: LocalCluster
) -> None:
    given = study("waiting", budget={"trials": 1})
    pod = given["spec"]["trialTemplate"]["spec"]["template"]["spec"]
    pod["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": 99}}
    kube.apply(given, "default")

    def states() -> list[tuple[str | None, str | None]]:
        trials = kube.trials("waiting", "default")
        return [reason(kube, trial["metadata"]["name"]) for trial in trials]

    eventually(
        lambda: states() == [("Queued", "Unschedulable")], "it says that no node has so many"
    )
    patch = ["patch", "primostudy", "waiting", "--type=merge", "-p"]
    kubectl(local_cluster.kubeconfig, *patch, _json({"suspend": True}))
    eventually(lambda: states() == [("Queued", "Suspended")], "it is taken back")
    eventually(lambda: not jobs(local_cluster, "waiting"), "its Job is gone")
    pod["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": 1}}
    template = given["spec"]["trialTemplate"]
    kubectl(local_cluster.kubeconfig, *patch, _json({"trialTemplate": template, "suspend": False}))
    found = ended(kube, "waiting")
    assert found["status"]["trials"]["completed"] == 1
    (trial,) = kube.trials("waiting", "default")
    assert [run["reason"] for run in trial["status"]["runs"]] == ["Suspended", "Completed"]
