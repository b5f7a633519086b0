"""A run whose pod has ended, and that Prometheus knows more about: when to ask what, and the end.

Everything follows from what was written of the run; what Prometheus has said so far is remembered,
and asked for again if it is not.
"""

from primo_study.phases import Reason
from primo_study.queries import Question, fill
from primo_study.study import Outcome, Reported, Study, TrialRecord, epoch


def outcome(study: Study, trial: TrialRecord, now: float) -> Outcome | None:
    """How the run has ended; None as long as a value may still come."""
    assert study.spec
    reported, known = _reported(trial), trial.evidence.measured
    if study.spec.queries.keys() <= known.values.keys():
        return Outcome(
            Reason.COMPLETED,
            values={**reported.values, **known.values},
            constrained=reported.constrained,
            feasible=reported.feasible,
            step=reported.step,
        )
    gap, message = known.gap, known.message
    if study.access.refused:
        gap, message = study.access.refused, study.access.message
    # Given up only with a reason: after a restart it is asked once more, however late it is.
    if gap and (gap.final or now >= _given_up_at(study, reported)):
        return Outcome(Reason.METRICS_UNAVAILABLE, f"{gap}: {message}")
    return None


def asked_at(study: Study, trial: TrialRecord) -> float:
    """When Prometheus is to be asked, in seconds since the epoch."""
    settled = epoch(_reported(trial).ended_at) + study.access.settle_s
    return max(settled, trial.evidence.measured.retry_at)


def questions(study: Study, trial: TrialRecord) -> tuple[Question, ...]:
    """What is not known yet."""
    assert study.spec
    reported, known = _reported(trial), trial.evidence.measured.values
    end = _end(reported)
    start = epoch(trial.run.started_at) if trial.run.started_at else end
    return tuple(
        Question(
            name,
            fill(
                query,
                pod=reported.pod,
                namespace=study.namespace,
                trial=str(trial.number),
                start=start,
                end=end,
            ),
            end,
        )
        for name, query in study.spec.queries.items()
        if name not in known
    )


def moments(study: Study, trial: TrialRecord) -> tuple[float, ...]:
    """When something may be due for a trial, whether or not it waits for Prometheus."""
    if trial.run.reported is None or not trial.run.open:
        return ()
    given_up = _given_up_at(study, trial.run.reported)
    return (given_up,) if study.access.refused else (given_up, asked_at(study, trial))


def _reported(trial: TrialRecord) -> Reported:
    assert trial.run.reported
    return trial.run.reported


def _end(reported: Reported) -> float:
    """When it had ended for certain: Kubernetes tells times in whole seconds, cut off."""
    return epoch(reported.ended_at) + 1.0


def _given_up_at(study: Study, reported: Reported) -> float:
    return epoch(reported.ended_at) + study.access.patience_s
