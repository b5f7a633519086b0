"""Expected improvement over what has been reached: of the hypervolume, or of the one loss.

Losses come scaled: the ideal point at 0, the reference point at 1. Each loss has a posterior of its
own, so the expected hypervolume improvement over a box is a product of expectations in one
dimension (Emmerich et al. 2005; the boxes as in Lacour et al. 2017, doi 10.1016/j.cor.2016.08.003),
and these are sums over a grid of normal quantiles, whatever the output transform. Beyond
`MAX_BOXES` the volume is a mean over directions (hypervolume scalarization, Zhang and Golovin 2020,
arXiv 2006.04655), whose cost is linear in their number.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from primo_optimizer.pareto import non_dominated, quasi_random
from primo_optimizer.problem import Preference, Scalarization

# (z of shape (s, m), standard normal) -> (n, s, m) scaled losses of n points.
Posterior = Callable[[NDArray[np.float64]], NDArray[np.float64]]
LogImprovement = Callable[[Posterior], NDArray[np.float64]]

# A grid of the standard normal: for the smooth part of an integrand as good as exact.
NODES = np.linspace(-5.0, 5.0, 41)
WEIGHTS = np.exp(-0.5 * NODES**2) / np.exp(-0.5 * NODES**2).sum()

# Values in memory at once: points times edges of boxes times nodes.
CHUNK = 2_000_000

SAMPLES = 64
DIRECTIONS = 64
MAX_BOXES = 2048
# Where nothing is expected, points are still told apart by how far their optimistic end is.
HOPE = 1e-10
# Of the sum of all losses, in the augmented Chebyshev scalarization (Knowles 2006).
AUGMENTATION = 0.05


def log_improvement(front: NDArray[np.float64], preference: Preference | None) -> LogImprovement:
    """The logarithm of what is expected over (k, m) scaled losses that have been reached.

    With a preference the improvement of the scalarized loss, else that of the hypervolume; with
    one loss they are the same.
    """
    if preference is not None:
        return _scalarized(front, preference)
    front = front[(front < 1.0).all(axis=1)]
    front = np.unique(front[non_dominated(front)], axis=0)
    boxes = _boxes(front)
    return _in_boxes(*boxes) if boxes is not None else _along_directions(front)


def normal_samples(m: int) -> NDArray[np.float64]:
    """(SAMPLES, m) quasi-random standard normal, always the same."""
    return np.asarray(ndtri(quasi_random(SAMPLES, m)), dtype=np.float64)


def _in_boxes(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> LogImprovement:
    b, m = lower.shape
    edges = [np.unique([lower[:, j], upper[:, j]], return_inverse=True) for j in range(m)]
    z = np.repeat(NODES[:, None], m, axis=1)

    def volume(losses: NDArray[np.float64]) -> NDArray[np.float64]:
        volume = np.ones((len(losses), b))
        for j, (values, where) in enumerate(edges):
            below = _expected_below(losses[:, :, j], values)
            from_, to = where.reshape(2, b)
            volume *= below[:, to] - below[:, from_]
        return np.asarray(volume.sum(axis=1), dtype=np.float64)

    def log(posterior: Posterior) -> NDArray[np.float64]:
        losses = posterior(z)
        most = max(b, len(NODES) * max(len(values) for values, _ in edges))
        step = max(1, CHUNK // most)
        chunks = [volume(losses[i : i + step]) for i in range(0, max(len(losses), 1), step)]
        return _log(np.concatenate(chunks), posterior, m)

    return log


def _expected_below(losses: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, e) expectation of max(edge - loss, 0); 0 at an edge of -inf."""
    finite = np.where(np.isfinite(edges), edges, 0.0)
    gains = np.maximum(finite[None, :, None] - losses[:, None, :], 0.0) @ WEIGHTS
    return np.where(np.isfinite(edges), gains, 0.0)


def _boxes(
    front: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Disjoint boxes (b, m) that fill what is below 1 and not dominated by the (k, m) front.

    Cut at each of the last loss's values; between two of them, boxes of the other losses. None if
    there would be more than `MAX_BOXES`.
    """
    m = front.shape[1]
    if m == 1:
        return np.array([[-np.inf]]), np.array([[front.min(initial=1.0)]])
    cuts = np.concatenate([[-np.inf], np.unique(front[:, -1]), [1.0]])
    lowers, uppers, total = [], [], 0
    for low, high in pairwise(cuts):
        rest = front[front[:, -1] <= low][:, :-1]
        inner = _boxes(rest[non_dominated(rest)])
        if inner is None or (total := total + len(inner[0])) > MAX_BOXES:
            return None
        lowers.append(np.column_stack([inner[0], np.full(len(inner[0]), low)]))
        uppers.append(np.column_stack([inner[1], np.full(len(inner[1]), high)]))
    return np.concatenate(lowers), np.concatenate(uppers)


def _along_directions(front: NDArray[np.float64]) -> LogImprovement:
    m = front.shape[1]
    z = normal_samples(m)
    directions = np.abs(z[:DIRECTIONS]) + 1e-3
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # The unit ball's volume where all losses gain: what lengths to the m-th power are a mean of.
    share = math.pi ** (m / 2) / (2.0**m * math.gamma(m / 2 + 1))
    reached = np.zeros(len(directions))
    if len(front):
        reached = ((1.0 - front)[:, None, :] / directions).min(axis=2).max(axis=0) ** m

    def log(posterior: Posterior) -> NDArray[np.float64]:
        gains = np.maximum(1.0 - posterior(z), 0.0)
        length = np.full((*gains.shape[:2], len(directions)), np.inf)
        for j in range(m):
            np.minimum(length, gains[..., j, None] / directions[:, j], out=length)
        gained = np.maximum(length**m - reached, 0.0).mean(axis=(1, 2))
        return _log(share * gained, posterior, m)

    return log


def _scalarized(front: NDArray[np.float64], preference: Preference) -> LogImprovement:
    m = front.shape[1]
    z = normal_samples(m)
    best = scalarized(front, preference).min(initial=1.0)

    def log(posterior: Posterior) -> NDArray[np.float64]:
        gains = np.maximum(best - scalarized(posterior(z), preference), 0.0)
        return _log(gains.mean(axis=1), posterior, m)

    return log


def scalarized(losses: NDArray[np.float64], preference: Preference) -> NDArray[np.float64]:
    """(..., m) scaled losses as (...,)."""
    weighted = losses * np.array(preference.weights)
    if preference.scalarization is Scalarization.LINEAR:
        return np.asarray(weighted.sum(axis=-1), dtype=np.float64)
    worst = weighted.max(axis=-1) + AUGMENTATION * weighted.sum(axis=-1)
    return np.asarray(worst, dtype=np.float64)


def _log(gains: NDArray[np.float64], posterior: Posterior, m: int) -> NDArray[np.float64]:
    optimistic = np.clip(posterior(np.full((1, m), -1.0))[:, 0, :], -5.0, 20.0).sum(axis=1)
    return np.asarray(np.log(gains + HOPE * np.exp(-optimistic)), dtype=np.float64)
