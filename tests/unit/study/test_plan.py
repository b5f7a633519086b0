"""`decide` as a table: what is done next for a study in each state."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from primo_operator.memory import Memory, fingerprint
from primo_study.ending import ending
from primo_study.phases import Obstacle, Reason, StudyPhase, TrialPhase
from primo_study.plan import (
    START_DEADLINE_S,
    Action,
    Ask,
    CheckTemplate,
    Expire,
    Launch,
    Look,
    NoteQueuedAgain,
    NoteStarted,
    NoteWaiting,
    Plan,
    Record,
    RemoveJob,
    Retry,
    RetryAsked,
    Stop,
    Suspend,
    decide,
)
from primo_study.study import (
    EndedJob,
    Evidence,
    JobState,
    Outcome,
    Run,
    Study,
    Template,
    TrialRecord,
    Trouble,
    Waiting,
)
from support.builders import CREATED, ended, run, seen, spec, study, trial

PHASE = TrialPhase
NOW = CREATED + 60
OOPS = Outcome(Reason.FAILED, "exit code 1")
BAD_IMAGE = Waiting("ErrImagePull", "no such image", endless=True)
NO_GPU = Waiting("Unschedulable", "0/1 nodes", endless=False)


def there(**fields: Any) -> Evidence:
    return Evidence(job=JobState.PRESENT, since=CREATED, **fields)


def stamped(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def kinds(found: Study, now: float = NOW) -> list[type[Action]]:
    return [type(action) for action in decide(found, now).actions]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(study(template=Template()), [CheckTemplate], id="first the template"),
        pytest.param(study(), [Ask], id="free slots are asked for"),
        pytest.param(study(deleting=True), [], id="nothing while it is deleted"),
        pytest.param(study(spec=spec(suspend=True)), [], id="nothing while suspended"),
        pytest.param(study(asked_in_vain=True), [], id="not asked twice for the same trials"),
        pytest.param(
            study(template=Template(True, "quota")), [], id="nothing while the template is refused"
        ),
        pytest.param(
            study(trial(0), trial(1)), [], id="two open runs fill two slots, queued or not"
        ),
        pytest.param(
            study(trial(0, job=JobState.UNSEEN), trial(1)),
            [Look],
            id="absence in our view is no licence to create",
        ),
        pytest.param(
            study(trial(0, job=JobState.GONE), trial(1)), [Record], id="a vanished Job is recorded"
        ),
        pytest.param(
            study(trial(0, job=JobState.UNMADE), trial(1)), [Launch], id="an unmade Job is made"
        ),
        pytest.param(
            study(trial(0, evidence=Evidence(job=JobState.UNMADE, lingering=True)), trial(1)),
            [],
            id="no two pods of one trial",
        ),
        pytest.param(
            study(trial(0, PHASE.QUEUED, ended(reason="Lost")), trial(1)),
            [Retry],
            id="a lost run is run again",
        ),
        pytest.param(
            study(trial(0, evidence=there(running=True)), trial(1)),
            [NoteStarted],
            id="its start is noted",
        ),
        pytest.param(
            study(trial(0, evidence=there(waiting=NO_GPU)), trial(1)),
            [NoteWaiting],
            id="why it waits is noted",
        ),
        pytest.param(
            study(
                trial(
                    0,
                    PHASE.QUEUED,
                    run(reason="Unschedulable", message="0/1 nodes"),
                    evidence=there(waiting=NO_GPU),
                ),
                trial(1),
            ),
            [],
            id="but once",
        ),
        pytest.param(
            study(trial(0, PHASE.RUNNING, evidence=there(outcome=OOPS))),
            [Record, Ask],
            id="what is known is recorded before the optimizer is asked",
        ),
        pytest.param(
            study(trial(0, PHASE.RUNNING, evidence=there(outcome=OOPS)), trial(1)),
            [Record],
            id="a slot is free when what had it is recorded",
        ),
        pytest.param(
            study(trial(0, PHASE.COMPLETED), leftovers={"j": "u"}),
            [RemoveJob, Ask],
            id="a Job of no open run is removed",
        ),
    ],
)
def test_decide(found: Study, expected: list[type[Action]]) -> None:
    assert kinds(found) == expected


IN_QUEUE = Waiting("Suspended", "it waits in a queue", endless=False)


@pytest.mark.parametrize(
    ("phase", "evidence", "expected"),
    [
        pytest.param(PHASE.QUEUED, there(), [NoteWaiting], id="it waits in its queue"),
        pytest.param(
            PHASE.RUNNING, there(), [NoteQueuedAgain], id="it was preempted: queued again"
        ),
        pytest.param(
            PHASE.RUNNING,
            there(outcome=Outcome(Reason.COMPLETED)),
            [Record],
            id="its result came before",
        ),
    ],
)
def test_a_job_in_a_queue_fails_nothing(
    phase: TrialPhase, evidence: Evidence, expected: list[type[Action]]
) -> None:
    queued = replace(evidence, suspended=True, waiting=IN_QUEUE)
    found = study(trial(0, phase, evidence=queued), trial(1))
    assert kinds(found, CREATED + 100 * START_DEADLINE_S) == expected


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        pytest.param(BAD_IMAGE, [Record], id="what cannot cure itself fails after the deadline"),
        pytest.param(NO_GPU, [NoteWaiting], id="a GPU may be waited for without end"),
    ],
)
def test_a_run_that_does_not_start(waiting: Waiting, expected: list[type[Action]]) -> None:
    found = study(trial(0, evidence=there(waiting=waiting)), trial(1))
    assert kinds(found, CREATED + START_DEADLINE_S) == expected


def test_what_most_get_over_is_told_when_it_is_due_and_that_wakes_us() -> None:
    slow = Waiting("ContainerCreating", "words", endless=False, due_at=NOW + 5)
    found = study(trial(0, evidence=there(waiting=slow)), trial(1))
    assert decide(found, NOW) == Plan((), NOW + 5)
    assert kinds(found, NOW + 5) == [NoteWaiting]


SUSPENDED = spec(suspend=True)
TAKEN_BACK = ended(reason="Suspended")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(trial(0), [Suspend], id="a queued run is taken back"),
        pytest.param(
            trial(0, evidence=there(waiting=NO_GPU)), [Suspend], id="whatever it waits for"
        ),
        pytest.param(
            trial(0, job=JobState.UNMADE), [Suspend], id="and one whose Job has not been made"
        ),
        pytest.param(
            trial(0, job=JobState.UNSEEN), [Look], id="one that may run is looked at first"
        ),
        pytest.param(
            trial(0, evidence=there(running=True)), [NoteStarted], id="one that runs may end"
        ),
        pytest.param(trial(0, PHASE.RUNNING), [], id="seen or not"),
        pytest.param(
            trial(0, PHASE.RUNNING, evidence=there(outcome=OOPS)), [Record], id="its end counts"
        ),
        pytest.param(trial(0, PHASE.QUEUED, TAKEN_BACK), [], id="nothing is started"),
        pytest.param(
            trial(0, PHASE.QUEUED, ended(reason="Lost")), [], id="a lost run waits with the study"
        ),
        pytest.param(
            trial(0, PHASE.QUEUED, TAKEN_BACK, evidence=Evidence(lingering=True, waiting=NO_GPU)),
            [],
            id="nor is anything else said of it while its pod goes",
        ),
    ],
)
def test_a_suspended_study(found: TrialRecord, expected: list[type[Action]]) -> None:
    assert kinds(study(found, spec=SUSPENDED)) == expected


TEN_TIMES = tuple(ended(0, n, "NotCreated") for n in range(10))


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        pytest.param([run()], Reason.NOT_CREATED, id="nothing is known of it"),
        pytest.param([run(reason="QuotaExceeded")], Reason.NOT_CREATED, id="it was refused"),
        pytest.param([run(reason="ErrImagePull")], Reason.LOST, id="it had a pod"),
        pytest.param([run(started_at="2027-01-15T08:00:00Z")], Reason.LOST, id="it ran"),
        pytest.param([*TEN_TIMES, run(0, 10)], Reason.LOST, id="again and again"),
        pytest.param([*TEN_TIMES, run(1)], Reason.NOT_CREATED, id="on an earlier rung"),
    ],
)
def test_a_run_without_a_job_has_hardly_had_one_unless_more_is_known(
    runs: list[Run], expected: Reason
) -> None:
    (action, *_) = decide(
        study(trial(0, TrialPhase.QUEUED, *runs, job=JobState.GONE), trial(1)), CREATED
    ).actions
    assert isinstance(action, Record)
    assert action.outcome.reason is expected


def test_what_was_taken_back_runs_when_the_study_goes_on() -> None:
    assert kinds(study(trial(0, PHASE.QUEUED, TAKEN_BACK), trial(1))) == [Retry]


def suspended_since(since: str, seconds: int = 0) -> dict[str, Any]:
    condition = {"type": "Suspended", "status": "True", "lastTransitionTime": since}
    return {"phase": "Suspended", "conditions": [condition], "suspendedSeconds": seconds}


@pytest.mark.parametrize(
    ("status", "now", "over"),
    [
        pytest.param({}, CREATED + 60, True, id="the time is over"),
        pytest.param(
            {"suspendedSeconds": 30}, CREATED + 60, False, id="it was suspended for half of it"
        ),
        pytest.param({"suspendedSeconds": 30}, CREATED + 90, True, id="and then is over too"),
        pytest.param(
            suspended_since("2027-01-15T08:00:30Z"), CREATED + 9999, False, id="time stands still"
        ),
        pytest.param(
            suspended_since("2027-01-15T08:02:00Z", 30),
            CREATED + 120,
            True,
            id="it was over before",
        ),
    ],
)
def test_the_time_budget_does_not_count_suspension(
    status: dict[str, Any], now: float, over: bool
) -> None:
    found = study(spec=spec(budget={"duration": "1m"}), status=status)
    assert (ending(found, now) is not None) == over


BAD = ended(reason="Failed")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(trial(0, PHASE.FAILED, BAD), [], id="nothing is asked"),
        pytest.param(trial(0, PHASE.FAILED, BAD, retry="1"), [RetryAsked], id="a failed one"),
        pytest.param(trial(0, PHASE.STOPPED, BAD, retry="1"), [RetryAsked], id="a stopped one"),
        pytest.param(trial(0, PHASE.FAILED, BAD, retry="1", retried="1"), [], id="once"),
        pytest.param(
            trial(0, PHASE.FAILED, BAD, retry="2", retried="1"), [RetryAsked], id="and once more"
        ),
        pytest.param(trial(0, PHASE.RUNNING, retry="1"), [], id="one that runs goes on"),
        pytest.param(trial(0, PHASE.COMPLETED, ended(2), retry="1"), [], id="a result stands"),
        pytest.param(
            trial(0, PHASE.STOPPED, ended(), retry="1"), [], id="also that of a lower rung"
        ),
        pytest.param(
            trial(0, PHASE.FAILED, BAD, retry="1", evidence=Evidence(lingering=True)),
            [],
            id="not while an earlier pod may write",
        ),
        pytest.param(trial(0, PHASE.RUNNING, stop="slow"), [Stop], id="one that runs is stopped"),
        pytest.param(trial(0, stop="slow"), [Stop], id="a queued one"),
        pytest.param(
            trial(0, stop="slow", job=JobState.UNSEEN), [Look], id="not what has its Job's name"
        ),
        pytest.param(trial(0, PHASE.PAUSED, ended(), stop="slow"), [Stop], id="a paused one"),
        pytest.param(
            trial(0, PHASE.QUEUED, ended(reason="Lost"), stop="slow"), [Stop], id="a lost one"
        ),
        pytest.param(
            trial(0, PHASE.RUNNING, stop="slow", evidence=there(outcome=OOPS)),
            [Record],
            id="what it has come to counts",
        ),
        pytest.param(trial(0, PHASE.STOPPED, BAD, stop="slow", retry="1"), [], id="stop wins"),
    ],
)
def test_what_a_user_asks_of_a_trial(found: TrialRecord, expected: list[type[Action]]) -> None:
    others = (trial(1, PHASE.PAUSED, ended()),) if found.unfinished else (trial(1),)
    full = spec(parallelism=2, budget={"trials": 2}, fidelity=None)
    assert kinds(study(found, *others, spec=full)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"parallelism": 1}, [], id="it waits for a slot"),
        pytest.param({"suspend": True}, [Suspend], id="while suspended"),
        pytest.param({"budget": {"fullEvaluations": 0.1}}, [], id="in a study that ends"),
        pytest.param({}, [RetryAsked], id="and comes before new trials"),
    ],
)
def test_a_retry_takes_a_slot(fields: dict[str, Any], expected: list[type[Action]]) -> None:
    found = study(trial(0, PHASE.FAILED, BAD, retry="1"), trial(1), spec=spec(**fields))
    assert kinds(found) == expected


def test_a_study_does_not_end_over_a_wish_for_a_retry() -> None:
    budget = spec(budget={"trials": 1}, fidelity=None)
    assert ending(study(trial(0, PHASE.FAILED, BAD), spec=budget), NOW)
    assert ending(study(trial(0, PHASE.FAILED, BAD, retry="1"), spec=budget), NOW) is None


def test_the_deadline_wakes_us() -> None:
    found = study(trial(0, evidence=there(waiting=BAD_IMAGE)), trial(1))
    assert decide(found, NOW).wake_at == CREATED + START_DEADLINE_S


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        pytest.param(0, Ask(2, 2), id="as many as slots"),
        pytest.param(9, Ask(2, 1), id="new trials as far as the budget goes"),
        pytest.param(10, Ask(2, 0), id="then promotions only"),
    ],
)
def test_the_ask_respects_slots_and_budget(done: int, expected: Ask) -> None:
    finished = [trial(n, PHASE.PAUSED, ended()) for n in range(done)]
    assert decide(study(*finished), NOW).actions == (expected,)


@pytest.mark.parametrize(("budget", "expected"), [(4, Ask(1, 1)), (3, Ask(1, 0))])
def test_numbers_above_one_that_may_be_missing_are_paid_for(budget: int, expected: Ask) -> None:
    """Trials 0, 2 and 3 are there, and the create of trial 1 has failed or not been seen."""
    finished = [trial(n, PHASE.PAUSED, ended()) for n in (0, 2, 3)]
    found = study(*finished, spec=spec(budget={"trials": budget}, parallelism=3))
    assert found.has_gap
    assert decide(found, NOW).actions == (expected,)


def test_a_study_ends_with_a_number_missing_if_its_budget_is_spent() -> None:
    finished = [trial(n, PHASE.COMPLETED, ended(2)) for n in (0, 2)]
    found = study(*finished, spec=spec(budget={"trials": 2}, fidelity=None))
    end = ending(found, NOW)
    assert end
    assert end.message == "used up: 2 trials of 2"


@pytest.mark.parametrize(("budget", "expected"), [(2, RetryAsked), (3, Ask)])
def test_a_retry_is_granted_with_a_number_missing_that_nobody_asks_for(
    budget: int, expected: type[Action]
) -> None:
    """Else it would wait for that one, and the study for it."""
    wish = trial(2, PHASE.FAILED, ended(reason="Failed"), reason="Failed", retry="1")
    found = study(
        trial(0, PHASE.COMPLETED, ended(2)),
        wish,
        spec=spec(budget={"trials": budget}, fidelity=None),
    )
    assert kinds(found, NOW) == [expected]


FAILED = [trial(n, PHASE.FAILED, ended(reason="Failed"), reason="Failed") for n in range(12)]
UNSTARTED = [
    trial(n, PHASE.FAILED, ended(reason="StartFailed"), reason="StartFailed") for n in range(3)
]


def made_of(template: str, found: TrialRecord) -> TrialRecord:
    runs = tuple(replace(run, template=template) for run in found.runs)
    return replace(found, runs=runs)


TARGET = {"name": "error", "goal": "Minimize", "metric": "m", "target": 0.1}
DONE = trial(0, PHASE.COMPLETED, ended(2), observations=(seen(),))
INFEASIBLE = replace(DONE, observations=(replace(seen(), feasible=False),))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        pytest.param(study(), None, id="it goes on"),
        pytest.param(
            study(*FAILED[:3], spec=spec(budget={"trials": 9, "failedTrials": 2})),
            "TooManyFailures",
            id="more failures than allowed",
        ),
        pytest.param(study(*FAILED[:9]), None, id="nine failures may be bad luck"),
        pytest.param(study(*FAILED[:10]), "TooManyFailures", id="ten and nothing else are not"),
        pytest.param(study(*UNSTARTED), "TemplateBroken", id="no trial has ever started"),
        pytest.param(
            study(DONE, spec=spec(objectives=[TARGET])),
            "TargetReached",
            id="a trial meets the target",
        ),
        pytest.param(
            study(INFEASIBLE, spec=spec(objectives=[TARGET])),
            None,
            id="an infeasible trial meets no target",
        ),
        pytest.param(
            study(DONE, spec=spec(budget={"duration": "1m"})),
            "BudgetExhausted",
            id="the time is over",
        ),
        pytest.param(
            study(spec=spec(budget={"duration": "1m"})),
            "NothingObserved",
            id="the time is over, and nothing was observed",
        ),
        pytest.param(
            study(trial(0), spec=spec(budget={"duration": "1m"})),
            "BudgetExhausted",
            id="the time is over, and something may still be observed",
        ),
        pytest.param(
            study(DONE, spec=spec(budget={"fullEvaluations": 1})),
            "BudgetExhausted",
            id="the training is spent",
        ),
        pytest.param(
            study(DONE, spec=spec(budget={"trials": 1})),
            None,
            id="all trials made: promotions may be left",
        ),
        pytest.param(
            study(DONE, spec=spec(budget={"trials": 1}), asked_in_vain=True),
            "BudgetExhausted",
            id="all trials made and nothing to promote",
        ),
        pytest.param(
            study(trial(0), spec=spec(budget={"trials": 1}, fidelity=None)),
            None,
            id="runs that were granted are not taken back",
        ),
        pytest.param(study(DONE, asked_in_vain=True), "SpaceExhausted", id="nothing left to try"),
        pytest.param(
            study(template=Template(True, "no", fatal=True)), "InvalidTemplate", id="bad template"
        ),
        pytest.param(
            study(template=Template(True, "no", fatal=True), spec=spec(suspend=True)),
            None,
            id="that can be corrected while the study is suspended",
        ),
        pytest.param(
            study(*(made_of("another", t) for t in UNSTARTED)),
            None,
            id="failures of another template",
        ),
        pytest.param(
            study(made_of("another", DONE), *UNSTARTED),
            "TemplateBroken",
            id="and its results say nothing of this one",
        ),
    ],
)
def test_how_a_study_ends(found: Study, reason: str | None) -> None:
    end = ending(found, NOW)
    assert (end.reason if end else None) == reason


PAUSED = trial(1, PHASE.PAUSED, ended(), observations=(seen(3.0),))
FAILED = trial(2, PHASE.FAILED, ended(reason="Failed"), reason="Failed")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param(
            study(
                PAUSED,
                FAILED,
                spec=spec(budget={"trials": 2}),
                asked_in_vain=True,
                status={"nextTrial": 3},
            ),
            "used up: 3 trials of 2; there is no result: no trial was observed at full fidelity, 9,"
            " the furthest at 3; the latest failure: trial 2 Failed: no message",
            id="short runs and a failure",
        ),
        pytest.param(
            study(
                replace(FAILED, message="exit code 2: no file trian.py"),
                spec=spec(budget={"trials": 1}, fidelity=None),
                status={"nextTrial": 3},
            ),
            "used up: 3 trials of 1; there is no result: no trial was observed; the latest failure:"
            " trial 2 Failed: exit code 2: no file trian.py",
            id="failures alone",
        ),
        pytest.param(
            study(PAUSED, asked_in_vain=True),
            "every configuration of the search space has been tried; there is no result: no trial"
            " was observed at full fidelity, 9, the furthest at 3",
            id="an exhausted space",
        ),
        pytest.param(
            study(PAUSED, DONE, spec=spec(budget={"trials": 2}), asked_in_vain=True),
            "used up: 2 trials of 2",
            id="there is one",
        ),
        pytest.param(
            study(PAUSED, trial(3, PHASE.RUNNING), spec=spec(budget={"fullEvaluations": 0.1})),
            "used up: 0.222222 full evaluations of 0.1",
            id="there may be one yet",
        ),
    ],
)
def test_a_study_that_ends_without_a_front_says_why(found: Study, message: str) -> None:
    end = ending(found, NOW)
    assert end
    phase = StudyPhase.FAILED if "no trial was observed;" in message else StudyPhase.COMPLETED
    assert (end.phase, end.message) == (phase, message)


def test_an_ended_study_stays_so_until_its_spec_is_edited() -> None:
    status = {
        "phase": "Completed",
        "observedGeneration": 1,
        "conditions": [{"type": "Completed", "reason": "TargetReached", "message": "m"}],
    }
    end = ending(study(status=status), NOW)
    assert end
    assert end.reason == "TargetReached"
    assert ending(study(status={**status, "observedGeneration": 0}), NOW) is None


JOBS = (EndedJob("good", completed=True), EndedJob("bad", completed=False))


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        pytest.param(None, [], id="without retention nothing is said"),
        pytest.param({}, [], id="kept as long as the trial"),
        pytest.param({"jobs": "All"}, [], id="all of them"),
        pytest.param({"ttl": "1.5s"}, [("good", 2), ("bad", 2)], id="for a time, in full seconds"),
        pytest.param({"jobs": "None"}, [("good", 0), ("bad", 0)], id="none"),
        pytest.param({"jobs": "Failed"}, [("good", 0)], id="failed ones stay"),
        pytest.param(
            {"jobs": "Failed", "ttl": "1h"}, [("good", 0), ("bad", 3600)], id="for a time"
        ),
    ],
)
def test_how_long_jobs_are_kept(
    retention: dict[str, str] | None, expected: list[tuple[str, int]]
) -> None:
    found = study(DONE, ended_jobs=JOBS, spec=spec(retention=retention, suspend=True))
    assert decide(found, NOW).actions == tuple(Expire(*one) for one in expected)


def test_what_has_been_said_of_a_job_is_not_said_again() -> None:
    said = (EndedJob("good", completed=True, ttl_s=3600), EndedJob("bad", False, ttl_s=60))
    found = study(DONE, ended_jobs=said, spec=spec(retention={"ttl": "1h"}, suspend=True))
    assert decide(found, NOW).actions == (Expire("bad", 3600),)
    found = study(DONE, ended_jobs=said, spec=spec(retention={"jobs": "All"}, suspend=True))
    assert decide(found, NOW).actions == (Expire("good", None), Expire("bad", None))


def held(*runs: Run, gpus: float = 2.0) -> list[TrialRecord]:
    """Trials whose runs hold two GPUs from 08:00 on."""
    start = "2027-01-15T08:00:00Z"
    return [
        trial(
            n,
            PHASE.RUNNING if one.open else PHASE.FAILED,
            replace(one, started_at=start, gpus=gpus),
        )
        for n, one in enumerate(runs)
    ]


AT_9, AT_10 = (run(finished_at=f"2027-01-15T{hour}:00:00Z", reason="Lost") for hour in ("09", "10"))


@pytest.mark.parametrize(
    ("trials", "hours", "used"),
    [
        pytest.param(held(AT_9, AT_10), 5, 6.0, id="ended runs pay from start to end"),
        pytest.param(held(run()), 3, 6.0, id="one under way pays until now"),
        pytest.param(held(AT_9, run()), 3, 8.0, id="both"),
        pytest.param([trial(0)], 3, 0.0, id="a queued run pays nothing"),
        pytest.param(held(AT_9, gpus=0.0), 3, 0.0, id="nor one without a GPU"),
    ],
)
def test_gpu_hours(trials: list[TrialRecord], hours: int, used: float) -> None:
    assert study(*trials).gpu_hours(CREATED + hours * 3600) == pytest.approx(used)


def test_a_study_ends_with_its_gpu_hours_and_is_woken_for_it() -> None:
    found = study(*held(AT_9, run(), run()), spec=spec(budget={"gpuHours": 10}))
    assert ending(found, CREATED + 3600) is None
    # Two hours are paid, and the two open runs hold four GPUs.
    assert decide(found, CREATED + 3600).wake_at == pytest.approx(CREATED + 2 * 3600)
    end = ending(found, CREATED + 2 * 3600)
    assert end
    assert (end.reason, end.message) == ("BudgetExhausted", "used up: 10 GPU-hours")
    later = ending(found, CREATED + 3 * 3600)
    assert later == end, "a message that changes by time would be written again and again"


@pytest.mark.parametrize("budget", [{"duration": "10m"}, {"gpuHours": 1}])
def test_no_budget_ends_a_study_that_waits_for_another_operator(budget: dict[str, Any]) -> None:
    """Nor wakes it: it would be due in each pass."""
    waits = Trouble(Obstacle.OPERATOR_OUTDATED, "a later version's")
    found = study(*held(AT_9, run()), spec=spec(budget=budget), held=waits)
    assert decide(found, CREATED + 3 * 3600).wake_at is None


def test_gpu_hours_that_were_written_are_not_taken_back() -> None:
    status = {"budgetUsed": {"gpuHours": 7.5}}
    assert study(*held(AT_9), status=status).gpu_hours() == 7.5


def test_terminate_stops_what_runs_and_drain_waits() -> None:
    over = {"budget": {"duration": "1m"}}
    running = trial(0, PHASE.RUNNING)
    assert kinds(study(running, spec=spec(**over))) == []
    assert kinds(study(running, spec=spec(**over, onComplete="Terminate"))) == [Stop]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"budget": {"duration": "1m"}}, [Stop], id="the time is over"),
        pytest.param({"budget": {"gpuHours": 0.01}}, [Stop], id="the GPU-hours are"),
        pytest.param({"objectives": [TARGET]}, [Stop], id="a target is met"),
        pytest.param({"budget": {"fullEvaluations": 1}}, [], id="it was granted by its number"),
    ],
)
def test_a_study_that_drains_starts_nothing_after_its_end(
    fields: dict[str, Any], expected: list[type[Action]]
) -> None:
    times = {"started_at": "2027-01-15T08:00:00Z", "finished_at": "2027-01-15T09:00:00Z"}
    done = replace(DONE, runs=(replace(DONE.run, gpus=1.0, **times),))
    given = spec(**fields)
    queued, running = trial(1), trial(2, PHASE.RUNNING)
    assert kinds(study(done, queued, running, spec=given)) == expected
    begins = trial(1, evidence=there(running=True))
    assert kinds(study(done, begins, running, spec=given)) == [NoteStarted]
    unseen = trial(1, job=JobState.UNSEEN)
    assert kinds(study(done, unseen, running, spec=given)) == [Look]


def test_the_budget_counts_what_each_run_adds() -> None:
    promoted = trial(0, PHASE.COMPLETED, ended(0), run(1, resume_from=1.0), run(2, resume_from=3.0))
    assert study(promoted).full_evaluations() == pytest.approx(1.0)
    assert study(status={"budgetUsed": {"fullEvaluations": 4.5}}).full_evaluations() == 4.5


@pytest.mark.parametrize(
    "left",
    [
        pytest.param([], id="nothing has come since"),
        pytest.param([trial(5, PHASE.RUNNING)], id="another has begun"),
    ],
)
def test_without_a_fidelity_deleted_trials_have_been_paid_for(left: list[TrialRecord]) -> None:
    status = {"nextTrial": 5, "budgetUsed": {"fullEvaluations": 5.0}}
    given = spec(fidelity=None, budget={"fullEvaluations": 9})
    assert study(*left, spec=given, status=status).full_evaluations() == 5 + len(left)


def test_numbers_of_deleted_trials_are_not_used_again() -> None:
    assert study(trial(0), status={"nextTrial": 5}).next_number == 5


def test_a_raised_budget_is_asked_for_again() -> None:
    """What the optimizer had nothing to start for before the edit it may have now."""
    memory = Memory()
    memory.vain = fingerprint(study(DONE))
    assert memory.vain == fingerprint(study(DONE))
    assert memory.vain != fingerprint(replace(study(DONE), generation=2))


def test_a_start_is_noted_once_it_has_lasted() -> None:
    """Most of what ends at once is spared a write; a node's clock may be ahead of ours."""
    started = stamped(NOW - 1)
    found = study(trial(0, evidence=there(running=True, started_at=started)), trial(1))
    assert decide(found, NOW) == Plan((), NOW + 1)
    assert kinds(found, NOW + 1) == [NoteStarted]
    ahead = study(trial(0, evidence=there(running=True, started_at=stamped(NOW + 99))), trial(1))
    assert kinds(ahead) == [NoteStarted]
