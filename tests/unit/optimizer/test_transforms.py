"""Output transforms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_optimizer.transforms import OutputTransform, Shape

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("losses", "shape"),
    [
        pytest.param(RNG.normal(5, 1, 60), Shape.IDENTITY, id="symmetric"),
        pytest.param(np.exp(RNG.normal(0, 2, 60)), Shape.LOG, id="heavy tail"),
        pytest.param(-np.exp(RNG.normal(0, 2, 60)), Shape.IDENTITY, id="negative: no logarithm"),
        pytest.param(np.array([1.0, 2.0, 100.0]), Shape.IDENTITY, id="too few to tell"),
    ],
)
def test_the_shape_follows_the_skew(losses: np.ndarray, shape: Shape) -> None:
    assert OutputTransform.of(losses).shape is shape


@given(st.lists(st.floats(-1e120, 1e120), min_size=1, max_size=20))
def test_going_there_and_back_keeps_the_order_and_all_but_the_bad_tail(values: list[float]) -> None:
    losses = np.array(values)
    transform = OutputTransform.of(losses)
    z = transform.forward(losses)
    assert np.isfinite(z).all()
    assert (np.diff(z[np.argsort(losses, kind="stable")]) >= 0).all()
    kept = z < transform.ceiling
    scale = np.abs(losses).max() or 1.0
    assert transform.backward(z)[kept] / scale == pytest.approx(losses[kept] / scale, abs=1e-9)


@pytest.mark.parametrize("shape", [Shape.ROOT, Shape.LOG])
def test_below_0_it_still_falls(shape: Shape) -> None:
    """A bound may lie there, where no value has been."""
    transform = OutputTransform(shape, 1.0, 0.1, -np.inf, np.inf)
    assert (np.diff(transform.forward(np.array([-5.0, -1.0, -0.01, 0.0, 1.0]))) > 0).all()


def test_samples_far_out_come_back_finite() -> None:
    transform = OutputTransform.of(np.exp(RNG.normal(0, 3, 40)) * 1e140)
    assert np.isfinite(transform.backward(np.array([-1e6, 1e6]))).all()
