"""Users' beliefs as densities."""

from typing import Any

import numpy as np
import pytest

from primo_optimizer import Problem
from primo_optimizer.priors import MIN_STD, PriorDensity, densities

PARAMETERS = [
    {"name": "c", "categorical": {"choices": ["x", "y", "z"]}},
    {"name": "k", "ordinal": {"values": [1, 2, 4]}},
    {"name": "r", "float": {"min": 1e-4, "max": 1, "log": True}},
]


def density(*beliefs: dict[str, Any]) -> PriorDensity:
    prior = {"objective": "loss", "parameters": list(beliefs)}
    spec = {"objectives": [{"name": "loss"}], "parameters": PARAMETERS, "priors": [prior]}
    (found,) = densities(Problem.from_spec(spec))
    return found


def _points(**columns: list[float]) -> np.ndarray:
    """Columns c, k, r; the middle where not given."""
    n = max(map(len, columns.values()))
    return np.array([columns.get(name, [0.5] * n) for name in ("c", "k", "r")]).T


def test_what_is_not_believed_is_uniform() -> None:
    prior = density({"name": "r", "center": 0.01})
    points = np.random.default_rng(0).random((50, 3))
    moved = points.copy()
    moved[:, :2] = 0.1
    assert prior.log_density(points) == pytest.approx(prior.log_density(moved))


@pytest.mark.parametrize("confidence", [0.0, 0.5, 0.75, 1.0])
def test_a_numeric_density_integrates_to_one(confidence: float) -> None:
    prior = density({"name": "r", "center": 0.9, "confidence": confidence})
    grid = (np.arange(20_000) + 0.5) / 20_000
    assert np.exp(prior.log_density(_points(r=list(grid)))).mean() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    ("confidence", "std"), [(0.75, 0.25), (0.5, 0.5), (1.0, MIN_STD), (0.0, 1.0)]
)
def test_confidence_is_one_minus_the_standard_deviation(confidence: float, std: float) -> None:
    prior = density({"name": "r", "center": 0.01, "confidence": confidence})
    at = prior.log_density(_points(r=[0.5, 0.6]))
    assert at[0] - at[1] == pytest.approx(0.5 * (0.1 / std) ** 2)


@pytest.mark.parametrize(
    ("belief", "masses"),
    [
        pytest.param({"choice": "y"}, [0.125, 0.75, 0.125], id="by confidence"),
        pytest.param({"choice": "y", "confidence": 0.0}, [1 / 3] * 3, id="none: uniform"),
        pytest.param({"choice": "x", "confidence": 1.0}, [1, 0, 0], id="certain"),
        pytest.param({"weights": {"x": 3, "z": 1}}, [0.75, 0, 0.25], id="weights"),
    ],
)
def test_categorical_masses(belief: dict[str, Any], masses: list[float]) -> None:
    prior = density({"name": "c", **belief})
    points = _points(c=[1 / 6, 3 / 6, 5 / 6])
    assert np.exp(prior.log_density(points)) / 3 == pytest.approx(masses, abs=0.01)
    assert np.isfinite(prior.log_density(points)).all()


def test_draws_have_the_density_they_claim() -> None:
    prior = density(
        {"name": "r", "center": 0.9, "confidence": 0.8},
        {"name": "c", "choice": "z"},
        {"name": "k", "center": 3, "confidence": 0.9},
    )
    drawn = prior.sample(np.random.default_rng(0), 20_000)
    assert drawn.min() >= 0.0
    assert drawn.max() <= 1.0
    uniform = np.random.default_rng(1).random((20_000, 3))
    weights = np.exp(prior.log_density(uniform))
    for i in range(3):  # the same means by sampling and by weighting
        expected = (weights * uniform[:, i]).sum() / weights.sum()
        assert drawn[:, i].mean() == pytest.approx(expected, abs=0.01)


def test_the_centre_is_the_most_likely_point() -> None:
    prior = density({"name": "r", "center": 0.01}, {"name": "c", "weights": {"z": 1, "x": 0.5}})
    draws = np.random.default_rng(0).random((500, 3))
    assert (prior.log_density(draws) <= prior.log_density(prior.center[None, :])).all()
