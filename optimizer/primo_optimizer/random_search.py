"""Random search at full fidelity (Bergstra & Bengio, JMLR 2012), drawing from the priors if any.

A quarter of the draws is uniform; each of the others takes one of the priors with equal chance.
Without priors all are uniform. The baseline that everything else has to beat.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.priors import PriorDensity, densities
from primo_optimizer.problem import Problem
from primo_optimizer.rungs import ladder
from primo_optimizer.sampling import ATTEMPTS, first_unknown, point_rng, uniform
from primo_optimizer.settings import unknown_settings
from primo_optimizer.trial import Suggestion, Trial

UNIFORM_SHARE = 0.25


def check_settings(settings: Mapping[str, Any]) -> list[str]:
    return unknown_settings("random", settings, ())


def suggest(
    problem: Problem, trials: Sequence[Trial], count: int, seed: int, next_number: int
) -> list[Suggestion]:
    known = problem.space.keys(trial.configuration for trial in trials)
    priors = densities(problem)
    fidelity = ladder(problem.fidelity)[-1] if problem.fidelity else None
    suggestions: list[Suggestion] = []
    for number in range(next_number, next_number + count):
        rng = point_rng(seed, number)
        points, believed = _draws(problem, priors, rng)
        found = first_unknown(problem.space, known, points, rng)
        if found is None:
            break
        configuration, is_draw = found
        explanation: dict[str, Any] = {"stage": "InitialDesign", "origin": "Uniform"}
        if believed is not None and is_draw:
            explanation |= {"origin": "Prior", "prior": believed.objective}
        known.add(problem.space.key(configuration))
        suggestions.append(Suggestion(number, configuration, fidelity, None, explanation))
    return suggestions


def _draws(
    problem: Problem, priors: Sequence[PriorDensity], rng: np.random.Generator
) -> tuple[Iterator[NDArray[np.float64]], PriorDensity | None]:
    if not priors or rng.random() < UNIFORM_SHARE:
        return uniform(problem.space, rng), None
    believed = priors[int(rng.integers(len(priors)))]
    return iter(believed.sample(rng, ATTEMPTS)), believed
