"""Ladders, and who is promoted."""

from typing import Any

import numpy as np
import pytest

from primo_optimizer import Fidelity, Observation, Trial
from primo_optimizer.rungs import ladder, promotable, table
from support.problems import BRANIN_CURRIN

NAN = float("nan")


@pytest.mark.parametrize(
    ("low", "high", "eta", "rungs"),
    [
        pytest.param(1, 52, 3, (1, 5, 17, 52), id="LCBench"),
        pytest.param(1, 27, 3, (1, 3, 9, 27), id="powers"),
        pytest.param(1, 2, 1.5, (1, 2), id="whole rungs do not repeat"),
        pytest.param(10, 20, 3, (20,), id="too close for two rungs"),
        pytest.param(5, 5, 3, (5,), id="no range"),
        pytest.param(2, 53, 3, (5, 17, 53), id="never below min"),
        pytest.param(0.1, 0.9, 3, (0.1, 0.3, 0.9), id="shares"),
        pytest.param(1, 1000, 10, (1, 10, 100, 1000), id="logarithms that round down"),
    ],
)
def test_ladder(low: float, high: float, eta: float, rungs: tuple[float, ...]) -> None:
    found = ladder(Fidelity("epochs", float(low), float(high), float(eta)))
    assert found == pytest.approx(rungs)
    assert found[-1] == high


def test_whole_rungs_are_ints_for_command_lines() -> None:
    assert all(isinstance(rung, int) for rung in ladder(Fidelity("epochs", 1.0, 27.0)))


@pytest.mark.parametrize(
    ("losses", "gone_on", "rows"),
    [
        pytest.param([], [], [], id="nobody"),
        pytest.param([3, 1], [0, 0], [], id="two are too few for eta 3"),
        pytest.param([3, 1, 2], [0, 0, 0], [1], id="the best of three"),
        pytest.param([3, 1, 2], [0, 1, 0], [], id="the best has gone on, the next stays"),
        pytest.param([3, 1, 2, 4, 5, 6], [0, 1, 0, 0, 0, 0], [2], id="the second of six"),
        pytest.param([NAN, NAN, NAN], [0, 0, 0], [], id="failed ones never"),
        pytest.param([NAN, NAN, 5], [0, 0, 0], [2], id="failed ones are beaten"),
    ],
)
def test_promotable(losses: list[float], gone_on: list[int], rows: list[int]) -> None:
    found = promotable(np.array(losses, float)[:, None], np.array(gone_on, bool), 3.0)
    assert found.tolist() == rows


def test_a_third_is_promoted_however_often_we_look() -> None:
    """The reference implementation promotes nearly everyone, see its defect 2."""
    losses = np.random.default_rng(0).random((30, 1))
    gone_on = np.zeros(30, bool)
    while (rows := promotable(losses, gone_on, 3.0)).size:
        gone_on[rows[0]] = True
    assert gone_on.sum() == 10
    assert losses[gone_on].max() < losses[~gone_on].min()


def _trial(number: int, *fidelities: float, **changes: Any) -> Trial:
    values = {"branin": 1.0 + number, "currin": 1.0 + number}
    seen = tuple(Observation(f, values) for f in fidelities)
    at = changes.pop("fidelity", fidelities[-1] if fidelities else None)
    return Trial(number, {"x": 0.1, "y": 0.1}, seen, fidelity=at, **changes)


@pytest.mark.parametrize(
    ("trial", "members", "waits"),
    [
        pytest.param(_trial(0, 1), [0], 0, id="observed at the lowest"),
        pytest.param(_trial(0, 1, 3), [0, 1], 1, id="waits only on its highest"),
        pytest.param(_trial(0, 4), [1], 1, id="between rungs counts on the lower"),
        pytest.param(_trial(0, 1, running=True, fidelity=3), [0], None, id="runs now"),
        pytest.param(_trial(0, 1, stopped=True), [0], None, id="stopped"),
        pytest.param(_trial(0, failed="x", fidelity=1), [0], None, id="failed here"),
        pytest.param(_trial(0, 1, failed="x", fidelity=3), [0, 1], None, id="failed further up"),
        pytest.param(_trial(0, running=True, fidelity=1), [], None, id="not yet observed"),
        pytest.param(_trial(0, 1, fidelity=3), [0], 0, id="a lost run may be repeated"),
        pytest.param(_trial(0, 0.5), [0], 0, id="added below the lowest"),
        pytest.param(_trial(0, 0.5, 1), [0], 0, id="a curve that begins below it"),
        pytest.param(_trial(0, 0.5, running=True, fidelity=1), [], None, id="on its way there"),
    ],
)
def test_table(trial: Trial, members: list[int], waits: int | None) -> None:
    rungs = table(BRANIN_CURRIN.problem(), (1, 3, 9, 27), [trial])
    assert [rung.index for rung in rungs if rung.trials] == members
    assert [rung.index for rung in rungs if rung.waiting()] == ([] if waits is None else [waits])
