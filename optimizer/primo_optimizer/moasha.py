"""MOASHA: asynchronous successive halving over several objectives (arXiv 2106.12639).

New configurations are spread out over the space; of those that finish a rung the best 1/eta go on,
by non-dominated sorting and an ε-net. Whoever breaks a constraint comes after all who keep them.
There is no model; priors and preferences are not used. Without a fidelity it is a space-filling
search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer import initial_design
from primo_optimizer.history import History
from primo_optimizer.problem import Problem
from primo_optimizer.settings import unknown_settings
from primo_optimizer.transforms import bounded
from primo_optimizer.trial import Observation, Suggestion, Trial


def check_settings(settings: Mapping[str, Any]) -> list[str]:
    return unknown_settings("moasha", settings, ())


def suggest(
    problem: Problem, trials: Sequence[Trial], count: int, seed: int, next_number: int
) -> list[Suggestion]:
    history = History.of(problem, trials)
    suggestions: list[Suggestion] = []
    while len(suggestions) < count:
        suggestion = propose(history, seed, next_number)
        if suggestion is None:
            break
        history = history.after(suggestion)
        next_number = max(next_number, suggestion.trial + 1)
        suggestions.append(suggestion)
    return suggestions


def propose(history: History, seed: int, number: int) -> Suggestion | None:
    """A promotion, or a new trial with this number; None if nothing can be done now."""
    problem = replace(history.problem, priors=())
    ordered = replace(history, problem=problem, trials=_feasible_first(problem, history.trials))
    return initial_design.propose(ordered, seed, number)


def _feasible_first(problem: Problem, trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """With values that say so: infeasible ones are worse than any, the more they are off."""
    seen = [observation for trial in trials for observation in trial.observations]
    if not problem.constraints or not seen:
        return trials
    losses = bounded(problem.losses([observation.values for observation in seen]))
    violation = np.array([problem.violation(observation.constrained) for observation in seen])
    rank = np.unique(violation, return_inverse=True)[1]
    worst = losses.max(axis=0)
    behind = worst + np.maximum(np.abs(worst), 1.0) * (1.0 + rank[:, None])
    rows = iter(np.where(violation[:, None] > 0.0, behind, losses))
    return tuple(
        replace(
            trial,
            observations=tuple(_with_losses(problem, o, next(rows)) for o in trial.observations),
        )
        for trial in trials
    )


def _with_losses(
    problem: Problem, observation: Observation, losses: NDArray[np.float64]
) -> Observation:
    values = {
        objective.name: objective.sign * float(loss)
        for objective, loss in zip(problem.objectives, losses, strict=True)
    }
    return replace(observation, values=values)
