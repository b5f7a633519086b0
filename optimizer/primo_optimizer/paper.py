"""PriMO as published (arXiv 2511.08371), for comparison; `primo` with the setting `paper`.

First MOASHA without priors, until five full evaluations' worth is spent. Then Bayesian
optimization at full fidelity alone: the losses are added up with random weights, drawn for each
step, and the expected improvement of that sum is multiplied by the density of a prior, drawn among
the users', to the power exp(-n²/d) after n steps in d parameters. A share epsilon of the steps
leaves the priors aside.

Where the authors' code differs from their paper, this is the paper: the exponent multiplies,
weights are new in each step, a rung promotes a share of all who finished it, a further run of a
trial costs what it adds, and everything follows from the trials and the seed.

What the paper leaves open, and what is done here:

- Uniform draws of the first stage are points of a scrambled Sobol sequence.
- The first stage goes on until there are two full evaluations, and counts runs under way as spent.
- A failed trial is no data for the sum of losses. Failures and constraints have models of their
  own, and the improvement counts as far as a configuration is likely to be feasible.
- Pending trials count as observed, in each sample of the posterior as it has them.
- A prior is drawn among those given, with fewer of them than objectives too.
- Configurations are valid and new before they are compared. When all are known, trials of the first
  stage are trained on.
- Where the user prefers a trade-off, its weights are taken; the losses are added up all the same.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer import candidates, moasha
from primo_optimizer.bayesian import SAMPLES, best_unknown, spread_out, step_of
from primo_optimizer.draws import Purpose, generator
from primo_optimizer.evidence import Evidence, varies
from primo_optimizer.history import History, in_turn
from primo_optimizer.priors import PriorDensity, densities
from primo_optimizer.problem import Problem
from primo_optimizer.surrogate import choices
from primo_optimizer.trial import Suggestion, Trial, rounded

EPSILON, INITIAL_DESIGN = 0.25, 5.0
# Full evaluations that a model needs.
MIN_COMPLETE = 2
PARENTS = 12
# An exponent below it takes the prior out.
LEAST_WEIGHT = 1e-4


def suggest(
    problem: Problem, trials: Sequence[Trial], count: int, seed: int, next_number: int
) -> list[Suggestion]:
    """As every algorithm; settings are `epsilon` and `initialDesign`."""

    history = History.of(problem, trials)
    return in_turn(history, count, next_number, lambda so_far, n: _propose(so_far, seed, n))


def _propose(history: History, seed: int, number: int) -> Suggestion | None:
    given = {k: v for k, v in history.problem.settings.items() if v is not None}
    steps = second_stage(history, float(given.get("initialDesign", INITIAL_DESIGN)))
    if steps is not None:
        epsilon = float(given.get("epsilon", EPSILON))
        draws = Draws.of(history, steps, epsilon, generator(seed, number, Purpose.PRIOR))
        if suggestion := _improve(history, draws, seed, number):
            return suggestion
    return moasha.propose(history, seed, number)


def second_stage(history: History, budget: float) -> int | None:
    """How many of its steps have been observed; None while the first stage goes on.

    The second stage starts new trials only. So all who were there when it began are the fewest
    trials, from the first on, that have spent the budget: nothing has to be remembered.
    """

    def over(n: int) -> bool:
        first = replace(history, trials=history.trials[:n])
        return first.spent(with_running=True) >= budget and len(first.complete()) >= MIN_COMPLETE

    n = bisect_left(range(len(history.trials) + 1), True, key=over)
    if n > len(history.trials):
        return None
    return len(replace(history, trials=history.trials[n:]).complete())


def prior_weight(steps: int, d: int) -> float:
    """The exponent of a prior's density after so many steps; 0 once it is negligible.

    Args:
        d: number of parameters.
    """
    weight = math.exp(-(steps**2) / d)
    return weight if weight >= LEAST_WEIGHT else 0.0


@dataclass(frozen=True, slots=True)
class Draws:
    """What chance decides in a step of the second stage.

    Attributes:
        weights: (m,) of the losses; they sum to 1.
        epsilon: the priors are left aside.
        prior: the one that takes part; None if none does.
        prior_weight: the exponent of its density.
    """

    weights: NDArray[np.float64]
    epsilon: bool
    prior: PriorDensity | None
    prior_weight: float

    @classmethod
    def of(cls, history: History, steps: int, epsilon: float, rng: np.random.Generator) -> "Draws":
        problem = history.problem
        drawn = rng.random(len(problem.objectives))
        weights = drawn / drawn.sum()
        if problem.preference is not None:
            weights = np.array(problem.preference.weights)
        aside = bool(rng.random() < epsilon)
        lasting = [] if aside else _lasting(history, steps)
        prior, weight = None, prior_weight(steps, len(problem.space.parameters))
        if lasting:
            prior, weight = lasting[int(rng.integers(len(lasting)))]
        return cls(weights, aside, prior, weight)

    def explain(self, problem: Problem) -> dict[str, Any]:
        explanation: dict[str, Any] = {}
        if len(self.weights) > 1:
            names = [objective.name for objective in problem.objectives]
            explanation["weights"] = dict(zip(names, map(rounded, self.weights), strict=True))
        if problem.priors:
            explanation |= {"epsilon": self.epsilon, "priorWeight": rounded(self.prior_weight)}
        if self.prior is not None:
            explanation["prior"] = self.prior.objective
        return explanation


def _lasting(history: History, steps: int) -> list[tuple[PriorDensity, float]]:
    """The priors that still count, and how much; one that was added later counts for longer."""
    complete, d = history.complete(), len(history.problem.space.parameters)
    weighted = []
    for prior in densities(history.problem):
        since = sum(trial.number >= prior.from_trial for trial in complete)
        if weight := prior_weight(min(steps, since), d):
            weighted.append((prior, weight))
    return weighted


def _improve(history: History, draws: Draws, seed: int, number: int) -> Suggestion | None:
    """None if every configuration is known."""
    from primo_optimizer.gp.model import SingularModelError

    try:
        found = _maximize(history, draws, seed, number)
    except SingularModelError as error:
        found = str(error)
    if isinstance(found, str):
        return spread_out(history, seed, number, stage="Optimizing", fallback=found)
    return found


def _maximize(history: History, draws: Draws, seed: int, number: int) -> Suggestion | str:
    """The best new configuration, or why there is none."""
    from primo_optimizer.gp.botorch_models import Models

    problem, evidence = history.problem, Evidence.of(history)
    losses = evidence.losses @ draws.weights
    if not varies(losses[:, None])[0]:
        return "no objective varies"
    models = Models.fit(evidence.data(losses[:, None]), choices(problem), matern=True)
    acquisition = models.improvement(step_of(history, evidence, SAMPLES, seed, number))

    def score(X: NDArray[np.float64]) -> NDArray[np.float64]:
        if draws.prior is None:
            return acquisition(X)
        return acquisition(X) + draws.prior_weight * draws.prior.log_density(X)

    parents = evidence.X[np.argsort(losses, kind="stable")[:PARENTS]]
    rng = generator(seed, number, Purpose.CANDIDATES)
    points, _ = candidates.ranked(problem.space, score, parents, draws.prior, rng)
    new = best_unknown(history, points)
    if new is None:
        return "all configurations in reach are known"
    row, configuration = new
    point = points[row, None]
    mean, std = models.predict(point)
    explanation = {
        "stage": "Optimizing",
        "origin": "Model",
        "acquisition": rounded(acquisition(point)[0]),
        "weightedSum": {"mean": rounded(mean[0, 0]), "std": rounded(std[0, 0])},
        **draws.explain(problem),
    }
    return Suggestion(number, configuration, history.full, None, explanation)
