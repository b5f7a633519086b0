"""How a study ends, and why: by its budget, its targets, an exhausted space, or its failures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from primo_study.phases import Reason, StudyPhase, TrialPhase
from primo_study.study import Study, TrialRecord

# So many trials that ended alike, and not one observation: the template is at fault, not a trial.
BROKEN_AFTER = 3
HOPELESS_AFTER = 10


@dataclass(frozen=True, slots=True)
class Ending:
    """A study that starts no new runs, because this is how it will end.

    Attributes:
        terminate: runs under way are stopped instead of awaited.
        at_once: what has not started by then is not to start: time or GPU-hours are used up, or a
            target is met. Runs that were granted by their number are not taken back.
    """

    phase: StudyPhase
    reason: str
    message: str
    terminate: bool = False
    at_once: bool = False


def ending(study: Study, now: float) -> Ending | None:
    """How the study will end, or has ended; None while it goes on.

    An ended study stays so until its spec is edited.
    """
    if study.has_ended and study.legible:
        return _as_written(study, StudyPhase(study.status["phase"]))
    if study.held:
        return None
    if not study.legible:
        return Ending(StudyPhase.FAILED, "InvalidSpec", "; ".join(study.problems))
    return (
        _refused(study)
        or _hopeless(study)
        or _met(study)
        or _spent(study, now)
        or _nothing_left(study)
    )


def _as_written(study: Study, phase: StudyPhase) -> Ending:
    kind = phase.value
    written = study.condition(kind) or {}
    return Ending(phase, written.get("reason", kind), written.get("message", ""), terminate=True)


def _terminate(study: Study) -> bool:
    assert study.spec
    return study.spec.on_complete == "Terminate"


def _refused(study: Study) -> Ending | None:
    assert study.spec
    if study.template.fatal and not study.spec.suspend:  # while suspended it can be corrected
        message = study.template.problem
        return Ending(StudyPhase.FAILED, "InvalidTemplate", message, _terminate(study))
    return None


def _hopeless(study: Study) -> Ending | None:
    assert study.spec
    limit = study.spec.budget.failed_trials
    if limit is not None and study.count(TrialPhase.FAILED) > limit:
        failed = list(study.in_phase(TrialPhase.FAILED))
        message = f"{len(failed)} trials failed, budget.failedTrials allows {limit}"
        message += f"; the latest: {_why(failed[-1])}"
        return Ending(StudyPhase.FAILED, "TooManyFailures", message, _terminate(study))
    # What an earlier template did says nothing about this one.
    ours = {None, study.spec.template_hash}
    if any(worked & ours for worked in study.parts(_worked)):
        return None
    failed = [t for t in study.in_phase(TrialPhase.FAILED) if t.run.template in ours]
    reasons = {trial.reason for trial in failed}
    alike = len(reasons) == 1 and reasons <= {Reason.START_FAILED, Reason.METRICS_UNAVAILABLE}
    if len(failed) >= BROKEN_AFTER and alike:
        message = f"the first {len(failed)} trials all ended so: {_why(failed[-1])}"
        return Ending(StudyPhase.FAILED, "TemplateBroken", message, terminate=True)
    if limit is None and len(failed) >= HOPELESS_AFTER:
        message = f"the first {len(failed)} trials all failed; the latest: {_why(failed[-1])}"
        return Ending(StudyPhase.FAILED, "TooManyFailures", message, _terminate(study))
    return None


def _worked(trials: Sequence[TrialRecord]) -> set[str | None]:
    """The templates of runs that have completed."""
    runs = (run for trial in trials for run in trial.runs)
    return {run.template for run in runs if run.reason == Reason.COMPLETED}


def _why(trial: TrialRecord) -> str:
    return f"trial {trial.number} {trial.reason}: {trial.message or 'no message'}"


def _met(study: Study) -> Ending | None:
    assert study.spec
    targets = tuple(
        (o.name, o.goal == "Minimize", o.target)
        for o in study.spec.objectives
        if o.target is not None
    )
    if not targets:
        return None
    met = (number for number in study.parts(_first_to_meet, targets) if number is not None)
    number = next(met, None)
    if number is None:
        return None
    named = ", ".join(sorted(name for name, _, _ in targets))
    message = f"trial {number} meets the target of {named}"
    return Ending(StudyPhase.COMPLETED, "TargetReached", message, _terminate(study), at_once=True)


def _first_to_meet(
    trials: Sequence[TrialRecord], targets: Sequence[tuple[str, bool, float]]
) -> int | None:
    """The number of the first trial that meets all targets.

    Args:
        targets: objective, whether lower is better, and the target.
    """
    names = [name for name, _, _ in targets]
    for trial in trials:
        done = trial.phase is TrialPhase.COMPLETED and trial.feasible and trial.measures(names)
        values = trial.observations[-1].values if done else {}
        if done and all(
            values[name] <= target if lower else values[name] >= target
            for name, lower, target in targets
        ):
            return trial.number
    return None


def _spent(study: Study, now: float) -> Ending | None:
    assert study.spec
    budget = study.spec.budget
    spent, at_once = None, False
    if budget.full_evaluations is not None and study.full_evaluations() >= budget.full_evaluations:
        spent = f"{study.full_evaluations():g} full evaluations of {budget.full_evaluations:g}"
    elif study.spec.duration_s is not None and study.active_s(now) >= study.spec.duration_s:
        spent, at_once = f"the time of {budget.duration}", True
    elif budget.gpu_hours is not None and study.gpu_hours(now) >= budget.gpu_hours:
        spent, at_once = f"{budget.gpu_hours:g} GPU-hours", True
    elif (
        budget.trials is not None
        and study.numbers_used >= budget.trials
        and study.settled  # runs that were granted are not taken back
        # With rungs, what is paused may still be promoted: the optimizer is asked until it is not.
        and (study.spec.fidelity is None or study.asked_in_vain)
    ):
        spent = f"{study.numbers_used} trials of {budget.trials}"
    if spent is None:
        return None
    end = _over(study, "BudgetExhausted", f"used up: {spent}", _terminate(study))
    return replace(end, at_once=at_once)


def _nothing_left(study: Study) -> Ending | None:
    if study.asked_in_vain and study.settled:
        return _over(
            study, "SpaceExhausted", "every configuration of the search space has been tried"
        )
    return None


def _over(study: Study, reason: str, message: str, terminate: bool = False) -> Ending:
    """All has been done that was to be done; a study that has seen nothing of it has failed."""
    message += _empty_handed(study)
    if not study.unfinished and not any(study.parts(_observed)):
        return Ending(StudyPhase.FAILED, "NothingObserved", message, terminate)
    return Ending(StudyPhase.COMPLETED, reason, message, terminate)


def _observed(trials: Sequence[TrialRecord]) -> bool:
    return any(trial.observations for trial in trials)


def _empty_handed(study: Study) -> str:
    """Why there is no front: short runs, or failures, may use a budget up."""
    if study.unfinished or study.count(TrialPhase.COMPLETED):
        return ""
    failed = list(study.in_phase(TrialPhase.FAILED))
    latest = f"; the latest failure: {_why(failed[-1])}" if failed else ""
    observed = [seen.fidelity for t in study.trials for seen in t.observations if seen.fidelity]
    if not observed or study.full_fidelity is None:
        return f"; there is no result: no trial was observed{latest}"
    return (
        f"; there is no result: no trial was observed at full fidelity, {study.full_fidelity:g},"
        f" the furthest at {max(observed):g}{latest}"
    )
