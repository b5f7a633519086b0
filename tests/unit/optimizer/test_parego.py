"""Scalarizations, and what parego and qlognehvi learn from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from primo_optimizer import (
    InvalidSpecError,
    Observation,
    Problem,
    Suggestion,
    Trial,
    check,
    suggest,
)
from primo_optimizer.evidence import MAX_ROWS, Evidence
from primo_optimizer.gp.botorch_models import AUGMENTATION, Data, Models, Scalar
from primo_optimizer.history import History
from primo_optimizer.pareto import non_dominated
from support.problems import BRANIN_CURRIN, DISK, LIMITED, ONE, TRAINING, Benchmark, Simulation


def _problem(benchmark: Benchmark, settings: dict[str, Any] | None = None, **changes: Any) -> Any:
    algorithm = {"name": "parego", "settings": settings or {}}
    return benchmark.problem(algorithm=algorithm, **changes)


def _evaluated(benchmark: Benchmark, problem: Problem, n: int, seed: int = 1) -> list[Trial]:
    """At full fidelity, at random."""
    rng = np.random.default_rng(seed)
    return [
        _trial(benchmark, problem, number, problem.space.decode(point))
        for number, point in enumerate(rng.random((n, len(problem.space.parameters))))
    ]


def _trial(benchmark: Benchmark, problem: Problem, number: int, configuration: Any) -> Trial:
    values = benchmark.evaluate(configuration, 1.0)
    assert values is not None
    seen = Observation(
        problem.full_fidelity,
        {o.name: values[o.name] for o in problem.objectives},
        {c.metric: values[c.metric] for c in problem.constraints},
    )
    return Trial(number, configuration, (seen,), fidelity=problem.full_fidelity)


def _by_model(problem: Problem, trials: Sequence[Trial], count: int = 1) -> list[Suggestion]:
    suggestions = suggest(problem, trials, count, 0)
    assert [s.explanation["origin"] for s in suggestions] == ["Model"] * count
    return suggestions


@pytest.mark.parametrize(
    ("linear", "expected"),
    [(False, 0.6 + AUGMENTATION * 0.8), (True, 0.8)],
    ids=["the largest, and a little of the sum", "the sum"],
)
def test_scalar_of_weighted_and_scaled_losses(linear: bool, expected: float) -> None:
    scalar = Scalar(np.array([0.2, 0.8]), np.array([1.0, -10.0]), np.array([2.0, 20.0]), linear)
    losses = torch.tensor([[3.0, 5.0], [1.0, -10.0]], dtype=torch.double)  # scaled: (1, .75), 0
    assert scalar(losses).tolist() == pytest.approx([expected, 0.0])


def test_weights_are_drawn_for_each_trial_and_do_not_depend_on_how_many_are_asked_for() -> None:
    problem = _problem(TRAINING)
    trials = _evaluated(TRAINING, problem, 10)
    weights = [s.explanation["weights"] for s in _by_model(problem, trials, 3)]
    assert all(sum(w.values()) == pytest.approx(1.0, abs=1e-5) for w in weights)
    assert len({w["latency"] for w in weights}) == 3
    (later,) = suggest(problem, trials, 1, 0, next_number=12)
    assert later.explanation["weights"] == weights[2]


@pytest.mark.parametrize("scalarization", ["Chebyshev", "Linear"])
def test_a_preference_says_which_end_of_the_front_is_searched(scalarization: str) -> None:
    predicted = []
    for weights in ({"branin": 9, "currin": 1}, {"branin": 1, "currin": 9}):
        preferences = {"weights": weights, "scalarization": scalarization}
        problem = _problem(BRANIN_CURRIN, preferences=preferences)
        (s,) = _by_model(problem, _evaluated(BRANIN_CURRIN, problem, 12))
        assert s.explanation["weights"] == {k: v / 10 for k, v in weights.items()}
        predicted.append({k: p["mean"] for k, p in s.explanation["predicted"].items()})
    low_branin, low_currin = predicted
    assert low_branin["branin"] < low_currin["branin"]
    assert low_branin["currin"] > low_currin["currin"]


@pytest.mark.parametrize(
    ("settings", "trials"),
    [({}, 6), ({"initialDesign": None}, 6), ({"initialDesign": 4}, 4), ({"initialDesign": 0}, 2)],
    ids=["two for each parameter and two more", "null", "as set", "none, but what a model needs"],
)
def test_the_start_is_spread_out_at_full_fidelity(settings: dict[str, Any], trials: int) -> None:
    problem = _problem(BRANIN_CURRIN, settings)
    study = Simulation(BRANIN_CURRIN, problem).run(trials + 1)
    origins = [s.explanation["origin"] for s in study.suggestions]
    assert origins == ["Uniform"] * trials + ["Model"]
    assert {s.fidelity for s in study.suggestions} == {27}


def test_the_start_of_a_large_space_is_limited() -> None:
    parameters = [{"name": f"x{i}", "float": {"min": 0, "max": 1}} for i in range(30)]
    problem = _problem(ONE, parameters=parameters)
    assert [s.explanation["stage"] for s in suggest(problem, [], 11, 0)] == [
        *["InitialDesign"] * 10,
        "Optimizing",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, r"settings\.samples: 0 is not between 1 and 1024"),
        ({"samples": "many"}, r"settings\.samples: 'many' is not a finite number"),
        ({"initialDesign": -1}, r"settings\.initialDesign: -1 is not 0 or more"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        check(_problem(ONE, settings))


def test_pending_trials_are_not_asked_for_again_nearby() -> None:
    problem = _problem(ONE)
    trials = _evaluated(ONE, problem, 8)
    points = [problem.space.encode(s.configuration) for s in _by_model(problem, trials, 3)]
    apart = [np.abs(a - b).max() for i, a in enumerate(points) for b in points[:i]]
    assert min(apart) > 0.02


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_region_where_trials_fail_is_left_alone(seed: int) -> None:
    problem = _problem(ONE)
    trials = [
        Trial(t.number, t.configuration, failed="Diverged") if t.configuration["x"] < 0.5 else t
        for t in _evaluated(ONE, problem, 16, seed)
    ]
    (suggestion,) = _by_model(problem, trials)
    assert suggestion.configuration["x"] > 0.45  # the best of all would be at 0.3


def test_constraints_are_learnt_and_kept() -> None:
    problem = _problem(DISK)
    trials = _evaluated(DISK, problem, 14)
    values = [DISK.evaluate(s.configuration, 1.0) for s in _by_model(problem, trials, 4)]
    kept = [v is not None and v["distance"] < 55 for v in values]
    assert sum(kept) >= 3


def _seen(losses: tuple[float, float], distance: float, number: int) -> Trial:
    values = {"branin": losses[0], "currin": losses[1]}
    seen = Observation(27, values, {"distance": distance})
    return Trial(number, {"x": number / 10, "y": 0.5}, (seen,), fidelity=27)


def test_the_best_evidence_comes_first() -> None:
    rows = [
        ((0.0, 0.0), 90.0),  # the second least off
        ((5.0, 5.0), 10.0),  # dominated
        ((1.0, 4.0), 50.0),  # front, and exactly on the bound
        ((0.0, 0.0), 60.0),  # the least off
        ((4.0, 0.0), 0.0),  # front, the best sum of both once scaled
        ((5.0, 6.0), 0.0),  # dominated twice
    ]
    trials = [_seen(*row, number) for number, row in enumerate(rows)]
    trials.append(Trial(6, {"x": 0.6, "y": 0.5}, failed="Lost", fidelity=27))
    trials.append(Trial(7, {"x": 0.7, "y": 0.5}, running=True, fidelity=27))
    evidence = Evidence.of(History.of(_problem(DISK), trials))
    assert [round(10 * x) for x in evidence.X[:, 0]] == [2, 4, 1, 5, 3, 0]
    assert evidence.slacks[:, 0].tolist() == [0, -50, -40, -50, 10, 40]
    assert evidence.front().tolist() == [[1, 4], [4, 0]]
    assert evidence.failed.tolist() == [[0.6, 0.5]]


def test_without_a_feasible_row_the_front_is_that_of_all() -> None:
    trials = [_seen((1, 2), 60, 0), _seen((2, 1), 70, 1), _seen((3, 3), 80, 2)]
    evidence = Evidence.of(History.of(_problem(DISK), trials))
    assert sorted(evidence.front().tolist()) == [[1, 2], [2, 1]]


def test_both_bounds_of_a_constraint_are_slacks() -> None:
    constraints = [{"metric": "memory", "atLeast": 1, "atMost": 4}]
    problem = _problem(LIMITED, constraints=constraints)
    evidence = Evidence.of(History.of(problem, _evaluated(LIMITED, problem, 8)))
    assert evidence.slacks.shape == (8, 2)
    assert evidence.slacks.sum(axis=1) == pytest.approx(-3)
    assert ((evidence.slacks > 0).any(axis=1) == (evidence.violation > 0)).all()


def test_of_many_observations_the_best_are_learnt_from() -> None:
    problem = _problem(BRANIN_CURRIN)
    trials = _evaluated(BRANIN_CURRIN, problem, MAX_ROWS + 200)
    evidence = Evidence.of(History.of(problem, trials))
    assert len(evidence.X) == len(evidence.losses) == MAX_ROWS
    losses = problem.losses([o.values for t in trials for o in t.observations])
    front = losses[non_dominated(losses)]
    assert sorted(evidence.front().tolist()) == sorted(front.tolist())


def test_hyperparameters_are_learnt_for_each_output_by_itself() -> None:
    X = np.random.default_rng(0).random((14, 2))
    first, second = np.sin(5 * X[:, 0]), 1e3 * X[:, 1] ** 2
    choices, empty = np.zeros(2, dtype=np.int64), np.zeros((0, 2))

    def predicted(*losses: np.ndarray) -> list[np.ndarray]:
        data = Data(X, np.stack(losses, axis=1), np.zeros((14, 0)), empty)
        return list(Models.fit(data, choices).predict(X[:3] + 0.05))

    together = predicted(first, second)
    for column, alone in enumerate((predicted(first), predicted(second))):
        for ours, theirs in zip(together, alone, strict=True):
            assert ours[:, column] == pytest.approx(theirs[:, 0], rel=0.02)


@pytest.mark.slow
def test_it_finds_more_than_random_search() -> None:
    def found(name: str, seed: int, settings: dict[str, Any]) -> float:
        problem = BRANIN_CURRIN.problem(algorithm={"name": name, "settings": settings})
        return Simulation(BRANIN_CURRIN, problem, seed=seed).run(12).hypervolume()

    settings = {"initialDesign": 4, "samples": 16}
    ahead = [found("parego", seed, settings) > 1.1 * found("random", seed, {}) for seed in range(3)]
    assert sum(ahead) >= 2
