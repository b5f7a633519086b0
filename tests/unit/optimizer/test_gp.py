"""Gaussian processes, against BoTorch's and numeric derivatives."""

import math

import gpytorch
import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP
from scipy.optimize import approx_fprime

from primo_optimizer.gp.model import (
    FIT_ROWS,
    JITTER,
    Embedding,
    Model,
    _hyperparameters,
    _Likelihood,
    fit,
)
from primo_optimizer.gp.threads import single_thread

NUMERIC = np.zeros(2, dtype=np.int64)
MIXED = np.array([3, 0])


def _data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).random((n, 2))
    Y = np.stack([np.sin(4 * X[:, 0]) + X[:, 1], 100 * (X[:, 1] - 0.3) ** 2], axis=1)
    return X, Y


def test_it_predicts_a_smooth_function_in_its_own_units() -> None:
    X, Y = _data(30)
    mean, std = fit(X, None, Y, NUMERIC).predict(_data(100, 1)[0])
    errors = np.abs(mean - _data(100, 1)[1])
    assert (errors.mean(axis=0) < [0.05, 2.0]).all()
    assert (np.abs(errors / std).mean(axis=0) < 3).all()


def test_low_fidelities_teach_about_the_full_one() -> None:
    X, Y = _data(40)
    s = np.where(np.arange(40) < 36, 0.3, 1.0)
    Y = Y + (1.0 - s)[:, None]
    held_out, truth = _data(100, 1)
    alone, _ = fit(X[36:], None, Y[36:], NUMERIC).predict(held_out)
    together, _ = fit(X, s, Y, NUMERIC).predict(held_out)
    assert (np.abs(together - truth).mean(axis=0) < 0.7 * np.abs(alone - truth).mean(axis=0)).all()


def test_between_a_few_full_observations_alone_it_is_less_sure() -> None:
    rng = np.random.default_rng(3)
    X, held_out = rng.random((8, 6)), rng.random((200, 6))
    Y = (X[:, :1] - 0.4) ** 2 + X[:, 1:2] * X[:, 2:3]
    numeric = np.zeros(6, dtype=np.int64)
    _, alone = fit(X, None, Y, numeric).predict(held_out)
    _, beside_cheap_ones = fit(X, np.ones(8), Y, numeric).predict(held_out)
    assert np.median(alone) > 1.2 * np.median(beside_cheap_ones)


def test_a_pending_point_takes_the_uncertainty_but_moves_no_mean() -> None:
    X, Y = _data(12)
    model = fit(X, None, Y, NUMERIC)
    pending = np.array([[0.95, 0.05]])
    mean, std = model.predict(pending)
    again, less = model.given(pending).predict(pending)
    assert again == pytest.approx(mean, rel=1e-3)
    assert (less < 0.8 * std).all()  # what the noise leaves


def test_categories_have_no_order() -> None:
    rng = np.random.default_rng(0)
    X = np.stack([(rng.integers(0, 3, 30) + 0.5) / 3, rng.random(30)], axis=1)
    Y = ((X[:, :1] > 0.4) & (X[:, :1] < 0.6)) + 0.1 * X[:, 1:]
    model = fit(X, None, Y.astype(float), MIXED)
    mean, _ = model.predict(np.array([[1 / 6, 0.5], [3 / 6, 0.5], [5 / 6, 0.5]]))
    assert mean[1, 0] - mean[0, 0] > 0.8
    assert mean[0, 0] == pytest.approx(mean[2, 0], abs=0.1)


def test_repeated_rows_do_not_make_it_singular() -> None:
    X, Y = _data(10)
    model = fit(np.repeat(X, 5, axis=0), None, np.repeat(Y, 5, axis=0), NUMERIC)
    assert np.isfinite(model.predict(X)[0]).all()


def test_the_number_of_threads_is_given_back_and_the_global_generator_left_alone() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with single_thread():
        assert torch.get_num_threads() == 1
        X, Y = _data(5)
        fit(X, None, Y, NUMERIC)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_posterior_is_that_of_botorch() -> None:
    X, Y = _data(25)
    ours = fit(X, None, Y[:, :1], NUMERIC)
    points = np.random.default_rng(5).random((50, 2))
    mean, std = ours.predict(points)
    theirs = _botorch(ours, X, Y[:, :1]).posterior(torch.from_numpy(points))
    assert mean == pytest.approx(theirs.mean.detach().numpy(), rel=1e-6)
    assert std == pytest.approx(theirs.variance.detach().sqrt().numpy(), rel=1e-4)


def _botorch(ours: Model, X: np.ndarray, Y: np.ndarray) -> SingleTaskGP:
    theta = ours.theta[0]
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=2))
    model = SingleTaskGP(
        torch.from_numpy(X),
        torch.from_numpy(Y),
        covar_module=kernel.double(),
        mean_module=gpytorch.means.ZeroMean(),
        outcome_transform=None,
        likelihood=gpytorch.likelihoods.GaussianLikelihood(
            noise_constraint=gpytorch.constraints.GreaterThan(1e-9)
        ),
    )
    scale, shift = float(ours.std[0]), float(ours.mean[0])
    model.set_train_data(targets=torch.from_numpy((Y[:, 0] - shift) / scale), strict=False)
    kernel.outputscale = math.exp(theta[-2])
    kernel.base_kernel.lengthscale = torch.exp(theta[:2])
    model.likelihood.noise = math.exp(theta[-1]) + JITTER
    model.eval()
    model.outcome_transform = _Unstandardize(shift, scale)
    return model


class _Unstandardize(torch.nn.Module):
    """Back to the unit of the outputs: all that BoTorch's `posterior` asks of a transform."""

    def __init__(self, shift: float, scale: float) -> None:
        super().__init__()
        self.shift, self.scale = shift, scale

    def untransform_posterior(self, posterior, X=None):
        from botorch.posteriors import TransformedPosterior

        return TransformedPosterior(
            posterior,
            sample_transform=lambda s: s * self.scale + self.shift,
            mean_transform=lambda mean, variance: mean * self.scale + self.shift,
            variance_transform=lambda mean, variance: variance * self.scale**2,
        )


@pytest.mark.parametrize("fidelities", [None, [0.0, 0.4, 1.0]], ids=["plain", "rungs"])
def test_the_gradient_is_the_derivative(fidelities: list[float] | None) -> None:
    rng = np.random.default_rng(0)
    X = np.stack([(rng.integers(0, 3, 20) + 0.5) / 3, rng.random(20)], axis=1)
    s = None if fidelities is None else rng.choice(fidelities, 20)
    likelihood = _Likelihood.of(Embedding(MIXED), X, s, rng.normal(size=20), "cpu")
    theta = likelihood.center + 0.3 * rng.normal(size=len(likelihood.center))
    _, gradient = likelihood.loss_and_gradient(theta)
    numeric = approx_fprime(theta, lambda at: likelihood.loss_and_gradient(at)[0], 1e-6)
    assert gradient == pytest.approx(numeric, rel=1e-3, abs=1e-3)


def test_first_rows_that_stay_the_same_need_no_new_fit() -> None:
    X, Y = _data(30)
    fit(X[:25], None, Y[:25], NUMERIC, learn_from=20)
    before = _hyperparameters.cache_info()
    grown = fit(X, None, Y, NUMERIC, learn_from=20)
    after = _hyperparameters.cache_info()
    assert (after.hits, after.misses) == (before.hits + 2, before.misses)
    _hyperparameters.cache_clear()
    assert torch.equal(fit(X, None, Y, NUMERIC, learn_from=20).theta, grown.theta)


def test_many_rows_are_all_predicted_from() -> None:
    n = 3 * FIT_ROWS
    X, Y = _data(n)
    mean, _ = fit(X, None, Y, NUMERIC).predict(X)
    assert np.abs(mean - Y).max(axis=0) == pytest.approx([0.0, 0.0], abs=0.5)
