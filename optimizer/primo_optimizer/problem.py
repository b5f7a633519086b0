"""What is to be optimized: objectives, search space, fidelity, the user's priors.

`Problem.from_spec` reads the same words as the spec of a PriMOStudy, so a notebook and a manifest
mean the same thing. `losses` is the only place where signs flip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer import mistakes
from primo_optimizer.errors import InvalidSpecError
from primo_optimizer.shapes import plain
from primo_optimizer.space import SearchSpace
from primo_optimizer.trial import Trial


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

    def choose(self, losses: NDArray[np.float64]) -> int:
        """Which row of the (n, m) losses of a front comes closest, in shares of the front's range.

        Of equal ones the one with the lower sum, then the first.
        """
        halves = losses / 2.0  # the range of finite losses may not be finite
        low = halves.min(axis=0)
        span = halves.max(axis=0) - low
        weighted = (halves - low) / np.where(span > 0.0, span, 1.0) * np.array(self.weights)
        total = weighted.sum(axis=1)
        linear = self.scalarization is Scalarization.LINEAR
        return int(np.lexsort((total, total if linear else weighted.max(axis=1)))[0])


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

    Attributes:
        from_trial: the lowest number of a trial for which it counts; above 0 if it was added while
            the study ran.
    """

    objective: str
    beliefs: tuple[Belief, ...]
    from_trial: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything a suggestion depends on but the trials and the seed.

    `earlier` has trials of other studies of the same problem, which the models learn from. They are
    on no front, count for no budget and number, and what they had may be proposed again.

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
    earlier: tuple[Trial, ...] = ()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Problem":
        """Read what a study's spec says of its problem.

        That is `objectives`, `parameters`, `fidelity`, `priors`, `constraints`, `preferences` and
        `algorithm`. What else a study has is ignored: budget and template are not the optimizer's
        business. The algorithm's name and settings are taken as they are: see `check`.

        Raises:
            InvalidSpecError: naming each field at fault, its value and what was expected.
        """
        spec = plain(spec)
        if wrong := list(mistakes.of_spec(spec)):
            raise InvalidSpecError(*wrong)
        objectives = sorted(map(_objective, spec["objectives"]), key=lambda o: o.name)
        priors = sorted(map(_prior, spec.get("priors") or ()), key=lambda p: p.objective)
        constraints = sorted(
            map(_constraint, spec.get("constraints") or ()), key=lambda c: c.metric
        )
        fidelity, preferences = spec.get("fidelity"), spec.get("preferences")
        algorithm = spec.get("algorithm") or {}
        return cls(
            objectives=tuple(objectives),
            space=SearchSpace.from_spec(spec["parameters"]),
            fidelity=_fidelity(fidelity) if fidelity else None,
            priors=tuple(priors),
            constraints=tuple(constraints),
            preference=_preference(preferences, objectives) if preferences else None,
            algorithm=algorithm.get("name") or "primo",
            settings=algorithm.get("settings") or {},
        )

    @property
    def full_fidelity(self) -> float | None:
        return self.fidelity.max if self.fidelity else None

    @property
    def reference(self) -> NDArray[np.float64]:
        """(m,) the users' reference points as losses; NaN where none is given."""
        points = [
            np.nan if o.reference_point is None else o.sign * o.reference_point
            for o in self.objectives
        ]
        return np.array(points, dtype=np.float64)

    def losses(self, values: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
        """Objective values as losses.

        Args:
            values: n observations, objective name -> value; all objectives present.

        Returns:
            (n, m), lower is better, columns in the order of `objectives`.
        """
        signs = [(o.name, o.sign) for o in self.objectives]
        rows = [[sign * row[name] for name, sign in signs] for row in values]
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
        Goal(spec.get("goal") or Goal.MINIMIZE),
        spec.get("target"),
        spec.get("referencePoint"),
    )


def _fidelity(spec: Mapping[str, Any]) -> Fidelity:
    return Fidelity(
        spec["name"], float(spec["min"]), float(spec["max"]), float(spec.get("eta") or 3.0)
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
    ordered = tuple(sorted(beliefs, key=lambda b: b.parameter))
    return Prior(spec["objective"], ordered, int(spec.get("fromTrial") or 0))


def _constraint(spec: Mapping[str, Any]) -> Constraint:
    return Constraint(spec["metric"], spec.get("atMost"), spec.get("atLeast"))


def _preference(spec: Mapping[str, Any], objectives: Sequence[Objective]) -> Preference:
    weights = [float(spec["weights"].get(o.name, 0.0)) for o in objectives]
    total = sum(weights)
    return Preference(
        tuple(weight / total for weight in weights),
        Scalarization(spec.get("scalarization") or Scalarization.CHEBYSHEV),
    )
