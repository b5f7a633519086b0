"""Definitions that are not there, older, taken away and back: the operator says so, and goes on."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from primo_cli.kube import Kube
from primo_local.cluster import LocalCluster
from primo_operator import crds
from support.cluster import Operator, install, study
from support.kubectl import kubectl
from support.waiting import eventually

pytestmark = pytest.mark.cluster


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Of this test alone: it takes away what others use."""
    state = tmp_path / "state"
    with LocalCluster.start(state, gpus=2, workdir=Path(__file__).parent, timeout_s=90) as cluster:
        yield cluster


def degraded(kube: Kube, name: str) -> Any:
    found = kube.get("PriMOStudy", name, "default") or {}
    conditions = (found.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == "Degraded"), {})


def completes(kube: Kube, name: str) -> None:
    def phase() -> bool:
        found = kube.get("PriMOStudy", name, "default") or {}
        return (found.get("status") or {}).get("phase") == "Completed"

    eventually(phase, f"{name} completes")


def older() -> dict[str, Any]:
    found = copy.deepcopy(crds.definition(crds.TRIAL))
    (version,) = found["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    del status["runs"]["items"]["properties"]["startedAt"]
    return found


def test_the_operator_waits_for_its_definitions_and_goes_on(
    own_cluster: LocalCluster, tmp_path: Path
) -> None:
    log = tmp_path / "operator.log"
    kube = Kube(own_cluster.kubeconfig)
    operator = Operator(own_cluster.kubeconfig, log)
    try:
        missing = "does not serve primostudies.primo.dev, primotrials.primo.dev"
        eventually(lambda: missing in log.read_text(), "none are served")

        for definition in (crds.definition(crds.STUDY), older()):
            kube.apply(definition)
            kube.wait_established(definition["metadata"]["name"], 30.0)
        kube.apply(study("first", budget={"trials": 2}), "default")
        eventually(lambda: degraded(kube, "first").get("reason") == "CRDOutdated", "said")
        assert "primotrials.primo.dev: status.runs.startedAt" in degraded(kube, "first")["message"]
        assert kube.trials("first", "default") == []

        install(own_cluster.kubeconfig)
        completes(kube, "first")
        assert degraded(kube, "first")["status"] == "False"
        trials = kube.trials("first", "default")
        assert all(run.get("startedAt") for t in trials for run in t["status"]["runs"])

        gone = log.stat().st_size
        kubectl(
            own_cluster.kubeconfig,
            "delete",
            "crd",
            "primostudies.primo.dev",
            "primotrials.primo.dev",
        )
        eventually(lambda: missing in log.read_text()[gone:], "they are gone")

        install(own_cluster.kubeconfig)
        kube.apply(study("second", budget={"trials": 2}), "default")
        completes(kube, "second")
        assert operator.exit_code is None
        assert "Traceback" not in log.read_text()
    finally:
        operator.stop()
