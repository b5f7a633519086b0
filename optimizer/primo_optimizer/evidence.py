"""What full evaluations have shown, as models of them are learnt from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.history import History
from primo_optimizer.pareto import best_first, non_dominated
from primo_optimizer.problem import Problem
from primo_optimizer.transforms import bounded, cut

if TYPE_CHECKING:
    from primo_optimizer.gp.botorch_models import Data

# Models are cubic in the number of observations: beyond this many, the worst are left out.
MAX_ROWS = 400


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was observed at full fidelity, at least once and at most `MAX_ROWS` of it.

    The best rows are first: feasible ones before others, which follow by how far they are off, and
    the front before what it dominates.

    Attributes:
        X: (n, d) in the unit cube.
        losses: (n, m).
        slacks: (n, bounds), above 0 where a constraint is broken.
        violation: (n,), 0 for a feasible row.
        failed: (f, d).
    """

    X: NDArray[np.float64]
    losses: NDArray[np.float64]
    slacks: NDArray[np.float64]
    violation: NDArray[np.float64]
    failed: NDArray[np.float64]

    @classmethod
    def of(cls, history: History) -> "Evidence":
        problem, trials = history.problem, history.complete()
        seen = [o for trial in trials if (o := trial.at(history.full)) is not None]
        losses = bounded(problem.losses([o.values for o in seen]))
        rows = [_slacks(problem, o.constrained) for o in seen]
        slacks = bounded(np.array(rows, dtype=np.float64).reshape(len(seen), -1))
        violation = np.array([problem.violation(o.constrained) for o in seen])
        failed = [trial for trial in history.trials if trial.failed is not None]
        best = _best_first(losses, violation)[:MAX_ROWS]
        return cls(
            X=history.encode(trials)[best],
            losses=losses[best],
            slacks=slacks[best],
            violation=violation[best],
            failed=history.encode(failed[-MAX_ROWS:]),
        )

    def front(self) -> NDArray[np.float64]:
        """(k, m) losses of the feasible front; without a feasible row, that of all rows."""
        feasible = self.losses[self.violation <= 0.0]
        losses = feasible if len(feasible) else self.losses
        return losses[non_dominated(losses)]

    def data(self, losses: NDArray[np.float64]) -> "Data":
        """To learn these (n, v) losses from, together with the constraints and failures."""
        from primo_optimizer.gp.botorch_models import Data

        slacks = self.slacks[:, varies(self.slacks)]
        columns = [cut(column) for column in slacks.T]
        slacks = np.array(columns).T if columns else slacks
        return Data(self.X, losses, slacks, self.failed)


def varies(columns: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(k,) of (n, k), n at least 1: whether there is anything to be learnt of a column."""
    # The deviation of equal numbers need not be 0, and that of tiny ones may be.
    unequal = columns.max(axis=0) > columns.min(axis=0)
    return np.asarray(unequal & (columns.std(axis=0) > 0.0), dtype=np.bool_)


def _slacks(problem: Problem, constrained: Mapping[str, float]) -> list[float]:
    slacks = []
    for constraint in problem.constraints:
        value = constrained[constraint.metric]
        if constraint.at_most is not None:
            slacks.append(value - constraint.at_most)
        if constraint.at_least is not None:
            slacks.append(constraint.at_least - value)
    return slacks


def _best_first(losses: NDArray[np.float64], violation: NDArray[np.float64]) -> NDArray[np.int64]:
    """Row numbers."""
    return np.lexsort((places(losses, violation), violation))


def places(losses: NDArray[np.float64], violation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) the lower the better; the front is spread out, the others go by mean rank behind it."""
    place = len(losses) + losses.argsort(axis=0).argsort(axis=0).mean(axis=1)
    feasible = np.flatnonzero(violation <= 0.0)
    front = feasible[non_dominated(losses[feasible])]
    place[front[best_first(losses[front])]] = np.arange(len(front))
    return np.asarray(place, dtype=np.float64)
