"""The one call of this package, and the algorithms behind it by name.

An algorithm is a function, not an object: it is given everything at each ask and keeps nothing, so
a restart, a second replica and a benchmark are all the same thing to it.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from operator import attrgetter
from typing import Protocol

from primo_optimizer.errors import InvalidSpecError, PrimoError
from primo_optimizer.history import History
from primo_optimizer.problem import Problem
from primo_optimizer.promotion import earned
from primo_optimizer.trial import Suggestion, Trial


class SpaceExhaustedError(PrimoError):
    """Every configuration of a discrete space has been proposed, and none waits for promotion."""


class Optimizer(Protocol):
    """What every algorithm is.

    A pure function: equal arguments give equal suggestions, to the bit on one machine, whatever
    the process did before. Draws come from (seed, trial number). Running trials are pending
    points. A configuration is never proposed twice. With nothing to propose it returns nothing.

    It is given the trials in the order of their numbers. Beside it, its module has
    `check_settings(settings) -> list[str]`: a message for each setting at fault; and where it has
    models, `load(problem)`: imports what they are computed with.
    """

    def __call__(
        self,
        problem: Problem,
        trials: Sequence[Trial],
        count: int,
        seed: int,
        next_number: int,
    ) -> list[Suggestion]: ...


# Imported when asked for: torch takes seconds, and most of what we run never needs it.
ALGORITHMS = {
    "primo": "primo_optimizer.primo",
    "moasha": "primo_optimizer.moasha",
    "parego": "primo_optimizer.parego",
    "qlognehvi": "primo_optimizer.qlognehvi",
    "random": "primo_optimizer.random_search",
}


def suggest(
    problem: Problem,
    trials: Sequence[Trial],
    count: int,
    seed: int,
    next_number: int | None = None,
    new_trials: int | None = None,
) -> list[Suggestion]:
    """What to run next.

    Args:
        trials: all of the study so far, running and failed ones too, in any order.
        count: how many runs may start now.
        seed: of the study; the same for each ask.
        next_number: the lowest number a new trial may get; by default one above all `trials`.
        new_trials: how many new trials there may still be; by default any number. Where the
            algorithm would begin more, trials go on that have earned it by successive halving.

    Returns:
        At most `count`; fewer when all that is left to do waits for running trials, or would be
        new trials beyond their limit.

    Raises:
        SpaceExhaustedError: nothing is running and there is nothing left to propose.
        DeviceError: torch cannot use the device that the settings name.
        InvalidSpecError: the algorithm has no such name, or not these settings.
    """
    check(problem)
    trials = [_whole(trial, problem) for trial in sorted(trials, key=attrgetter("number"))]
    first = max(trials[-1].number + 1 if trials else 0, next_number or 0)
    # As it was asked before a prior was added: an explanation can be checked at any time. Once for
    # all that is asked for: what lies ahead has been written by hand.
    counting = tuple(prior for prior in problem.priors if prior.from_trial <= first)
    problem = replace(problem, priors=counting)
    suggestions = algorithm(problem.algorithm)(problem, trials, count, seed, first)
    if count > 0 and not suggestions and not any(trial.running for trial in trials):
        raise SpaceExhaustedError(
            f"parameters: none of the {_count(problem)} is left to run, "
            f"{len(trials)} trials have had them"
        )
    return (
        suggestions
        if new_trials is None
        else _limited(History.of(problem, trials), suggestions, new_trials, first)
    )


def _count(problem: Problem) -> str:
    size = problem.space.size
    return f"{size:.0f} configurations" if math.isfinite(size) else "configurations"


def _whole(trial: Trial, problem: Problem) -> Trial:
    """Without observations that lack a metric: a record may have been written by hand."""
    whole = tuple(
        seen
        for seen in trial.observations
        if all(objective.name in seen.values for objective in problem.objectives)
        and all(constraint.metric in seen.constrained for constraint in problem.constraints)
    )
    return trial if len(whole) == len(trial.observations) else replace(trial, observations=whole)


def _limited(
    history: History, suggestions: Sequence[Suggestion], new_trials: int, first: int
) -> list[Suggestion]:
    """With promotions in place of new trials beyond the limit, if any are due."""
    new = [s for s in suggestions if s.resume_from is None and s.trial >= first]
    over = {s.trial: s for s in new[max(new_trials, 0) :]}
    if not over:
        return list(suggestions)
    kept = [s for s in suggestions if s.trial not in over]
    for suggestion in kept:
        history = history.after(suggestion)
    for left_out in over.values():
        promoted = earned(history, left_out.explanation["stage"])
        if promoted is None:
            break
        history = history.after(promoted)
        kept.append(promoted)
    return kept


def check(problem: Problem) -> None:
    """Look at `algorithm`, which `Problem.from_spec` takes as it is; cheap, imports no torch.

    Raises:
        InvalidSpecError: the algorithm has no such name, or not these settings.
    """
    algorithm(problem.algorithm)
    module = import_module(ALGORITHMS[problem.algorithm])
    if mistakes := module.check_settings(problem.settings):
        raise InvalidSpecError(*mistakes)


def load(problem: Problem) -> None:
    """Import what the algorithm's models are computed with, which else the first of them does.

    Raises:
        InvalidSpecError: the algorithm has no such name, or not these settings.
        DeviceError: torch cannot use the device that the settings name.
    """
    check(problem)
    module = import_module(ALGORITHMS[problem.algorithm])
    if hasattr(module, "load"):
        module.load(problem)


def learns_from_earlier(problem: Problem) -> bool:
    """Whether `problem.earlier` makes a difference to its algorithm."""
    return problem.algorithm == "primo" and not problem.settings.get("paper")


def algorithm(name: str) -> Optimizer:
    """The algorithm of this name.

    Raises:
        InvalidSpecError: there is none.
    """
    if name not in ALGORITHMS:
        known = ", ".join(ALGORITHMS)
        raise InvalidSpecError(f"algorithm.name: {name!r} is not one of {known}")
    found: Optimizer = import_module(ALGORITHMS[name]).suggest
    return found
