"""Definitions that are deleted while a study runs, and their objects with them; then back."""

import pytest

from primo_operator import crds
from primo_operator.crds import KINDS, Kind
from support.apiserver import Wire
from support.real_cluster import DISTANCE, RUN_S, Release, Space, study
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TRIALS = 6


def _path(kind: Kind) -> str:
    return f"{DEFINITIONS}/{kind.plural}.primo.dev"


def _delete(wire: Wire, kind: Kind) -> None:
    wire("DELETE", _path(kind))
    eventually(lambda: wire.gone(_path(kind)), f"{kind.plural} are not defined", RUN_S)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.plural)
def test_the_operator_says_which_is_missing_and_goes_on_when_it_is_back(
    release: Release, space: Space, sidecar: str, wire: Wire, kind: Kind
) -> None:
    budget = {"trials": TRIALS}
    space.start(study("undefined", sidecar, DISTANCE, budget=budget, parallelism=2))
    eventually(lambda: len(space.trials("undefined")) > 2, "a trial has ended", RUN_S)
    (operator,) = release.pods()
    _delete(wire, kind)
    try:
        missing = f"does not serve {kind.plural}.primo.dev"
        eventually(lambda: missing in _log(release, operator), "its log says so", RUN_S)
        eventually(lambda: not space.jobs("undefined"), "their Jobs are gone with them", RUN_S)
    finally:
        wire.make(DEFINITIONS, crds.definition(kind))
    eventually(lambda: _served(space), "it is served again", RUN_S)
    space.start(study("after", sidecar, DISTANCE, budget=budget, parallelism=2))
    space.completed("after", TRIALS)
    assert release.pods() == [operator]


def _served(space: Space) -> bool:
    return all(space.wire("GET", space.path(kind.plural))[0] == 200 for kind in KINDS)


def _log(release: Release, pod: str) -> str:
    path = f"{release.space.path('pods', pod)}/log"
    return release.space.wire.raw("GET", path).data.decode()
