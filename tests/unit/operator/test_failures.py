"""A pass that fails by a bug of ours, or for want of a right, is a condition of its study."""

import asyncio
from typing import Any

import pytest

from primo_operator.cluster import ClusterError, ForbiddenError, Notice, Object, RefusedError
from primo_operator.failures import note_failure
from primo_operator.mirror import Key, Kind, Mirror
from primo_study.record import MAX_MESSAGE

KEY = Key("team", "digits")
ERROR = AssertionError("trial 3:\n\x1b[31mhas no run")


class Writes:
    """The one call, and what it was given."""

    def __init__(self) -> None:
        self.patches: list[Object] = []
        self.notices: list[Notice] = []

    def notify(self, notice: Notice) -> None:
        self.notices.append(notice)

    async def patch_study_status(self, *given: Any) -> Object:
        self.patches.append(given[2])
        return study(version=10 + len(self.patches), **given[2])


class At:
    def now(self) -> float:
        return 1_800_000_000.5

    def monotonic(self) -> float:
        return 0.0


def study(version: int = 1, **status: Any) -> Object:
    metadata = {"namespace": "team", "name": "digits", "uid": "u", "resourceVersion": str(version)}
    return {"metadata": {**metadata, "generation": 3}, "status": status}


def noted(mirror: Mirror, *errors: Exception) -> list[Object]:
    writes: Any = Writes()
    for error in errors:
        asyncio.run(note_failure(writes, mirror, KEY, error, At()))
    return list(writes.patches)


def test_it_is_said_once_beside_the_other_conditions() -> None:
    mirror = Mirror()
    running = {"type": "Running", "status": "True"}
    mirror.absorb(Kind.STUDY, study(phase="Running", conditions=[running]))
    (patch,) = noted(mirror, ERROR, ERROR)
    assert patch["phase"] == "Running"
    assert patch["conditions"] == [
        running,
        {
            "type": "Degraded",
            "status": "True",
            "reason": "InternalError",
            "message": "AssertionError: \ufffd[31mhas no run; the operator's log has more",
            "lastTransitionTime": "2027-01-15T08:00:00Z",
            "observedGeneration": 3,
        },
    ]


def test_a_study_that_has_no_status_yet_gets_one_and_a_long_error_fits() -> None:
    mirror = Mirror()
    mirror.absorb(Kind.STUDY, study())
    (patch,) = noted(mirror, ValueError("x" * 100_000))
    assert patch["phase"] == "Pending"
    assert len(patch["conditions"][0]["message"]) <= MAX_MESSAGE


def test_a_right_that_is_missing_is_named_in_the_servers_words_and_by_an_event() -> None:
    mirror, writes = Mirror(), Writes()
    mirror.absorb(Kind.STUDY, study())
    error = ForbiddenError(403, 'jobs.batch is forbidden: User "us" cannot create resource "jobs"')
    cluster: Any = writes
    for _ in range(2):
        asyncio.run(note_failure(cluster, mirror, KEY, error, At()))
    (patch,), (notice,) = writes.patches, writes.notices
    (condition,) = patch["conditions"]
    assert (condition["reason"], condition["message"]) == ("Forbidden", error.message)
    assert (notice.reason, notice.message, notice.warning) == ("Forbidden", error.message, True)


@pytest.mark.parametrize("error", [ClusterError("503"), RefusedError(429, "too many requests")])
def test_what_a_retry_may_cure_is_not_said(error: ClusterError) -> None:
    mirror = Mirror()
    mirror.absorb(Kind.STUDY, study())
    assert noted(mirror, error) == []


def test_of_a_study_that_is_gone_nothing_is_said() -> None:
    assert noted(Mirror(), ERROR) == []
