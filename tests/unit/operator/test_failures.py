"""A pass that fails by a bug of ours is a condition of its study."""

import asyncio
from typing import Any

from primo_operator.cluster import Object
from primo_operator.failures import note_failure
from primo_operator.mirror import Key, Kind, Mirror
from primo_study.record import MAX_MESSAGE

KEY = Key("team", "digits")
ERROR = AssertionError("trial 3:\n\x1b[31mhas no run")


class Writes:
    """The one call, and what it was given."""

    def __init__(self) -> None:
        self.patches: list[Object] = []

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


def test_of_a_study_that_is_gone_nothing_is_said() -> None:
    assert noted(Mirror(), ERROR) == []
