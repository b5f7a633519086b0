"""MOASHA: asynchronous successive halving over several objectives (arXiv 2106.12639).

New configurations are spread out over the space; of those that finish a rung the best 1/eta go on,
by non-dominated sorting and an ε-net. There is no model; priors and preferences are not used.
Without a fidelity it is a space-filling search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from primo_optimizer import initial_design
from primo_optimizer.history import History, in_turn
from primo_optimizer.problem import Problem
from primo_optimizer.settings import unknown_settings
from primo_optimizer.trial import Suggestion, Trial


def check_settings(settings: Mapping[str, Any]) -> list[str]:
    return unknown_settings("moasha", settings, ())


def suggest(
    problem: Problem, trials: Sequence[Trial], count: int, seed: int, next_number: int
) -> list[Suggestion]:
    history = History.of(problem, trials)
    return in_turn(history, count, next_number, lambda so_far, n: propose(so_far, seed, n))


def propose(history: History, seed: int, number: int) -> Suggestion | None:
    """A promotion, or a new trial with this number; None if nothing can be done now."""
    without_priors = replace(history, problem=replace(history.problem, priors=()))
    return initial_design.propose(without_priors, seed, number)
