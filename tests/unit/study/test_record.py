"""How a trial's record grows, and that it never shrinks."""

import itertools
from dataclasses import replace

import pytest

from primo_study import record
from primo_study.phases import STUDY_TRANSITIONS, TRIAL_TRANSITIONS, Reason, StudyPhase, TrialPhase
from primo_study.study import Evidence, JobState, Outcome, TrialRecord, Waiting
from support.builders import ended, run, trial

NOW = "2027-01-15T09:00:00Z"
GOOD = Outcome(Reason.COMPLETED, values={"error": 0.1}, step=9)


def end(given: TrialRecord, outcome: Outcome, *, lost: int = 1, failed: int = 0) -> TrialRecord:
    return record.ended(
        given,
        outcome,
        NOW,
        full_fidelity=9.0,
        infrastructure_retries=lost,
        application_retries=failed,
    )


def test_every_phase_has_its_line_in_the_tables() -> None:
    assert set(TRIAL_TRANSITIONS) == set(TrialPhase)
    assert set(STUDY_TRANSITIONS) == set(StudyPhase)


def test_a_trial_that_has_ended_stays_so_unless_its_user_wants_another_attempt() -> None:
    assert not TRIAL_TRANSITIONS[TrialPhase.COMPLETED]
    for phase in (TrialPhase.FAILED, TrialPhase.STOPPED):
        assert TRIAL_TRANSITIONS[phase] == {TrialPhase.QUEUED}
        failed = trial(0, phase, ended(1, 2, "Failed"), reason="Failed", retry="1")
        again = record.retried(failed, "next")
        assert (again.phase, again.reason, again.retried) == (TrialPhase.QUEUED, None, "1")
        assert (again.run.rung, again.run.attempt) == (1, 3)
        assert not replace(again, phase=phase).to_retry, "the wish is granted once"


@pytest.mark.parametrize(
    ("fidelity", "phase"),
    [
        pytest.param(1.0, TrialPhase.PAUSED, id="below full fidelity it waits for promotion"),
        pytest.param(9.0, TrialPhase.COMPLETED, id="at full fidelity it is done"),
        pytest.param(None, TrialPhase.COMPLETED, id="without a fidelity too"),
    ],
)
def test_an_observation(fidelity: float | None, phase: TrialPhase) -> None:
    done = end(trial(0, TrialPhase.RUNNING, run(fidelity=fidelity)), GOOD)
    assert done.phase is phase
    assert done.observations[-1].values == {"error": 0.1}
    assert not done.run.open


@pytest.mark.parametrize(
    ("runs", "reason", "phase"),
    [
        pytest.param((run(),), Reason.LOST, TrialPhase.QUEUED, id="a loss is free"),
        pytest.param(
            (ended(0, 0, "Lost"), run(0, 1)), Reason.LOST, TrialPhase.FAILED, id="but not for ever"
        ),
        pytest.param(
            (ended(0, 0, "Lost"), ended(0, 1), run(1)),
            Reason.LOST,
            TrialPhase.QUEUED,
            id="each rung has its own retries",
        ),
        pytest.param((run(),), Reason.FAILED, TrialPhase.FAILED, id="a failure is not retried"),
        pytest.param((run(),), Reason.DIVERGED, TrialPhase.FAILED, id="divergence is data"),
        pytest.param((run(),), Reason.STOPPED, TrialPhase.STOPPED, id="stopped is not failed"),
    ],
)
def test_a_run_without_a_result(runs: tuple, reason: Reason, phase: TrialPhase) -> None:
    assert end(trial(0, TrialPhase.RUNNING, *runs), Outcome(reason, "m")).phase is phase


@pytest.mark.parametrize("reason", [Reason.LOST, Reason.FAILED])
def test_an_attempt_that_the_user_asks_for_has_all_retries_again(reason: Reason) -> None:
    def step(given: TrialRecord) -> TrialRecord:
        return end(given, Outcome(reason), lost=1, failed=1)

    retried = step(record.attempt(step(trial(0, TrialPhase.RUNNING)), "second"))
    assert retried.phase is TrialPhase.FAILED
    again = step(record.retried(replace(retried, retry="1"), "third"))
    assert again.phase is TrialPhase.QUEUED
    assert step(record.attempt(again, "fourth")).phase is TrialPhase.FAILED


def test_failures_are_retried_where_the_user_asks_for_it() -> None:
    failing = trial(0, TrialPhase.RUNNING)
    assert end(failing, Outcome(Reason.FAILED), failed=1).phase is TrialPhase.QUEUED


def test_a_promotion_continues_on_the_next_rung() -> None:
    up = record.promoted(trial(0, TrialPhase.PAUSED, ended()), "next", 3.0, 1.0)
    assert (up.phase, up.run.rung, up.run.attempt) == (TrialPhase.QUEUED, 1, 0)
    assert (up.run.fidelity, up.run.resume_from) == (3.0, 1.0)


def test_an_attempt_repeats_the_rung() -> None:
    again = record.attempt(trial(0, TrialPhase.QUEUED, ended(1, 0, "Lost")), "next")
    assert (again.run.rung, again.run.attempt, again.run.open) == (1, 1, True)


def test_a_forbidden_step_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        record.started(trial(0, TrialPhase.COMPLETED), NOW)


def test_status_says_what_the_record_holds() -> None:
    done = end(trial(0, TrialPhase.RUNNING, run(2)), GOOD)
    status = record.status(done)
    assert status["phase"] == "Completed"
    assert status["summary"] == "error=0.1"
    assert status["observations"] == [
        {"fidelity": 9.0, "values": {"error": 0.1}, "step": 9, "observedAt": NOW}
    ]
    assert "startedAt" not in status["runs"][0]


def test_status_says_which_observation_breaks_a_constraint() -> None:
    outcome = replace(GOOD, constrained={"memory_gib": 41.0}, feasible=False)
    done = end(trial(0, TrialPhase.RUNNING, run(2)), outcome)
    status = record.status(done)
    assert status["summary"] == "infeasible: error=0.1"
    assert status["observations"][0]["constrained"] == {"memory_gib": 41.0}
    assert status["observations"][0]["feasible"] is False
    (told,) = done.as_trial().observations
    assert told.constrained == {"memory_gib": 41.0}


@pytest.mark.parametrize(
    ("reason", "failed"),
    [("Failed", "Failed"), ("Diverged", "Diverged"), ("Lost", None), ("StartFailed", None)],
)
def test_what_the_cluster_did_is_no_failure_of_a_configuration(
    reason: str, failed: str | None
) -> None:
    told = trial(0, TrialPhase.FAILED, ended(reason=reason), reason=reason).as_trial()
    assert (told.failed, told.stopped) == (failed, failed is None)


def test_long_words_of_a_pod_are_cut() -> None:
    told = record.waiting(trial(0), Waiting("ErrImagePull", "x" * 5000, endless=True))
    assert len(told.message or "") == 1024


def test_all_outcomes_lead_somewhere() -> None:
    for reason, phase in itertools.product(Reason, (TrialPhase.QUEUED, TrialPhase.RUNNING)):
        assert end(trial(0, phase), Outcome(reason)).phase in TRIAL_TRANSITIONS[phase] | {phase}


def test_a_run_sent_back_into_its_queue_costs_nothing() -> None:
    held = run(2, started_at="2027-01-15T08:00:00Z", gpus=4.0, template="0123456789")
    why = Waiting("Suspended", "it waits in a queue", endless=False)
    again = record.queued_again(trial(0, TrialPhase.RUNNING, held), why)
    assert (again.phase, again.reason) == (TrialPhase.QUEUED, "Suspended")
    assert (again.run.attempt, again.run.open, again.run.gpu_hours(2e9)) == (0, True, 0.0)
    later = Evidence(job=JobState.PRESENT, started_at="2027-01-15T08:45:00Z")
    done = end(replace(record.started(replace(again, evidence=later), NOW), evidence=later), GOOD)
    assert done.run.gpu_hours(0.0) == pytest.approx(1.0)
    assert (done.reason, done.phase) == ("Completed", TrialPhase.COMPLETED)


def test_a_run_taken_back_costs_no_retry_and_leaves_no_reason() -> None:
    waits = record.suspended(trial(0, TrialPhase.QUEUED, run(1)), NOW)
    assert (waits.phase, waits.reason, waits.run.open) == (TrialPhase.QUEUED, "Suspended", False)
    again = record.attempt(waits, "next")
    assert (again.run.rung, again.run.attempt, again.reason) == (1, 1, None)
    lost = end(again, Outcome(Reason.LOST), lost=1)
    assert lost.phase is TrialPhase.QUEUED


def test_a_trial_keeps_64_runs_and_the_last_of_each_rung() -> None:
    found = trial(0, TrialPhase.QUEUED, ended(0), ended(1, 0, "Lost"))
    for _ in range(100):
        found = record.attempt(record.suspended(found, NOW), "next")
    assert len(found.runs) == record.MAX_RUNS
    assert [r.rung for r in found.runs[:2]] == [0, 1]
    assert found.run.attempt == 100
    assert record.status(found)["runs"]


def test_a_run_is_timed_by_its_pod_and_not_by_who_notices() -> None:
    told = Evidence(
        job=JobState.PRESENT,
        gpus=2.0,
        started_at="2027-01-15T08:00:00Z",
        ended_at="2027-01-15T08:30:00Z",
    )
    done = end(trial(0, TrialPhase.QUEUED, run(2), evidence=told), GOOD)
    assert done.run.gpu_hours(0.0) == pytest.approx(1.0)
    assert done.observations[-1].observed_at == NOW
    status = record.status(done)["runs"][0]
    assert (status["gpus"], status["finishedAt"]) == (2.0, "2027-01-15T08:30:00Z")


def test_a_run_remembers_the_template_that_its_job_was_made_of() -> None:
    made = Evidence(job=JobState.PRESENT, template="0123456789")
    running = record.started(trial(0, evidence=made), NOW)
    assert running.run.template == "0123456789"
    gone = replace(running, evidence=Evidence(job=JobState.GONE))
    lost = end(gone, Outcome(Reason.LOST))
    assert record.status(lost)["runs"][0]["template"] == "0123456789"
    assert record.attempt(lost, "next").run.template is None
