"""Who is promoted, and where new configurations come from."""

from typing import Any

import numpy as np
import pytest

from primo_optimizer import Observation, Problem, Trial, suggest
from support.problems import BRANIN_CURRIN, DISK, TRAINING, Simulation

MOASHA = {"name": "moasha"}


def _problem(**changes: Any) -> Problem:
    return BRANIN_CURRIN.problem(algorithm=MOASHA, **changes)


@pytest.mark.parametrize("workers", [1, 4])
def test_who_goes_on_is_among_the_best_third_of_all_who_finished_the_rung(workers: int) -> None:
    study = Simulation(BRANIN_CURRIN, _problem(), workers).run(8)
    promotions = [(ask, s) for ask in study.asks for s in ask.suggestions if s.resume_from]
    assert {s.fidelity for _, s in promotions} == {3, 9, 27}
    for ask, s in promotions:
        seen = {t.number: o for t in ask.trials if (o := t.at(s.resume_from))}
        losses = study.problem.losses([o.values for o in seen.values()])
        ours = study.problem.losses([seen[s.trial].values])
        dominating = (losses <= ours).all(axis=1) & (losses < ours).any(axis=1)
        assert dominating.sum() < len(losses) // 3


def test_priors_play_no_part() -> None:
    with_priors, without = (
        TRAINING.problem(algorithm=MOASHA, **changes) for changes in ({}, {"priors": None})
    )
    assert suggest(with_priors, [], 9, 0) == suggest(without, [], 9, 0)


def test_without_a_fidelity_every_quarter_of_each_parameter_is_looked_at() -> None:
    problem = _problem(fidelity=None)
    points = np.array([problem.space.encode(s.configuration) for s in suggest(problem, [], 4, 0)])
    quarters = np.sort(np.floor(4 * points), axis=0)
    assert quarters.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]


def _seen(number: int, branin: float, currin: float, distance: float) -> Trial:
    seen = Observation(1, {"branin": branin, "currin": currin}, {"distance": distance})
    return Trial(number, {"x": 0.1 * number, "y": 0.5}, (seen,), fidelity=1)


@pytest.mark.parametrize(
    ("rows", "promoted"),
    [
        pytest.param([(1, 1, 90), (9, 9, 50), (2, 2, 60)], 1, id="the only feasible one"),
        pytest.param([(9, 9, 50), (1, 1, 90), (5, 5, 40)], 2, id="of the feasible the best"),
        pytest.param([(1, 1, 90), (9, 9, 60), (2, 2, 70)], 1, id="none is: the least off"),
        pytest.param([(1, 1, 1e308), (9, 9, 1e307), (2, 2, 1e308)], 1, id="far off"),
        pytest.param([(-1e308, 1e308, 90), (1e308, 1e308, 9), (0, 0, 80)], 1, id="huge losses"),
    ],
)
def test_whoever_keeps_the_constraints_goes_on_first(
    rows: list[tuple[float, float, float]], promoted: int
) -> None:
    problem = DISK.problem(algorithm=MOASHA)
    (suggestion,) = suggest(problem, [_seen(i, *row) for i, row in enumerate(rows)], 1, 0)
    assert (suggestion.trial, suggestion.resume_from) == (promoted, 1)


def test_it_finds_more_than_random_search() -> None:
    def found(name: str, seed: int) -> float:
        problem = BRANIN_CURRIN.problem(algorithm={"name": name})
        return Simulation(BRANIN_CURRIN, problem, seed=seed).run(12).hypervolume()

    ahead = [found("moasha", seed) > 1.1 * found("random", seed) for seed in range(6)]
    assert sum(ahead) >= 4
