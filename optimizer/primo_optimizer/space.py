"""The search space: four kinds of parameter, and their encoding on the unit cube.

Each parameter is one column of the cube. Numeric ones lie on their (log) scale; the k choices of a
categorical one, and the values of an int or ordinal one, lie at distinct points of [0, 1]. A
parameter whose condition does not hold is left out of the configuration, and lies in the middle.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer import mistakes
from primo_optimizer.conditions import Condition, conditions
from primo_optimizer.errors import InvalidSpecError
from primo_optimizer.shapes import Fields, is_number, plain, shown
from primo_optimizer.trial import Configuration, Value

Points = NDArray[np.float64]

# Where a parameter that is not there lies on its column.
NOT_THERE = 0.5
# Configurations of a space with conditions are counted one by one, as far as any caller lists them.
COUNTED = 20_000


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
            yield f"{at}: {shown(value)} is not between {self.low} and {self.high}"

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


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The parameters that may vary, sorted by name; a point is (d,) in the unit cube.

    Attributes:
        conditions: of parents before those of their children.
    """

    parameters: tuple[Parameter, ...]
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def from_spec(cls, parameters: Sequence[Mapping[str, Any]]) -> "SearchSpace":
        """Read the `parameters` of a study's spec.

        Raises:
            InvalidSpecError: naming each field at fault, its value and what was expected.
        """
        parameters = plain(parameters)
        if wrong := list(mistakes.of_parameters(parameters)):
            raise InvalidSpecError(*wrong)
        return cls(
            tuple(sorted((_parameter(p) for p in parameters), key=lambda p: p.name)),
            conditions(parameters),
        )

    @property
    def size(self) -> float:
        """How many configurations there are.

        Infinite with a float parameter, and with conditions that leave more than `COUNTED`.
        """
        if self.conditions:
            return _counted(self)
        return math.prod(float(p.size) for p in self.parameters)

    @property
    def steps(self) -> NDArray[np.float64]:
        """(d,) about the distance between neighbouring values; 0 for a float parameter."""
        return np.array([1.0 / (p.size - 1) for p in self.parameters], dtype=np.float64)

    @property
    def categorical(self) -> NDArray[np.bool_]:
        """(d,) mask of the parameters without order."""
        return np.array([isinstance(p, Categorical) for p in self.parameters], dtype=np.bool_)

    def configuration(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """Read a configuration that comes from elsewhere.

        Raises:
            InvalidSpecError: a parameter is missing, unknown, or has a value it cannot have.
        """
        given = plain(given)
        conditional = {condition.parameter for condition in self.conditions}
        checks = {p.name: p.check for p in self.parameters}
        always = {name: check for name, check in checks.items() if name not in conditional}
        sometimes = {name: check for name, check in checks.items() if name in conditional}
        wrong = list(Fields(always, sometimes)("parameters", given))
        if wrong := wrong or list(self._misplaced(given)):
            raise InvalidSpecError(*wrong)
        there = self._active(given)
        return {p.name: p.read(given[p.name]) for p in self.parameters if p.name in there}

    def _misplaced(self, given: Configuration) -> Iterator[str]:
        """Which parameters are missing, or given, against their conditions."""
        there = self._active(given)
        for condition in self.conditions:
            name = condition.parameter
            if name in there and given.get(name) is None:
                yield f"parameters.{name}: is missing"
            elif name not in there and given.get(name) is not None:
                needs = " and ".join(f"{p} {' or '.join(c)}" for p, c in condition.needs)
                yield f"parameters.{name}: {shown(given[name])} given, which needs {needs}"

    def _active(self, configuration: Configuration) -> set[str]:
        """Names of the parameters that are there; those that are not may have values."""
        there = {p.name for p in self.parameters}
        for condition in self.conditions:
            if not condition.holds(configuration, there):
                there.remove(condition.parameter)
        return there

    def _pruned(self, configuration: Mapping[str, Value]) -> Mapping[str, Value]:
        """Without the values of parameters that are not there."""
        if not self.conditions:
            return configuration
        there = self._active(configuration)
        return {name: value for name, value in configuration.items() if name in there}

    def active(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n, d) mask of the parameters that are there in the configurations of (n, d) points."""
        column = {p.name: i for i, p in enumerate(self.parameters)}
        there = np.ones(points.shape, dtype=np.bool_)
        for condition in self.conditions:
            child = column[condition.parameter]
            for name, choices in condition.needs:
                parent = self.parameters[column[name]]
                assert isinstance(parent, Categorical)
                allowed = parent.encode_all(choices)
                chosen = np.isin(parent.snap(points[:, column[name]]), allowed)
                there[:, child] &= there[:, column[name]] & chosen
        return there

    def encode(self, configuration: Configuration) -> NDArray[np.float64]:
        """(d,) in the unit cube."""
        there = self._pruned(configuration)
        points = (
            p.encode(there[p.name]) if p.name in there else NOT_THERE for p in self.parameters
        )
        return np.fromiter(points, np.float64, len(self.parameters))

    def encode_all(self, configurations: Sequence[Configuration]) -> NDArray[np.float64]:
        """(n, d), the same as of each alone and many times faster."""
        encoded = np.full((len(configurations), len(self.parameters)), NOT_THERE)
        there = [self._pruned(configuration) for configuration in configurations]
        for i, parameter in enumerate(self.parameters):
            rows = [row for row, given in enumerate(there) if parameter.name in given]
            encoded[rows, i] = parameter.encode_all([there[row][parameter.name] for row in rows])
        return encoded

    def decode(self, point: NDArray[np.float64]) -> dict[str, Value]:
        """The valid configuration nearest to a (d,) point of the unit cube."""
        values = {p.name: p.decode(float(u)) for p, u in zip(self.parameters, point, strict=True)}
        return dict(self._pruned(values))

    def snap(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, d) points moved to the valid configurations nearest to them."""
        snapped = np.empty(points.shape)
        for i, parameter in enumerate(self.parameters):
            snapped[:, i] = parameter.snap(points[:, i])
        if self.conditions:
            snapped[~self.active(snapped)] = NOT_THERE
        return snapped

    def spread(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, d) uniform draws moved so that each value of a discrete parameter is equally likely.

        Decoding takes the nearest value, which alone would halve the share of the outer ones.
        """
        moved = np.empty(points.shape)
        for i, parameter in enumerate(self.parameters):
            moved[:, i] = parameter.spread(points[:, i])
        return moved

    def grid(self) -> Iterator[dict[str, Value]]:
        """Every configuration once; only of a space whose `size` is finite."""
        names = [p.name for p in self.parameters]
        for some in self._parents():
            there = self._active(some)
            values = [
                [some[p.name]] if p.name in some else p.values
                for p in self.parameters
                if p.name in there
            ]
            for row in product(*values):
                yield dict(zip((n for n in names if n in there), row, strict=True))

    def _parents(self) -> Iterator[dict[str, Value]]:
        """Every configuration of those parameters alone on which conditions depend."""
        conditions = {condition.parameter: condition for condition in self.conditions}
        parents = {parent for condition in self.conditions for parent, _ in condition.needs}
        ordered = [p for p in self.parameters if p.name in parents - conditions.keys()]
        by_name = {p.name: p for p in self.parameters}
        ordered += [by_name[c.parameter] for c in self.conditions if c.parameter in parents]

        def grown(some: dict[str, Value], left: Sequence[Parameter]) -> Iterator[dict[str, Value]]:
            if not left:
                yield some
                return
            condition = conditions.get(left[0].name)
            if condition and not condition.holds(some, some):
                yield from grown(some, left[1:])
                return
            for value in left[0].values:
                yield from grown({**some, left[0].name: value}, left[1:])

        yield from grown({}, ordered)

    def key(self, configuration: Configuration) -> tuple[Value | None, ...]:
        """Equal for equal configurations, whatever the order of their names.

        Values of parameters that are not there do not count.
        """
        if not self.conditions:
            return tuple(configuration[p.name] for p in self.parameters)
        there = self._active(configuration)
        return tuple(configuration[p.name] if p.name in there else None for p in self.parameters)


@lru_cache(maxsize=64)
def _counted(space: SearchSpace) -> float:
    total = 0.0
    for some in space._parents():
        there = space._active(some) - some.keys()
        total += math.prod(float(p.size) for p in space.parameters if p.name in there)
        if total > COUNTED:
            return math.inf
    return total


def _parameter(spec: Mapping[str, Any]) -> Parameter:
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
    raw = math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
    return min(max(raw, low), high)


def _from_units(units: Points, low: float, high: float, log: bool) -> Points:
    units = _clipped(units)
    if not log:
        return np.clip(low + units * (high - low), low, high)
    raw = _each(math.exp, math.log(low) + units * (math.log(high) - math.log(low)))
    return np.clip(raw, low, high)


def _clipped(units: Points) -> Points:
    return np.clip(units, 0.0, 1.0)


def _each(function: Callable[[float], float], values: Points) -> Points:
    return np.fromiter(map(function, values.tolist()), np.float64, len(values))
