"""Learning from the trials of earlier studies."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from primo_optimizer import (
    AskTell,
    InvalidSpecError,
    Observation,
    Problem,
    Trial,
    learns_from_earlier,
    suggest,
)
from primo_optimizer.history import History
from primo_optimizer.surrogate import Surrogate
from support.problems import BRANIN_CURRIN, ONE, Benchmark, Simulation

WITHOUT_FIDELITY: dict[str, Any] = {"fidelity": None}


def earlier(benchmark: Benchmark, problem: Problem, count: int) -> tuple[Trial, ...]:
    """Random configurations, observed at full fidelity."""
    points = np.random.default_rng(5).random((count, len(problem.space.parameters)))
    trials = []
    for number, point in enumerate(points):
        configuration = problem.space.decode(point)
        values = benchmark.evaluate(configuration, 1.0)
        assert values is not None
        seen = Observation(problem.full_fidelity, values)
        trials.append(Trial(-1 - number, configuration, (seen,)))
    return tuple(trials)


def warm(count: int, **changes: Any) -> Problem:
    problem = BRANIN_CURRIN.problem(**changes)
    return replace(problem, earlier=earlier(BRANIN_CURRIN, problem, count))


@pytest.mark.parametrize("changes", [{}, WITHOUT_FIDELITY], ids=["rungs", "no fidelity"])
def test_the_model_proposes_from_the_first_trial_on(changes: dict[str, Any]) -> None:
    first, second = suggest(warm(12, **changes), [], 2, 0)
    assert (first.trial, second.trial) == (0, 1)
    assert first.explanation["stage"] == second.explanation["stage"] == "Optimizing"
    assert "fallback" not in first.explanation


def test_a_little_of_earlier_studies_does_not_replace_the_initial_design() -> None:
    (suggestion,) = suggest(warm(1, **WITHOUT_FIDELITY), [], 1, 0)
    assert suggestion.explanation["stage"] == "InitialDesign"


def test_they_are_on_no_front_and_count_for_nothing_that_is_spent() -> None:
    history = History.of(warm(12), [])
    assert len(history.sound()) == 12
    assert history.complete() == history.feasible() == history.partial() == ()
    assert history.spent(with_running=True) == 0.0
    assert history.known() == set()
    assert history.spent_earlier() == 12.0


def test_a_whole_study_goes_on_from_them_and_sooner_reaches_a_front() -> None:
    better = 0
    for seed in range(3):
        cold = Simulation(BRANIN_CURRIN, BRANIN_CURRIN.problem(**WITHOUT_FIDELITY), seed=seed)
        started = Simulation(BRANIN_CURRIN, warm(12, **WITHOUT_FIDELITY), seed=seed)
        assert len(started.run(4).trials) == 4
        better += started.hypervolume() > cold.run(4).hypervolume()
    assert better == 3


@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param({"name": "random"}, id="random"),
        pytest.param({"name": "moasha"}, id="moasha"),
        pytest.param({"name": "parego"}, id="parego"),
        pytest.param({"name": "primo", "settings": {"paper": True}}, id="paper"),
    ],
)
def test_other_algorithms_leave_them_alone(algorithm: dict[str, Any]) -> None:
    changes = {**WITHOUT_FIDELITY, "algorithm": algorithm}
    cold = BRANIN_CURRIN.problem(**changes)
    # As many as the longest initial design has, and some more.
    own = [replace(trial, number=-1 - trial.number) for trial in earlier(BRANIN_CURRIN, cold, 9)]
    for trials in ([], own):
        assert suggest(warm(12, **changes), trials, 2, 0) == suggest(cold, trials, 2, 0)
    assert not learns_from_earlier(cold)
    assert learns_from_earlier(BRANIN_CURRIN.problem())


@pytest.mark.parametrize("own_trials", [0, 12])
def test_where_earlier_trials_failed_success_is_less_likely(own_trials: int) -> None:
    problem = warm(12, **WITHOUT_FIDELITY)
    corner = [Trial(-20 - i, {"x": 0.9 + i / 100, "y": 0.9}, failed="x") for i in range(3)]
    problem = replace(problem, earlier=(*problem.earlier, *corner))
    own = [replace(t, number=-1 - t.number) for t in earlier(BRANIN_CURRIN, problem, own_trials)]
    surrogate = Surrogate.of(History.of(problem, own))
    near, far = problem.space.encode_all([{"x": 0.92, "y": 0.91}, {"x": 0.2, "y": 0.3}])[:, None]
    assert surrogate.log_success(near) < surrogate.log_success(far) - 1


def on_a_line(count: int, loss: Callable[[float], float], first: int = 0) -> tuple[Trial, ...]:
    return tuple(
        Trial(first + i, {"x": x, "y": 0.5}, (Observation(None, {"loss": loss(x)}),))
        for i, x in enumerate(np.linspace(0, 1, count).tolist())
    )


@pytest.mark.parametrize(
    "theirs",
    [
        pytest.param(lambda x: (x - 0.8) ** 2, id="another optimum"),
        pytest.param(lambda x: (x - 0.2) ** 2 + 0.3, id="another level"),
    ],
)
@pytest.mark.parametrize("many", [20, 200])
def test_a_few_own_trials_count_for_more_than_many_earlier_ones(
    many: int, theirs: Callable[[float], float]
) -> None:
    problem = replace(ONE.problem(), earlier=on_a_line(many, theirs, first=-many))
    own = on_a_line(5, lambda x: (x - 0.2) ** 2)
    x = np.linspace(0, 0.7, 15)  # beyond it all is as bad
    points = problem.space.encode_all([{"x": at, "y": 0.5} for at in x])
    losses = Surrogate.of(History.of(problem, own)).predict(points).losses()[:, 0]
    assert np.abs(losses - (x - 0.2) ** 2).max() < 0.05


def test_own_trials_are_learnt_from_before_very_many_earlier_ones() -> None:
    problem = replace(ONE.problem(), earlier=on_a_line(1100, lambda x: x, first=-1100))
    model = Surrogate.of(History.of(problem, on_a_line(5, lambda x: x + 5))).model
    assert len(model.X) == 1000
    assert model.X[:, -1].sum() == 5


# --- in a notebook


def told(fidelity: Any = 27, **values: Any) -> Trial:
    seen = Observation(fidelity, {"branin": 0.1, "currin": 0.2, **values})
    return Trial(0, {"x": 0.5, "y": 0.5}, (seen,))


def test_a_notebook_learns_from_another_and_goes_on_tomorrow() -> None:
    problem = warm(12)
    opt = AskTell.from_spec(BRANIN_CURRIN.spec)
    opt.learn_from(problem.earlier)
    restored = AskTell.restore(opt.state())
    assert opt.ask(2) == restored.ask(2) == suggest(problem, [], 2, 0)
    assert opt.front() == []


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        (Trial(0, {"x": 0.5}), "trials[1].configuration.y: is missing"),
        (told(currin=None), "trials[1].observations[0].values.currin: is missing"),
        (
            told(currin=float("nan")),
            "trials[1].observations[0].values.currin: nan is not a finite number",
        ),
        (told(currin="a"), "trials[1].observations[0].values.currin: 'a' is not a finite number"),
        (told(0), "trials[1].observations[0].fidelity: 0 is not above 0"),
        (told(-1), "trials[1].observations[0].fidelity: -1 is not above 0"),
        (told("q"), "trials[1].observations[0].fidelity: 'q' is not a finite number"),
        (told(None), "trials[1].observations[0].fidelity: is missing"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_changes(trial: Trial, message: str) -> None:
    opt = AskTell.from_spec(BRANIN_CURRIN.spec)
    with pytest.raises(InvalidSpecError) as caught:
        opt.learn_from([told(), trial])
    assert caught.value.problems == (message,)
    assert opt.problem.earlier == ()
