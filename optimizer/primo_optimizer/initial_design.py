"""PriMO's initial design: MOASHA (arXiv 2106.12639) over the rungs, started at the users' priors.

Whoever has earned it goes on to the next rung; else a new configuration starts at the lowest one:
the centre of each prior, then draws around them, then a space-filling sequence. The paper samples
uniformly here; centres and draws cost a lowest-rung run each and show the ends of the front at
once. Without a fidelity the one rung is the full evaluation, so draws are few: after the centres
comes one trial elsewhere, and priors that it refutes get none.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.history import History
from primo_optimizer.priors import PriorDensity, densities
from primo_optimizer.promotion import earned, unearned
from primo_optimizer.sampling import (
    ATTEMPTS,
    first_unknown,
    point_rng,
    space_filling,
    uniform,
)
from primo_optimizer.trial import Suggestion

STAGE = "InitialDesign"
DRAWS_PER_PRIOR = 2


def propose(history: History, seed: int, number: int) -> Suggestion | None:
    """A promotion, or a new trial with this number; None if nothing can be done now."""
    return earned(history, STAGE) or new_trial(history, seed, number) or unearned(history, STAGE)


def center(history: History, number: int) -> Suggestion | None:
    """The first centre of a prior that no trial has, at the lowest rung; None if there is none."""
    space, known = history.problem.space, history.known()
    for prior in densities(history.problem):
        configuration = space.decode(prior.center)
        if space.key(configuration) not in known:
            explanation = {"stage": STAGE, "origin": "PriorCenter", "prior": prior.objective}
            return _at_lowest(history, number, configuration, explanation)
    return None


def new_trial(history: History, seed: int, number: int) -> Suggestion | None:
    """At the lowest rung; None if every configuration is known."""
    if (at_center := center(history, number)) is not None:
        return at_center
    priors = densities(history.problem)
    space, known = history.problem.space, history.known()
    rng = point_rng(seed, number)
    drawn_from = _turn(history, priors)
    points = (
        iter(drawn_from.sample(rng, ATTEMPTS))
        if drawn_from
        else _spread_out(history, seed, _index(history, priors), rng)
    )
    found = first_unknown(space, known, points, rng)
    if found is None:
        return None
    configuration, is_draw = found
    explanation: dict[str, Any] = {"stage": STAGE, "origin": "Uniform"}
    if drawn_from and is_draw:
        explanation |= {"origin": "Prior", "prior": drawn_from.objective}
    return _at_lowest(history, number, configuration, explanation)


def _at_lowest(
    history: History, number: int, configuration: Any, explanation: dict[str, Any]
) -> Suggestion:
    if not history.rungs:
        return Suggestion(number, configuration, None, None, explanation)
    return Suggestion(number, configuration, history.rungs[0], None, explanation | {"rung": 0})


def _turn(history: History, priors: tuple[PriorDensity, ...]) -> PriorDensity | None:
    """Who gets a draw: after the centres each prior, one after the other."""
    position = len(history.trials)
    if not history.rungs:
        return next(iter(holding(history)), None) if position == len(priors) + 1 else None
    if len(priors) <= position < (1 + DRAWS_PER_PRIOR) * len(priors):
        return priors[position % len(priors)]
    return None


def holding(history: History) -> tuple[PriorDensity, ...]:
    """Priors that the first look has not refuted: their centres and one trial elsewhere.

    A prior is refuted by a better value of its objective where it expects one less than by chance,
    and as long as its centre has not been evaluated it does not hold either.
    """
    problem, priors = history.problem, densities(history.problem)
    first = replace(history, trials=history.trials[: len(priors) + 1]).complete()
    if not first:
        return ()
    names = [objective.name for objective in problem.objectives]
    losses, X = history.full_losses(first), history.encode(first)
    keys = [problem.space.key(trial.configuration) for trial in first]
    held = []
    for prior in priors:
        loss = losses[:, names.index(prior.objective)]
        center = problem.space.key(problem.space.decode(prior.center))
        unlikely = loss[prior.log_density(X) < 0.0]
        if center in keys and loss[keys.index(center)] <= unlikely.min(initial=np.inf):
            held.append(prior)
    return tuple(held)


def _index(history: History, priors: tuple[PriorDensity, ...]) -> int:
    """In the space-filling sequence."""
    others = (1 + DRAWS_PER_PRIOR) * len(priors) if history.rungs else len(priors)
    return max(len(history.trials) - others, 0)


def _spread_out(
    history: History, seed: int, index: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """The next point of the sequence; uniform ones if a trial has that configuration."""
    yield space_filling(history.problem.space, seed, index)
    yield from uniform(history.problem.space, rng)
