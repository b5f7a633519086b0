"""Rights of the installed operator that are taken away while a study runs, and given back."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.apiserver import Wire
from support.chart import RELEASE
from support.real_cluster import DISTANCE, RUN_S, Obj, Release, Space, study
from support.rights import Right, rights
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

TRIALS = 6
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CREATE_JOBS: Right = ("create", "batch", "jobs")
CREATE_TRIALS: Right = ("create", "primo.dev", "primotrials")
PATCH_TRIALS: Right = ("patch", "primo.dev", "primotrials/status")
CREATE_EVENTS: Right = ("create", "", "events")
LISTS: list[Right] = [
    ("list", "primo.dev", "primotrials"),
    ("list", "batch", "jobs"),
    ("list", "", "pods"),
]
RENEW: Right = ("update", "coordination.k8s.io", "leases")


@contextmanager
def _without(wire: Wire, role: str, *taken: Right) -> Iterator[None]:
    """A role without some rights."""
    before = wire.found(role)["rules"]
    kept = [_rule(wanted) for wanted in sorted(rights(before) - set(taken))]
    assert len(kept) == len(rights(before)) - len(taken)
    wire.change(role, {"rules": kept})
    try:
        yield
    finally:
        wire.change(role, {"rules": before})


def _rule(wanted: Right) -> Obj:
    verb, group, resource = wanted
    return {"verbs": [verb], "apiGroups": [group], "resources": [resource]}


def _role(wire: Wire, release: Release) -> str:
    """The path of the operator's."""
    name = f"{release.space.name}-{RELEASE}"
    names = wire.names(f"{RBAC}/clusterroles", labelSelector="app.kubernetes.io/component=operator")
    assert name in names, names
    return f"{RBAC}/clusterroles/{name}"


def _start(space: Space, sidecar: str) -> None:
    budget = {"trials": TRIALS}
    space.start(study("lacking", sidecar, DISTANCE, budget=budget, parallelism=2))
    eventually(lambda: space.jobs("lacking"), "it has begun", RUN_S)


@pytest.mark.parametrize("taken", [CREATE_JOBS, CREATE_TRIALS, PATCH_TRIALS, *LISTS], ids="-".join)
def test_a_right_that_is_taken_is_named_until_it_is_back(
    release: Release, space: Space, sidecar: str, wire: Wire, taken: Right
) -> None:
    _start(space, sidecar)
    with _without(wire, _role(wire, release), taken):
        if taken in LISTS:  # an operator that works goes on from what it has seen
            _restart(release)
        _names(space, taken)
    space.completed("lacking", TRIALS)
    assert space.condition("lacking", "Degraded")["status"] == "False"


def _names(space: Space, taken: Right) -> None:
    """Wait until the study says what is missing."""
    verb, _, resource = taken
    eventually(lambda: _lacks(space), "it is said", RUN_S)
    words = space.condition("lacking", "Degraded")["message"]
    assert f'cannot {verb} resource "{resource}"' in words


def _restart(release: Release) -> None:
    """Delete the operator's pod, and wait for another."""
    (before,) = release.pods()
    release.space.wire("DELETE", release.space.path("pods", before), {"gracePeriodSeconds": 0})
    eventually(lambda: set(release.pods()) - {before}, "there is another operator", RUN_S)


def _lacks(space: Space) -> bool:
    said = space.condition("lacking", "Degraded")
    return (said.get("status"), said.get("reason")) == ("True", "Forbidden")


def test_without_the_right_to_tell_events_a_study_completes(
    release: Release, space: Space, sidecar: str, wire: Wire
) -> None:
    with _without(wire, _role(wire, release), CREATE_EVENTS):
        _start(space, sidecar)
        space.completed("lacking", TRIALS)


def test_an_operator_that_may_not_renew_its_lease_stops_until_it_may(
    release: Release, space: Space, sidecar: str, wire: Wire
) -> None:
    _start(space, sidecar)
    role = f"{RBAC}/namespaces/{release.space.name}/roles/{RELEASE}-lease"
    (operator,) = release.pods()
    with _without(wire, role, RENEW):
        words = 'cannot update resource "leases"'
        eventually(lambda: words in _log(release, operator), "its log says so", RUN_S)
    space.completed("lacking", TRIALS)


def _log(release: Release, pod: str) -> str:
    path = f"{release.space.path('pods', pod)}/log"
    return release.space.wire.raw("GET", path).data.decode()
