"""What is understood of a spec that is not as ours: a mistake, or of a later version.

Runs are under way, and have to be recorded, whatever somebody has edited.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from primo_optimizer import InvalidSpecError
from primo_study.messages import line, tuples
from primo_study.spec import MAX_PROBLEMS, StudySpec, harmless, is_too_deep, parse

# What tells how a run has ended. None of it may be edited, or not while runs are made; but retries
# may, and count only if they can be read.
_MEASURED = (
    "objectives", "constraints", "parameters", "fidelity", "checkpoints", "reports",
    "trialTemplate",
)  # fmt: skip


class Understood(NamedTuple):
    """What is understood of a spec as the API server holds it.

    Attributes:
        spec: without the unknown; if it is not legible, what tells how its runs have ended, or None
            if not even that can be read.
        problems: why not, if an edit is needed.
        unknown: what a later version may know: its definition let it pass, ours would not have.
        legible: it can be read, but for the unknown.
    """

    spec: StudySpec | None
    problems: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    legible: bool = True


def understand(spec: Mapping[str, Any]) -> Understood:
    """Read a spec that may be of a later version. Nothing is raised, whatever the JSON.

    Of a field that is not known nobody can say what it changes: without it others may be missing.
    """
    try:
        return Understood(parse(spec))
    except InvalidSpecError as error:
        problems = error.problems
    if is_too_deep(spec):
        return Understood(None, problems, legible=False)
    known, unknown = _known(tuples(spec))
    if not unknown:
        return Understood(_measured(spec), problems, legible=False)
    try:
        return Understood(parse(known), (), unknown)
    except InvalidSpecError:
        return Understood(_measured(known), (), unknown, legible=False)


def _measured(spec: Any) -> StudySpec | None:
    """What tells how runs have ended, of a spec that cannot be read; the rest is made up."""
    if not isinstance(spec, Mapping):
        return None
    rest = {"algorithm": {"name": "random"}, "budget": {"trials": 1}}
    for kept in ((*_MEASURED, "retries"), _MEASURED):
        with contextlib.suppress(InvalidSpecError):
            return parse({**{name: spec[name] for name in kept if name in spec}, **rest})
    return None


def _known(given: Any) -> tuple[Any, tuple[str, ...]]:
    """A spec without the fields that no model has; and these, and words that are none of ours."""
    try:
        StudySpec.model_validate(given)
    except ValidationError as error:
        errors = error.errors()
    else:
        return given, ()
    for details in errors:
        if details["type"] == "extra_forbidden":
            given = _without(given, details["loc"])
    later = [line(d) for d in errors if d["type"] in ("extra_forbidden", "literal_error")]
    return given, tuple(map(harmless, later[:MAX_PROBLEMS]))


def _without(value: Any, path: Sequence[int | str]) -> Any:
    first, *rest = path
    if isinstance(value, tuple):
        return tuple(_without(v, rest) if i == first else v for i, v in enumerate(value))
    if not isinstance(value, Mapping):
        return value
    if not rest:
        return {name: v for name, v in value.items() if name != first}
    return {name: _without(v, rest) if name == first else v for name, v in value.items()}
