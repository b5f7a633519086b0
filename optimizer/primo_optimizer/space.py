"""The search space: four kinds of parameter, and their encoding on the unit cube.

Each parameter is one column of the cube. Numeric ones lie on their (log) scale; the k choices of a
categorical one, and the values of an int or ordinal one, lie at distinct points of [0, 1].
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.errors import InvalidSpecError
from primo_optimizer.trial import Configuration, Value


@dataclass(frozen=True, slots=True)
class Float:
    """A real number in [low, high], on a log scale if `log`."""

    name: str
    low: float
    high: float
    log: bool = False

    @property
    def size(self) -> float:
        return math.inf

    @property
    def values(self) -> Sequence[Value]:
        raise TypeError(f"the values of the float parameter {self.name!r} cannot be listed")

    def spread(self, unit: float) -> float:
        return unit

    def encode(self, value: Value) -> float:
        return _to_unit(float(value), self.low, self.high, self.log)

    def decode(self, unit: float) -> float:
        return _from_unit(unit, self.low, self.high, self.log)


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number in [low, high], on a log scale if `log`."""

    name: str
    low: int
    high: int
    log: bool = False

    @property
    def size(self) -> float:
        return self.high - self.low + 1

    @property
    def values(self) -> Sequence[int]:
        return range(self.low, self.high + 1)

    def spread(self, unit: float) -> float:
        """Half a step is added at both ends, or the first and last value would get half a share."""
        return self.encode(_from_unit(unit, self.low - 0.5, self.high + 0.5, self.log))

    def encode(self, value: Value) -> float:
        return _to_unit(float(value), self.low, self.high, self.log)

    def decode(self, unit: float) -> int:
        return round(_from_unit(unit, self.low, self.high, self.log))


@dataclass(frozen=True, slots=True)
class Ordinal:
    """One of some numbers in ascending order; only their order matters, not their distance."""

    name: str
    values: tuple[float, ...]

    @property
    def low(self) -> float:
        return self.values[0]

    @property
    def high(self) -> float:
        return self.values[-1]

    @property
    def size(self) -> float:
        return len(self.values)

    def spread(self, unit: float) -> float:
        """As for an int: each value gets an equal share."""
        steps = len(self.values) - 1
        return min(max((unit * (steps + 1) - 0.5) / steps, 0.0), 1.0)

    def encode(self, value: Value) -> float:
        """A number between two values lies between their points: a prior's centre may be one."""
        points = np.linspace(0.0, 1.0, len(self.values))
        return float(np.interp(float(value), self.values, points))

    def decode(self, unit: float) -> float:
        return self.values[round(min(max(unit, 0.0), 1.0) * (len(self.values) - 1))]


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of some words without order; a choice is the middle of its share of [0, 1]."""

    name: str
    choices: tuple[str, ...]

    @property
    def size(self) -> float:
        return len(self.choices)

    @property
    def values(self) -> Sequence[str]:
        return self.choices

    def spread(self, unit: float) -> float:
        return unit

    def encode(self, value: Value) -> float:
        return (self.choices.index(str(value)) + 0.5) / len(self.choices)

    def decode(self, unit: float) -> str:
        return self.choices[min(max(int(unit * len(self.choices)), 0), len(self.choices) - 1)]


Parameter = Float | Int | Ordinal | Categorical


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The parameters that may vary, sorted by name; a point is (d,) in the unit cube."""

    parameters: tuple[Parameter, ...]

    @classmethod
    def from_spec(cls, parameters: Sequence[Mapping[str, Any]]) -> "SearchSpace":
        """Read the `parameters` of a study's spec.

        Raises:
            InvalidSpecError: naming each field at fault.
        """
        if problems := cls.mistakes(parameters):
            raise InvalidSpecError(*problems)
        return cls(tuple(sorted((_parameter(p) for p in parameters), key=lambda p: p.name)))

    @staticmethod
    def mistakes(parameters: Sequence[Mapping[str, Any]]) -> list[str]:
        """Each mistake as `field: value expectation`."""
        problems = [] if parameters else ["parameters: none given, expected at least 1"]
        seen: set[str] = set()
        for i, parameter in enumerate(parameters):
            at = f"parameters[{i}]"
            name = parameter.get("name")
            if not name:
                problems.append(f"{at}.name: is missing")
                continue
            if name in seen:
                problems.append(f"{at}.name: {name!r} is used twice, expected unique names")
            seen.add(name)
            problems += _parameter_mistakes(at, parameter)
        return problems

    @property
    def size(self) -> float:
        """How many configurations there are; infinite with a float parameter."""
        return math.prod(p.size for p in self.parameters)

    @property
    def steps(self) -> NDArray[np.float64]:
        """(d,) about the distance between neighbouring values; 0 for a float parameter."""
        return np.array([1.0 / (p.size - 1) for p in self.parameters], dtype=np.float64)

    @property
    def categorical(self) -> NDArray[np.bool_]:
        """(d,) mask of the parameters without order."""
        return np.array([isinstance(p, Categorical) for p in self.parameters], dtype=np.bool_)

    def encode(self, configuration: Configuration) -> NDArray[np.float64]:
        """(d,) in the unit cube."""
        return np.array([p.encode(configuration[p.name]) for p in self.parameters])

    def decode(self, point: NDArray[np.float64]) -> dict[str, Value]:
        """The valid configuration nearest to a (d,) point of the unit cube."""
        return {p.name: p.decode(float(u)) for p, u in zip(self.parameters, point, strict=True)}

    def snap(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, d) points moved to the valid configurations nearest to them."""
        snapped = np.clip(points, 0.0, 1.0)
        for i, parameter in enumerate(self.parameters):
            if not isinstance(parameter, Float):
                snapped[:, i] = [parameter.encode(parameter.decode(float(u))) for u in points[:, i]]
        return snapped

    def spread(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, d) uniform draws moved so that each value of a discrete parameter is equally likely.

        Decoding takes the nearest value, which alone would halve the share of the outer ones.
        """
        columns = [
            [parameter.spread(float(unit)) for unit in points[:, i]]
            for i, parameter in enumerate(self.parameters)
        ]
        return np.array(columns, dtype=np.float64).T.reshape(points.shape)

    def grid(self) -> Iterator[dict[str, Value]]:
        """Every configuration; only of a space whose `size` is finite."""
        names = [p.name for p in self.parameters]
        for row in product(*(p.values for p in self.parameters)):
            yield dict(zip(names, row, strict=True))

    def key(self, configuration: Configuration) -> tuple[Value, ...]:
        """Equal for equal configurations, whatever the order of their names."""
        return tuple(configuration[p.name] for p in self.parameters)


KINDS = ("float", "int", "ordinal", "categorical")


def _parameter(spec: Mapping[str, Any]) -> Parameter:
    (kind,) = (kind for kind in KINDS if spec.get(kind) is not None)
    body = spec[kind]
    match kind:
        case "float":
            return Float(
                spec["name"], float(body["min"]), float(body["max"]), bool(body.get("log"))
            )
        case "int":
            return Int(spec["name"], int(body["min"]), int(body["max"]), bool(body.get("log")))
        case "ordinal":
            return Ordinal(spec["name"], tuple(body["values"]))
        case _:
            return Categorical(spec["name"], tuple(sorted(body["choices"])))


def _parameter_mistakes(at: str, spec: Mapping[str, Any]) -> list[str]:
    given = [kind for kind in KINDS if spec.get(kind) is not None]
    if len(given) != 1:
        found = ", ".join(given) or "none"
        return [f"{at}: {found} given, expected exactly one of {', '.join(KINDS)}"]
    (kind,) = given
    at, body = f"{at}.{kind}", spec[kind]
    match kind:
        case "float" | "int":
            return _range_mistakes(at, body)
        case "ordinal":
            values = list(body["values"])
            if len(values) < 2:
                return [f"{at}.values: {len(values)} given, expected 2 or more"]
            if any(not a < b for a, b in pairwise(values)):
                return [f"{at}.values: {values} are not distinct and ascending"]
        case _:
            choices = list(body["choices"])
            if len(choices) < 2:
                return [f"{at}.choices: {len(choices)} given, expected 2 or more"]
            if len(set(choices)) < len(choices):
                return [f"{at}.choices: {choices} are not distinct"]
    return []


def _range_mistakes(at: str, body: Mapping[str, Any]) -> list[str]:
    low, high = body.get("min"), body.get("max")
    for key, value in (("min", low), ("max", high)):
        if value is None or not math.isfinite(value):
            return [f"{at}.{key}: {value} is not a finite number"]
    assert low is not None
    assert high is not None
    problems = []
    if low >= high:
        problems.append(f"{at}.min: {low} is not below max, {high}")
    if body.get("log") and low <= 0:
        problems.append(f"{at}.min: {low} is not above 0, which log needs")
    return problems


def _to_unit(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _from_unit(unit: float, low: float, high: float, log: bool) -> float:
    unit = min(max(unit, 0.0), 1.0)
    if not log:
        return min(max(low + unit * (high - low), low), high)
    raw = math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
    return min(max(raw, low), high)
