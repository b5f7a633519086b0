"""An installed operator from its first day to its last, while studies run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from primo_operator.crds import KINDS
from support.apiserver import Wire
from support.kubectl import kubectl
from support.real_cluster import DISTANCE, RUN_S, Release, Space, study
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

TRIALS = 6


def test_the_self_test_passes(release: Release) -> None:
    assert "Phase:          Succeeded" in release("test")


def _delete_the_operator(release: Release) -> None:
    (pod,) = release.pods()
    release.space.wire("DELETE", release.space.path("pods", pod))
    eventually(lambda: release.leader() not in ("", pod), "another operator works", RUN_S)


def _upgrade(release: Release) -> None:
    release("upgrade", "--set=settings.workers=2")


def _hand_over(release: Release) -> None:
    """From the operator that works to the one that waits, or to the first one's successor."""
    release("upgrade", "--set=replicas=2")
    eventually(lambda: bool(release.leader()), "one of two operators works", RUN_S)
    leader = release.leader()
    release.space.wire("DELETE", release.space.path("pods", leader), {"gracePeriodSeconds": 0})
    eventually(lambda: release.leader() not in ("", leader), "another one works", RUN_S)
    release("upgrade", "--set=replicas=1")


@pytest.mark.parametrize("disturb", [_delete_the_operator, _upgrade, _hand_over])
def test_a_study_loses_nothing_and_repeats_nothing_while(
    release: Release, space: Space, sidecar: str, disturb: Callable[[Release], None]
) -> None:
    space.start(study("goes-on", sidecar, DISTANCE, budget={"trials": TRIALS}, parallelism=2))
    eventually(lambda: len(space.trials("goes-on")) > 2, "a trial has ended", RUN_S)
    disturb(release)
    space.completed("goes-on", TRIALS)


def _everything(kubeconfig: Path, namespace: str) -> set[str]:
    """In a namespace; and what bears the release's name in none."""
    listable = ["api-resources", "--verbs=list", "--namespaced", "-o", "name"]
    kinds = {kind for kind in kubectl(kubeconfig, *listable).split() if "event" not in kind}
    get = ["get", "-o", "name", f"--namespace={namespace}"]
    labelled = "--selector=app.kubernetes.io/instance=primo-operator"
    elsewhere = kubectl(kubeconfig, *get, "clusterroles,clusterrolebindings", labelled)
    return {*kubectl(kubeconfig, *get, ",".join(kinds)).split(), *elsewhere.split()}


def test_uninstalled_it_leaves_the_definitions_alone(
    release: Release, space: Space, wire: Wire
) -> None:
    def left() -> set[str]:
        """What an empty namespace does not have."""
        here = _everything(release.kubeconfig, release.space.name)
        return here - _everything(release.kubeconfig, space.name)

    lease = {"lease.coordination.k8s.io/primo-operator"}
    assert lease < left()
    release("uninstall", "--wait")
    try:
        eventually(lambda: left() == lease, "nothing else is left", RUN_S)
        for kind in KINDS:
            path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            assert not wire.gone(f"{path}/{kind.plural}.primo.dev")
    finally:
        release("install")
