"""Improvement of the hypervolume by BoTorch, and how BoTorch is kept apart from the rest."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from botorch.acquisition.multi_objective import logei
from botorch.exceptions.errors import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from gpytorch.mlls import ExactMarginalLogLikelihood
from linear_operator.utils.errors import NanError, NotPSDError

from primo_optimizer import Observation, Problem, Suggestion, Trial, suggest
from primo_optimizer.gp.botorch_models import Data, Models, Step
from support.problems import BRANIN_CURRIN, DISK, LIMITED, TRAINING, Benchmark, Simulation

NUMERIC = np.zeros(2, dtype=np.int64)


def _problem(benchmark: Benchmark, **changes: Any) -> Problem:
    algorithm = {"name": "qlognehvi", "settings": {"initialDesign": 2, "samples": 32}}
    return benchmark.problem(**{"algorithm": algorithm, **changes})


def _evaluated(benchmark: Benchmark, problem: Problem, n: int) -> list[Trial]:
    """At full fidelity, at random."""
    rng, full = np.random.default_rng(1), problem.full_fidelity
    trials = []
    for number, point in enumerate(rng.random((n, len(problem.space.parameters)))):
        configuration = problem.space.decode(point)
        values = benchmark.evaluate(configuration, 1.0)
        assert values is not None
        constrained = {c.metric: values[c.metric] for c in problem.constraints}
        objectives = {o.name: values[o.name] for o in problem.objectives}
        seen = Observation(full, objectives, constrained)
        trials.append(Trial(number, configuration, (seen,), fidelity=full))
    return trials


def _by_model(problem: Problem, trials: Sequence[Trial], count: int = 1) -> list[Suggestion]:
    suggestions = suggest(problem, trials, count, 0)
    assert [s.explanation["origin"] for s in suggestions] == ["Model"] * count
    return suggestions


@contextmanager
def _odd_state() -> Iterator[None]:
    """Whatever a notebook may have done before."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.manual_seed(99)
    torch.rand(7)
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64 if dtype == torch.float32 else torch.float32)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


def test_the_state_of_torch_is_neither_used_nor_changed() -> None:
    problem = _problem(TRAINING)
    trials = _evaluated(TRAINING, problem, 8)
    expected = suggest(problem, trials, 2, 0)
    with _odd_state():
        before = (torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype())
        assert suggest(problem, trials, 2, 0) == expected
        after = (torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """BoTorch 0.18 would, and wait for ever at the lock of a process that died while it did."""
    compiled: list[Any] = []
    monkeypatch.setattr("torch.utils.cpp_extension.load", lambda **given: compiled.append(given))
    monkeypatch.setattr(logei, "_load_attempted", False, raising=False)
    problem = _problem(BRANIN_CURRIN)
    _by_model(problem, _evaluated(BRANIN_CURRIN, problem, 4))
    assert not compiled


def test_what_others_have_compiled_is_not_used_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = object()
    monkeypatch.setattr(logei, "_C", theirs, raising=False)
    problem = _problem(BRANIN_CURRIN)
    _by_model(problem, _evaluated(BRANIN_CURRIN, problem, 4))
    assert logei._C is theirs


QLOGNEHVI, PAREGO = {"name": "qlognehvi"}, {"name": "parego"}
PAPER = {"name": "primo", "settings": {"paper": True}}
NOT_FITTED = ("fit_gpytorch_mll", ModelFittingError("all attempts have failed"))
NOT_POSITIVE = ("qLogNoisyExpectedImprovement", NotPSDError("not positive definite"))
NOT_A_NUMBER = ("logei.qLogNoisyExpectedHypervolumeImprovement", NanError("covariance is NaN"))


@pytest.mark.parametrize(
    ("algorithm", "where", "error"),
    [
        pytest.param(QLOGNEHVI, *NOT_FITTED, id="qlognehvi, fit"),
        pytest.param(QLOGNEHVI, *NOT_A_NUMBER, id="qlognehvi, acquisition"),
        pytest.param(PAREGO, *NOT_FITTED, id="parego, fit"),
        pytest.param(PAREGO, *NOT_POSITIVE, id="parego, acquisition"),
        pytest.param(PAPER, *NOT_FITTED, id="paper, fit"),
        pytest.param(PAPER, *NOT_POSITIVE, id="paper, acquisition"),
    ],
)
def test_when_botorch_gives_up_the_space_is_filled_on(
    monkeypatch: pytest.MonkeyPatch, algorithm: dict[str, Any], where: str, error: Exception
) -> None:
    def give_up(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(f"primo_optimizer.gp.botorch_models.{where}", give_up)
    problem = _problem(BRANIN_CURRIN, algorithm=algorithm)
    (s,) = suggest(problem, _evaluated(BRANIN_CURRIN, problem, 9), 1, 0)
    assert s.explanation == {"stage": "Optimizing", "origin": "Uniform", "fallback": str(error)}


def test_models_are_those_that_botorch_makes_by_default() -> None:
    rng = np.random.default_rng(0)
    X, ours = rng.random((12, 2)), rng.random((20, 2))
    y = 1e3 + 50 * np.sin(5 * X[:, 0]) + 20 * X[:, 1]
    reference = SingleTaskGP(torch.tensor(X), torch.tensor(y)[:, None])
    fit_gpytorch_mll(ExactMarginalLogLikelihood(reference.likelihood, reference))
    theirs = reference.posterior(torch.tensor(ours))
    data = Data(X, y[:, None], np.zeros((12, 0)), np.zeros((0, 2)))
    mean, std = Models.fit(data, NUMERIC).predict(ours)
    assert mean[:, 0] == pytest.approx(theirs.mean[:, 0].detach().numpy(), rel=1e-3)
    assert std[:, 0] == pytest.approx(theirs.variance.sqrt()[:, 0].detach().numpy(), rel=0.1)


def test_climbing_leads_up_and_to_a_category() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((10, 3))
    X[:, 2] = (np.floor(3 * X[:, 2]) + 0.5) / 3  # a category
    losses = np.stack([(X[:, 0] - 0.3) ** 2 + (X[:, 2] > 0.5), (X[:, 1] - 0.6) ** 2], axis=1)
    models = Models.fit(Data(X, losses, np.zeros((10, 0)), np.zeros((0, 3))), np.array([0, 0, 3]))
    step = Step(baseline=X, pending=np.zeros((0, 3)), samples=32, seed=0)
    acquisition = models.hypervolume_improvement(step, np.full(2, np.nan), losses)
    starts = np.array([[0.5, 0.5, 1 / 6], [0.1, 0.9, 0.5]])
    climbed = acquisition.climbed(starts)
    assert (acquisition(climbed) > acquisition(starts)).all()
    assert ((climbed >= 0.0) & (climbed <= 1.0)).all()
    assert set((6 * climbed[:, 2]).round(9)) <= {1.0, 3.0, 5.0}


@pytest.mark.parametrize("better", ["branin", "currin"])
def test_a_reference_point_aims_the_search_at_one_end(better: str) -> None:
    limits = {"branin": 0.6, "currin": 0.9, better: 0.15}
    problem = _problem(
        BRANIN_CURRIN,
        objectives=[{"name": name, "referencePoint": at} for name, at in limits.items()],
    )
    (s,) = _by_model(problem, _evaluated(BRANIN_CURRIN, problem, 20))
    assert all(s.explanation["predicted"][name]["mean"] < at for name, at in limits.items())


UNREACHABLE = [{"name": name, "referencePoint": -5.0} for name in ("branin", "currin")]
IMPOSSIBLE = [{"metric": "distance", "atMost": -10.0}]


@pytest.mark.parametrize(
    ("benchmark_", "changes"),
    [
        pytest.param(BRANIN_CURRIN, {"objectives": UNREACHABLE}, id="nothing below the reference"),
        pytest.param(DISK, {"constraints": IMPOSSIBLE}, id="nothing feasible"),
        pytest.param(LIMITED, {}, id="constraints, mixed space"),
    ],
)
def test_it_goes_on_where(benchmark_: Benchmark, changes: dict[str, Any]) -> None:
    problem = _problem(benchmark_, **changes)
    suggestions = _by_model(problem, _evaluated(benchmark_, problem, 6), 2)
    assert all(np.isfinite(s.explanation["acquisition"]) for s in suggestions)


def test_nothing_feasible_yet_makes_it_look_for_what_is() -> None:
    problem = _problem(DISK)
    trials = [
        trial
        for trial in _evaluated(DISK, problem, 40)
        if trial.observations[0].constrained["distance"] > 60
    ]
    (s,) = _by_model(problem, trials)
    values = DISK.evaluate(s.configuration, 1.0)
    assert values is not None
    assert values["distance"] < 50


@pytest.mark.parametrize(
    ("objectives", "changes", "weighted"),
    [
        pytest.param(1, {}, False, id="one"),
        pytest.param(3, {}, False, id="three"),
        pytest.param(4, {}, True, id="four: too dear"),
        pytest.param(8, {}, True, id="eight"),
        pytest.param(2, {"preferences": {"weights": {"f0": 1}}}, True, id="a preferred trade-off"),
    ],
)
def test_a_scalarization_takes_over(
    objectives: int, changes: dict[str, Any], weighted: bool
) -> None:
    names = [f"f{j}" for j in range(objectives)]
    benchmark = Benchmark(
        {
            "objectives": [{"name": name} for name in names],
            "parameters": [{"name": x, "float": {"min": 0, "max": 1}} for x in ("x", "y")],
        },
        lambda c, share: {f: (c["x"] - j / 8) ** 2 + c["y"] * j for j, f in enumerate(names)},
    )
    problem = _problem(benchmark, **changes)
    (s,) = _by_model(problem, _evaluated(benchmark, problem, 6))
    assert ("weights" in s.explanation) is weighted
    assert set(s.explanation["predicted"]) == set(names)


def test_an_objective_that_does_not_vary_is_predicted_as_it_is() -> None:
    constant = Benchmark(
        BRANIN_CURRIN.spec, lambda c, share: {"branin": (c["x"] - 0.5) ** 2, "currin": 0.1}
    )
    problem = _problem(constant)
    (s,) = _by_model(problem, _evaluated(constant, problem, 6))
    assert s.explanation["predicted"]["currin"] == {"mean": 0.1, "std": 0.0}
    assert s.configuration["x"] == pytest.approx(0.5, abs=0.2)


@pytest.mark.slow
def test_it_finds_more_than_random_search() -> None:
    def found(name: str, seed: int, settings: dict[str, Any]) -> float:
        problem = BRANIN_CURRIN.problem(algorithm={"name": name, "settings": settings})
        return Simulation(BRANIN_CURRIN, problem, seed=seed).run(14).hypervolume()

    settings = {"initialDesign": 6, "samples": 32}
    ahead = [
        found("qlognehvi", seed, settings) > 1.1 * found("random", seed, {}) for seed in range(3)
    ]
    assert sum(ahead) >= 2
