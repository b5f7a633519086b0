"""Dominance, order and hypervolume."""

import math

import numpy as np
import pytest
import torch
from botorch.utils.multi_objective.hypervolume import Hypervolume
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from primo_optimizer.pareto import (
    PAIRWISE,
    REFERENCE_ROWS,
    aim,
    best_first,
    estimated_hypervolume,
    front_ranks,
    hypervolume,
    non_dominated,
    reference_point,
)
from support.counting import calls

Rows = list[tuple[float, ...]]
NAN = float("nan")


@st.composite
def losses(draw: st.DrawFn, max_m: int = 5, max_n: int = 12) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, max_n), st.integers(1, max_m)))
    # Few distinct numbers, so that ties are common.
    return draw(arrays(float, shape, elements=st.integers(0, 6).map(lambda k: k / 6)))


@pytest.mark.parametrize(
    ("rows", "front"),
    [
        pytest.param([(1, 2), (2, 1)], [True, True], id="a trade-off keeps both"),
        pytest.param([(1, 1), (1, 1)], [True, True], id="ties are all kept"),
        pytest.param([(1, 1), (1, 2)], [True, False], id="equal in one, worse in the other"),
        pytest.param([(5, 5), (NAN, 0)], [True, False], id="NaN dominates nothing"),
        pytest.param([(3,), (1,), (1,)], [False, True, True], id="one objective: the minimum"),
    ],
)
def test_non_dominated(rows: Rows, front: list[bool]) -> None:
    assert non_dominated(np.array(rows, dtype=float)).tolist() == front


def test_two_losses_with_every_row_on_the_front_take_no_n_squared_work() -> None:
    def work(n: int) -> int:
        error = np.linspace(0, 1, n)
        rows = np.stack([error, 1 - error], axis=1)
        return calls(lambda: non_dominated(rows))

    work(100)  # numpy imports some of its parts when they are first used
    assert work(10_000) == work(100)


def test_the_volume_of_three_losses_takes_no_n_squared_work() -> None:
    rows = np.abs(np.random.default_rng(0).normal(size=(2_000, 3)))
    rows = 1 - rows / np.linalg.norm(rows, axis=1, keepdims=True)  # all on the front
    few, many = (calls(lambda n=n: hypervolume(rows[:n], np.ones(3))) for n in (200, 2_000))
    assert many < 12 * few


def test_two_losses_of_which_all_rows_hold_nan() -> None:
    assert not non_dominated(np.full((2 * PAIRWISE, 2), NAN)).any()


@pytest.mark.parametrize("distinct", [3, 20, 1000])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_many_rows_have_the_front_that_comparing_all_pairs_finds(m: int, distinct: int) -> None:
    rng = np.random.default_rng([m, distinct])
    rows = rng.integers(0, distinct, (3 * PAIRWISE, m)).astype(float)
    rows[rng.random(rows.shape) < 0.02] = NAN
    rows[rng.random(rows.shape) < 0.02] = np.inf
    dominated = [
        any((other <= row).all() and (other < row).any() for other in rows) or np.isnan(row).any()
        for row in rows
    ]
    assert (~non_dominated(rows)).tolist() == dominated


@pytest.mark.parametrize(
    ("rows", "ranks"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([(1, 1), (2, 2), (3, 0)], [0, 1, 0], id="two fronts"),
        pytest.param([(NAN, 1), (2, 2)], [1, 0], id="NaN behind the last front"),
        pytest.param([(NAN, 1), (NAN, 2)], [0, 0], id="NaN only"),
    ],
)
def test_front_ranks(rows: Rows, ranks: list[int]) -> None:
    assert front_ranks(np.array(rows, dtype=float).reshape(len(rows), 2)).tolist() == ranks


@pytest.mark.parametrize(
    ("rows", "order"),
    [
        pytest.param([(3,), (1,), (2,)], [1, 2, 0], id="one objective: sorted"),
        pytest.param([(0, 1), (0.4, 0.4), (1, 0)], [1, 0, 2], id="the middle, then the ends"),
        pytest.param(
            [(0, 1000), (0.4, 400), (0.41, 399), (1, 0)], [1, 0, 3, 2], id="units do not matter"
        ),
        pytest.param([(NAN, 0), (5, 5), (1, 1)], [2, 1, 0], id="NaN last"),
        pytest.param([(1, 1), (1, 1), (1, 1)], [0, 1, 2], id="ties by row number"),
    ],
)
def test_best_first(rows: Rows, order: list[int]) -> None:
    assert best_first(np.array(rows, dtype=float)).tolist() == order


@given(losses())
def test_best_first_names_each_row_once_and_fronts_in_order(rows: np.ndarray) -> None:
    order = best_first(rows)
    assert sorted(order) == list(range(len(rows)))
    assert (np.diff(front_ranks(rows)[order]) >= 0).all()


@pytest.mark.parametrize(
    ("rows", "volume"),
    [
        pytest.param([], 0.0, id="nothing"),
        pytest.param([(0.5, 0.5)], 0.25, id="one point"),
        pytest.param([(0.0, 0.5), (0.5, 0.0)], 0.75, id="two overlap"),
        pytest.param([(0.5, 0.5), (0.5, 0.5), (0.6, 0.6)], 0.25, id="ties and dominated"),
        pytest.param([(0.5, 1.0), (2.0, 0.0), (NAN, 0.0)], 0.0, id="not below the reference"),
    ],
)
def test_hypervolume(rows: Rows, volume: float) -> None:
    points = np.array(rows, dtype=float).reshape(len(rows), 2)
    assert hypervolume(points, np.ones(2)) == pytest.approx(volume)


@settings(deadline=None)
@given(losses(max_m=6))
def test_hypervolume_is_that_of_botorch(rows: np.ndarray) -> None:
    reference = np.full(rows.shape[1], 0.9)
    theirs = Hypervolume(torch.from_numpy(-reference)).compute(
        torch.from_numpy(-np.unique(rows[non_dominated(rows)], axis=0))
    )
    assert hypervolume(rows, reference) == pytest.approx(theirs, abs=1e-12)


@given(losses())
def test_hypervolume_does_not_depend_on_the_order(rows: np.ndarray) -> None:
    reference = np.ones(rows.shape[1])
    flipped = rows[::-1, ::-1]
    assert hypervolume(flipped, reference) == pytest.approx(hypervolume(rows, reference))


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("power", [-200, 400])
def test_hypervolume_scales_with_the_losses(m: int, power: int) -> None:
    rows, reference = np.random.default_rng(m).random((9, m)), np.ones(m)
    usual, powers = hypervolume(rows, reference), np.array([power, -power, *[0] * (m - 2)])
    assert hypervolume(np.ldexp(rows, powers), np.ldexp(reference, powers)) == usual
    assert hypervolume(np.ldexp(rows, 600), np.ldexp(reference, 600)) == math.inf


@pytest.mark.parametrize("m", [3, 5, 8])
def test_hypervolume_of_eight_objectives_is_that_of_the_sampled_volume(m: int) -> None:
    rng = np.random.default_rng(m)
    rows, inside = rng.random((20, m)), rng.random((20_000, m))
    dominated = (rows[:, None, :] <= inside[None, :, :]).all(axis=2).any(axis=0).mean()
    assert hypervolume(rows, np.ones(m)) == pytest.approx(dominated, abs=0.02)


@pytest.mark.parametrize(("m", "off"), [(1, 1e-12), (2, 0.01), (4, 0.01), (6, 0.05)])
def test_an_estimated_hypervolume_is_about_the_exact_one(m: int, off: float) -> None:
    rows = np.random.default_rng(m).random((20, m)) * 1000.0 ** np.arange(m)
    reference = 1.1 * 1000.0 ** np.arange(m)
    exact = hypervolume(rows, reference)
    assert estimated_hypervolume(rows, reference) == pytest.approx(exact, rel=off)


def test_an_estimated_hypervolume_grows_row_by_row() -> None:
    rows = np.random.default_rng(0).random((200, 5))
    volumes = [estimated_hypervolume(rows[:n], np.full(5, 0.9)) for n in range(len(rows) + 1)]
    assert volumes[0] == 0.0
    assert volumes == sorted(volumes)


class TestReferencePoint:
    def test_what_the_user_gave_wins(self) -> None:
        rows = np.array([[1.0, 2.0], [3.0, 4.0]])
        assert reference_point(rows, np.array([NAN, 9.0])).tolist() == [3.2, 9.0]

    def test_every_early_row_counts(self) -> None:
        rows = np.random.default_rng(0).random((REFERENCE_ROWS, 3))
        assert (rows < reference_point(rows)).all()

    def test_later_rows_do_not_move_it(self) -> None:
        rows = np.random.default_rng(0).random((50, 2))
        assert (reference_point(rows) == reference_point(rows[:REFERENCE_ROWS])).all()

    def test_an_outlier_does_not_carry_it_off(self) -> None:
        rows = np.append(np.linspace(0, 1, 10), 1e9)[:, None]
        assert reference_point(rows)[0] < 5

    @pytest.mark.parametrize("value", [0.0, -3.0, 7.0])
    def test_a_single_row_lies_below_it(self, value: float) -> None:
        assert reference_point(np.array([[value]]))[0] > value

    def test_without_rows_only_the_given_is_known(self) -> None:
        found = reference_point(np.zeros((0, 2)), np.array([1.0, NAN]))
        assert found[0] == 1.0
        assert np.isnan(found[1])


@pytest.mark.parametrize(
    ("given", "aimed"),
    [
        pytest.param((NAN, NAN), (5, 6), id="none is given"),
        pytest.param((4, NAN), (4, 6), id="one is, and is reached"),
        pytest.param((1, NAN), (5, 6), id="out of reach"),
        pytest.param((4, 4), (4, 4), id="one row is better than both"),
        pytest.param((4, 2), (5, 6), id="each is reached, by different rows"),
        pytest.param((9, 1), (9, 6), id="wider than what is derived"),
        pytest.param((1, 3), (5, 6), id="equal is not better"),
    ],
)
def test_a_search_aims_at_what_was_given_once_it_is_within_reach(
    given: tuple[float, float], aimed: tuple[float, float]
) -> None:
    reached = np.array([[1.0, 5.0], [3.0, 3.0], [5.0, 1.0]])
    assert tuple(aim(np.array(given), np.array([5.0, 6.0]), reached)) == aimed


def test_before_anything_is_reached_nothing_is_within_reach() -> None:
    found = aim(np.array([4.0, NAN]), np.array([5.0, 6.0]), np.zeros((0, 2)))
    assert found.tolist() == [5.0, 6.0]


def test_one_loss_orders_by_itself_and_ties_by_row() -> None:
    losses = np.array([[2.0], [np.nan], [1.0], [2.0], [1.0]])
    assert best_first(losses).tolist() == [2, 4, 0, 3, 1]
    doubled = np.repeat(losses, 2, axis=1)
    assert best_first(doubled).tolist() == best_first(losses).tolist()
