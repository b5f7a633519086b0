"""Expected hypervolume improvement of a point by sampling its posterior; for one objective, EI.

Losses come scaled: the ideal point at 0, the reference point at 1. Exact in each sample for two
objectives; for more, the volume is a mean over directions (hypervolume scalarization, Zhang and
Golovin 2020, arXiv 2006.04655), whose cost is linear in their number.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from primo_optimizer.pareto import non_dominated

SAMPLES = 64
DIRECTIONS = 64
# Where no sample improves, points are still told apart by how far their optimistic end is.
HOPE = 1e-7
CHUNK = 256


def normal_samples(m: int, seed: int) -> NDArray[np.float64]:
    """(SAMPLES, m) quasi-random standard normal."""
    sobol = torch.quasirandom.SobolEngine(m, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    uniform = sobol.draw(SAMPLES, dtype=torch.double).clamp(1e-6, 1.0 - 1e-6)
    return np.asarray(torch.special.ndtri(uniform).numpy(), dtype=np.float64)


def log_expected_improvement(
    samples: NDArray[np.float64], optimistic: NDArray[np.float64], front: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) log of the mean improvement over the front.

    Args:
        samples: (n, SAMPLES, m) of the posterior.
        optimistic: (n, m) a standard deviation better than the mean.
        front: (k, m), what has been reached; k may be 0.
    """
    front = front[(front < 1.0).all(axis=1)]
    front = front[non_dominated(front)]
    gain = _strips if samples.shape[2] == 2 else _along_directions
    parts = [gain(samples[i : i + CHUNK], front) for i in range(0, len(samples), CHUNK)]
    hope = HOPE * np.exp(-np.clip(optimistic, -5.0, 20.0).sum(axis=1))
    return np.asarray(np.log(np.concatenate(parts) + hope), dtype=np.float64)


def _strips(samples: NDArray[np.float64], front: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two losses: the region below the reference and not dominated, cut where the front steps."""
    front = front[np.argsort(front[:, 0], kind="stable")]
    left = np.concatenate([[-np.inf], front[:, 0]])
    right = np.concatenate([front[:, 0], [1.0]])
    ceiling = np.concatenate([[1.0], front[:, 1]])
    volume = np.zeros(samples.shape[:2])
    first, second = samples[..., 0], samples[..., 1]
    for a, b, top in zip(left, right, ceiling, strict=True):
        volume += np.maximum(b - np.maximum(first, a), 0.0) * np.maximum(top - second, 0.0)
    return np.asarray(volume.mean(axis=1), dtype=np.float64)


def _along_directions(
    samples: NDArray[np.float64], front: NDArray[np.float64]
) -> NDArray[np.float64]:
    m = samples.shape[2]
    directions = _directions(m)
    reached = np.zeros(len(directions))
    if len(front):
        gains = 1.0 - front
        reached = (gains[:, None, :] / directions).min(axis=2).max(axis=0) ** m
    length = np.full((*samples.shape[:2], len(directions)), np.inf)
    gains = np.maximum(1.0 - samples, 0.0)
    for j in range(m):
        np.minimum(length, gains[..., j, None] / directions[:, j], out=length)
    return np.asarray(np.maximum(length**m - reached, 0.0).mean(axis=(1, 2)), dtype=np.float64)


def _directions(m: int) -> NDArray[np.float64]:
    """(DIRECTIONS, m) unit vectors in the positive orthant; the same at each call."""
    if m == 1:
        return np.ones((1, 1))
    raw = np.abs(normal_samples(m, seed=0))[:DIRECTIONS] + 1e-3
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float64)
