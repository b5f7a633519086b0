"""Four kinds of parameter, each a column of the unit cube.

Numeric ones lie on their (log) scale; the k choices of a categorical one, and the values of an int
or ordinal one, lie at distinct points of [0, 1].
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer import mistakes
from primo_optimizer.shapes import is_number, shown
from primo_optimizer.trial import Value

Points = NDArray[np.float64]

# What is beyond it is rounding: its power of e is the largest that a float can hold.
MAX_LOG = math.log(sys.float_info.max)


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

    def check(self, at: str, value: Any) -> Iterator[str]:
        if not (is_number(value) and self.low <= value <= self.high):
            kind = "" if is_number(value) else "a number "
            yield f"{at}: {shown(value)} is not {kind}between {self.low} and {self.high}"

    def read(self, value: Any) -> float:
        return float(value)

    def encode(self, value: Value) -> float:
        return _to_unit(float(value), self.low, self.high, self.log)

    def encode_all(self, values: Sequence[Value]) -> Points:
        return _to_units(np.array(values, np.float64), self.low, self.high, self.log)

    def decode(self, unit: float) -> float:
        return _from_unit(unit, self.low, self.high, self.log)

    def snap(self, units: Points) -> Points:
        return _clipped(units)

    def spread(self, units: Points) -> Points:
        return units


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

    def check(self, at: str, value: Any) -> Iterator[str]:
        whole = is_number(value) and value == int(value)
        if not (whole and self.low <= value <= self.high):
            yield f"{at}: {shown(value)} is not a whole number between {self.low} and {self.high}"

    def read(self, value: Any) -> int:
        return int(value)

    def encode(self, value: Value) -> float:
        return _to_unit(float(value), self.low, self.high, self.log)

    def encode_all(self, values: Sequence[Value]) -> Points:
        return _to_units(np.array(values, np.float64), self.low, self.high, self.log)

    def decode(self, unit: float) -> int:
        return round(_from_unit(unit, self.low, self.high, self.log))

    def snap(self, units: Points) -> Points:
        values = np.rint(_from_units(units, self.low, self.high, self.log))
        return _to_units(values, self.low, self.high, self.log)

    def spread(self, units: Points) -> Points:
        """Half a step is added at both ends, or the first and last value would get half a share."""
        wider = _from_units(units, self.low - 0.5, self.high + 0.5, self.log)
        return _to_units(wider, self.low, self.high, self.log)


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

    def check(self, at: str, value: Any) -> Iterator[str]:
        if not (is_number(value) and value in self.values):
            yield f"{at}: {shown(value)} is not one of {', '.join(map(str, self.values))}"

    def read(self, value: Any) -> float:
        """As the spec has it: 16 for 16.0."""
        return self.values[self.values.index(value)]

    @property
    def _points(self) -> Points:
        """(k,) of the values."""
        return np.linspace(0.0, 1.0, len(self.values))

    def encode(self, value: Value) -> float:
        """A number between two values lies between their points: a prior's centre may be one."""
        return float(np.interp(float(value), self.values, self._points))

    def encode_all(self, values: Sequence[Value]) -> Points:
        return np.interp(np.array(values, np.float64), self.values, self._points)

    def decode(self, unit: float) -> float:
        return self.values[round(min(max(unit, 0.0), 1.0) * (len(self.values) - 1))]

    def snap(self, units: Points) -> Points:
        return self._points[np.rint(_clipped(units) * (len(self.values) - 1)).astype(np.int64)]

    def spread(self, units: Points) -> Points:
        """As for an int: each value gets an equal share."""
        steps = len(self.values) - 1
        return _clipped((units * (steps + 1) - 0.5) / steps)


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

    def check(self, at: str, value: Any) -> Iterator[str]:
        if value not in self.choices:
            yield f"{at}: {shown(value)} is not one of {', '.join(self.choices)}"

    def read(self, value: Any) -> str:
        return str(value)

    def encode(self, value: Value) -> float:
        return (self.choices.index(str(value)) + 0.5) / len(self.choices)

    def encode_all(self, values: Sequence[Value]) -> Points:
        points = {choice: self.encode(choice) for choice in self.choices}
        return np.array([points[str(value)] for value in values], np.float64)

    def decode(self, unit: float) -> str:
        return self.choices[min(max(int(unit * len(self.choices)), 0), len(self.choices) - 1)]

    def snap(self, units: Points) -> Points:
        k = len(self.choices)
        return (np.clip(np.trunc(units * k), 0, k - 1) + 0.5) / k

    def spread(self, units: Points) -> Points:
        return units


Parameter = Float | Int | Ordinal | Categorical


def parameter_of(spec: Mapping[str, Any]) -> Parameter:
    """Of a spec without mistakes."""
    (kind,) = (kind for kind in mistakes.KINDS if spec.get(kind) is not None)
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


# One value at a time, and (n,) at once: to the bit the same, so that a point that was scored is the
# point of the configuration that runs. For that the logarithms are those of `math` in both: numpy's
# may differ in the last bit.


def _to_unit(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _to_units(values: Points, low: float, high: float, log: bool) -> Points:
    if log:
        values, low, high = _each(math.log, values), math.log(low), math.log(high)
    return _clipped((values - low) / (high - low))


def _from_unit(unit: float, low: float, high: float, log: bool) -> float:
    unit = min(max(unit, 0.0), 1.0)
    if not log:
        return min(max(low + unit * (high - low), low), high)
    exponent = math.log(low) + unit * (math.log(high) - math.log(low))
    raw = math.exp(min(exponent, MAX_LOG))
    return min(max(raw, low), high)


def _from_units(units: Points, low: float, high: float, log: bool) -> Points:
    units = _clipped(units)
    if not log:
        return np.clip(low + units * (high - low), low, high)
    exponents = math.log(low) + units * (math.log(high) - math.log(low))
    raw = _each(math.exp, np.minimum(exponents, MAX_LOG))
    return np.clip(raw, low, high)


def _clipped(units: Points) -> Points:
    return np.clip(units, 0.0, 1.0)


def _each(function: Callable[[float], float], values: Points) -> Points:
    return np.fromiter(map(function, values.tolist()), np.float64, len(values))
