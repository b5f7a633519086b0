"""Configurations that no trial has yet: uniform, space-filling, or from a user's prior."""

from collections.abc import Iterable, Iterator, Set
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.draws import Purpose, generator, integer_seed
from primo_optimizer.space import SearchSpace
from primo_optimizer.trial import Value

Key = tuple[Value | None, ...]

# Draws before we look for what is left in a systematic way.
ATTEMPTS = 64
# Spaces up to this size are listed then. In a larger one without conditions, trials cannot have
# used up so much that thousands of uniform draws all hit known configurations.
LISTABLE = 20_000
LAST_ATTEMPTS, PART_ATTEMPTS = 5_000, 16


def first_unknown(
    space: SearchSpace,
    known: Set[Key],
    points: Iterable[NDArray[np.float64]],
    rng: np.random.Generator,
) -> tuple[dict[str, Value], bool] | None:
    """The first of the (d,) points whose configuration is not known.

    Returns:
        The configuration, and whether it is one of the points; if all of them are known, it is a
        uniform draw among what is left. None if nothing is left.
    """
    for point in points:
        configuration = space.decode(point)
        if space.key(configuration) not in known:
            return configuration, True
    left = _left(space, known, rng)
    return None if left is None else (left, False)


def exhausted(space: SearchSpace, known: Set[Key]) -> bool:
    """Every configuration is known."""
    if len(known) < space.size:
        return False
    return all(space.key(configuration) in known for configuration in space.grid())


def _left(space: SearchSpace, known: Set[Key], rng: np.random.Generator) -> dict[str, Value] | None:
    if space.size <= LISTABLE:
        left = [c for c in space.grid() if space.key(c) not in known]
        return left[int(rng.integers(len(left)))] if left else None
    for _ in range(LAST_ATTEMPTS):
        configuration = space.decode(space.spread(rng.random((1, len(space.parameters))))[0])
        if space.key(configuration) not in known:
            return configuration
    # With conditions nearly all of a space may hardly ever be drawn. Each configuration of the
    # parents is a part of its own: so many that one has no trial, or all there are.
    for parents in islice(space.parents(), len(known) + 1):
        for _ in range(PART_ATTEMPTS):
            point = space.spread(rng.random((1, len(space.parameters))))[0]
            configuration = space.decode(point, parents)
            if space.key(configuration) not in known:
                return configuration
    return None


def uniform(space: SearchSpace, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """`ATTEMPTS` points; every value of a discrete parameter is equally likely."""
    yield from space.spread(rng.random((ATTEMPTS, len(space.parameters))))


def space_filling(space: SearchSpace, seed: int, index: int) -> NDArray[np.float64]:
    """(d,) point `index` of a scrambled Sobol sequence, which is a function of the seed alone."""
    # Takes a second to import, and only the initial design needs it.
    from scipy.stats import qmc

    seed = integer_seed(seed, 0, Purpose.SPACE_FILLING)
    sobol = qmc.Sobol(len(space.parameters), seed=seed)
    if index:  # fast_forward(0) overflows
        sobol.fast_forward(index)
    point: NDArray[np.float64] = space.spread(sobol.random(1))[0]
    return point


def point_rng(seed: int, number: int) -> np.random.Generator:
    return generator(seed, number, Purpose.POINT)
