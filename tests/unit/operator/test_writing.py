"""What is written about a trial was decided on what it still is."""

import asyncio
from typing import Any

import pytest

from primo_operator.cluster import ClusterError, ConflictError, Object, RefusedError
from primo_operator.memory import Memory
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.settings import Settings
from primo_operator.writing import Writer
from primo_study import record
from primo_study.phases import TrialPhase
from primo_study.study import TrialRecord
from support.builders import ended, seen, study, trial

KEY = Key("team", "digits")
STUDY = "00000001-0000"


class Writes:
    """The one call, and the versions it was given."""

    def __init__(self) -> None:
        self.versions: list[str] = []

    async def patch_trial_status(self, _space: str, _name: str, patch: Object, at: str) -> Object:
        self.versions.append(at)
        return {**an_object(trial(0), int(at) + 1), "status": patch}


def an_object(found: TrialRecord, version: int) -> Object:
    metadata = {
        "name": found.name,
        "namespace": "team",
        "uid": "t",
        "resourceVersion": str(version),
        "ownerReferences": [{"kind": "PriMOStudy", "name": "digits", "uid": STUDY}],
    }
    spec = {"study": "digits", "number": 0, "parameters": {"lr": 0.01}}
    return {"metadata": metadata, "spec": spec, "status": record.status(found)}


@pytest.fixture
def writer() -> Writer:
    """In its view there is one trial, with its first run open, of version 1."""
    cluster: Any = Writes()
    clock: Any = None
    found = Writer(cluster, clock, Settings(), Mirror(), {KEY: Memory(uid=STUDY)})
    found.mirror.absorb(Kind.TRIAL, an_object(trial(0), 1))
    return found


def decided_on(writer: Writer) -> tuple[TrialRecord, TrialRecord]:
    """The trial's record as it is, and as a decision wants it."""
    known = writer.mirror.family(KEY).trials["digits-00000001-0"].record
    assert known
    return known, record.stopped(known, "the study has ended", "2027-01-15T08:00:00Z")


def test_a_decision_on_the_record_as_it_is_has_its_version(writer: Writer) -> None:
    assert asyncio.run(writer.trial(KEY, *decided_on(writer)))
    assert writer.cluster.versions == ["1"]  # type: ignore[attr-defined]


def test_one_on_an_older_record_is_not_written_with_the_newer_version(writer: Writer) -> None:
    """Between the two another operator has recorded the run's end, and a watch has shown it."""
    old, new = decided_on(writer)
    observed = trial(0, TrialPhase.COMPLETED, ended(), observations=(seen(),))
    writer.mirror.absorb(Kind.TRIAL, an_object(observed, 2))
    with pytest.raises(ConflictError, match="has changed"):
        asyncio.run(writer.trial(KEY, old, new))
    assert writer.cluster.versions == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "doubted"),
    [
        pytest.param(ClusterError("no answer"), True, id="it may have been written"),
        pytest.param(RefusedError(429, "busy"), False, id="it has not been"),
    ],
)
def test_a_write_without_an_answer_may_have_been_made(
    writer: Writer, error: ClusterError, doubted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def patch_trial_status(*_: Any) -> Object:
        raise error

    monkeypatch.setattr(writer.cluster, "patch_trial_status", patch_trial_status)
    with pytest.raises(type(error)):
        asyncio.run(writer.trial(KEY, *decided_on(writer)))
    assert writer.memories[KEY].doubted is doubted


@pytest.mark.parametrize(
    ("numbers", "counted", "lacks"),
    [
        pytest.param([], 0, False, id="nothing has begun"),
        pytest.param([0, 1], 2, False, id="all are there"),
        pytest.param([0, 1, 2], 2, False, id="one is not counted yet"),
        pytest.param([0], 2, True, id="the last one is missing"),
        pytest.param([1], 2, True, id="one is missing below another"),
        pytest.param([0, 2], 0, True, id="and that is not counted yet"),
    ],
)
def test_a_trial_that_our_view_lacks_is_looked_for(
    writer: Writer, numbers: list[int], counted: int, lacks: bool
) -> None:
    found = study(*map(trial, numbers), status={"nextTrial": counted})
    assert writer.lacks_trials(KEY, found) is lacks
    assert writer.memories[KEY].doubted is lacks


def test_what_a_list_lacks_as_well_is_not_looked_for_again(writer: Writer) -> None:
    assert writer.lacks_trials(KEY, study(trial(1)))
    assert not writer.lacks_trials(KEY, study(trial(1)))
    assert not writer.lacks_trials(KEY, study(trial(1), trial(2)))
    assert writer.lacks_trials(KEY, study(trial(1), trial(2), trial(4)))
