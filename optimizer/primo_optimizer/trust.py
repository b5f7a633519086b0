"""How much the users' priors count in a step, by what has been observed.

The paper lets a prior's weight decay with the number of steps alone. Here a prior counts, besides,
as far as the models predict its region to be better than any other: one that is wrong loses its say
with the first observations.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.draws import Purpose, generator
from primo_optimizer.history import History
from primo_optimizer.priors import PriorDensity, densities
from primo_optimizer.surrogate import Surrogate

# Draws to tell how a prior's region compares with the space at large.
PRIOR_DRAWS = 48
# Share of prior draws predicted better than uniform ones: no better than chance, fully trusted.
CHANCE, TRUSTED = 0.5, 0.75
# Of the range of what is predicted: less than that is no difference.
ROUNDING = 1e-9
# A weight below it moves nothing.
LEAST_WEIGHT = 1e-3


@dataclass(frozen=True, slots=True)
class Say:
    """What is known about the users' priors in one step.

    Attributes:
        prior: the one that takes part; None if none does.
        weight: the exponent of its density, 0 to 1.
        epsilon: this step leaves the priors aside by chance.
        trust: objective -> how far the observations support its prior, 0 to 1.
    """

    prior: PriorDensity | None = None
    weight: float = 0.0
    epsilon: bool = False
    trust: Mapping[str, float] = field(default_factory=dict)


def say(
    history: History,
    surrogate: Surrogate,
    everywhere: NDArray[np.float64],
    epsilon: float,
    decay_from: float,
    seed: int,
    number: int,
) -> Say:
    """Whether a prior takes part in this step, which one, and how much it counts."""
    names = [history.problem.objectives[j].name for j in surrogate.columns]
    priors = [prior for prior in densities(history.problem) if prior.objective in names]
    if not priors:
        return Say()
    rng = generator(seed, number, Purpose.PRIOR)
    epsilon_step = bool(rng.random() < epsilon)
    chosen = int(rng.integers(len(priors)))
    trust = {}
    for prior in priors:
        drawn = history.problem.space.snap(prior.sample(rng, PRIOR_DRAWS))
        trust[prior.objective] = _trust(surrogate, names.index(prior.objective), drawn, everywhere)
    if epsilon_step:
        return Say(epsilon=True, trust=trust)
    prior = priors[chosen]
    steps = max(history.spent(with_running=False) - decay_from, 0.0)
    # A prior that was added later is as fresh as the others were after the initial design.
    steps = min(steps, history.spent(with_running=False, from_trial=prior.from_trial))
    weight = prior_weight(trust[prior.objective], steps, len(history.problem.space.parameters))
    return Say(prior, weight, trust=trust) if weight > LEAST_WEIGHT else Say(trust=trust)


def _trust(
    surrogate: Surrogate, column: int, drawn: NDArray[np.float64], everywhere: NDArray[np.float64]
) -> float:
    """0 to 1: how far configurations from the prior are predicted to be better than any others."""
    ours = surrogate.predict(drawn).mean[:, column]
    theirs = surrogate.predict(everywhere).mean[:, column]
    ahead = theirs[None, :] - ours[:, None]
    # Equal configurations, of which small spaces have many, tell nothing either way.
    equal = np.abs(ahead) <= ROUNDING * np.ptp(theirs)
    better = float((~equal & (ahead > 0.0)).mean() + 0.5 * equal.mean())
    return min(max((better - CHANCE) / (TRUSTED - CHANCE), 0.0), 1.0)


def prior_weight(trust: float, steps: float, d: int) -> float:
    """The exponent of a prior's density: the paper's exp(-n²/d), times trust.

    Args:
        trust: 0 takes the prior out.
        steps: full evaluations since the initial design.
        d: number of parameters.
    """
    return trust * math.exp(-(steps**2) / d)
