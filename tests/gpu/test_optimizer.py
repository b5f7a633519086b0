"""`algorithm.settings.device: cuda` against the processor, which all other tests use."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from primo_optimizer import DeviceError, Observation, Trial, suggest
from primo_optimizer.gp.model import Embedding, _Likelihood, fit
from support.problems import BRANIN_CURRIN, CONDITIONAL, LIMITED, THREE, Benchmark, Simulation

MIXED = np.array([3, 0, 0])
ON_GPU = {"name": "primo", "settings": {"device": "cuda", "initialDesign": 2}}
TESTS = Path(__file__).parents[1]


def data(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    X = rng.random((n, 3))
    s = rng.choice([0.0, 0.5, 1.0], n)
    Y = np.stack([np.sin(4 * X[:, 1]) + X[:, 2] - s, 100 * (X[:, 2] - 0.3) ** 2], axis=1)
    return X, s, Y


def test_the_likelihood_and_its_gradient_are_the_processors() -> None:
    X, s, Y = data(60)
    cpu, gpu = (
        _Likelihood.of(Embedding(MIXED), X, s, Y[:, 0], device) for device in ("cpu", "cuda")
    )
    for theta in (cpu.center, cpu.center + 0.7):
        expected, slope = cpu.loss_and_gradient(theta)
        value, gradient = gpu.loss_and_gradient(theta)
        assert value == pytest.approx(expected, rel=1e-9)
        np.testing.assert_allclose(gradient, slope, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("n", [3, 60, 1000])
def test_predictions_are_the_processors(n: int) -> None:
    X, s, Y = data(n)
    points = np.random.default_rng(0).random((200, 3))
    mean, std = fit(X, s, Y, MIXED).predict(points)
    on_gpu, spread = fit(X, s, Y, MIXED, "cuda").predict(points)
    # Rounding moves the end of the search for hyperparameters, and that a little of all.
    assert (np.abs(on_gpu - mean) <= 0.02 * std + 1e-6).all()
    np.testing.assert_allclose(spread, std, rtol=0.02)


@pytest.mark.parametrize(
    "benchmark",
    [
        pytest.param(BRANIN_CURRIN, id="two objectives"),
        pytest.param(LIMITED, id="constraints and priors, mixed space"),
        pytest.param(THREE, id="three objectives"),
        pytest.param(CONDITIONAL, id="conditional parameters"),
    ],
)
def test_a_search_on_the_gpu_is_as_good(benchmark: Benchmark) -> None:
    problem = benchmark.problem(algorithm=ON_GPU)
    search = Simulation(benchmark, problem, workers=2).run(6.0)
    stages = {s.explanation["stage"] for s in search.suggestions}
    assert "Optimizing" in stages
    assert not any("fallback" in s.explanation for s in search.suggestions)
    if not benchmark.reference:
        return
    on_cpu = benchmark.problem(algorithm={"name": "primo", "settings": {"initialDesign": 2}})
    expected = Simulation(benchmark, on_cpu, workers=2).run(6.0).hypervolume()
    assert search.hypervolume() >= 0.8 * expected


def test_two_processes_suggest_the_same_to_the_bit() -> None:
    program = f"""
import json
from support.problems import LIMITED, Simulation
search = Simulation(LIMITED, LIMITED.problem(algorithm={ON_GPU!r}), workers=2).run(5.0)
print(json.dumps([s.to_dict() for s in search.suggestions]))
"""
    said = [
        subprocess.run(
            [sys.executable, "-c", program], cwd=TESTS, capture_output=True, check=True, text=True
        ).stdout
        for _ in range(2)
    ]
    assert said[0] == said[1]
    assert any(each["explanation"]["stage"] == "Optimizing" for each in json.loads(said[0]))


def test_three_thousand_observations() -> None:
    rng = np.random.default_rng(0)
    trials = [
        Trial(i, {"x": x, "y": y}, (Observation(27, {"branin": x + y, "currin": x * y}),), 27)
        for i, (x, y) in enumerate(rng.random((3000, 2)).tolist())
    ]
    (s,) = suggest(BRANIN_CURRIN.problem(algorithm=ON_GPU), trials, count=1, seed=0)
    assert s.explanation["stage"] == "Optimizing"


def test_a_gpu_too_many_is_named() -> None:
    algorithm = {"name": "primo", "settings": {"device": "cuda:99"}}
    with pytest.raises(DeviceError, match="torch cannot use 'cuda:99'"):
        suggest(BRANIN_CURRIN.problem(algorithm=algorithm), [], count=1, seed=0)
