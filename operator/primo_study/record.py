"""How a trial's record grows: each function gives the trial as it is to be written next.

The phase changes along `TRIAL_TRANSITIONS` only; observations and finished runs never change.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from primo_study.objects import MAX_RUNS, ObservationStatus, ReportedStatus, RunStatus, TrialStatus
from primo_study.phases import APPLICATION_REASONS, TRIAL_TRANSITIONS, Reason, TrialPhase
from primo_study.queries import Gap
from primo_study.study import Outcome, Reported, Run, Seen, TrialRecord, Waiting

MAX_MESSAGE = 1024
MAX_SUMMARY = 256


def started(trial: TrialRecord, now: str) -> TrialRecord:
    """The pod of the open run was seen running."""
    run = _known(trial)
    run = replace(run, started_at=run.started_at or now, reason=None, message=None)
    return _moved(trial, TrialPhase.RUNNING, run, None, None)


def waiting(trial: TrialRecord, why: Waiting) -> TrialRecord:
    """The open run does not start, and why; or the next one, for which the latest has told all."""
    message = _short(why.message)
    run = trial.run
    if run.open:
        run = replace(run, reason=why.reason, message=message)
    return _moved(trial, trial.phase, run, why.reason, message)


def queued_again(trial: TrialRecord, why: Waiting) -> TrialRecord:
    """The open run's pod was taken away, and it waits for another: what it has used is not paid."""
    message = _short(why.message)
    run = replace(trial.run, started_at=None, reason=why.reason, message=message)
    return _moved(trial, TrialPhase.QUEUED, run, why.reason, message)


def reported(trial: TrialRecord, outcome: Outcome, now: str) -> TrialRecord:
    """The open run's pod has ended well; other values are still to be asked for."""
    run, evidence = _known(trial), trial.evidence
    assert evidence.pod
    ended_at = evidence.ended_at or now
    found = Reported(
        pod=evidence.pod,
        ended_at=ended_at,
        values=dict(outcome.values),
        constrained=dict(outcome.constrained),
        feasible=outcome.feasible,
        step=outcome.step,
    )
    reason, message = Gap.AWAITING.value, "its pod has ended; Prometheus is asked for the rest"
    run = replace(
        run,
        reported=found,
        started_at=run.started_at or ended_at,
        reason=reason,
        message=message,
    )
    return _moved(trial, TrialPhase.RUNNING, run, reason, message)


def ended(
    trial: TrialRecord,
    outcome: Outcome,
    now: str,
    *,
    full_fidelity: float | None,
    infrastructure_retries: int,
    application_retries: int,
) -> TrialRecord:
    """The open run ended.

    After a loss the trial is Queued again while free retries are left on this rung; likewise after
    the script's own failure. Then the record has no open run until `attempt` opens the next. An
    attempt that the user asks for has retries of its own: what was spent before is not held
    against it.
    """
    message = _short(outcome.message)
    reason = outcome.reason.value
    run = _known(trial)
    finished = run.pod_ended_at or trial.evidence.ended_at or now
    run = replace(run, finished_at=finished, reason=reason, message=message or None)
    if outcome.reason is Reason.COMPLETED:
        run = replace(run, reported=None)  # the observation holds it all
    closed = replace(trial, runs=(*trial.runs[:-1], run))
    match outcome.reason:
        case Reason.COMPLETED:
            seen = Seen(
                run.fidelity,
                dict(outcome.values),
                now,
                outcome.step,
                dict(outcome.constrained),
                outcome.feasible,
            )
            full = run.fidelity is None or run.fidelity == full_fidelity
            phase = TrialPhase.COMPLETED if full else TrialPhase.PAUSED
            closed = replace(closed, observations=(*trial.observations, seen))
        case Reason.STOPPED:
            phase = TrialPhase.STOPPED
        case Reason.NOT_CREATED:
            phase = TrialPhase.QUEUED
        case Reason.LOST if closed.attempts(Reason.LOST) <= infrastructure_retries:
            phase = TrialPhase.QUEUED
        case again if (
            again in APPLICATION_REASONS
            and closed.attempts(*APPLICATION_REASONS) <= application_retries
        ):
            phase = TrialPhase.QUEUED
        case _:
            phase = TrialPhase.FAILED
    return _moved(closed, phase, run, reason, message or None)


def stopped(trial: TrialRecord, message: str, now: str) -> TrialRecord:
    """It gets no further runs."""
    run = trial.run
    if run.open:
        run = _known(trial)
        run = replace(
            run,
            finished_at=run.pod_ended_at or now,
            reason=Reason.STOPPED.value,
            message=_short(message),
        )
    return _moved(trial, TrialPhase.STOPPED, run, Reason.STOPPED.value, _short(message))


def suspended(trial: TrialRecord, now: str) -> TrialRecord:
    """Its open run is taken back before its pod has started; `attempt` opens the next."""
    message = "the study was suspended before this run had started"
    reason = Reason.SUSPENDED.value
    run = replace(trial.run, finished_at=now, reason=reason, message=message)
    return _moved(trial, TrialPhase.QUEUED, run, reason, message)


def attempt(trial: TrialRecord, job: str) -> TrialRecord:
    """The current rung is run again, by a Job of this name."""
    last = trial.run
    run = Run(job, last.rung, last.attempt + 1, last.fidelity, last.resume_from)
    grown = replace(trial, runs=_with(trial.runs, run))
    if last.reason in (Reason.SUSPENDED, Reason.NOT_CREATED):
        return _moved(grown, TrialPhase.QUEUED, run, None, None)
    return _moved(grown, TrialPhase.QUEUED, run, last.reason, last.message)


def retried(trial: TrialRecord, job: str) -> TrialRecord:
    """An ended trial gets another attempt, as the user asks; the wish and the attempt are one."""
    again = attempt(trial, job)
    runs = (*again.runs[:-1], replace(again.run, asked=True))
    return replace(again, runs=runs, reason=None, message=None, retried=trial.retry)


def promoted(
    trial: TrialRecord, job: str, fidelity: float | None, resume_from: float | None
) -> TrialRecord:
    """A paused trial goes on to a higher fidelity, by a Job of this name."""
    run = Run(job, trial.run.rung + 1, 0, fidelity, resume_from)
    grown = replace(trial, runs=_with(trial.runs, run))
    return _moved(grown, TrialPhase.QUEUED, run, None, None)


def _known(trial: TrialRecord) -> Run:
    """The open run with what its Job and pod tell; what was written before stands."""
    run, evidence = trial.run, trial.evidence
    return replace(
        run,
        template=run.template or evidence.template,
        gpus=run.gpus or evidence.gpus,
        started_at=run.started_at or evidence.started_at,
    )


def _with(runs: tuple[Run, ...], run: Run) -> tuple[Run, ...]:
    """One run more; when there are too many, the oldest that another attempt followed is left out.

    So each rung keeps its last attempt, which says what has been spent on it.
    """
    grown = (*runs, run)
    if len(grown) <= MAX_RUNS:
        return grown
    oldest = next(i for i, (a, b) in enumerate(pairwise(grown)) if a.rung == b.rung)
    return grown[:oldest] + grown[oldest + 1 :]


def _moved(
    trial: TrialRecord, phase: TrialPhase, run: Run, reason: str | None, message: str | None
) -> TrialRecord:
    assert phase is trial.phase or phase in TRIAL_TRANSITIONS[trial.phase], (trial.phase, phase)
    runs = (*trial.runs[:-1], run)
    return replace(trial, phase=phase, runs=runs, reason=reason, message=message)


def status(trial: TrialRecord) -> dict[str, Any]:
    """The status of the trial's object, whole; a field left out is to be removed."""
    runs = tuple(
        RunStatus(
            job=run.job,
            rung=run.rung,
            attempt=run.attempt,
            fidelity=run.fidelity,
            resume_from=run.resume_from,
            started_at=run.started_at,
            finished_at=run.finished_at,
            reason=run.reason,
            message=run.message,
            template=run.template,
            gpus=run.gpus,
            reported=_reported(run.reported) if run.reported else None,
            asked=run.asked or None,
        )
        for run in trial.runs
    )
    observations = tuple(
        ObservationStatus(
            fidelity=seen.fidelity,
            values=dict(seen.values),
            constrained=dict(seen.constrained) or None,
            feasible=seen.feasible,
            step=seen.step,
            observed_at=seen.observed_at,
        )
        for seen in trial.observations
    )
    last = trial.observations[-1] if trial.observations else None
    model = TrialStatus(
        phase=trial.phase.value,
        reason=trial.reason,
        message=trial.message,
        retried=trial.retried,
        summary=_summary(trial.observations),
        fidelity=last.fidelity if last else None,
        observations=observations or None,
        runs=runs,
    )
    return model.model_dump(by_alias=True, exclude_none=True, mode="json")


def _reported(reported: Reported) -> ReportedStatus:
    return ReportedStatus(
        pod=reported.pod,
        ended_at=reported.ended_at,
        values=dict(reported.values) or None,
        constrained=dict(reported.constrained) or None,
        feasible=reported.feasible,
        step=reported.step,
    )


def _summary(observations: Sequence[Seen]) -> str | None:
    if not observations:
        return None
    values = observations[-1].values
    text = ", ".join(f"{name}={value:.4g}" for name, value in sorted(values.items()))
    return (("infeasible: " if observations[-1].feasible is False else "") + text)[:MAX_SUMMARY]


def _short(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
