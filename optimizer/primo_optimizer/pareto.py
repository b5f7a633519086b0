"""Dominance, fronts and hypervolume of losses.

Everywhere `losses` is (n, m) and lower is better.
"""

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

# Rows that a derived reference point looks at: enough to see the scale, and soon fixed.
REFERENCE_ROWS = 20
# Up to so many rows comparing all pairs at once is the fastest.
PAIRWISE = 64
# Along which an estimated hypervolume is measured: with up to eight losses within a few percent.
DIRECTIONS = 4096
DIRECTIONS_AT_ONCE = 16


def non_dominated(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the rows no other row dominates.

    Equal rows are all kept.

    Args:
        losses: (n, m), lower is better. A row holding NaN is never on the front and
            dominates nothing.

    Returns:
        (n,) mask, True on the Pareto front.
    """
    comparable = ~np.isnan(losses).any(axis=-1)
    if len(losses) <= PAIRWISE:
        ours, theirs = losses[:, None, :], losses[None, :, :]
        dominates = np.all(ours <= theirs, axis=-1) & np.any(ours < theirs, axis=-1)  # (n, n)
        lost: NDArray[np.bool_] = np.any(dominates, axis=0)
        return ~lost & comparable
    mask = np.zeros(len(losses), dtype=np.bool_)
    if losses.shape[1] == 2:
        mask[comparable] = _sweep(losses[comparable])
    else:
        mask[_undominated(losses, np.flatnonzero(comparable))] = True
    return mask


def _sweep(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of two losses, by a sort: a large front costs no more than a small one."""
    rows, group = np.unique(losses, axis=0, return_inverse=True)
    front: NDArray[np.bool_] = np.arange(len(rows)) == 0
    front[1:] = rows[1:, 1] < np.minimum.accumulate(rows[:, 1])[:-1]
    return front[group.reshape(-1)]


def _undominated(losses: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the rows that none of them dominates, in any order; each drops what it dominates.

    Time n·k for a front of k rows. Whoever is dropped dominates nobody that its dropper does not.
    """
    # Rows with good ranks first: they drop the most.
    rows = rows[np.argsort(losses[rows].argsort(axis=0).argsort(axis=0).sum(axis=1), kind="stable")]
    left, place = np.ascontiguousarray(losses[rows].T), 0
    while place < len(rows):
        row = left[:, place, None]
        keep = (left < row).any(axis=0) | (left == row).all(axis=0)
        place = int(keep[: place + 1].sum())
        if not keep.all():
            rows, left = rows[keep], left[:, keep]
    return rows


def front_ranks(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """0 for the rows on the front, 1 for those on it once these are gone, and so on.

    Rows holding NaN come last, all with the same rank.
    """
    ranks = np.full(len(losses), -1, dtype=np.int64)
    left = np.flatnonzero(~np.isnan(losses).any(axis=-1))
    rank = 0
    while left.size:
        front = non_dominated(losses[left])
        ranks[left[front]] = rank
        left = left[~front]
        rank += 1
    ranks[ranks < 0] = rank
    return ranks


def best_first(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """Row numbers from best to worst.

    Fronts in order; within a front an ε-net as in MOASHA (arXiv 2106.12639): each next row is the
    farthest from those before it, so that any head of the order spreads over the front. Distances
    are taken after scaling each loss to its range on that front. Ties go to the lower row number;
    rows holding NaN come last.
    """
    if losses.shape[1] == 1:  # the same order, without comparing all pairs
        return np.argsort(losses[:, 0], kind="stable").astype(np.int64)
    ranks = front_ranks(losses)
    broken = np.isnan(losses).any(axis=-1)
    order: list[int] = []
    for rank in np.unique(ranks[~broken]):
        rows = np.flatnonzero((ranks == rank) & ~broken)
        order += rows[_spread(losses[rows])].tolist()
    return np.array(order + np.flatnonzero(broken).tolist(), dtype=np.int64)


def _spread(front: NDArray[np.float64]) -> list[int]:
    """Farthest-point order, from the row with the lowest sum of scaled losses on."""
    low, high = front.min(axis=0), front.max(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.nan_to_num((front - low) / np.where(high > low, high - low, 1.0))
    order = [int(np.argmin(scaled.sum(axis=1)))]
    nearest = np.full(len(front), np.inf)
    while len(order) < len(front):
        nearest = np.minimum(nearest, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        nearest[order[-1]] = -1.0  # taken; equal rows stay at 0
        order.append(int(np.argmax(nearest)))
    return order


def reference_point(
    losses: NDArray[np.float64], given: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The worst losses that still count in the hypervolume.

    Where the user gave none, it is the worst of the first 20 rows plus a tenth of their range;
    a bad outlier among them is cut off at three times the spread of the better ones. Later rows
    are not looked at: with rows in the order of their observation the point moves no more once
    20 are there, and hypervolumes can be compared over time.

    Args:
        losses: (n, m), all finite.
        given: (m,), NaN where the user gave none.

    Returns:
        (m,); NaN where nothing is given and there is no row.
    """
    m = losses.shape[1]
    given = np.full(m, np.nan) if given is None else given
    if not len(losses):
        return given.copy()
    head = losses[:REFERENCE_ROWS]
    good, fair = np.quantile(head, [0.1, 0.75], axis=0)
    worst = np.minimum(head.max(axis=0), np.where(fair > good, fair + 3.0 * (fair - good), np.inf))
    span = worst - head.min(axis=0)
    # A single row has no range: a tenth of its size then, or 1 at zero.
    span = np.where(span > 0, span, np.where(worst != 0, np.abs(worst), 10.0))
    return np.where(np.isnan(given), worst + 0.1 * span, given)


def aim(
    given: NDArray[np.float64], derived: NDArray[np.float64], losses: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The reference point that a search improves on: the user's, as soon as it is within reach.

    Until something is better than it in all objectives nothing else is a gain: to a search that
    improves on it all of a bad start looks the same. The search is after the front until then.
    BoTorch's `infer_reference_point` has the same rule.

    Args:
        given: (m,), NaN where the user gave none.
        derived: (m,) from what is known of the front.
        losses: (n, m) reached.
    """
    within = (losses < np.where(np.isnan(given), np.inf, given)).all(axis=1)
    wanted = given if within.any() else np.maximum(given, derived)
    return np.where(np.isnan(given), derived, wanted)


def hypervolume(losses: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Exact volume that the rows dominate below the reference point.

    WFG (While, Bradstreet, Barone 2012, doi 10.1109/TEVC.2010.2077298): a sum of exclusive
    volumes, each by recursion on the rows behind it. Up to three losses take a sort and a sweep;
    beyond, it is exponential in m in the worst case. Losses are scaled by powers of two, so that
    what lies on the way to the volume is finite.

    Args:
        losses: (n, m). Rows holding NaN, or not below the reference in every loss, do not count.
        reference: (m,), finite, and so is its distance to any row.

    Returns:
        Infinite where it is too large for a float.
    """
    gains = reference - losses[(losses < reference).all(axis=1)]
    if not len(gains):
        return 0.0
    _, exponents = np.frexp(gains.max(axis=0))
    volume = _volume(np.unique(np.ldexp(gains, -exponents), axis=0))
    with np.errstate(over="ignore"):
        return float(np.ldexp(volume, exponents.sum()))


def estimated_hypervolume(losses: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """The hypervolume in time n·m: from the reference along directions that are always the same.

    What is dominated reaches to s times a direction, each of which ends on the surface of a unit
    cube, and the volume is the mean of s to the power of m. Another row makes no s less. Losses
    are scaled by powers of two, so that it seldom moves the directions.

    Args:
        losses: (n, m), as for `hypervolume`.
        reference: (m,), finite.
    """
    gains = reference - losses[(losses < reference).all(axis=1)]
    if not len(gains):
        return 0.0
    m = gains.shape[1]
    scale = np.exp2(np.ceil(np.log2(gains.max(axis=0))))
    gains = np.ascontiguousarray((gains / scale).T)  # (m, n)
    ends = quasi_random(DIRECTIONS, m)
    ends /= ends.max(axis=1, keepdims=True)
    total = 0.0
    for some in np.split(ends, DIRECTIONS // DIRECTIONS_AT_ONCE):
        reach = np.full((len(some), gains.shape[1]), np.inf)
        for gain, end in zip(gains, some.T, strict=True):
            np.minimum(reach, gain / end[:, None], out=reach)
        total += float((reach.max(axis=1) ** m).sum())
    return total / DIRECTIONS * float(np.prod(scale))


def quasi_random(n: int, m: int) -> NDArray[np.float64]:
    """(n, m) in the open unit cube: Roberts' additive recurrence, always the same."""
    root = 2.0
    for _ in range(40):
        root = (1.0 + root) ** (1.0 / (m + 1.0))
    steps = root ** -np.arange(1.0, m + 1.0)
    return np.asarray((0.5 + np.arange(1, n + 1)[:, None] * steps) % 1.0, dtype=np.float64)


def _volume(gains: NDArray[np.float64]) -> float:
    """Volume of the union of boxes from the origin to each row of (n, m) `gains`, all positive."""
    m = gains.shape[1]
    if m == 3:
        return _swept(gains)
    gains = gains[non_dominated(-gains)]
    if len(gains) == 1:
        return float(np.prod(gains[0]))
    if m == 1:
        return float(gains.max())
    gains = gains[np.argsort(gains[:, -1], kind="stable")]
    if m == 2:
        return _area(gains)
    return sum(_exclusive(gains, i) for i in range(len(gains)))


def _area(gains: NDArray[np.float64]) -> float:
    """Of distinct non-dominated (n, 2) rows in ascending order of the last column."""
    heights = np.diff(gains[:, 1], prepend=0.0)
    return float(heights @ gains[:, 0])


def _swept(gains: NDArray[np.float64]) -> float:
    """Of any (n, 3) rows, in time n·log n (Fonseca, Paquete and López-Ibáñez 2006).

    From the last column's largest on; each box adds to the area of those before it what it still
    has in its full depth. That area is a staircase, `ys[k]` high from `xs[k - 1]` to `xs[k]`.
    """
    xs, ys, volume = [0.0, math.inf], [math.inf, 0.0], 0.0
    for x, y, depth in gains[np.argsort(-gains[:, 2], kind="stable")].tolist():
        end = step = bisect_left(xs, x)
        right, area = x, 0.0
        while ys[step] < y:
            area += (right - xs[step - 1]) * (y - ys[step])
            right, step = xs[step - 1], step - 1
        if step < end:
            xs[step + 1 : end], ys[step + 1 : end] = [x], [y]
        volume += area * depth
    return volume


def _exclusive(gains: NDArray[np.float64], i: int) -> float:
    """What row i adds to the rows after it, which reach at least as far in the last column.

    So all their common boxes with it have its full depth there, and one column falls away.
    """
    row = gains[i]
    if i + 1 == len(gains):
        return float(np.prod(row))
    shared = np.unique(np.minimum(gains[i + 1 :, :-1], row[:-1]), axis=0)
    return float(row[-1] * (np.prod(row[:-1]) - _volume(shared)))
