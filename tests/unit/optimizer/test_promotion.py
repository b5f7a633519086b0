"""Who goes on when no new trials may begin."""

from typing import Any

import pytest

from primo_optimizer import Observation, Problem, Trial, suggest
from support.problems import BRANIN_CURRIN

PAPER = {"name": "primo", "settings": {"paper": True}}
PRIMO = {"name": "primo", "settings": {"initialDesign": 0}}
RUNGS = (1, 3, 9, 27)


def _finished(number: int, *rungs: int) -> Trial:
    x = (number + 0.5) / 18
    seen = tuple(
        Observation(rung, {"branin": x + 1 / rung, "currin": 2 * x + 1 / rung}) for rung in rungs
    )
    return Trial(number, {"x": x, "y": 1 - x}, seen, fidelity=rungs[-1])


def _promoted(trial: Trial, fidelity: float | None) -> Trial:
    done = next(i for i, rung in enumerate(RUNGS) if rung == fidelity)
    return _finished(trial.number, *RUNGS[: done + 1])


@pytest.mark.parametrize("algorithm", [{"name": "moasha"}, PRIMO, PAPER], ids=str)
def test_with_the_last_trial_begun_the_better_ones_still_reach_the_top(
    algorithm: dict[str, Any],
) -> None:
    problem = BRANIN_CURRIN.problem(algorithm=algorithm)
    trials = {n: _finished(n, 1) for n in range(9)}
    while suggestions := suggest(problem, list(trials.values()), 2, 0, new_trials=0):
        for s in suggestions:
            assert s.resume_from is not None
            trials[s.trial] = _promoted(trials[s.trial], s.fidelity)
    reached = [trial.fidelity or 0 for trial in trials.values()]
    assert sum(fidelity >= 3 for fidelity in reached) >= 3
    assert trials[0].fidelity >= 9, "the best of the three that reached 3"
    assert sum(fidelity == 1 for fidelity in reached) >= 1, "not all go on"


@pytest.mark.parametrize("name", ["random", "parego", "qlognehvi"])
def test_what_evaluates_in_full_only_then_has_nothing_to_do(name: str) -> None:
    problem = BRANIN_CURRIN.problem(algorithm={"name": name})
    trials = [_finished(n, 27) for n in range(9)]
    assert suggest(problem, trials, 2, 0, new_trials=0) == []


@pytest.mark.parametrize("algorithm", [{"name": "moasha"}, PRIMO], ids=str)
def test_a_limit_leaves_the_first_new_trials_as_they_are(algorithm: dict[str, Any]) -> None:
    problem = BRANIN_CURRIN.problem(algorithm=algorithm)
    trials = [_finished(n, 1) for n in range(2)]
    free, limited = (suggest(problem, trials, 3, 0, new_trials=n) for n in (None, 1))
    assert limited == [s for s in free if s.resume_from is None][:1]


def test_fewer_than_no_new_trials_are_none() -> None:
    assert suggest(BRANIN_CURRIN.problem(), [], 3, 0, new_trials=-1) == []


@pytest.mark.parametrize("algorithm", [{"name": "moasha"}, PRIMO, PAPER], ids=str)
def test_one_that_waits_below_the_only_rung_goes_on_when_nothing_else_is_left(
    algorithm: dict[str, Any],
) -> None:
    spec = {
        "objectives": [{"name": "loss"}],
        "parameters": [{"name": "k", "int": {"min": 0, "max": 1}}],
        "fidelity": {"name": "epochs", "min": 20, "max": 50},
        "algorithm": algorithm,
    }
    added = Trial(0, {"k": 0}, (Observation(20, {"loss": 0.0}),), fidelity=20)
    done = Trial(1, {"k": 1}, (Observation(50, {"loss": 0.0}),), fidelity=50)
    (found,) = suggest(Problem.from_spec(spec), [added, done], 1, 0)
    assert (found.trial, found.fidelity, found.resume_from) == (0, 50, 20)
