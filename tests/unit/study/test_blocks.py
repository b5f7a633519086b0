"""What is said of trials in blocks is what is said of them all, and is worked out once."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from primo_study.blocks import Block
from primo_study.phases import Reason, StudyPhase, TrialPhase
from primo_study.plan import decide
from primo_study.status import summarise
from primo_study.study import Seen, TrialRecord
from support.builders import CREATED, ended, of, run, spec, study, trial

NAMES = ("error", "cost")
SPEC = spec(
    objectives=[
        {"name": name, "goal": goal, "metric": name, "target": target}
        for name, goal, target in (("error", "Minimize", 0.1), ("cost", "Maximize", 2.9))
    ],
    constraints=[{"metric": "memory_gib", "atMost": 40}],
    budget={"trials": 100, "fullEvaluations": 12, "gpuHours": 9, "failedTrials": 4},
    parallelism=3,
)


def test_what_is_made_of_a_block_is_made_once_for_the_same_arguments() -> None:
    made: list[int] = []

    def total(items: Sequence[int], factor: int) -> int:
        made.append(factor)
        return factor * sum(items)

    block = Block((1, 2))
    assert [block.made(total, factor) for factor in (1, 1, 2, 2, 1)] == [3, 3, 6, 6, 3]
    assert made == [1, 2, 1]
    assert block == Block((1, 2))
    assert block != Block((1, 2, 3))


def trial_of(number: int, kind: int, value: int, at: int) -> TrialRecord:
    """One of each kind that there is."""
    moment = f"2027-01-15T08:00:{at:02}Z"
    values = {"error": value / 10, "cost": float(value % 3)}
    seen = (Seen(9.0, values, moment, feasible=value % 4 > 0),)
    used = {"started_at": "2027-01-15T07:00:00Z", "gpus": 1.0, "template": None}
    done = replace(ended(2), **used)
    failed = replace(ended(0, reason=Reason.FAILED), **used)
    kinds = [
        trial(number, TrialPhase.COMPLETED, ended(), done, observations=seen),
        trial(number, TrialPhase.FAILED, failed, reason="Failed"),
        trial(number, TrialPhase.FAILED, failed, reason="Failed", retry="again"),
        trial(number, TrialPhase.PAUSED, ended(), observations=seen),
        trial(number, TrialPhase.PAUSED, ended(), observations=seen, stop="stop"),
        trial(number, TrialPhase.STOPPED, ended(0, reason=Reason.STOPPED)),
        trial(number, TrialPhase.RUNNING, replace(run(), **used)),
        trial(number, TrialPhase.QUEUED, run()),
    ]
    stage = StudyPhase.OPTIMIZING if value == 9 else StudyPhase.INITIAL_DESIGN
    return replace(kinds[kind], explanation={"stage": stage.value})


TRIALS = st.dictionaries(
    st.integers(0, 40), st.tuples(st.integers(0, 7), st.integers(0, 9), st.integers(0, 9))
)


@settings(max_examples=150, deadline=None)
@given(TRIALS, st.integers(0, 45), st.sampled_from([1, 2, 7]))
def test_how_trials_are_divided_changes_nothing(
    drawn: dict[int, tuple[int, int, int]], counted: int, size: int
) -> None:
    trials = [trial_of(number, *drawn[number]) for number in sorted(drawn)]
    whole = study(spec=SPEC, status={"nextTrial": counted})
    whole = replace(whole, **of(trials, 1000))
    divided = replace(whole, **of(trials, size))
    assert list(divided.trials) == trials
    assert decide(divided, CREATED) == decide(whole, CREATED)
    said = [summarise(one, CREATED, "2027-01-15T09:00:00Z", "") for one in (divided, whole)]
    assert said[0] == said[1]
    for phase in TrialPhase:
        expected = [one for one in trials if one.phase is phase]
        assert list(divided.in_phase(phase)) == expected
        assert divided.count(phase) == len(expected)
    assert list(divided.unfinished_trials) == [t for t in trials if t.unfinished]
    assert list(divided.to_retry) == [t for t in trials if t.to_retry]
    assert divided.total == len(trials)
