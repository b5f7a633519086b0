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
    """Monotone, for one objective or constraint.

    Attributes:
        scale: losses are divided by it first, so that squares of huge ones stay finite.
        offset: is added before the logarithm.
        floor, ceiling: of the transformed losses.
    """

    shape: Shape
    scale: float
    offset: float
    floor: float
    ceiling: float

    @classmethod
    def of(cls, losses: NDArray[np.float64]) -> "OutputTransform":
        """Of an objective: chosen from (n,) finite losses, n at least 1."""
        scale, offset, shape = _choice(losses)
        z = _forward(shape, offset, losses / scale)
        good, fair = np.quantile(z, [0.1, 0.75])
        ceiling = float(fair + 3.0 * (fair - good)) if fair > good else float(z.max())
        return cls(shape, scale, offset, -math.inf, ceiling)

    @classmethod
    def within(
        cls, values: NDArray[np.float64], low: float | None, high: float | None
    ) -> "OutputTransform":
        """Of a constraint on (n,) finite values, n at least 1; what breaks it is the bad tail."""
        scale, offset, shape = _choice(values)
        z = _forward(shape, offset, values / scale)
        floor, ceiling = -math.inf, math.inf
        if high is not None:
            ceiling = _far(z, _at(shape, offset, high / scale))
        if low is not None:
            floor = -_far(-z, -_at(shape, offset, low / scale))
        return cls(shape, scale, offset, floor, ceiling)

    def forward(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        z = _forward(self.shape, self.offset, losses / self.scale)
        return np.clip(z, self.floor, self.ceiling)

    def backward(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Losses again, finite everywhere.

        The inverse of `forward` between floor and ceiling; of the logarithm from losses of 0 on.
        """
        match self.shape:
            case Shape.IDENTITY:
                y = z
            case Shape.ROOT:
                y = np.sign(z) * z * z
            case Shape.LOG:
                y = np.exp(np.minimum(z, 50.0)) - self.offset
        with np.errstate(over="ignore"):
            return bounded(y * self.scale)


def cut(slacks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) above 0 where a constraint is broken: how far a bad one is off does not matter."""
    return np.minimum(slacks, _far(slacks, 0.0))


def bounded(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(losses, -LIMIT, LIMIT)


def _choice(y: NDArray[np.float64]) -> tuple[float, float, Shape]:
    """Scale, offset and shape."""
    scale = float(np.abs(y).max()) or 1.0
    offset = 0.05 * float(np.median(y / scale))
    return scale, offset, _least_skewed(y / scale, offset)


def _far(z: NDArray[np.float64], bound: float) -> float:
    """From where on one of (n,) values above a bound is as bad as any: well above most of them."""
    good, fair = np.quantile(z, [0.1, 0.75])
    if not fair > good:
        return float(z.max(initial=bound))
    return float(max(fair, bound) + (fair - good))


def _at(shape: Shape, offset: float, y: float) -> float:
    return float(_forward(shape, offset, np.array([y]))[0])


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
            return np.asarray(np.sign(y) * np.sqrt(np.abs(y)), dtype=np.float64)
        case Shape.LOG:
            # Below 0, where none of those was that it was chosen from, along the tangent.
            log = np.log(np.maximum(y, 0.0) + offset)
            return np.asarray(log + np.minimum(y, 0.0) / offset, dtype=np.float64)
