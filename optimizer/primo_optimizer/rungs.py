"""Rungs: the fidelities at which trials are compared, and who goes on from one to the next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.pareto import best_first
from primo_optimizer.problem import Fidelity, Problem
from primo_optimizer.transforms import bounded
from primo_optimizer.trial import Observation, Trial

ROUNDING = 1e-9


def ladder(fidelity: Fidelity) -> tuple[float, ...]:
    """The rungs from low to high, each `eta` times the one before; the last is `max`.

    Whole numbers where `min` and `max` are whole, rounded down, without repetition: 1 to 52 with
    eta 3 gives 1, 5, 17, 52.
    """
    steps = math.floor(math.log(fidelity.max / fidelity.min) / math.log(fidelity.eta) + ROUNDING)
    raw = [fidelity.max / fidelity.eta**k for k in range(steps, -1, -1)]
    if fidelity.min.is_integer() and fidelity.max.is_integer():
        whole = {max(math.floor(level + ROUNDING), int(fidelity.min)) for level in raw}
        return tuple(sorted(whole))
    return tuple(max(level, fidelity.min) for level in raw)


def promotable(
    losses: NDArray[np.float64], gone_on: NDArray[np.bool_], eta: float
) -> NDArray[np.int64]:
    """Who may leave a rung, best first: the asynchronous rule of ASHA (arXiv 1810.05934).

    Of *all* n trials that ever finished the rung the best n/eta go on, rounded down. Taking those
    who have gone on out of the count, as some implementations do, promotes nearly everyone.

    Args:
        losses: (n, m) at this rung; NaN for a trial that failed here.
        gone_on: (n,) who has been promoted before, or may not be.

    Returns:
        Row numbers.
    """
    best = best_first(losses)[: math.floor(len(losses) / eta + ROUNDING)]
    fit = ~gone_on[best] & ~np.isnan(losses[best]).any(axis=-1)
    return best[fit]


@dataclass(frozen=True, slots=True)
class Rung:
    """Who finished a rung, and how.

    Attributes:
        index: from 0, the lowest.
        trials: n trials that were observed here, or failed on the way here.
        losses: (n, m); NaN for a failed one.
        gone_on: (n,) whoever has been observed beyond this rung, runs now, or gets no further runs.
    """

    index: int
    trials: tuple[Trial, ...]
    losses: NDArray[np.float64]
    gone_on: NDArray[np.bool_]

    def waiting(self) -> list[Trial]:
        """Who could go on from here, best first, whether or not it has earned it."""
        return [self.trials[i] for i in best_first(self.losses) if not self.gone_on[i]]


def table(problem: Problem, rungs: Sequence[float], trials: Sequence[Trial]) -> tuple[Rung, ...]:
    """The rungs with their trials; `trials` in order of their numbers.

    An observation between two rungs counts on the lower one. One below the lowest counts there, if
    the trial was not trained further. Whoever breaks a constraint comes after all who keep them, by
    how far it is off (Deb 2000): its losses say so.
    """
    bounds = [*rungs, math.inf]
    trials = _feasible_first(problem, trials)
    return tuple(_rung(problem, k, (bounds[k], bounds[k + 1]), trials) for k in range(len(rungs)))


def _feasible_first(problem: Problem, trials: Sequence[Trial]) -> Sequence[Trial]:
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


def _rung(
    problem: Problem, index: int, share: tuple[float, float], trials: Sequence[Trial]
) -> Rung:
    members, rows, gone_on = [], [], []
    nothing = [math.nan] * len(problem.objectives)
    for trial in trials:
        seen = _first_within(trial, share)
        if seen is None and index == 0 and is_open(trial):
            seen = _first_within(trial, (0.0, share[0]))
        if seen is not None:
            rows.append(problem.losses([seen.values])[0].tolist())
        elif trial.failed is not None and share[0] <= (trial.fidelity or 0.0) < share[1]:
            rows.append(nothing)
        else:
            continue
        members.append(trial)
        gone_on.append(not is_open(trial) or (reached(trial) or 0.0) >= share[1])
    losses = np.array(rows, dtype=np.float64).reshape(len(rows), len(nothing))
    return Rung(index, tuple(members), losses, np.array(gone_on, dtype=np.bool_))


def _first_within(trial: Trial, share: tuple[float, float]) -> Observation | None:
    fits = (o for o in trial.observations if share[0] <= (o.fidelity or 0.0) < share[1])
    return next(fits, None)


def is_open(trial: Trial) -> bool:
    """It may get a further run."""
    return not trial.running and not trial.stopped and trial.failed is None


def reached(trial: Trial) -> float | None:
    """The highest fidelity observed; None without a fidelity or an observation."""
    return max((o.fidelity for o in trial.observations if o.fidelity is not None), default=None)
