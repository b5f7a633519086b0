"""How a study stands: counts, Pareto front, hypervolume, phase and conditions, for its status.

Nothing in it changes by the mere passing of time, and its size does not grow with the number of
trials: it is written only when it differs.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer import Problem
from primo_optimizer.pareto import (
    REFERENCE_ROWS,
    estimated_hypervolume,
    hypervolume,
    non_dominated,
    reference_point,
)
from primo_study.ending import Ending, ending
from primo_study.objects import (
    BestEntry,
    BudgetUsed,
    ConditionStatus,
    FrontEntry,
    OptimizerStatus,
    PriorStatus,
    StudyStatus,
    TrialCounts,
)
from primo_study.phases import STUDY_TRANSITIONS, UNFINISHED, Obstacle, StudyPhase, TrialPhase
from primo_study.queries import Gap
from primo_study.study import Study, TrialRecord

MAX_FRONT = 50
MAX_EXACT = 3  # objectives
MAX_VOLUMES = 4096
MAX_MESSAGE = 1024
# Those that are ours to write and to take away.
CONDITIONS = (
    "TemplateValid",
    "MetricsAvailable",
    "Running",
    "Completed",
    "Failed",
    "Suspended",
    "WarmStarted",
    "Degraded",
)


_volumes: OrderedDict[bytes, float] = OrderedDict()


def summarise(study: Study, now: float, stamp: str, selector: str) -> dict[str, Any]:
    """The status of the study's object, whole; a field left out is to be removed.

    Args:
        study: as observed.
        now: seconds since the epoch.
        stamp: the same as RFC 3339 text, for what changes now.
        selector: labels of the study's pods.
    """
    end = ending(study, now)
    said = phase(study, end)
    finished = said in (StudyPhase.COMPLETED, StudyPhase.FAILED)
    status = StudyStatus(
        # Of a spec that cannot be read not before the study has failed for it: else it would be
        # taken for one that an operator has worked with.
        observed_generation=(
            study.generation
            if study.legible or said is StudyPhase.FAILED
            else study.status.get("observedGeneration")
        ),
        phase=said.value,
        conditions=_conditions(study, said, end, stamp),
        trials=TrialCounts(
            total=study.total,
            **{each.value.lower(): study.count(each) for each in TrialPhase},
        ),
        next_trial=study.next_number,
        running=study.unfinished,
        progress=_progress(study),
        budget_used=BudgetUsed(
            trials=study.numbers_used,
            full_evaluations=study.full_evaluations(),
            gpu_hours=study.gpu_hours() or None,
        ),
        optimizer=_optimizer(study),
        suspended_seconds=_suspended_seconds(study, said, now),
        priors=_priors(study),
        completion_time=_ended_at(study, said, stamp) if finished else None,
        selector=selector,
        **_results(study),
    )
    found = status.model_dump(by_alias=True, exclude_none=True, mode="json")
    # Of a later version, or of another controller's: to take it away would be to fight over it.
    others = (c for c in study.status.get("conditions") or () if c["type"] not in CONDITIONS)
    found["conditions"] += others
    return found if study.legible else _beside_what_was_said(study, found)


def _beside_what_was_said(study: Study, found: dict[str, Any]) -> dict[str, Any]:
    """Of a spec that cannot be read less can be said than before; what was said stands."""
    now = {condition["type"] for condition in found["conditions"]}
    others = [c for c in study.status.get("conditions") or () if c["type"] not in now]
    return {**study.status, **found, "conditions": [*others, *found["conditions"]]}


def _ended_at(study: Study, phase: StudyPhase, stamp: str) -> str:
    """An edit may lead from one end straight to the other."""
    before = study.status.get("completionTime") if study.status.get("phase") == phase else None
    return before or stamp


def phase(study: Study, end: Ending | None) -> StudyPhase:
    """Which one it is in now."""
    before = StudyPhase(study.status.get("phase") or StudyPhase.PENDING)
    now = _wanted_phase(study, end, before)
    assert now is before or now in STUDY_TRANSITIONS[before], (before, now)
    return now


def _wanted_phase(study: Study, end: Ending | None, before: StudyPhase) -> StudyPhase:
    if end and (not study.unfinished or study.has_ended):
        return end.phase
    if end is None and not study.legible:
        return before
    if study.spec and study.spec.suspend:
        return StudyPhase.SUSPENDED
    # Trials that were not counted yet may have been deleted, or left behind by their study's end.
    begun = before in (StudyPhase.INITIAL_DESIGN, StudyPhase.OPTIMIZING)
    if not (begun or study.total or study.next_number):
        return StudyPhase.PENDING
    if before is StudyPhase.OPTIMIZING or _stage(study) == StudyPhase.OPTIMIZING:
        return StudyPhase.OPTIMIZING
    return StudyPhase.INITIAL_DESIGN


def _suspended_seconds(study: Study, phase: StudyPhase, now: float) -> int | None:
    """Counted when the study leaves Suspended, since a status does not change by time passing."""
    if study.suspended_since is None or phase is StudyPhase.SUSPENDED:
        return study.status.get("suspendedSeconds")
    return round(study.suspended_s(now))


def _stage(study: Study) -> str | None:
    """Suggestions of the model never go back to the initial design."""
    told = set().union(*study.parts(_stages))
    known = (StudyPhase.OPTIMIZING, StudyPhase.INITIAL_DESIGN)  # somebody may have made a trial up
    return next((stage.value for stage in known if stage in told), None)


def _stages(trials: Sequence[TrialRecord]) -> set[str]:
    told = (trial.explanation.get("stage") for trial in trials)
    return {stage for stage in told if isinstance(stage, str)}


def _optimizer(study: Study) -> OptimizerStatus | None:
    stage = _stage(study)
    return OptimizerStatus(stage=stage) if stage else None


def _priors(study: Study) -> tuple[PriorStatus, ...] | None:
    starts = sorted(study.prior_starts().items())
    return tuple(PriorStatus(objective=o, from_trial=n) for o, n in starts) or None


def _progress(study: Study) -> str:
    tried = _tried(study)
    if study.spec is None or not study.legible:
        _, slash, written = str(study.status.get("progress") or "").partition("/")
        return f"{tried}{slash}{written}"
    budget = study.spec.budget.trials
    return f"{tried}/{budget}" if budget is not None else str(tried)


def _tried(study: Study) -> int:
    """Never less than was once written: a trial that is promoted, retried or deleted counts."""
    numbers = study.next_number
    untried = (trial.number for trial in study.in_phase(*UNFINISHED) if not trial.tried)
    counted = numbers - sum(number < numbers for number in untried)
    # Another operator may have seen more of the trials than we have.
    written = str(study.status.get("progress")).partition("/")[0]
    return max(counted, min(int(written), numbers) if written.isdecimal() else 0)


# --- results


@dataclass(frozen=True, slots=True)
class _Found:
    """What some trials have come to: of those observed at full fidelity.

    Attributes:
        infeasible: how many break a constraint; the others are about those that do not.
        first: those observed first, as many as a derived reference point looks at.
        front: none of these trials dominates them.
        best: for each objective one.
    """

    infeasible: int
    first: Sequence[TrialRecord]
    front: Sequence[TrialRecord]
    best: Mapping[str, TrialRecord]


def _found(trials: Sequence[TrialRecord], problem: Problem) -> _Found:
    signs = {o.name: o.sign for o in problem.objectives}
    full = [t for t in trials if t.phase is TrialPhase.COMPLETED and t.measures(signs)]
    completed = sorted((trial for trial in full if trial.feasible), key=_observed)
    return _Found(
        infeasible=len(full) - len(completed),
        first=completed[:REFERENCE_ROWS],
        front=_front(completed, problem),
        best={name: _best(completed, name, sign) for name, sign in signs.items() if completed},
    )


def _observed(trial: TrialRecord) -> tuple[str, int]:
    """The order of observation: a derived reference point rests on the first ones."""
    return trial.observations[-1].observed_at, trial.number


def _losses(trials: Sequence[TrialRecord], problem: Problem) -> NDArray[np.float64]:
    return problem.losses([trial.observations[-1].values for trial in trials])


def _front(trials: Sequence[TrialRecord], problem: Problem) -> list[TrialRecord]:
    on_front = non_dominated(_losses(trials, problem))
    return [trial for trial, on in zip(trials, on_front, strict=True) if on]


@np.errstate(over="ignore", invalid="ignore")
def _results(study: Study) -> dict[str, Any]:
    """Front, hypervolume and best of the feasible trials observed at full fidelity."""
    if study.spec is None:
        return {}
    problem = study.spec.problem()
    parts = list(study.parts(_found, problem))
    infeasible = sum(part.infeasible for part in parts) if study.spec.constraints else None
    parts = [part for part in parts if part.first]
    if not parts:
        return {"front_size": 0, "infeasible": infeasible}
    first = sorted(chain.from_iterable(part.first for part in parts), key=_observed)
    reference = reference_point(_losses(first[:REFERENCE_ROWS], problem), problem.reference)
    # Off the front of its part is off the front of all.
    candidates = sorted(chain.from_iterable(part.front for part in parts), key=_observed)
    front = _front(candidates, problem)
    volume = _volume(_losses(front, problem), reference)
    signs = {o.name: o.sign for o in problem.objectives}
    return {
        "front": tuple(map(_entry, _spread(front, problem))),
        "preferred": _preferred(front, problem),
        "front_size": len(front),
        "infeasible": infeasible,
        # Of values near the largest there are it is none that JSON can tell.
        "hypervolume": volume if math.isfinite(volume) else None,
        "hypervolume_text": f"{volume:.4g}",
        "reference_point": {
            name: float(sign * value)
            for (name, sign), value in zip(signs.items(), reference, strict=True)
            if math.isfinite(value)
        },
        "best": {
            name: _best_entry([part.best[name] for part in parts], name, sign)
            for name, sign in signs.items()
        },
    }


def _volume(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Remembered, since most passes do not change the front, and a large one takes a while.

    By a digest: of a large front there are many states, and each is as large.
    """
    of = b"".join((repr(points.shape).encode(), points.tobytes(), reference.tobytes()))
    key = hashlib.sha256(of).digest()
    if key not in _volumes:
        # The exact volume of a large front in many dimensions takes minutes.
        measure = hypervolume if points.shape[1] <= MAX_EXACT else estimated_hypervolume
        _volumes[key] = float(measure(points, reference))
        if len(_volumes) > MAX_VOLUMES:
            _volumes.popitem(last=False)
    _volumes.move_to_end(key)
    return _volumes[key]


def _entry(trial: TrialRecord) -> FrontEntry:
    return FrontEntry(trial=trial.number, values=dict(trial.observations[-1].values))


def _preferred(front: Sequence[TrialRecord], problem: Problem) -> FrontEntry | None:
    if problem.preference is None:
        return None
    return _entry(front[problem.preference.choose(_losses(front, problem))])


def _spread(front: Sequence[TrialRecord], problem: Problem) -> Sequence[TrialRecord]:
    """At most 50 of the front, in the order of the first objective, evenly chosen along it."""
    first = problem.objectives[0]
    ordered = sorted(
        front, key=lambda t: (first.sign * t.observations[-1].values[first.name], t.number)
    )
    if len(ordered) <= MAX_FRONT:
        return ordered
    chosen = np.linspace(0, len(ordered) - 1, MAX_FRONT).round().astype(int)
    return [ordered[i] for i in chosen]


def _best(trials: Sequence[TrialRecord], name: str, sign: float) -> TrialRecord:
    return min(trials, key=lambda t: (sign * t.observations[-1].values[name], t.number))


def _best_entry(trials: Sequence[TrialRecord], name: str, sign: float) -> BestEntry:
    best = _best(trials, name, sign)
    return BestEntry(trial=best.number, value=best.observations[-1].values[name])


# --- conditions


def _conditions(
    study: Study, phase: StudyPhase, end: Ending | None, stamp: str
) -> tuple[ConditionStatus, ...]:
    wanted = [
        _template(study),
        _metrics(study),
        _running(study, phase, end),
        _finished(StudyPhase.COMPLETED, phase, end),
        _finished(StudyPhase.FAILED, phase, end),
        _suspended(study, phase),
        _warm_started(study),
        _degraded(study),
    ]
    result = []
    for kind, status, reason, message in (w for w in wanted if w):
        old = study.condition(kind)
        if old is None and status == "False" and kind in ("Suspended", "Degraded"):
            continue  # not said before it has been true for once
        unchanged = old is not None and old["status"] == status
        result.append(
            ConditionStatus(
                type=kind,
                status=status,  # type: ignore[arg-type]  # "True", "False" or "Unknown"
                reason=reason,
                message=message[:MAX_MESSAGE],
                last_transition_time=old["lastTransitionTime"] if old and unchanged else stamp,
                observed_generation=study.generation,
            )
        )
    return tuple(result)


Said = tuple[str, str, str, str]


def _template(study: Study) -> Said | None:
    if study.spec is None:
        return None
    # What was said of an earlier spec stands until it is.
    if not study.template.checked or study.template.unasked:
        old = study.condition("TemplateValid")
        return (old["type"], old["status"], old["reason"], old["message"]) if old else None
    if study.template.problem:
        return ("TemplateValid", "False", "Refused", study.template.problem)
    if study.template.unsaid:
        unsaid = study.template.unsaid
        return ("TemplateValid", "Unknown", unsaid.reason, unsaid.message)
    return ("TemplateValid", "True", "DryRunSucceeded", "the API server takes Job and pod")


def _metrics(study: Study) -> Said | None:
    """Of a study that asks Prometheus: whether it gets its answers."""
    if study.spec is None or not study.spec.queries:
        return None
    kind = "MetricsAvailable"
    if study.access.refused:
        return (kind, "False", study.access.refused.value, study.access.message)
    for trial in study.unfinished_trials:
        run = trial.run
        waits = run.open and run.reported and run.reason
        if waits and run.reason != Gap.AWAITING:
            return (kind, "False", run.reason or "", f"trial {trial.number}: {run.message}")
    return (kind, "True", "PrometheusAllowed", "Prometheus is asked at the end of each run")


def _running(study: Study, phase: StudyPhase, end: Ending | None) -> Said:
    if phase in (StudyPhase.COMPLETED, StudyPhase.FAILED):
        return ("Running", "False", phase.value, "the study has ended")
    if phase is StudyPhase.SUSPENDED:
        return ("Running", "False", "Suspended", "spec.suspend is true: nothing new is started")
    if study.held:
        return ("Running", "False", study.held.reason, study.held.message)
    if study.template.problem:
        reason = Obstacle.FORBIDDEN if study.template.unasked else "TemplateRefused"
        return ("Running", "False", reason, study.template.problem)
    if study.blind and study.access.refused and not study.under_way:
        return ("Running", "False", study.access.refused.value, study.access.message)
    if phase is StudyPhase.PENDING:
        return ("Running", "False", "Pending", "nothing has been started yet")
    if waits := _waits(study):
        return ("Running", "True", *waits)
    if end:
        return ("Running", "True", "Draining", f"waits for runs under way; {end.message}")
    return ("Running", "True", phase.value, "trials are started as slots become free")


def _waits(study: Study) -> tuple[str, str] | None:
    """What the first trial waits for, where no run is under way."""
    trials = study.unfinished_trials
    if any(trial.phase is TrialPhase.RUNNING for trial in trials):
        return None
    for trial in trials or study.to_retry:
        # Of an open run what has been written: what is seen of a pod may pass at once.
        why = trial.run if trial.run.open else trial.evidence.waiting
        if why and why.reason:
            return why.reason, f"trial {trial.number} waits: {why.message}"
    return None


def _finished(kind: StudyPhase, phase: StudyPhase, end: Ending | None) -> Said:
    if phase is kind and end:
        return (kind.value, "True", end.reason, end.message)
    return (kind.value, "False", "NotEnded" if phase is not kind else kind.value, "")


def _suspended(study: Study, phase: StudyPhase) -> Said:
    if phase is StudyPhase.SUSPENDED:
        left = f"; runs that may end: {study.under_way}" if study.under_way else ""
        return ("Suspended", "True", "Suspended", f"spec.suspend is true{left}")
    return ("Suspended", "False", "NotSuspended", "")


def _warm_started(study: Study) -> Said | None:
    if not study.sources:
        # What was said stands: they are read anew before anything is suggested.
        old = study.condition("WarmStarted") if study.spec and study.spec.warm_start else None
        return (old["type"], old["status"], old["reason"], old["message"]) if old else None
    words = "; ".join(f"{source.study}: {source.message}" for source in study.sources)
    reason = next((source.reason for source in study.sources if source.reason), None)
    if reason:
        return ("WarmStarted", "False", reason, words)
    return ("WarmStarted", "True", "ObservationsRead", words)


def _degraded(study: Study) -> Said:
    """An operator that has just started knows of no ask; what was said of the last one holds."""
    if study.degraded:
        return ("Degraded", "True", study.degraded.reason, study.degraded.message)
    old = study.condition("Degraded") or {}
    if not study.asked and old.get("status") == "True" and old["reason"] not in set(Obstacle):
        return ("Degraded", "True", old["reason"], old["message"])
    return ("Degraded", "False", "AsExpected", "")
