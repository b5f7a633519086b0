"""Users' beliefs as densities."""

from typing import Any

import numpy as np
import pytest

from primo_optimizer import Problem
from primo_optimizer.priors import MIN_STD, PriorDensity, densities
from support.problems import CONDITIONAL

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


def test_so_are_draws_of_it() -> None:
    """The outer values of a discrete parameter have no smaller share."""
    prior = density({"name": "r", "center": 0.01})
    drawn = prior.space.snap(prior.sample(np.random.default_rng(0), 3000))
    _, counts = np.unique(drawn[:, 1], return_counts=True)
    assert counts == pytest.approx([1000] * 3, rel=0.1)


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


# --- parameters that are not always there


def conditional(*beliefs: dict[str, Any]) -> PriorDensity:
    prior = {"objective": "error", "parameters": list(beliefs)}
    (found,) = densities(CONDITIONAL.problem(priors=[prior]))
    return found


def test_where_a_parameter_is_not_there_a_belief_about_it_does_not_count() -> None:
    prior = conditional({"name": "momentum", "center": 0.9})
    space = prior.space
    adam = {"model": "network", "optimizer": "adam", "size": 0.5}
    sgd = [{**adam, "optimizer": "sgd", "momentum": momentum} for momentum in (0.1, 0.5, 0.9)]
    densities_ = prior.log_density(space.encode_all([adam, *sgd]))
    assert densities_[0] == 0.0
    assert densities_[1] < densities_[2] < densities_[3]
    assert densities_[3] > 0.0


def test_nor_does_one_about_choices() -> None:
    prior = conditional({"name": "optimizer", "choice": "sgd"})
    forest = {"model": "forest", "trees": 3, "size": 0.5}
    assert prior.log_density(prior.space.encode(forest)[None, :]).tolist() == [0.0]


def test_the_centre_is_where_what_is_believed_is_there() -> None:
    prior = conditional({"name": "momentum", "center": 0.9})
    found = prior.space.decode(prior.center)
    assert found == {
        "model": "network",
        "optimizer": "sgd",
        "momentum": pytest.approx(0.9),
        "size": 0.5,
    }


def test_a_belief_about_the_parent_stands() -> None:
    prior = conditional(
        {"name": "momentum", "center": 0.9}, {"name": "optimizer", "choice": "adam"}
    )
    assert prior.space.decode(prior.center)["optimizer"] == "adam"
