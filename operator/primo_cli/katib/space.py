"""Katib's parameters as PriMO's; what does not vary becomes a constant of the template."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from math import inf
from typing import Any

from pydantic import BaseModel

from primo_cli.katib.experiment import FeasibleSpace, Parameter
from primo_cli.katib.notes import CannotConvertError, Notes
from primo_study.problem import Choices, Values

_LOG = ("logUniform", "logNormal")
_BELL = ("normal", "logNormal")
_NAME_LENGTH = 63


@dataclass(slots=True)
class Space:
    """The parameters, and where each of Katib's went.

    Attributes:
        names: Katib's name to ours, of those that vary.
        constants: Katib's name to the text that stands for it.
        points: how many configurations there are; inf if they cannot be counted.
    """

    parameters: list[dict[str, Any]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    points: float = 1


def convert_space(parameters: Iterable[Parameter], notes: Notes) -> Space:
    """All of them.

    Raises:
        CannotConvertError: one has no counterpart, or none varies.
    """
    space, taken = Space(), set[str]()
    for parameter in parameters:
        at = f"parameters[{parameter.name}]"
        kind = _kind(parameter, at, notes)
        if isinstance(kind, str):
            space.constants[parameter.name] = kind
            notes.mapped(at, f"has one value, {kind}, which now stands in the template")
            continue
        name = identifier(parameter.name, taken)
        if name != parameter.name:
            notes.mapped(at, f"is called {name}: a name holds letters, digits and _ only")
        space.parameters.append({"name": name, **kind})
        space.names[parameter.name] = name
        space.points *= _size(kind)
    if not space.parameters:
        raise CannotConvertError("parameters: none of them varies, so there is nothing to search")
    return space


def identifier(text: str, taken: set[str]) -> str:
    """A name like `text` that ours may be, and that differs from those taken by more than case."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text) or "_"
    name = (f"_{name}" if name[0].isdigit() else name)[:_NAME_LENGTH]
    count, found = 1, name
    while found.upper() in taken:
        count += 1
        found = f"{name[: _NAME_LENGTH - 4]}_{count}"
    taken.add(found.upper())
    return found


def bounds(parameter: Parameter) -> tuple[Decimal, Decimal]:
    """Of a double or int.

    Raises:
        CannotConvertError: they are missing, no numbers, or in the wrong order.
    """
    at, space = f"parameters[{parameter.name}].feasibleSpace", parameter.feasible_space
    low, high = _number(f"{at}.min", space.min), _number(f"{at}.max", space.max)
    if low > high:
        raise CannotConvertError(f"{at}.min: {low} is above max, {high}")
    return low, high


def number(value: Decimal) -> int | float:
    """Whole numbers stay whole on their way to the trial."""
    return int(value) if value == value.to_integral_value() else float(value)


# --- one parameter: its kind in our words, or the one value that it has


def _kind(parameter: Parameter, at: str, notes: Notes) -> dict[str, Any] | str:
    match parameter.parameter_type:
        case "double" | "int":
            return _range(parameter, at, notes)
        case "discrete" | "categorical":
            return _listed(parameter, at, notes)
        case other:
            raise CannotConvertError(f"{at}.parameterType: {other!r} has no counterpart")


def _range(parameter: Parameter, at: str, notes: Notes) -> dict[str, Any] | str:
    whole, space = parameter.parameter_type == "int", parameter.feasible_space
    low, high = bounds(parameter)
    if whole and not (low == low.to_integral_value() and high == high.to_integral_value()):
        raise CannotConvertError(f"{at}.feasibleSpace: {low} to {high} are not whole numbers")
    if low == high:
        return str(space.min)
    if space.distribution in _BELL:
        notes.approximated(
            f"{at}.feasibleSpace.distribution",
            f"{space.distribution}: Katib drew most values from the middle of the range. Here the"
            " whole range is searched; a belief in the middle is a prior (spec.priors, center)",
        )
    if (step := _step(parameter, at)) and not (whole and step == 1):
        stepped = _stepped(low, high, step)
        if isinstance(stepped, list):
            if space.distribution in _LOG:
                notes.approximated(
                    f"{at}.feasibleSpace.distribution",
                    f"{space.distribution} with a step: here all values are equally likely",
                )
            return _ordinal(stepped, at, notes, f"step {step} of {low} to {high}")
        notes.approximated(
            f"{at}.feasibleSpace.step",
            f"{step} is left out: it makes {stepped} values, and an ordinal parameter has at most"
            f" {_most(Values, 'values')}. The script may see any value between the bounds",
        )
    body: dict[str, Any] = {"min": number(low), "max": number(high)}
    body |= _scale(space, low, at, notes)
    return {"int" if whole else "float": body}


def _step(parameter: Parameter, at: str) -> Decimal | None:
    text = parameter.feasible_space.step
    if not text:
        return None
    step = _number(f"{at}.feasibleSpace.step", text)
    if step <= 0:
        raise CannotConvertError(f"{at}.feasibleSpace.step: {step} is not above 0")
    return step


def _stepped(low: Decimal, high: Decimal, step: Decimal) -> list[Decimal] | int:
    """The values; or, if they are too many for an ordinal parameter, how many."""
    count = int((high - low) / step) + 1
    if count > _most(Values, "values"):
        return count
    return [low + i * step for i in range(count)]


def _scale(space: FeasibleSpace, low: Decimal, at: str, notes: Notes) -> dict[str, Any]:
    distribution, where = space.distribution or "uniform", f"{at}.feasibleSpace.distribution"
    if distribution not in _LOG:
        return {}
    if low <= 0:
        notes.approximated(where, f"{distribution} needs a min above 0: searched without a log")
        return {}
    notes.mapped(where, f"{distribution} is log: true")
    return {"log": True}


def _listed(parameter: Parameter, at: str, notes: Notes) -> dict[str, Any] | str:
    words = list(dict.fromkeys(parameter.feasible_space.list))
    if not words:
        raise CannotConvertError(f"{at}.feasibleSpace.list: is missing")
    if len(words) == 1:
        return words[0]
    numbers = _numbers(words)
    if numbers and (parameter.parameter_type == "discrete" or len(words) > _most_choices()):
        return _ordinal(numbers, at, notes, f"a {parameter.parameter_type} list of numbers")
    if len(words) > _most_choices():
        raise CannotConvertError(
            f"{at}.feasibleSpace.list: {len(words)} words, and a categorical parameter has at most"
            f" {_most_choices()}"
        )
    if numbers:
        notes.mapped(at, "has numbers for choices; ordinal: {values: [...]} would use their order")
    return {"categorical": {"choices": words}}


def _ordinal(values: Sequence[Decimal], at: str, notes: Notes, was: str) -> dict[str, Any] | str:
    found = sorted(set(values))
    if len(found) == 1:
        return str(found[0])
    if len(found) > _most(Values, "values"):
        raise CannotConvertError(
            f"{at}.feasibleSpace.list: {len(found)} numbers, and an ordinal parameter has at most"
            f" {_most(Values, 'values')}"
        )
    notes.mapped(at, f"{was} is an ordinal parameter of {len(found)} values")
    return {"ordinal": {"values": [number(value) for value in found]}}


def _numbers(words: Iterable[str]) -> list[Decimal] | None:
    try:
        found = [Decimal(word) for word in words]
    except InvalidOperation:
        return None
    return found if all(value.is_finite() for value in found) else None


def _number(at: str, text: str | None) -> Decimal:
    if text is None:
        raise CannotConvertError(f"{at}: is missing")
    found = _numbers([text])
    if not found:
        raise CannotConvertError(f"{at}: {text!r} is not a number")
    return found[0]


def _size(kind: dict[str, Any]) -> float:
    match kind:
        case {"int": {"min": low, "max": high}}:
            return float(high - low + 1)
        case {"ordinal": {"values": values}} | {"categorical": {"choices": values}}:
            return len(values)
    return inf


def _most_choices() -> int:
    return _most(Choices, "choices")


def _most(model: type[BaseModel], name: str) -> int:
    """How many items a list of a model may have."""
    rules = model.model_fields[name].metadata
    return int(next(rule.max_length for rule in rules if hasattr(rule, "max_length")))
