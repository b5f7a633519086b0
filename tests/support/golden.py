"""Objects as this version writes them, for later ones to read: `make golden`.

Real studies on the local cluster, one for each feature, some ended, some on their way. Written to
tests/fixtures/objects/VERSION, which is generated once for each release and then left as it is.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from primo_cli.kube import Kube
from primo_local.cluster import LocalCluster
from support.cluster import Operator, install, study
from support.kubectl import kubectl
from support.waiting import eventually

FOLDER = Path(__file__).parents[1] / "fixtures" / "objects"
TRIALS = Path(__file__).parents[1] / "integration"
QUIET_S = 3.0

X = {"name": "x", "float": {"min": 0, "max": 1}}
MODES = ["crash", "silent", "garbage", "nan"]
FIDELITY = {"name": "epochs", "min": 1, "max": 9, "eta": 3}
PROBLEM: dict[str, Any] = {
    "parameters": [
        X,
        {"name": "taste", "categorical": {"choices": ["plain", "spiced"]}},
        {
            "name": "heat",
            "float": {"min": 0.1, "max": 10, "log": True},
            "when": {"taste": ["spiced"]},
        },
        {"name": "layers", "int": {"min": 1, "max": 6}},
        {"name": "batch", "ordinal": {"values": [16, 32, 64]}},
    ],
    "constraints": [{"metric": "kmacs", "atMost": 0.9}],
}
ENDED = {
    "rungs": study(
        "rungs",
        algorithm={"name": "moasha", "seed": 7},
        fidelity=FIDELITY,
        budget={"trials": 5},
        checkpoints={"claimName": "models", "mountPath": "/models"},
    ),
    "problem": study(
        "problem",
        **PROBLEM,
        algorithm={"name": "primo"},
        priors=[{"objective": "error", "parameters": [{"name": "x", "center": 0.2}]}],
        preferences={"weights": {"error": 2, "cost": 1}},
        retention={"jobs": "All", "ttl": "1h"},
        budget={"trials": 3, "gpuHours": 5, "duration": "1h"},
    ),
    "failures": study(
        "failures",
        parameters=[
            {"name": "mode", "categorical": {"choices": MODES}},
            {"name": "x", "ordinal": {"values": [0.5, 0.75]}},
        ],
        budget={"trials": 4, "failedTrials": 4},
        retries={"application": 1},
    ),
    "events": study(
        "events",
        reports={"tensorboard": "/runs"},
        objectives=[{"name": n, "goal": "Minimize", "metric": n} for n in ("error", "cost")],
        budget={"trials": 1},
        parallelism=1,
    ),
}
LEARNER = study("learner", **PROBLEM, warmStart=[{"study": "problem"}], budget={"trials": 1})
UNDER_WAY = {
    "flight": study("flight", parallelism=2, budget={"trials": 4}),
    "stopped": study("stopped", parallelism=1, budget={"trials": 1}),
    "suspended": study("suspended", suspend=True),
    "blind": study(
        "blind",
        objectives=[{"name": "energy", "goal": "Minimize", "prometheus": {"query": "e"}}],
    ),
    "queued": study("queued", parallelism=1, budget={"trials": 1}),
}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "models"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}},
}
OWN = {
    "apiVersion": "primo.dev/v1alpha1",
    "kind": "PriMOTrial",
    "metadata": {"name": "of-mine"},
    "spec": {"study": "flight", "parameters": {"x": 0.25}},
}


def write(folder: Path) -> None:
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as state:
        path = Path(state)
        with LocalCluster.start(path / "state", gpus=4, workdir=TRIALS, timeout_s=90) as cluster:
            operator = Operator(cluster.kubeconfig, path / "operator.log")
            try:
                _run(cluster, folder)
            finally:
                operator.stop()


def _run(cluster: LocalCluster, folder: Path) -> None:
    kube = install(cluster.kubeconfig)
    kube.apply(CLAIM, "default")
    command = ["python", "tensorboard_trial.py", "$(PRIMO_PARAM_X)", "/runs"]
    _container(ENDED["events"])["command"] = command
    for name in ("flight", "stopped"):
        _container(UNDER_WAY[name])["env"] = [{"name": "MODE", "value": "slow"}]
    _container(UNDER_WAY["queued"])["resources"] = {"limits": {"nvidia.com/gpu": 99}}
    for name in ENDED:
        kube.apply(ENDED[name], "default")
    for name in ENDED:
        eventually(_has_ended(kube, name), f"{name} ends")
    kube.apply(LEARNER, "default")
    eventually(_has_ended(kube, "learner"), "learner ends")
    for name in UNDER_WAY:
        kube.apply(UNDER_WAY[name], "default")
    kube.apply(OWN, "default")
    eventually(lambda: len(_running(kube, "stopped")) == 1, "it runs")
    (trial,) = _running(kube, "stopped")
    kubectl(cluster.kubeconfig, "annotate", "primotrial", trial, "primo.dev/stop=too slow")
    eventually(_has_ended(kube, "stopped"), "stopped ends")
    eventually(lambda: len(_running(kube, "flight")) == 2, "two run")
    for name in (*ENDED, "learner", *UNDER_WAY):
        (folder / f"{name}.json").write_text(json.dumps(_dump(cluster, name), indent=1) + "\n")


def _container(given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = given["spec"]["trialTemplate"]["spec"]["template"]["spec"]["containers"]
    return found


def _has_ended(kube: Kube, name: str) -> Callable[[], bool]:
    def ended() -> bool:
        found = kube.get("PriMOStudy", name, "default") or {}
        return (found.get("status") or {}).get("phase") in ("Completed", "Failed")

    return ended


def _running(kube: Kube, name: str) -> list[str]:
    return [
        trial["metadata"]["name"]
        for trial in kube.trials(name, "default")
        if (trial.get("status") or {}).get("phase") == "Running"
    ]


def _dump(cluster: LocalCluster, name: str) -> dict[str, Any]:
    """All objects of a study, once nothing changes them any more."""
    before: Any = None
    while (found := _objects(cluster, name)) != before:
        before = found
        time.sleep(QUIET_S)
    return {"takenAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **found}


def _objects(cluster: LocalCluster, name: str) -> dict[str, Any]:
    def get(*words: str) -> Any:
        return json.loads(kubectl(cluster.kubeconfig, "get", *words, "-o", "json"))

    label = ("-l", f"primo.dev/study={name}")
    found = {
        "study": get("primostudy", name),
        "trials": [t for t in get("primotrials")["items"] if t["spec"]["study"] == name],
        "jobs": get("jobs", *label)["items"],
        "pods": get("pods", *label)["items"],
    }
    for obj in (found["study"], *found["trials"], *found["jobs"], *found["pods"]):
        obj["metadata"].pop("managedFields", None)
    return found


if __name__ == "__main__":
    target = FOLDER / version("primo-operator")
    if target.exists():
        sys.exit(f"{target} exists: what a release wrote is not written anew")
    write(target)
