"""What can be wrong with the spec of a problem; crds/ says most of it to an API server.

Each mistake is a line `field: value expectation`. Rules, which compare values, are looked at where
the shape is right. Specs are plain JSON data here, see `shapes.plain`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from primo_optimizer import conditions
from primo_optimizer.shapes import (
    Fields,
    anything,
    entries,
    flag,
    is_number,
    items,
    items_of,
    number,
    one_of,
    shown,
    text,
    there_are,
    whole_number,
)

MAX_OBJECTIVES = 8
# Whole numbers beyond it are not told apart by the floats that a model sees.
MAX_INT = 2**53
# Rungs are powers of eta: with more between min and max, neither their number nor their values
# can be relied on.
MAX_FIDELITY_RATIO = 1e15

KINDS = ("float", "int", "ordinal", "categorical")

Rules = Callable[[str, Mapping[str, Any]], Iterator[str]]

_OURS = (
    "objectives",
    "constraints",
    "preferences",
    "parameters",
    "fidelity",
    "priors",
    "algorithm",
)
_OF_A_STUDY = (
    "budget",
    "parallelism",
    "suspend",
    "onComplete",
    "checkpoints",
    "reports",
    "retries",
    "warmStart",
    "retention",
    "trialTemplate",
)
_SPEC = Fields({}, dict.fromkeys((*_OURS, *_OF_A_STUDY), anything))
_OBJECTIVE = Fields(
    {"name": text},
    {
        "goal": one_of("Minimize", "Maximize"),
        "target": number,
        "referencePoint": number,
        "metric": text,
        "reduce": text,
        "prometheus": entries,
    },
)
_CONSTRAINT = Fields({"metric": text}, {"atMost": number, "atLeast": number, "reduce": text})
_PREFERENCES = Fields({}, {"weights": entries, "scalarization": one_of("Chebyshev", "Linear")})
_PARAMETER = Fields({"name": text}, {**dict.fromkeys(KINDS, anything), "when": entries})
_FLOAT = Fields({"min": number, "max": number}, {"log": flag})
_INT = Fields({"min": whole_number, "max": whole_number}, {"log": flag})
_ORDINAL = Fields({"values": items_of(number)})
_CATEGORICAL = Fields({"choices": items_of(text)})
_FIDELITY = Fields({"name": text, "min": number, "max": number}, {"eta": number})
_PRIOR = Fields(
    {"objective": text, "parameters": items}, {"confidence": number, "fromTrial": whole_number}
)
_BELIEF = Fields(
    {"name": text},
    {"center": number, "choice": text, "weights": entries, "confidence": number},
)
_ALGORITHM = Fields({}, {"name": text, "seed": whole_number, "settings": entries})


def of_spec(spec: Any) -> Iterator[str]:
    """Of a whole spec."""
    if not isinstance(spec, Mapping):
        yield f"spec: {shown(spec)} is not an object"
        return
    yield from _SPEC.unknown("", spec)
    known = _Known.of(spec)
    yield from _of_objectives(_list(spec, "objectives"))
    yield from of_parameters(_list(spec, "parameters"))
    yield from _of_section(spec, "fidelity", _FIDELITY, _fidelity_rules)
    yield from _of_priors(_list(spec, "priors"), known)
    yield from _of_constraints(_list(spec, "constraints"))
    yield from _of_section(spec, "preferences", _PREFERENCES, partial(_preference_rules, known))
    yield from _of_section(spec, "algorithm", _ALGORITHM, _algorithm_rules)


def of_parameters(parameters: Any) -> Iterator[str]:
    """Of a search space."""
    if parameters == []:
        yield "parameters: none given, expected at least 1"
    yield from _of_each("parameters", parameters, _PARAMETER, _parameter_rules)
    yield from _repeated("parameters", parameters)
    yield from conditions.mistakes(parameters)


def _of_objectives(objectives: Any) -> Iterator[str]:
    if isinstance(objectives, list) and not 1 <= len(objectives) <= MAX_OBJECTIVES:
        yield f"objectives: {len(objectives)} given, expected 1 to {MAX_OBJECTIVES}"
    yield from _of_each("objectives", objectives, _OBJECTIVE, _no_rules)
    yield from _repeated("objectives", objectives)


def _of_priors(priors: Any, known: "_Known") -> Iterator[str]:
    yield from _of_each("priors", priors, _PRIOR, partial(_prior_rules, known))
    yield from _repeated("priors", priors, "objective", "has two priors, expected one at most")


def _of_constraints(constraints: Any) -> Iterator[str]:
    yield from _of_each("constraints", constraints, _CONSTRAINT, _constraint_rules)
    yield from _repeated(
        "constraints", constraints, "metric", "is used twice, expected unique metrics"
    )


# --- how the parts are gone through


def _list(spec: Mapping[str, Any], field: str) -> Any:
    """A list that is left out is an empty one."""
    return [] if spec.get(field) is None else spec[field]


def _of_section(spec: Mapping[str, Any], at: str, shape: Fields, rules: Rules) -> Iterator[str]:
    if spec.get(at) is not None:
        yield from _of_one(at, spec[at], shape, rules)


def _of_each(at: str, given: Any, shape: Fields, rules: Rules) -> Iterator[str]:
    if not isinstance(given, list):
        yield from items(at, given)
        return
    for i, item in enumerate(given):
        yield from _of_one(f"{at}[{i}]", item, shape, rules)


def _of_one(at: str, given: Any, shape: Fields, rules: Rules) -> Iterator[str]:
    yield from shape.unknown(at, given)
    misshapen = list(shape.misshapen(at, given))
    yield from misshapen or rules(at, given)


def _repeated(
    at: str,
    given: Any,
    field: str = "name",
    expectation: str = "is used twice, expected unique names",
) -> Iterator[str]:
    seen: set[str] = set()
    for i, name in _named(given, field):
        if name in seen:
            yield f"{at}[{i}].{field}: {name!r} {expectation}"
        seen.add(name)


def _named(given: Any, field: str = "name") -> Iterator[tuple[int, str]]:
    """Position and name of the items that have one, in a list that may hold anything."""
    for i, item in enumerate(given if isinstance(given, list) else ()):
        if isinstance(item, Mapping) and isinstance(item.get(field), str):
            yield i, item[field]


@dataclass(frozen=True, slots=True)
class _Known:
    """What priors and preferences may name.

    Attributes:
        parameters: name -> parameter; None if there is a mistake in it.
    """

    objectives: tuple[str, ...]
    parameters: Mapping[str, Mapping[str, Any] | None]

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "_Known":
        objectives = sorted({name for _, name in _named(spec.get("objectives"))})
        given = _list(spec, "parameters")
        parameters = {
            name: None if any(_of_one("", given[i], _PARAMETER, _parameter_rules)) else given[i]
            for i, name in _named(given)
        }
        return cls(tuple(objectives), parameters)


# --- rules: what is given has the right shape


def _no_rules(at: str, given: Mapping[str, Any]) -> Iterator[str]:  # noqa: ARG001
    yield from ()


def _parameter_rules(at: str, parameter: Mapping[str, Any]) -> Iterator[str]:
    given = [kind for kind in KINDS if parameter.get(kind) is not None]
    if len(given) != 1:
        found = ", ".join(given) or "none"
        yield f"{at}: {found} given, expected exactly one of {', '.join(KINDS)}"
        return
    (kind,) = given
    yield from _of_one(f"{at}.{kind}", parameter[kind], *_KINDS[kind])


def _range_rules(at: str, body: Mapping[str, Any]) -> Iterator[str]:
    low, high, log = body["min"], body["max"], body.get("log")
    if low >= high:
        yield f"{at}.min: {low} is not below max, {high}"
    if log and low <= 0:
        yield f"{at}.min: {low} is not above 0, which log needs"
    elif log and low < high and math.log(low) == math.log(high):
        yield f"{at}.min: {low} is too close to max, {high}: their logarithms are equal"
    if not math.isfinite(float(high) - float(low)):
        yield f"{at}.max: {high} is too far from min, {low}: their distance is not finite"


def _whole_range_rules(at: str, body: Mapping[str, Any]) -> Iterator[str]:
    yield from _range_rules(at, body)
    for key in ("min", "max"):
        if abs(body[key]) > MAX_INT:
            yield f"{at}.{key}: {body[key]} is not between -2**53 and 2**53"


def _values_rules(at: str, body: Mapping[str, Any]) -> Iterator[str]:
    values = body["values"]
    if len(values) < 2:
        yield f"{at}.values: {len(values)} given, expected 2 or more"
    elif any(float(a) >= float(b) for a, b in pairwise(values)):
        yield f"{at}.values: {values} are not distinct and ascending"
    elif not math.isfinite(float(values[-1]) - float(values[0])):
        yield f"{at}.values: {values} are too far apart: their distance is not finite"


def _choices_rules(at: str, body: Mapping[str, Any]) -> Iterator[str]:
    choices = body["choices"]
    if len(choices) < 2:
        yield f"{at}.choices: {len(choices)} given, expected 2 or more"
    elif len(set(choices)) < len(choices):
        yield f"{at}.choices: {choices} are not distinct"


_KINDS: Mapping[str, tuple[Fields, Rules]] = {
    "float": (_FLOAT, _range_rules),
    "int": (_INT, _whole_range_rules),
    "ordinal": (_ORDINAL, _values_rules),
    "categorical": (_CATEGORICAL, _choices_rules),
}


def _fidelity_rules(at: str, fidelity: Mapping[str, Any]) -> Iterator[str]:
    low, high, eta = fidelity["min"], fidelity["max"], fidelity.get("eta")
    if low <= 0:
        yield f"{at}.min: {low} is not above 0"
    if low > high:
        yield f"{at}.min: {low} is above {at}.max, {high}"
    elif low > 0 and high / low > MAX_FIDELITY_RATIO:
        yield f"{at}.max: {high} is more than {MAX_FIDELITY_RATIO:g} times {at}.min, {low}"
    if eta is not None and eta < 1.5:
        yield f"{at}.eta: {eta} is below 1.5"


def _prior_rules(known: _Known, at: str, prior: Mapping[str, Any]) -> Iterator[str]:
    objective, beliefs = prior["objective"], prior["parameters"]
    if objective not in known.objectives:
        yield f"{at}.objective: {objective!r} is not an objective {there_are(known.objectives)}"
    yield from _confidence_rule(at, prior)
    if (first := prior.get("fromTrial")) is not None and first < 0:
        yield f"{at}.fromTrial: {first} is below 0"
    if not beliefs:
        yield f"{at}.parameters: none given, expected at least 1"
    yield from _of_each(f"{at}.parameters", beliefs, _BELIEF, partial(_belief_rules, known))
    yield from _repeated(f"{at}.parameters", beliefs)


def _confidence_rule(at: str, given: Mapping[str, Any]) -> Iterator[str]:
    confidence = given.get("confidence")
    if confidence is not None and not 0 <= confidence <= 1:
        yield f"{at}.confidence: {confidence} is not between 0 and 1"


def _belief_rules(known: _Known, at: str, belief: Mapping[str, Any]) -> Iterator[str]:
    name = belief["name"]
    yield from _confidence_rule(at, belief)
    given = [key for key in ("center", "choice", "weights") if belief.get(key) is not None]
    if name not in known.parameters:
        yield f"{at}.name: {name!r} is not a parameter {there_are(sorted(known.parameters))}"
    elif len(given) != 1:
        found = ", ".join(given) or "nothing"
        yield f"{at}: {found} given, expected exactly one of center, choice, weights"
    elif parameter := known.parameters[name]:
        (key,) = given
        yield from _believed_rules(f"{at}.{key}", key, belief[key], parameter)


def _believed_rules(at: str, key: str, value: Any, parameter: Mapping[str, Any]) -> Iterator[str]:
    """Of a centre, a choice or weights at `at`, for a parameter without mistakes."""
    if parameter.get("categorical") is None:
        if key != "center":
            yield f"{at}: {parameter['name']!r} is not categorical, expected center"
            return
        low, high = _bounds(parameter)
        if not low <= value <= high:
            yield f"{at}: {value} is not between {low} and {high}"
        return
    choices = sorted(parameter["categorical"]["choices"])
    match key:
        case "center":
            yield f"{at}: {parameter['name']!r} is categorical, expected choice or weights"
        case "choice" if value not in choices:
            yield f"{at}: {value!r} is not one of {', '.join(choices)}"
        case "weights":
            yield from _weights_rules(at, value, choices, "one of " + ", ".join(choices))
            if not any(is_number(weight) and weight > 0 for weight in value.values()):
                yield f"{at}: all are 0, expected one above 0"


def _bounds(parameter: Mapping[str, Any]) -> tuple[float, float]:
    """Of a parameter that is not categorical."""
    if parameter.get("ordinal") is not None:
        values = parameter["ordinal"]["values"]
        return values[0], values[-1]
    body = parameter.get("float") or parameter["int"]
    return body["min"], body["max"]


def _weights_rules(
    at: str, weights: Mapping[Any, Any], known: Sequence[str], expected: str
) -> Iterator[str]:
    for name, weight in weights.items():
        if name not in known:
            yield f"{at}: {shown(name)} is not {expected}"
        elif not is_number(weight) or weight < 0:
            yield f"{at}.{name}: {shown(weight)} is not a number of 0 or more"
    if not math.isfinite(sum(float(w) for w in weights.values() if is_number(w))):
        yield f"{at}: their sum is not finite"


def _constraint_rules(at: str, constraint: Mapping[str, Any]) -> Iterator[str]:
    high, low = constraint.get("atMost"), constraint.get("atLeast")
    if high is None and low is None:
        yield f"{at}: nothing given, expected atMost, atLeast or both"
    elif high is not None and low is not None and low > high:
        yield f"{at}.atLeast: {low} is above atMost, {high}"


def _preference_rules(known: _Known, at: str, preferences: Mapping[str, Any]) -> Iterator[str]:
    weights = preferences.get("weights") or {}
    expected = f"an objective {there_are(known.objectives)}"
    yield from _weights_rules(f"{at}.weights", weights, known.objectives, expected)
    if not any(is_number(weight) and weight > 0 for weight in weights.values()):
        yield f"{at}.weights: none is above 0, expected one at least"


def _algorithm_rules(at: str, algorithm: Mapping[str, Any]) -> Iterator[str]:
    seed = algorithm.get("seed")
    if seed is not None and seed < 0:
        yield f"{at}.seed: {seed} is below 0"
