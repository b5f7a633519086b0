"""Expected improvement, against closed forms, BoTorch's and brute force."""

import numpy as np
import pytest
import torch
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.models.deterministic import GenericDeterministicModel
from botorch.utils.multi_objective.box_decompositions import NondominatedPartitioning
from numpy.typing import NDArray
from scipy.stats import norm

from primo_optimizer import improvement
from primo_optimizer.improvement import (
    MAX_BOXES,
    Posterior,
    _boxes,
    log_improvement,
    normal_samples,
    scalarized,
)
from primo_optimizer.pareto import hypervolume, non_dominated
from primo_optimizer.problem import Preference, Scalarization

Array = NDArray[np.float64]


def normal(mean: Array, std: Array | float) -> Posterior:
    return lambda z: mean[:, None, :] + np.broadcast_to(std, mean.shape)[:, None, :] * z


def expected(posterior: Posterior, front: Array, preference: Preference | None = None) -> Array:
    return np.exp(log_improvement(front, preference)(posterior))


@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.2), (0.8, 0.5), (0.5, 0.01), (0.9, 0.1)])
def test_with_one_objective_it_is_the_closed_form(mean: float, std: float) -> None:
    best = 0.6
    found = expected(normal(np.array([[mean]]), std), np.array([[best]]))
    z = (best - mean) / std
    assert found[0] == pytest.approx(std * (z * norm.cdf(z) + norm.pdf(z)), rel=0.02, abs=2e-5)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("k", [0, 1, 6])
def test_with_more_it_is_that_of_botorch(m: int, k: int) -> None:
    rng = np.random.default_rng(k)
    front, mean, std = rng.random((k, m)), rng.random((20, m)), 0.3 * rng.random((20, m)) + 0.02
    assert expected(normal(mean, std), front) == pytest.approx(
        botorch_ehvi(front, mean, std), rel=0.02, abs=2e-5
    )


def test_what_memory_it_takes_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    front, mean, std = rng.random((40, 2)), rng.random((25, 2)), rng.random((25, 2))
    at_once = expected(normal(mean, std), front)
    monkeypatch.setattr(improvement, "CHUNK", 1)
    assert (expected(normal(mean, std), front) == at_once).all()


def botorch_ehvi(front: Array, mean: Array, std: Array) -> Array:
    """BoTorch maximizes: signs are turned."""
    m = mean.shape[1]

    class Known(GenericDeterministicModel):
        def posterior(self, X, **_):
            from botorch.posteriors import GPyTorchPosterior
            from gpytorch.distributions import MultitaskMultivariateNormal as Normal

            rows = X[:, 0, 0].long()
            center = -torch.from_numpy(mean)[rows][:, None, :]
            spread = torch.diag_embed(torch.from_numpy(std**2)[rows])
            return GPyTorchPosterior(Normal(center, spread))

    reference = -torch.ones(m, dtype=torch.double)
    front = front[(front < 1).all(axis=1)]
    partitioning = NondominatedPartitioning(reference, -torch.from_numpy(front).reshape(-1, m))
    ehvi = ExpectedHypervolumeImprovement(
        Known(lambda X: X, num_outputs=m), reference.tolist(), partitioning
    )
    rows = torch.arange(len(mean), dtype=torch.double)[:, None, None]
    return ehvi(rows).numpy()


def test_where_it_would_take_too_many_boxes_it_is_about_what_the_hypervolume_gains() -> None:
    rng = np.random.default_rng(0)
    front = rng.random((60, 5))
    front = front / np.linalg.norm(front, axis=1, keepdims=True) * 0.8
    assert _boxes(front) is None
    means = rng.random((30, 5)) * 0.6
    found = expected(normal(means, 1e-9), front)
    base = hypervolume(front, np.ones(5))
    gains = np.array([hypervolume(np.vstack([front, row]), np.ones(5)) - base for row in means])
    large = gains > 1e-3
    assert np.corrcoef(found[large], gains[large])[0, 1] > 0.8
    assert found[large].mean() == pytest.approx(gains[large].mean(), rel=0.3)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_boxes_fill_what_is_not_dominated_once(m: int) -> None:
    rng = np.random.default_rng(m)
    front = rng.random((8, m))
    front = front[non_dominated(front)]
    boxes = _boxes(front)
    assert boxes is not None
    lower, upper = boxes
    assert len(lower) <= MAX_BOXES
    points = rng.random((500, m))
    hits = ((lower < points[:, None]) & (points[:, None] <= upper)).all(axis=2).sum(axis=1)
    dominated = (front <= points[:, None]).all(axis=2).any(axis=1)
    assert (hits == ~dominated).all()


@pytest.mark.parametrize(
    ("scalarization", "better"),
    [
        pytest.param(Scalarization.CHEBYSHEV, [0.4, 0.4], id="Chebyshev wants both"),
        pytest.param(Scalarization.LINEAR, [0.0, 0.7], id="Linear wants the sum"),
    ],
)
def test_a_preference_says_which_tradeoff_is_wanted(
    scalarization: Scalarization, better: list[float]
) -> None:
    means = np.array([[0.4, 0.4], [0.0, 0.7]])
    gains = expected(
        normal(means, 0.01), np.array([[0.6, 0.6]]), Preference((0.5, 0.5), scalarization)
    )
    assert means[np.argmax(gains)].tolist() == better


def test_a_weight_of_zero_leaves_an_objective_out() -> None:
    losses = np.array([[0.2, 0.9], [0.3, 0.1]])
    assert np.argmin(scalarized(losses, Preference((1.0, 0.0)))) == 0


def test_hopeless_points_are_told_apart() -> None:
    near, far = log_improvement(np.zeros((0, 2)), None)(normal(np.array([[6.0] * 2, [9.0] * 2]), 1))
    assert near > far


def test_samples_are_spread_like_a_normal() -> None:
    samples = normal_samples(3)
    assert samples.mean(axis=0) == pytest.approx([0.0] * 3, abs=0.1)
    assert samples.std(axis=0) == pytest.approx([1.0] * 3, abs=0.1)
    assert np.abs(np.corrcoef(samples.T) - np.eye(3)).max() < 0.15
