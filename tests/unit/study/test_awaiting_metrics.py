"""A run whose pod has ended and that waits for Prometheus: what is done, written, said, kept."""

from dataclasses import replace
from typing import Any

import pytest

from primo_study import record
from primo_study.phases import Reason, TrialPhase
from primo_study.plan import (
    Action,
    NoteReported,
    NoteWaiting,
    Query,
    Record,
    Retry,
    decide,
)
from primo_study.queries import Access, Gap, Measured, Question
from primo_study.status import summarise
from primo_study.study import (
    Evidence,
    JobState,
    Outcome,
    Reported,
    TrialRecord,
    Waiting,
)
from support.builders import CREATED, ended, run, spec, study, trial

PHASE = TrialPhase
QUERY = 'sum(increase(joules{pod="$(pod)",namespace="$(namespace)"}[$(window)]))'
OBJECTIVES = [
    {"name": "error", "goal": "Minimize", "metric": "val_error"},
    {"name": "energy", "goal": "Minimize", "prometheus": {"query": QUERY}},
    {"name": "latency", "goal": "Minimize", "prometheus": {"query": "max(wait) + 0 * $(trial)"}},
]
ASKING = spec(objectives=OBJECTIVES)
STARTED, ENDED = "2027-01-15T08:00:10Z", "2027-01-15T08:01:40Z"
END = CREATED + 100
SETTLED, GIVEN_UP = END + 30, END + 900
REPORTED = Reported("pod-x", ENDED, {"error": 0.1}, feasible=None, step=3)
AWAITING = run(2, started_at=STARTED, gpus=2.0, reported=REPORTED, reason=Gap.AWAITING.value)
DOWN = Measured(gap=Gap.UNREACHABLE, message="m", retry_at=SETTLED + 60)
HALF = Measured(values={"energy": 5.0}, gap=Gap.NO_SERIES, message="m")
ALL = Measured(values={"energy": 5.0, "latency": 0.2})
NO_ACCESS = Access(Gap.NOT_ENABLED, "no URL")


def awaiting(measured: Measured | None = None, **fields: Any) -> TrialRecord:
    waiting = Waiting(measured.gap, measured.message, False) if measured and measured.gap else None
    evidence = Evidence(waiting=waiting, measured=measured or Measured())
    return trial(7, PHASE.RUNNING, AWAITING, evidence=evidence, **fields)


def noted(measured: Measured) -> TrialRecord:
    found = awaiting(measured)
    assert found.evidence.waiting
    return replace(record.waiting(found, found.evidence.waiting), evidence=found.evidence)


def actions(found: TrialRecord, now: float, **fields: Any) -> list[type[Action]]:
    full = study(found, trial(8), **{"spec": ASKING, **fields})
    return [type(action) for action in decide(full, now).actions]


GOOD = Outcome(Reason.COMPLETED, values={"error": 0.1})


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        pytest.param(GOOD, [NoteReported], id="what it reported is kept first"),
        pytest.param(Outcome(Reason.FAILED), [Record], id="of a failed run nothing is asked"),
        pytest.param(Outcome(Reason.LOST), [Record], id="nor of a lost one"),
    ],
)
def test_the_end_of_its_pod(outcome: Outcome, expected: list[type[Action]]) -> None:
    over = trial(7, PHASE.RUNNING, evidence=Evidence(job=JobState.PRESENT, outcome=outcome))
    assert actions(over, END) == expected


@pytest.mark.parametrize(
    ("found", "now", "expected"),
    [
        pytest.param(awaiting(), END, [], id="its last samples may still come"),
        pytest.param(awaiting(), SETTLED, [Query], id="it is asked"),
        pytest.param(awaiting(), GIVEN_UP + 9e6, [Query], id="however late: nobody has asked yet"),
        pytest.param(awaiting(DOWN), SETTLED, [NoteWaiting], id="the gap is noted"),
        pytest.param(noted(DOWN), SETTLED, [], id="but once"),
        pytest.param(noted(DOWN), SETTLED + 60, [Query], id="and it is asked again"),
        pytest.param(noted(DOWN), GIVEN_UP, [Record], id="until it is given up"),
        pytest.param(noted(HALF), SETTLED, [Query], id="one value of two is not enough"),
        pytest.param(awaiting(ALL), SETTLED, [Record], id="all are"),
        pytest.param(
            awaiting(Measured(gap=Gap.SEVERAL_SERIES)), SETTLED, [Record], id="no use in asking on"
        ),
        pytest.param(awaiting(stop="slow"), SETTLED, [Query], id="there is no run left to stop"),
        pytest.param(awaiting(ALL, stop="slow"), SETTLED, [Record], id="and its result counts"),
    ],
)
def test_decide(found: TrialRecord, now: float, expected: list[type[Action]]) -> None:
    assert actions(found, now) == expected


@pytest.mark.parametrize(
    ("fields", "now", "expected"),
    [
        pytest.param({"access": NO_ACCESS}, SETTLED, [], id="switched off meanwhile"),
        pytest.param({"access": NO_ACCESS}, GIVEN_UP, [Record], id="and not on again"),
        pytest.param(
            {"spec": spec(objectives=OBJECTIVES, suspend=True)}, SETTLED, [Query], id="suspended"
        ),
        pytest.param(
            {"spec": spec(objectives=OBJECTIVES, budget={"duration": "1s"})},
            SETTLED,
            [Query],
            id="a study that drains waits for it",
        ),
        pytest.param(
            {
                "spec": spec(
                    objectives=OBJECTIVES, budget={"duration": "1s"}, onComplete="Terminate"
                )
            },
            SETTLED,
            [Query],
            id="so does one that terminates: there is nothing left to stop",
        ),
    ],
)
def test_what_the_study_is_about(
    fields: dict[str, Any], now: float, expected: list[type[Action]]
) -> None:
    found = study(awaiting(), trial(8), **{"spec": ASKING, **fields})
    about_it = [a for a in decide(found, now).actions if getattr(a, "trial", None) == awaiting()]
    assert [type(action) for action in about_it] == expected


def test_the_question_is_about_this_run() -> None:
    """To the end of its last second, of which we are told the beginning."""
    full = study(awaiting(), trial(8), spec=ASKING)
    (query,) = decide(full, SETTLED).actions
    assert isinstance(query, Query)
    energy = 'sum(increase(joules{pod="pod-x",namespace="team"}[91s]))'
    assert query.questions == (
        Question("energy", energy, END + 1),
        Question("latency", "max(wait) + 0 * 7", END + 1),
    )


def test_what_is_known_is_not_asked_again() -> None:
    (query,) = decide(study(noted(HALF), trial(8), spec=ASKING), SETTLED).actions
    assert isinstance(query, Query)
    assert [question.objective for question in query.questions] == ["latency"]


def test_the_outcome_holds_what_was_reported_and_what_was_measured() -> None:
    (recorded,) = decide(study(awaiting(ALL), trial(8), spec=ASKING), SETTLED).actions[:1]
    assert isinstance(recorded, Record)
    assert recorded.outcome.values == {"error": 0.1, "energy": 5.0, "latency": 0.2}
    assert recorded.outcome.step == 3


@pytest.mark.parametrize(
    ("found", "access", "message"),
    [
        (noted(DOWN), Access(), "PrometheusUnreachable: m"),
        (noted(HALF), Access(), "NoSeries: m"),
        (awaiting(), NO_ACCESS, "PrometheusNotEnabled: no URL"),
    ],
)
def test_a_value_that_is_given_up_has_a_named_reason(
    found: TrialRecord, access: Access, message: str
) -> None:
    (recorded,) = decide(study(found, spec=ASKING, access=access), GIVEN_UP).actions[:1]
    assert isinstance(recorded, Record)
    assert recorded.outcome == Outcome(Reason.METRICS_UNAVAILABLE, message)


@pytest.mark.parametrize(
    ("found", "access", "now", "wake_at"),
    [
        (awaiting(), Access(), END, SETTLED),
        (noted(DOWN), Access(), SETTLED, SETTLED + 60),
        (awaiting(), Access(), SETTLED, GIVEN_UP),
        (awaiting(), Access(), GIVEN_UP, None),  # it is being asked
        (awaiting(), NO_ACCESS, SETTLED, GIVEN_UP),
    ],
)
def test_when_to_look_again(
    found: TrialRecord, access: Access, now: float, wake_at: float | None
) -> None:
    assert decide(study(found, trial(8), spec=ASKING, access=access), now).wake_at == wake_at


def test_a_study_that_may_not_ask_starts_nothing_and_says_why() -> None:
    found = study(spec=ASKING, access=NO_ACCESS)
    assert decide(found, CREATED).actions == ()
    lost = trial(0, PHASE.QUEUED, ended(reason="Lost"))
    assert actions(lost, CREATED, access=NO_ACCESS) == []
    assert actions(lost, CREATED) == [Retry]
    said = {c["type"]: c for c in summarise(found, CREATED, ENDED, "s")["conditions"]}
    for kind in ("MetricsAvailable", "Running"):
        assert (said[kind]["status"], said[kind]["reason"]) == ("False", "PrometheusNotEnabled")
        assert said[kind]["message"] == "no URL"


def test_a_study_without_such_objectives_needs_no_prometheus() -> None:
    found = study(access=NO_ACCESS)
    assert decide(found, CREATED).actions
    kinds = {c["type"] for c in summarise(found, CREATED, ENDED, "s")["conditions"]}
    assert "MetricsAvailable" not in kinds


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (awaiting(), ("True", "PrometheusAllowed")),
        (noted(DOWN), ("False", "PrometheusUnreachable")),
    ],
)
def test_a_study_says_that_answers_are_missing(found: TrialRecord, expected: Any) -> None:
    # After a restart nobody remembers the answer: what was written is what counts.
    found = replace(found, evidence=Evidence())
    conditions = summarise(study(found, spec=ASKING), END, ENDED, "s")["conditions"]
    (said,) = (c for c in conditions if c["type"] == "MetricsAvailable")
    assert (said["status"], said["reason"]) == expected


# --- the record


def reported(phase: TrialPhase, **evidence: Any) -> TrialRecord:
    seen = Evidence(job=JobState.PRESENT, pod="pod-x", gpus=2.0, **evidence)
    outcome = Outcome(Reason.COMPLETED, values={"error": 0.1}, step=3)
    return record.reported(trial(0, phase, run(2), evidence=seen), outcome, ENDED)


def closed(found: TrialRecord, outcome: Outcome) -> TrialRecord:
    return record.ended(
        replace(found, evidence=Evidence()),
        outcome,
        "2027-01-15T09:00:00Z",
        full_fidelity=9.0,
        infrastructure_retries=0,
        application_retries=0,
    )


@pytest.mark.parametrize("phase", [PHASE.QUEUED, PHASE.RUNNING])
def test_what_a_pod_said_is_written_with_its_times(phase: TrialPhase) -> None:
    found = reported(phase, started_at=STARTED, ended_at="2027-01-15T08:01:00Z")
    assert found.phase is PHASE.RUNNING
    assert found.run.open
    assert record.status(found)["runs"][0]["reported"] == {
        "pod": "pod-x",
        "endedAt": "2027-01-15T08:01:00Z",
        "values": {"error": 0.1},
        "step": 3,
    }


def test_a_run_that_waits_for_prometheus_holds_no_gpu() -> None:
    found = reported(PHASE.RUNNING, started_at=STARTED, ended_at=ENDED)
    hours = 2.0 * 90 / 3600
    assert found.run.gpu_hours(CREATED + 9000) == pytest.approx(hours)
    waits = study(found, spec=spec(objectives=OBJECTIVES, budget={"gpuHours": 10}))
    assert decide(waits, SETTLED).wake_at == GIVEN_UP  # not when the GPU-hours would be over
    for outcome in (GOOD, Outcome(Reason.METRICS_UNAVAILABLE)):
        assert closed(found, outcome).run.gpu_hours(0.0) == pytest.approx(hours)
    assert record.stopped(found, "m", "2027-01-15T09:00:00Z").run.finished_at == ENDED


def test_a_run_without_times_has_a_window_of_a_second() -> None:
    found = reported(PHASE.QUEUED)
    full = study(replace(found, evidence=Evidence()), spec=ASKING)
    queries = [a for a in decide(full, SETTLED).actions if isinstance(a, Query)]
    assert "[1s]" in queries[0].questions[0].query


def test_what_was_reported_is_kept_where_no_observation_holds_it() -> None:
    found = reported(PHASE.RUNNING, started_at=STARTED, ended_at=ENDED)
    assert closed(found, GOOD).run.reported is None
    given_up = closed(found, Outcome(Reason.METRICS_UNAVAILABLE, "NoSeries: m"))
    assert given_up.phase is PHASE.FAILED
    assert given_up.run.reported
    assert given_up.run.reported.values == {"error": 0.1}
