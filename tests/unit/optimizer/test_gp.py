"""Models and improvement, against closed forms and brute force."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from primo_optimizer.gp.improvement import (
    SAMPLES,
    log_expected_improvement,
    normal_samples,
)
from primo_optimizer.gp.model import fit
from primo_optimizer.gp.threads import single_thread
from primo_optimizer.pareto import hypervolume

NUMERIC = np.zeros(2, bool)


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
    model = fit(X, None, Y.astype(float), np.array([True, False]))
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
        normal_samples(2, seed=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.2), (0.8, 0.5), (0.5, 0.01)])
def test_improvement_of_one_objective_is_the_closed_form(mean: float, std: float) -> None:
    best = 0.6
    samples = mean + std * normal_samples(1, seed=0)[None, :, :]
    found = log_expected_improvement(samples, np.zeros((1, 1)) + 1.0, np.array([[best]]))
    z = (best - mean) / std
    expected = std * (z * norm.cdf(z) + norm.pdf(z))
    assert np.exp(found[0]) == pytest.approx(expected, rel=0.1)


def test_improvement_of_two_objectives_is_the_mean_gain_in_hypervolume() -> None:
    rng = np.random.default_rng(0)
    front, samples = rng.random((6, 2)), rng.random((4, SAMPLES, 2)) * 1.2 - 0.1
    found = log_expected_improvement(samples, np.full((4, 2), 20.0), front)
    base = hypervolume(front, np.ones(2))
    gains = [
        np.mean([hypervolume(np.vstack([front, row]), np.ones(2)) - base for row in rows])
        for rows in samples
    ]
    assert np.exp(found) == pytest.approx(gains, rel=1e-6)


def test_improvement_of_four_objectives_orders_as_the_hypervolume_does() -> None:
    rng = np.random.default_rng(0)
    front, means = rng.random((6, 4)), rng.random((30, 1, 4))
    samples = np.repeat(means, SAMPLES, axis=1)
    found = log_expected_improvement(samples, means[:, 0], front)
    base = hypervolume(front, np.ones(4))
    gains = np.array([hypervolume(np.vstack([front, row[0]]), np.ones(4)) - base for row in means])
    large = gains > 1e-3
    assert np.corrcoef(np.exp(found[large]), gains[large])[0, 1] > 0.85


def test_hope_tells_hopeless_points_apart() -> None:
    samples = np.full((2, SAMPLES, 2), 5.0)
    near, far = log_expected_improvement(
        samples, np.array([[1.1, 1.1], [3.0, 3.0]]), np.zeros((0, 2))
    )
    assert near > far
