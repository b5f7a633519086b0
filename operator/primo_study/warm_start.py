"""Whether another study has observed the same, so that its observations may be learnt from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from primo_optimizer import Trial
from primo_study.spec import StudySpec

# The models use a thousand observations at most, and those of the study itself come first.
MAX_TRIALS = 300


@dataclass(frozen=True, slots=True)
class Source:
    """What was read of one study.

    Attributes:
        reason: why there is nothing to be learnt from it, in one word; empty if there is.
        trials: with the numbers they have there.
    """

    study: str
    reason: str
    message: str
    trials: tuple[Trial, ...] = ()


def read(study: str, trials: Iterable[Trial]) -> Source:
    """A source whose study fits: what it has observed, at most `MAX_TRIALS` trials of it.

    Those that were trained for longest come first, then those with lower numbers. As many that have
    failed, the latest, say where trainings fail.
    """
    trials = list(trials)
    observed = [trial for trial in trials if trial.observations and trial.failed is None]
    failed = [trial for trial in trials if trial.failed is not None][-MAX_TRIALS:]
    if not observed:
        return Source(study, "NoObservations", "it has no observations yet")
    observed.sort(key=lambda t: (-(t.observations[-1].fidelity or 0.0), t.number))
    used = observed[:MAX_TRIALS]
    of_all = f" of {len(observed)}" if len(used) < len(observed) else ""
    and_failed = f" and {len(failed)} that failed" if failed else ""
    return Source(study, "", f"{len(used)}{of_all} trials{and_failed}", (*used, *failed))


def together(sources: Sequence[Source]) -> tuple[Trial, ...]:
    """The trials of all sources, with numbers below 0: they are no trials of the study."""
    trials = [trial for source in sources for trial in source.trials]
    return tuple(replace(trial, number=-1 - i, running=False) for i, trial in enumerate(trials))


def difference(ours: StudySpec, theirs: StudySpec) -> tuple[str, str] | None:
    """In what the other study observes something else: reason and message; None if in nothing."""
    space, other = ours.problem().space, theirs.problem().space
    checks = [
        ("DifferentObjectives", "objective", _objectives(ours), _objectives(theirs)),
        ("DifferentParameters", "parameter", _named(space.parameters), _named(other.parameters)),
        ("DifferentParameters", "the condition of", _conditions(space), _conditions(other)),
        ("DifferentFidelity", "fidelity", _fidelity(ours), _fidelity(theirs)),
    ]
    for reason, what, mine, its in checks:
        if message := _unlike(what, mine, its):
            return reason, message
    bounds, others = _constraints(ours), _constraints(theirs)
    # It may bound more than we do: what it reports beside is left alone.
    if message := _unlike("constraint", bounds, {k: v for k, v in others.items() if k in bounds}):
        return "DifferentConstraints", message
    return None


def _unlike(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    for name, mine in sorted(ours.items()):
        if name not in theirs:
            return f"{what} {name!r} is not there"
        if theirs[name] != mine:
            return f"{what} {name!r} is another one there"
    for name in sorted(theirs.keys() - ours.keys()):
        return f"{what} {name!r} is there, and not here"
    return ""


def _named(parameters: Iterable[Any]) -> dict[str, Any]:
    return {parameter.name: parameter for parameter in parameters}


def _conditions(space: Any) -> dict[str, Any]:
    return {condition.parameter: condition.needs for condition in space.conditions}


def _objectives(spec: StudySpec) -> dict[str, Any]:
    return {o.name: (o.goal, o.metric, o.prometheus, o.reduce or "Last") for o in spec.objectives}


def _fidelity(spec: StudySpec) -> dict[str, Any]:
    return {spec.fidelity.name: (spec.fidelity.min, spec.fidelity.max)} if spec.fidelity else {}


def _constraints(spec: StudySpec) -> dict[str, Any]:
    return {c.metric: c.reduce or "Last" for c in spec.constraints or ()}
