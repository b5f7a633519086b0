"""How a study ends, and why: by its budget, its targets, an exhausted space, or its failures."""

from dataclasses import dataclass

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
    """

    phase: StudyPhase
    reason: str
    message: str
    terminate: bool = False


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
    failed = list(study.in_phase(TrialPhase.FAILED))
    limit = study.spec.budget.failed_trials
    if limit is not None and len(failed) > limit:
        message = f"{len(failed)} trials failed, budget.failedTrials allows {limit}"
        message += f"; the latest: {_why(failed[-1])}"
        return Ending(StudyPhase.FAILED, "TooManyFailures", message, _terminate(study))
    # What an earlier template did says nothing about this one.
    ours = (None, study.spec.template_hash)
    failed = [trial for trial in failed if trial.run.template in ours]
    runs = (run for trial in study.trials for run in trial.runs if run.template in ours)
    if not failed or any(run.reason == Reason.COMPLETED for run in runs):
        return None
    reasons = {trial.reason for trial in failed}
    alike = len(reasons) == 1 and reasons <= {Reason.START_FAILED, Reason.METRICS_UNAVAILABLE}
    if len(failed) >= BROKEN_AFTER and alike:
        message = f"the first {len(failed)} trials all ended so: {_why(failed[-1])}"
        return Ending(StudyPhase.FAILED, "TemplateBroken", message, terminate=True)
    if limit is None and len(failed) >= HOPELESS_AFTER:
        message = f"the first {len(failed)} trials all failed; the latest: {_why(failed[-1])}"
        return Ending(StudyPhase.FAILED, "TooManyFailures", message, _terminate(study))
    return None


def _why(trial: TrialRecord) -> str:
    return f"trial {trial.number} {trial.reason}: {trial.message or 'no message'}"


def _met(study: Study) -> Ending | None:
    assert study.spec
    targets = {o.name: o for o in study.spec.objectives if o.target is not None}
    if not targets:
        return None
    for trial in study.in_phase(TrialPhase.COMPLETED):
        if not trial.feasible:
            continue
        if not trial.measures(targets):
            continue
        values = trial.observations[-1].values
        if all(
            values[name] <= o.target if o.goal == "Minimize" else values[name] >= o.target
            for name, o in targets.items()
            if o.target is not None
        ):
            message = f"trial {trial.number} meets the target of {', '.join(sorted(targets))}"
            return Ending(StudyPhase.COMPLETED, "TargetReached", message, _terminate(study))
    return None


def _spent(study: Study, now: float) -> Ending | None:
    assert study.spec
    budget = study.spec.budget
    spent = None
    if budget.full_evaluations is not None and study.full_evaluations() >= budget.full_evaluations:
        spent = f"{study.full_evaluations():g} full evaluations of {budget.full_evaluations:g}"
    elif study.spec.duration_s is not None and study.active_s(now) >= study.spec.duration_s:
        spent = f"the time of {budget.duration}"
    elif budget.gpu_hours is not None and study.gpu_hours(now) >= budget.gpu_hours:
        spent = f"{budget.gpu_hours:g} GPU-hours"
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
    message = f"used up: {spent}{_empty_handed(study)}"
    return Ending(StudyPhase.COMPLETED, "BudgetExhausted", message, _terminate(study))


def _nothing_left(study: Study) -> Ending | None:
    if study.asked_in_vain and study.settled:
        message = f"every configuration of the search space has been tried{_empty_handed(study)}"
        return Ending(StudyPhase.COMPLETED, "SpaceExhausted", message)
    return None


def _empty_handed(study: Study) -> str:
    """Why there is no front: short runs may use a budget up before one has gone all the way."""
    results = any(trial.phase is TrialPhase.COMPLETED for trial in study.trials)
    if study.unfinished or results:
        return ""
    observed = [seen.fidelity for t in study.trials for seen in t.observations if seen.fidelity]
    if not observed or study.full_fidelity is None:
        return "; there is no result: no trial was observed"
    return (
        f"; there is no result: no trial was observed at full fidelity, {study.full_fidelity:g},"
        f" the furthest at {max(observed):g}"
    )
