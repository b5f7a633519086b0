"""Users' beliefs as densities on the unit cube, one for each objective that has a prior."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from primo_optimizer.parameters import Categorical
from primo_optimizer.problem import Belief, Prior, Problem
from primo_optimizer.space import SearchSpace

# A certain user is still wrong by a hundredth of the range, and a choice said to be
# impossible keeps a hundredth of its fair share: densities stay finite.
MIN_STD = 0.01
FLOOR_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class PriorDensity:
    """A product of independent marginals; relative to uniform, whose log density is 0.

    Attributes:
        center: (d,) the believed best point; the middle where nothing is believed.
        std: (d,) of a normal truncated to [0, 1] around it; inf where nothing is believed.
        masses: column of a categorical parameter -> (k,) probability of each choice.
        space: whose conditions say where a parameter does not count.
        from_trial: the lowest number of a trial for which it counts.
    """

    objective: str
    center: NDArray[np.float64]
    std: NDArray[np.float64]
    masses: Mapping[int, NDArray[np.float64]]
    space: SearchSpace
    from_trial: int = 0

    @classmethod
    def of(cls, prior: Prior, space: SearchSpace) -> "PriorDensity":
        d = len(space.parameters)
        center, std = np.full(d, 0.5), np.full(d, np.inf)
        masses: dict[int, NDArray[np.float64]] = {}
        column = {parameter.name: i for i, parameter in enumerate(space.parameters)}
        for belief in prior.beliefs:
            i = column[belief.parameter]
            parameter = space.parameters[i]
            if isinstance(parameter, Categorical):
                masses[i] = _choice_masses(belief, parameter)
                center[i] = (np.argmax(masses[i]) + 0.5) / len(masses[i])
            else:
                assert belief.center is not None
                center[i] = parameter.encode(belief.center)
                std[i] = max(1.0 - belief.confidence, MIN_STD)
        _choose_parents(center, {belief.parameter for belief in prior.beliefs}, space)
        return cls(prior.objective, center, std, masses, space, prior.from_trial)

    def log_density(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) of (n, d) points in the unit cube."""
        there = self.space.active(X)
        numeric = np.isfinite(self.std)
        center, std = self.center[numeric], self.std[numeric]
        low, high = ndtr(-center / std), ndtr((1.0 - center) / std)
        scale = np.log(std * (high - low)) + 0.5 * np.log(2.0 * np.pi)
        terms = -0.5 * ((X[:, numeric] - center) / std) ** 2 - scale
        total = (terms * there[:, numeric]).sum(axis=1)
        for i, masses in self.masses.items():
            chosen = _choice(X[:, i], len(masses))
            total = total + there[:, i] * np.log(masses * len(masses))[chosen]
        return np.asarray(total, dtype=np.float64)

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """(n, d) draws in the unit cube; the value of a categorical parameter is its point."""
        drawn = rng.random((n, len(self.center)))
        numeric = np.isfinite(self.std)
        believed = numeric | np.isin(np.arange(len(numeric)), list(self.masses))
        points = np.where(believed, drawn, self.space.spread(drawn))
        center, std = self.center[numeric], self.std[numeric]
        low, high = ndtr(-center / std), ndtr((1.0 - center) / std)
        quantiles = low + points[:, numeric] * (high - low)
        points[:, numeric] = np.clip(center + std * ndtri(quantiles), 0.0, 1.0)
        for i, masses in self.masses.items():
            chosen = np.searchsorted(np.cumsum(masses), points[:, i], side="right")
            points[:, i] = (np.minimum(chosen, len(masses) - 1) + 0.5) / len(masses)
        return points


def densities(problem: Problem) -> tuple[PriorDensity, ...]:
    """In the order of `problem.priors`, which is that of the objectives' names."""
    return tuple(PriorDensity.of(prior, problem.space) for prior in problem.priors)


def _choose_parents(center: NDArray[np.float64], believed: set[str], space: SearchSpace) -> None:
    """Give parents without a belief a choice with which what is believed of their children counts.

    Where two beliefs would need different ones, one of the two counts: a centre is in one place.
    """
    column = {parameter.name: i for i, parameter in enumerate(space.parameters)}
    settled = set(believed)
    for condition in reversed(space.conditions):  # children before their parents
        if condition.parameter in settled:
            for parent, choices in condition.needs:
                if parent not in settled:
                    center[column[parent]] = space.parameters[column[parent]].encode(choices[0])
                    settled.add(parent)


def _choice_masses(belief: Belief, parameter: Categorical) -> NDArray[np.float64]:
    k = len(parameter.choices)
    if belief.weights is not None:
        weights = np.array([belief.weights.get(choice, 0.0) for choice in parameter.choices])
        masses: NDArray[np.float64] = weights / weights.sum()
    else:
        assert belief.choice is not None
        # A confidence below 1/k would make the choice the least likely one.
        mass = max(belief.confidence, 1.0 / k)
        masses = np.full(k, (1.0 - mass) / (k - 1))
        masses[parameter.choices.index(belief.choice)] = mass
    return np.asarray((1.0 - FLOOR_SHARE) * masses + FLOOR_SHARE / k, dtype=np.float64)


def _choice(column: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    return np.clip((column * k).astype(np.int64), 0, k - 1)
