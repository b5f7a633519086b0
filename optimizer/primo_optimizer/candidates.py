"""Where an acquisition function is looked at: sampled points, then ever closer around the best.

No gradients: integers and categories have none, and every point is moved to a valid configuration
*before* it is scored, so that what was scored is what will run.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.priors import PriorDensity
from primo_optimizer.space import SearchSpace

Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]

UNIFORM, AROUND, FROM_PRIOR, REFINED, PARENTS = 384, 384, 64, 256, 12
# Spaces up to this size are looked at as a whole.
WHOLE = 1024
FIRST_REACHES, LATER_REACHES = (0.02, 0.1, 0.3), (0.15, 0.05, 0.015, 0.004)
# Share of the coordinates that are drawn anew, to get away from all parents.
LEAP = 0.03


def ranked(
    space: SearchSpace,
    score: Score,
    parents: NDArray[np.float64],
    prior: PriorDensity | None,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Valid points and their scores, best first.

    Args:
        score: (n, d) -> (n,), higher is better, finite.
        parents: (k, d), what has been good so far; k may be 0.
        prior: whose region is to be looked at closely.
    """
    if space.size <= WHOLE:
        points = space.encode_all(list(space.grid()))
        return by_score(points, score(points))
    points = space.snap(np.concatenate(list(_first(space, parents, prior, rng))))
    scores = score(points)
    for reach in LATER_REACHES:
        best = points[np.argsort(-scores, kind="stable")[:PARENTS]]
        near = space.snap(_mutated(space, best, REFINED, (reach,), rng))
        points, scores = np.concatenate([points, near]), np.concatenate([scores, score(near)])
    return by_score(points, scores)


def _first(
    space: SearchSpace,
    parents: NDArray[np.float64],
    prior: PriorDensity | None,
    rng: np.random.Generator,
) -> Sequence[NDArray[np.float64]]:
    parts = [space.spread(rng.random((UNIFORM, len(space.parameters))))]
    if len(parents):
        parts.append(_mutated(space, parents, AROUND, FIRST_REACHES, rng))
    if prior is not None:
        parts.append(prior.sample(rng, FROM_PRIOR))
        parts.append(_mutated(space, prior.center[None, :], FROM_PRIOR, (0.1,), rng))
    return parts


def _mutated(
    space: SearchSpace,
    parents: NDArray[np.float64],
    n: int,
    reaches: Sequence[float],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """(n, d) children; a step of a discrete parameter is at least about one value wide."""
    d = len(space.parameters)
    children = parents[rng.integers(0, len(parents), n)]
    reach = np.maximum(rng.choice(reaches, (n, 1)), 0.7 * space.steps)
    moved = rng.random((n, d)) < max(0.35, 1.5 / d)
    stepped = np.clip(children + reach * rng.normal(size=(n, d)), 0.0, 1.0)
    anew = (moved & space.categorical) | (rng.random((n, d)) < LEAP)
    return np.where(anew, rng.random((n, d)), np.where(moved, stepped, children))


def by_score(
    points: NDArray[np.float64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (n, d) and their (n,) scores, best first; of equal ones the earlier comes first."""
    order = np.argsort(-scores, kind="stable")
    return points[order], scores[order]
