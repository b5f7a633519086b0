"""What every algorithm keeps to. A new one needs a class of two lines at the end of this file."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from primo_optimizer import (
    Categorical,
    Float,
    InvalidSpecError,
    Problem,
    SpaceExhaustedError,
    Suggestion,
    Trial,
    check,
    suggest,
)
from primo_optimizer.rungs import ladder, reached
from support.problems import (
    BRANIN_CURRIN,
    CONDITIONAL,
    DISK,
    LIMITED,
    ONE,
    THREE,
    TINY,
    TRAINING,
    Benchmark,
    Simulation,
    failing_where,
)

FRAGILE = failing_where(TRAINING, lambda c: c["lr"] > 0.01 or c["activation"] == "tanh")
WITHOUT_FIDELITY = {"fidelity": None}
NEVER_KEPT = [{"metric": "distance", "atMost": -1}]
PREFERENCES = {"weights": {"branin": 2, "currin": 1}, "scalarization": "Linear"}

# Benchmark, changes of its spec, workers, budget in full evaluations.
RUNS = [
    pytest.param(ONE, {}, 1, 8, id="one objective, no fidelity"),
    pytest.param(BRANIN_CURRIN, {}, 1, 6, id="two objectives, one worker"),
    pytest.param(TRAINING, {}, 4, 7, id="mixed space with priors, four workers"),
    pytest.param(TRAINING, WITHOUT_FIDELITY, 3, 10, id="mixed space, no fidelity"),
    pytest.param(FRAGILE, {}, 8, 9, id="many failures, eight workers"),
    pytest.param(THREE, {}, 2, 6, id="three objectives, broken fidelities"),
    pytest.param(LIMITED, {}, 2, 7, id="constraints and priors, mixed space"),
    pytest.param(DISK, {"constraints": NEVER_KEPT}, 2, 6, id="a constraint that nothing keeps"),
    pytest.param(CONDITIONAL, {}, 2, 6, id="conditional parameters and a prior on one"),
    pytest.param(BRANIN_CURRIN, {"preferences": PREFERENCES}, 2, 6, id="a preferred trade-off"),
]

# A model from the third trial on, and a rough one: what is looked at here does not depend on it.
SOON = MappingProxyType({"initialDesign": 2, "samples": 8})


class AlgorithmSuite:
    """Inherit it and name the algorithm.

    Attributes:
        steps: full evaluations beyond one for each worker, in place of the budgets below: for an
            algorithm that evaluates in full only and takes long to think.
    """

    name: str
    settings: Mapping[str, Any] = MappingProxyType({})
    steps: int | None = None

    @classmethod
    def algorithm(cls) -> dict[str, Any]:
        return {"name": cls.name, "settings": dict(cls.settings)}

    @classmethod
    def problem(cls, benchmark: Benchmark, changes: dict[str, Any]) -> Problem:
        return benchmark.problem(algorithm=cls.algorithm(), **changes)

    @classmethod
    def simulate(
        cls, benchmark: Benchmark, changes: dict[str, Any], workers: int, budget: float
    ) -> Simulation:
        study = Simulation(benchmark, cls.problem(benchmark, changes), workers)
        return study.run(cls.budget(workers, budget))

    @classmethod
    def budget(cls, workers: int, budget: float) -> float:
        return budget if cls.steps is None else workers + cls.steps

    @classmethod
    @cache
    def training(cls) -> Simulation:
        """Only to be looked at: several tests share it."""
        return cls.simulate(TRAINING, {}, 2, 7)

    @pytest.mark.parametrize(("benchmark_", "changes", "workers", "budget"), RUNS)
    def test_a_whole_study_keeps_the_contract(
        self, benchmark_: Benchmark, changes: dict[str, Any], workers: int, budget: float
    ) -> None:
        study = self.simulate(benchmark_, changes, workers, budget)
        assert study.spent >= self.budget(workers, budget), "the study got stuck"
        for ask in study.asks:
            assert 1 <= len(ask.suggestions) <= ask.count
            assert_sound(study.problem, ask.trials, ask.suggestions)
        assert_no_configuration_twice(study)
        self.assert_asks_are_repeatable(study)

    def assert_asks_are_repeatable(self, study: Simulation) -> None:
        """Whatever was asked in between, and in whichever order the trials come."""
        for ask in study.asks[-1 :: -max(len(study.asks) // 5, 1)]:
            shuffled = np.random.default_rng(0).permutation(len(ask.trials))
            again = suggest(study.problem, [ask.trials[i] for i in shuffled], ask.count, study.seed)
            assert [s.to_dict() for s in again] == [s.to_dict() for s in ask.suggestions]

    @pytest.mark.parametrize("benchmark_", [ONE, TRAINING], ids=["one objective", "mixed"])
    def test_many_at_once_are_the_same_as_one_after_the_other(self, benchmark_: Benchmark) -> None:
        study = self.training() if benchmark_ is TRAINING else self.simulate(benchmark_, {}, 2, 7)
        trials = list(study.trials.values())
        together = suggest(study.problem, trials, 3, 5)
        assert len(together) == 3
        for expected in together:
            (alone,) = suggest(study.problem, trials, 1, 5)
            assert alone == expected
            trials = with_running(trials, alone)

    def test_a_fresh_process_gives_the_same_answer(self) -> None:
        study = self.training()
        trials = [trial.to_dict() for trial in study.trials.values()]
        spec = {**TRAINING.spec, "algorithm": self.algorithm()}
        script = (
            "import json, sys; from primo_optimizer import Problem, Trial, suggest\n"
            "spec, trials = json.load(sys.stdin)\n"
            "found = suggest(Problem.from_spec(spec), map(Trial.from_dict, trials), 2, 3)\n"
            "json.dump([s.to_dict() for s in found], sys.stdout)"
        )
        fresh = subprocess.run(
            [sys.executable, "-c", script],
            input=json.dumps([spec, trials]),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        here = suggest(study.problem, list(study.trials.values()), 2, 3)
        assert json.loads(fresh.stdout) == [s.to_dict() for s in here]

    def test_another_seed_gives_another_answer(self) -> None:
        problem = self.problem(ONE, {})
        first, second = (suggest(problem, [], 5, seed) for seed in (1, 2))
        assert first != second

    def test_new_trials_are_numbered_from_next_number_on(self) -> None:
        problem = self.problem(ONE, {})
        assert [s.trial for s in suggest(problem, [], 3, 0)] == [0, 1, 2]
        assert [s.trial for s in suggest(problem, [], 3, 0, next_number=7)] == [7, 8, 9]
        known = [Trial(4, {"x": 0.5, "y": 0.5}, running=True)]
        assert [s.trial for s in suggest(problem, known, 2, 0, next_number=2)] == [5, 6]

    def test_asking_for_nothing_gives_nothing(self) -> None:
        assert suggest(self.problem(ONE, {}), [], 0, 0) == []

    @pytest.mark.parametrize("changes", [{}, WITHOUT_FIDELITY], ids=["rungs", "no fidelity"])
    @pytest.mark.parametrize("workers", [1, 4])
    def test_a_small_space_is_used_up_and_then_said_to_be(
        self, changes: dict[str, Any], workers: int
    ) -> None:
        study = Simulation(TINY, self.problem(TINY, changes), workers)
        with pytest.raises(SpaceExhaustedError, match="6 configurations"):
            study.run(100)
        assert len(study.trials) == 6
        full = study.problem.full_fidelity
        assert all(trial.at(full) is not None for trial in study.trials.values())
        assert_no_configuration_twice(study)

    def test_a_used_up_space_waits_for_what_runs(self) -> None:
        problem = self.problem(TINY, {})
        trials: list[Trial] = []
        while suggestions := suggest(problem, trials, 4, 0):
            for suggestion in suggestions:
                trials = with_running(trials, suggestion)
        assert len(trials) == 6

    def test_a_study_in_which_all_fails_goes_on(self) -> None:
        study = self.simulate(failing_where(TRAINING, lambda c: True), {}, 4, 1)
        assert study.spent >= 1
        assert all(trial.failed for trial in study.trials.values())

    def test_stopped_and_failed_trials_get_no_more_runs(self) -> None:
        study = self.training()
        trials = [
            replace(trial, failed="Lost") if trial.number % 2 else replace(trial, stopped=True)
            for trial in study.trials.values()
        ]
        suggestions = suggest(study.problem, trials, 4, 0)
        assert {s.trial for s in suggestions}.isdisjoint(study.trials)

    @pytest.mark.parametrize(
        ("benchmark_", "values"),
        [
            pytest.param(ONE, [[1.0]] * 6, id="constant"),
            pytest.param(ONE, [[1e308], [-1e308], [1e-300], [0.0], [5.0]], id="huge range"),
            pytest.param(ONE, [[1 + i * 1e-16] for i in range(6)], id="rounding errors"),
            pytest.param(ONE, [[0.0], [0.0], [0.0], [0.0], [0.0], [1e9]], id="one outlier"),
            pytest.param(ONE, [[3.0]], id="a single observation"),
        ],
    )
    def test_odd_values_do_no_harm(self, benchmark_: Benchmark, values: list[list[float]]) -> None:
        problem = self.problem(benchmark_, {})
        trials = observed(problem, values)
        for suggestion in suggest(problem, trials, 3, 0):
            assert_json(suggestion)

    def test_an_unknown_setting_is_refused_by_name(self) -> None:
        problem = ONE.problem(algorithm={"name": self.name, "settings": {"epsilonn": 1}})
        for call in (lambda: check(problem), lambda: suggest(problem, [], 1, 0)):
            with pytest.raises(InvalidSpecError, match=r"algorithm\.settings\.epsilonn: is not"):
                call()


def observed(problem: Problem, values: Sequence[Sequence[float]]) -> list[Trial]:
    """Finished trials at full fidelity, with random configurations."""
    rng = np.random.default_rng(3)
    trials = []
    for number, row in enumerate(values):
        configuration = problem.space.decode(rng.random(len(problem.space.parameters)))
        reported = {o.name: v for o, v in zip(problem.objectives, row, strict=True)}
        seen = {"fidelity": problem.full_fidelity, "values": reported}
        trials.append(
            Trial.from_dict(
                {
                    "number": number,
                    "configuration": configuration,
                    "observations": [seen],
                    "fidelity": problem.full_fidelity,
                }
            )
        )
    return trials


def with_running(trials: Sequence[Trial], suggestion: Suggestion) -> list[Trial]:
    old = next((t for t in trials if t.number == suggestion.trial), None)
    trial = old or Trial(suggestion.trial, suggestion.configuration)
    running = replace(trial, running=True, fidelity=suggestion.fidelity)
    return [*(t for t in trials if t.number != suggestion.trial), running]


def assert_sound(
    problem: Problem, trials: Sequence[Trial], suggestions: Sequence[Suggestion]
) -> None:
    known = {trial.number: trial for trial in trials}
    fidelities = ladder(problem.fidelity) if problem.fidelity else (None,)
    fresh = [s.trial for s in suggestions if s.trial not in known]
    first = max(known, default=-1) + 1
    assert fresh == list(range(first, first + len(fresh)))
    for suggestion in suggestions:
        assert_in_space(problem, suggestion)
        assert suggestion.fidelity in fidelities
        assert_json(suggestion)
        trial = known.get(suggestion.trial)
        if trial is None:
            assert suggestion.resume_from is None
            continue
        assert not trial.running
        assert not trial.stopped
        assert trial.failed is None
        assert suggestion.resume_from == reached(trial)
        assert suggestion.fidelity is not None
        assert suggestion.fidelity > (reached(trial) or 0.0)
        assert dict(suggestion.configuration) == dict(trial.configuration)


def assert_in_space(problem: Problem, suggestion: Suggestion) -> None:
    assert problem.space.configuration(suggestion.configuration) == suggestion.configuration
    for parameter in problem.space.parameters:
        if parameter.name not in suggestion.configuration:
            assert problem.space.conditions
            continue
        value = suggestion.configuration[parameter.name]
        match parameter:
            case Float():
                assert isinstance(value, float)
                assert parameter.low <= value <= parameter.high
            case Categorical():
                assert value in parameter.choices
            case _:
                assert value in parameter.values


def assert_json(suggestion: Suggestion) -> None:
    text = json.dumps(suggestion.to_dict(), allow_nan=False)
    assert Suggestion.from_dict(json.loads(text)) == suggestion
    explanation = suggestion.explanation
    assert explanation["stage"] in {"InitialDesign", "Optimizing"}
    assert explanation["origin"] in {"Uniform", "Prior", "PriorCenter", "Promotion", "Model"}
    assert len(json.dumps(explanation)) < 1536


def assert_no_configuration_twice(study: Simulation) -> None:
    keys = [study.problem.space.key(trial.configuration) for trial in study.trials.values()]
    assert len(set(keys)) == len(keys)
    runs = [(s.trial, s.fidelity) for s in study.suggestions]
    assert len(set(runs)) == len(runs)


class TestPrimo(AlgorithmSuite):
    name = "primo"


class TestRandom(AlgorithmSuite):
    name = "random"


class TestMoasha(AlgorithmSuite):
    name = "moasha"


class TestParego(AlgorithmSuite):
    name = "parego"
    settings = SOON
    steps = 2


class TestQlognehvi(AlgorithmSuite):
    name = "qlognehvi"
    settings = SOON
    steps = 2


class TestPaper(AlgorithmSuite):
    name = "primo"
    settings = MappingProxyType({"paper": True})
