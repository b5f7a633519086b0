"""What is to be optimized: objectives, search space, fidelity, the user's priors.

`Problem.from_spec` reads the same words as the spec of a PriMOStudy, so a notebook and a manifest
mean the same thing. `losses` is the only place where signs flip.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.errors import InvalidSpecError
from primo_optimizer.space import Categorical, Parameter, SearchSpace

MAX_OBJECTIVES = 8


class Goal(StrEnum):
    MINIMIZE = "Minimize"
    MAXIMIZE = "Maximize"


class Scalarization(StrEnum):
    """How weighted losses become one; each scaled to its range first.

    Chebyshev (the largest weighted loss) reaches every point of a front, Linear (the sum) the
    convex parts only.
    """

    CHEBYSHEV = "Chebyshev"
    LINEAR = "Linear"


@dataclass(frozen=True, slots=True)
class Objective:
    """A measured quantity with a direction, in the user's unit.

    Attributes:
        target: good enough; no search is needed beyond it.
        reference_point: the worst value that still counts in the hypervolume.
    """

    name: str
    goal: Goal = Goal.MINIMIZE
    target: float | None = None
    reference_point: float | None = None

    @property
    def sign(self) -> float:
        """What turns a value into a loss."""
        return 1.0 if self.goal is Goal.MINIMIZE else -1.0


@dataclass(frozen=True, slots=True)
class Constraint:
    """A measured quantity with a bound, in the user's unit; at least one of the two is set.

    A trial that breaks it is infeasible: it stays in the data and off the front.
    """

    metric: str
    at_most: float | None = None
    at_least: float | None = None

    def violation(self, value: float) -> float:
        """How far outside, in shares of the bound; 0 within."""
        over = 0.0 if self.at_most is None else (value - self.at_most) / (abs(self.at_most) or 1.0)
        if self.at_least is None:
            return max(over, 0.0)
        return max(over, (self.at_least - value) / (abs(self.at_least) or 1.0), 0.0)


@dataclass(frozen=True, slots=True)
class Preference:
    """The one trade-off that is wanted; without it the whole front is.

    Attributes:
        weights: (m,) in the order of the problem's objectives; they sum to 1.
    """

    weights: tuple[float, ...]
    scalarization: Scalarization = Scalarization.CHEBYSHEV


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How much of the full cost an evaluation spends, in the user's unit.

    Attributes:
        eta: of `eta` trials compared on a rung, one is promoted; also the ratio between rungs.
    """

    name: str
    min: float
    max: float
    eta: float = 3.0


@dataclass(frozen=True, slots=True)
class Belief:
    """Where one parameter is believed to be good: exactly one of the first three is set.

    Attributes:
        center: of a float, int or ordinal parameter, in its unit.
        choice: of a categorical parameter.
        weights: of a categorical parameter: choice -> weight, not all zero; one left out has 0.
        confidence: 0 (as good as nothing) to 1 (certain). With `weights` it is not used.
    """

    parameter: str
    center: float | None = None
    choice: str | None = None
    weights: Mapping[str, float] | None = None
    confidence: float = 0.75


@dataclass(frozen=True, slots=True)
class Prior:
    """The user's belief about where configurations are good for one objective.

    A parameter without a belief is uniform.
    """

    objective: str
    beliefs: tuple[Belief, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything a suggestion depends on but the trials and the seed.

    Parameters, choices and objectives are sorted by name: a Kubernetes API server lets their order
    change under an immutability rule, and a suggestion must not depend on it.

    Raises:
        InvalidSpecError: naming each field at fault, its value and what was expected.
    """

    objectives: tuple[Objective, ...]
    space: SearchSpace
    fidelity: Fidelity | None = None
    priors: tuple[Prior, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    preference: Preference | None = None
    algorithm: str = "primo"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Problem":
        """Read what a study's spec says of its problem.

        That is `objectives`, `parameters`, `fidelity`, `priors`, `constraints`, `preferences` and
        `algorithm`.

        Other keys are ignored: budget and template are not the optimizer's business.

        Raises:
            InvalidSpecError: naming each field at fault, its value and what was expected.
        """
        problems = list(_mistakes(spec))
        if problems:
            raise InvalidSpecError(*problems)
        fidelity = spec.get("fidelity")
        algorithm = spec.get("algorithm") or {}
        objectives = tuple(
            sorted((_objective(o) for o in spec["objectives"]), key=lambda o: o.name)
        )
        return cls(
            objectives=objectives,
            space=SearchSpace.from_spec(spec["parameters"]),
            fidelity=Fidelity(
                fidelity["name"],
                float(fidelity["min"]),
                float(fidelity["max"]),
                float(fidelity.get("eta") or 3.0),
            )
            if fidelity
            else None,
            priors=tuple(sorted((_prior(p) for p in spec.get("priors") or ()), key=_by_objective)),
            constraints=tuple(
                sorted((_constraint(c) for c in spec.get("constraints") or ()), key=_by_metric)
            ),
            preference=_preference(spec.get("preferences"), objectives),
            algorithm=algorithm.get("name") or "primo",
            settings=algorithm.get("settings") or {},
        )

    @property
    def full_fidelity(self) -> float | None:
        return self.fidelity.max if self.fidelity else None

    def losses(self, values: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
        """Objective values as losses.

        Args:
            values: n observations, objective name -> value; all objectives present.

        Returns:
            (n, m), lower is better, columns in the order of `objectives`.
        """
        rows = [[o.sign * row[o.name] for o in self.objectives] for row in values]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.objectives))

    def violation(self, constrained: Mapping[str, float]) -> float:
        """How far an observation breaks the constraints, summed up; 0 if it is feasible.

        Args:
            constrained: metric -> value, all constraints present.
        """
        return sum(c.violation(constrained[c.metric]) for c in self.constraints)


def _objective(spec: Mapping[str, Any]) -> Objective:
    return Objective(
        spec["name"],
        Goal(spec.get("goal", Goal.MINIMIZE)),
        spec.get("target"),
        spec.get("referencePoint"),
    )


def _prior(spec: Mapping[str, Any]) -> Prior:
    default = spec.get("confidence")
    beliefs = (
        Belief(
            b["name"],
            b.get("center"),
            b.get("choice"),
            b.get("weights"),
            next(c for c in (b.get("confidence"), default, 0.75) if c is not None),
        )
        for b in spec["parameters"]
    )
    return Prior(spec["objective"], tuple(sorted(beliefs, key=lambda b: b.parameter)))


def _by_objective(prior: Prior) -> str:
    return prior.objective


def _constraint(spec: Mapping[str, Any]) -> Constraint:
    return Constraint(spec["metric"], spec.get("atMost"), spec.get("atLeast"))


def _by_metric(constraint: Constraint) -> str:
    return constraint.metric


def _preference(
    spec: Mapping[str, Any] | None, objectives: tuple[Objective, ...]
) -> Preference | None:
    if not spec:
        return None
    weights = [float(spec["weights"].get(o.name, 0.0)) for o in objectives]
    largest = max(weights)
    scaled = [weight / largest for weight in weights]
    return Preference(
        tuple(weight / sum(scaled) for weight in scaled),
        Scalarization(spec.get("scalarization") or Scalarization.CHEBYSHEV),
    )


# --- what can be wrong; messages are `field: value expectation`, and crds/ says the same in CEL


def _mistakes(spec: Mapping[str, Any]) -> Iterator[str]:
    yield from _objective_mistakes(spec.get("objectives") or ())
    space = SearchSpace.mistakes(spec.get("parameters") or ())
    yield from space
    if spec.get("fidelity"):
        yield from _fidelity_mistakes(spec["fidelity"])
    if not space:
        yield from _prior_mistakes(spec)
    yield from _constraint_mistakes(spec.get("constraints") or ())
    if spec.get("preferences"):
        yield from _preference_mistakes(spec["preferences"], spec.get("objectives") or ())


def _objective_mistakes(objectives: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not 1 <= len(objectives) <= MAX_OBJECTIVES:
        yield f"objectives: {len(objectives)} given, expected 1 to {MAX_OBJECTIVES}"
    seen: set[str] = set()
    for i, objective in enumerate(objectives):
        at = f"objectives[{i}]"
        name = objective.get("name")
        if not name:
            yield f"{at}.name: is missing"
            continue
        if name in seen:
            yield f"{at}.name: {name!r} is used twice, expected unique names"
        seen.add(name)
        if objective.get("goal", Goal.MINIMIZE) not in set(Goal):
            yield f"{at}.goal: {objective['goal']!r} is not Minimize or Maximize"
        for key in ("target", "referencePoint"):
            value = objective.get(key)
            if value is not None and not math.isfinite(value):
                yield f"{at}.{key}: {value} is not a finite number"


def _fidelity_mistakes(fidelity: Mapping[str, Any]) -> Iterator[str]:
    low, high = fidelity.get("min"), fidelity.get("max")
    eta = fidelity.get("eta") or 3.0
    for key, value in (("min", low), ("max", high), ("eta", eta)):
        if value is None or not math.isfinite(value):
            yield f"fidelity.{key}: {value} is not a finite number"
            return
    assert low is not None
    assert high is not None
    if low <= 0:
        yield f"fidelity.min: {low} is not above 0"
    if low > high:
        yield f"fidelity.min: {low} is above fidelity.max, {high}"
    if eta < 1.5:
        yield f"fidelity.eta: {eta} is below 1.5"


def _prior_mistakes(spec: Mapping[str, Any]) -> Iterator[str]:
    objectives = {o.get("name") for o in spec.get("objectives") or ()}
    space = {p.name: p for p in SearchSpace.from_spec(spec["parameters"]).parameters}
    seen: set[str] = set()
    for i, prior in enumerate(spec.get("priors") or ()):
        at = f"priors[{i}]"
        if prior["objective"] not in objectives:
            known = ", ".join(sorted(map(str, objectives)))
            yield f"{at}.objective: {prior['objective']!r} is not an objective (there are: {known})"
        if prior["objective"] in seen:
            yield f"{at}.objective: {prior['objective']!r} has two priors, expected one at most"
        seen.add(prior["objective"])
        yield from _confidence_mistakes(at, prior.get("confidence"))
        named: set[str] = set()
        for j, belief in enumerate(prior["parameters"]):
            here = f"{at}.parameters[{j}]"
            if belief["name"] in named:
                yield f"{here}.name: {belief['name']!r} is used twice, expected unique names"
            named.add(belief["name"])
            if belief["name"] not in space:
                known = ", ".join(sorted(space))
                yield f"{here}.name: {belief['name']!r} is not a parameter (there are: {known})"
                continue
            yield from _confidence_mistakes(here, belief.get("confidence"))
            yield from _belief_mistakes(here, belief, space[belief["name"]])


def _confidence_mistakes(at: str, confidence: float | None) -> Iterator[str]:
    if confidence is not None and not 0 <= confidence <= 1:
        yield f"{at}.confidence: {confidence} is not between 0 and 1"


def _belief_mistakes(at: str, belief: Mapping[str, Any], parameter: Parameter) -> Iterator[str]:
    given = [key for key in ("center", "choice", "weights") if belief.get(key) is not None]
    if len(given) != 1:
        found = ", ".join(given) or "nothing"
        yield f"{at}: {found} given, expected exactly one of center, choice, weights"
        return
    (key,) = given
    value = belief[key]
    if isinstance(parameter, Categorical):
        choices = ", ".join(parameter.choices)
        match key:
            case "center":
                yield f"{at}.center: {parameter.name!r} is categorical, expected choice or weights"
            case "choice" if value not in parameter.choices:
                yield f"{at}.choice: {value!r} is not one of {choices}"
            case "weights":
                for name, weight in value.items():
                    if name not in parameter.choices:
                        yield f"{at}.weights: {name!r} is not one of {choices}"
                    elif not (math.isfinite(weight) and weight >= 0):
                        yield f"{at}.weights.{name}: {weight} is not a number of 0 or more"
                if not any(weight > 0 for weight in value.values()):
                    yield f"{at}.weights: all are 0, expected one above 0"
    elif key != "center":
        yield f"{at}.{key}: {parameter.name!r} is not categorical, expected center"
    elif not parameter.low <= value <= parameter.high:
        yield f"{at}.center: {value} is not between {parameter.low} and {parameter.high}"


def _constraint_mistakes(constraints: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    seen: set[str] = set()
    for i, constraint in enumerate(constraints):
        at = f"constraints[{i}]"
        metric = constraint.get("metric")
        if not metric:
            yield f"{at}.metric: is missing"
            continue
        if metric in seen:
            yield f"{at}.metric: {metric!r} is used twice, expected unique metrics"
        seen.add(metric)
        bounds = {key: constraint.get(key) for key in ("atMost", "atLeast")}
        if all(bound is None for bound in bounds.values()):
            yield f"{at}: nothing given, expected atMost, atLeast or both"
        for key, bound in bounds.items():
            if bound is not None and not math.isfinite(bound):
                yield f"{at}.{key}: {bound} is not a finite number"
        high, low = bounds.values()
        if high is not None and low is not None and low > high:
            yield f"{at}.atLeast: {low} is above atMost, {high}"


def _preference_mistakes(
    preferences: Mapping[str, Any], objectives: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    scalarization = preferences.get("scalarization") or Scalarization.CHEBYSHEV
    if scalarization not in set(Scalarization):
        yield f"preferences.scalarization: {scalarization!r} is not Chebyshev or Linear"
    weights = preferences.get("weights") or {}
    known = sorted(str(o.get("name")) for o in objectives)
    for name, weight in weights.items():
        if name not in known:
            there_are = ", ".join(known)
            yield f"preferences.weights: {name!r} is not an objective (there are: {there_are})"
        elif not (math.isfinite(weight) and weight >= 0):
            yield f"preferences.weights.{name}: {weight} is not a number of 0 or more"
    if not any(weight > 0 for weight in weights.values()):
        yield "preferences.weights: none is above 0, expected one at least"
