"""Trials that a user has made by hand: "try this one too".

Such a trial has a study and parameters, and no number yet. The operator gives it one as soon as
it may run; from then on it is a trial like any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from primo_optimizer import InvalidSpecError, SearchSpace
from primo_study.ending import Ending
from primo_study.phases import Obstacle, TrialPhase
from primo_study.spec import harmless
from primo_study.study import Request, Study, TrialRecord, Waiting

INVALID = "InvalidTrial"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a request now.

    Attributes:
        adopt: it may become a trial.
        said: what its object is to say meanwhile; None: it may say what it says.
        fidelity: of its first run.
    """

    adopt: bool
    said: tuple[TrialPhase, Waiting] | None = None
    fidelity: float | None = None


def judge(study: Study, request: Request, end: Ending | None, slots: int) -> Verdict:
    """Whether it may become a trial now.

    Args:
        slots: how many runs may be opened.
    """
    if wrong := mistakes(study, request):
        said = TrialPhase.FAILED, Waiting(INVALID, "; ".join(wrong), endless=True)
        return Verdict(adopt=False, said=said)
    why = _why_not_now(study, end, slots)
    if why is None and request.said[0] == TrialPhase.FAILED:
        # Its status must not say Failed any more when it becomes a trial.
        why = Waiting("Accepted", "it has been edited, and is valid now", endless=False)
    if why:
        return Verdict(adopt=False, said=(TrialPhase.QUEUED, why))
    return Verdict(
        adopt=True,
        said=(TrialPhase.QUEUED, request.refusal) if request.refusal else None,
        fidelity=study.full_fidelity if request.fidelity is None else request.fidelity,
    )


def mistakes(study: Study, request: Request) -> list[str]:
    """Each mistake of a request as `field: value expectation`."""
    assert study.spec
    if request.number is not None:
        return [f"spec.number: {request.number} is given, expected none in a trial made by hand"]
    space = study.spec.problem().space
    if nested := [name for name, v in request.configuration.items() if isinstance(v, dict | list)]:
        # Looked at no closer: it may be thousands of levels deep.
        return [
            harmless(f"spec.parameters.{name}: an object or a list is no value") for name in nested
        ]
    try:
        configuration = space.configuration(request.configuration)
    except InvalidSpecError as error:
        return [harmless(f"spec.{line}") for line in error.problems]
    found = [line] if (line := _bad_fidelity(study, request.fidelity)) else []
    alike = _alike(study, space, configuration)
    return found + [f"spec.parameters: trial {number} has the same" for number in alike]


def _alike(study: Study, space: SearchSpace, configuration: Mapping[str, Any]) -> list[int]:
    """The numbers of trials that have this configuration."""
    key = space.key(configuration)
    near = [block.items for block in study.rest if hash(key) in block.made(_hashes, space)]
    trials = chain(*near, study.moving)
    return sorted(trial.number for trial in trials if space.key(trial.configuration) == key)


def _hashes(trials: Sequence[TrialRecord], space: SearchSpace) -> frozenset[int]:
    """Of their configurations: those take more memory."""
    return frozenset(hash(space.key(trial.configuration)) for trial in trials)


def _bad_fidelity(study: Study, fidelity: Any) -> str | None:
    assert study.spec
    given = study.spec.fidelity
    if fidelity is None:
        return None
    if given is None:
        return f"spec.fidelity: {fidelity:g} is given, and the study has no fidelity"
    if not given.min <= fidelity <= given.max:
        return f"spec.fidelity: {fidelity:g} is not between {given.min:g} and {given.max:g}"
    return None


def _why_not_now(study: Study, end: Ending | None, slots: int) -> Waiting | None:
    assert study.spec
    if end:
        return Waiting("StudyEnded", f"the study has ended: {end.message}", endless=False)
    if study.held:
        return Waiting(study.held.reason, study.held.message, endless=False)
    if study.spec.suspend:
        return Waiting("StudySuspended", "spec.suspend of the study is true", endless=False)
    if study.template.problem:
        reason = Obstacle.FORBIDDEN if study.template.unasked else "TemplateRefused"
        return Waiting(reason, study.template.problem, endless=False)
    if study.blind and study.access.refused:
        return Waiting(study.access.refused, study.access.message, endless=False)
    trials = study.spec.budget.trials
    if trials is not None and study.numbers_used >= trials:
        return Waiting("BudgetExhausted", f"all {trials} trials of the budget exist", endless=False)
    if slots < 1:
        message = f"spec.parallelism of the study allows {study.spec.slots} unfinished runs"
        return Waiting("NoFreeSlot", message, endless=False)
    return None
