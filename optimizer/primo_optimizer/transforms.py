"""Output transforms: losses as a Gaussian process likes them, and back.

Times and cross entropies are heavy-tailed. The transform is chosen for each objective by the skew
it leaves; a bad tail is cut, since how bad a bad point is does not matter to the search.
"""

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

# Below this skew the losses stay as they are; with fewer of them it cannot be told.
HARMLESS_SKEW = 0.8
MIN_ROWS = 4
# Squares of what we compute with stay finite. Whoever reports more has a diverged training.
LIMIT = 1e150


class Shape(Enum):
    IDENTITY = 0
    ROOT = 1
    LOG = 2


@dataclass(frozen=True, slots=True)
class OutputTransform:
    """Monotone, for one objective.

    Attributes:
        scale: losses are divided by it first, so that squares of huge ones stay finite.
        offset: is added before the logarithm.
        ceiling: of the transformed losses.
    """

    shape: Shape
    scale: float
    offset: float
    ceiling: float

    @classmethod
    def of(cls, losses: NDArray[np.float64], cut: bool = True) -> "OutputTransform":
        """Chosen from (n,) finite losses, n at least 1; `cut` says whether to cut the bad tail."""
        scale = float(np.abs(losses).max()) or 1.0
        y = losses / scale
        offset = 0.05 * float(np.median(y))
        shape = _least_skewed(y, offset)
        if not cut:
            return cls(shape, scale, offset, math.inf)
        z = _forward(shape, offset, y)
        good, fair = np.quantile(z, [0.1, 0.75])
        ceiling = float(fair + 3.0 * (fair - good)) if fair > good else float(z.max())
        return cls(shape, scale, offset, ceiling)

    def forward(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.minimum(_forward(self.shape, self.offset, losses / self.scale), self.ceiling)

    def backward(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Losses again; the inverse of `forward` below the ceiling, finite everywhere."""
        match self.shape:
            case Shape.IDENTITY:
                y = z
            case Shape.ROOT:
                y = np.sign(z) * z * z
            case Shape.LOG:
                y = np.exp(np.minimum(z, 50.0)) - self.offset
        with np.errstate(over="ignore"):
            return bounded(y * self.scale)


def bounded(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(losses, -LIMIT, LIMIT)


def _least_skewed(y: NDArray[np.float64], offset: float) -> Shape:
    if len(y) < MIN_ROWS or y.min() <= 0.0:
        return Shape.IDENTITY
    skews = {shape: _skew(_forward(shape, offset, y)) for shape in Shape}
    if skews[Shape.IDENTITY] < HARMLESS_SKEW:
        return Shape.IDENTITY
    return min(skews, key=lambda shape: skews[shape])


def _skew(z: NDArray[np.float64]) -> float:
    centered = z - z.mean()
    variance = float((centered**2).mean())
    third = float((centered**3).mean())
    return abs(third) / max(math.sqrt(variance) ** 3, 1e-12)


def _forward(shape: Shape, offset: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
    match shape:
        case Shape.IDENTITY:
            return y
        case Shape.ROOT:
            return np.asarray(np.sqrt(np.maximum(y, 0.0)), dtype=np.float64)
        case Shape.LOG:
            return np.asarray(np.log(np.maximum(y + offset, 1e-300)), dtype=np.float64)
