"""What the observations of a study let us expect at full fidelity, in losses.

One Gaussian process for each objective, over the trials at *all* fidelities: low rungs are most of
what has been seen, and leaving them out, as the paper does, is paid with a tenth of the attainable
hypervolume in our measurements.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from primo_optimizer.history import History
from primo_optimizer.pareto import best_first
from primo_optimizer.transforms import OutputTransform, bounded

if TYPE_CHECKING:
    from primo_optimizer.gp.model import Model

# Cubic in the number of observations: beyond this many, the lowest and worst are left out.
MAX_ROWS = 400
# No region is given up for good: some failures are accidents.
LEAST_SUCCESS = 1e-3


class NothingLearntError(Exception):
    """The observations do not determine a model; the search falls back and says why."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Fitted models.

    Attributes:
        columns: of the m objectives, those that vary; the others have nothing to be learnt.
        transforms: one for each of these.
        constants: (m,) the value of those that do not vary; NaN for the others.
        success: of 1 for trials that can be run and 0 for failed ones; None if it is all the same.
    """

    model: "Model"
    columns: NDArray[np.int64]
    transforms: tuple[OutputTransform, ...]
    constants: NDArray[np.float64]
    success: "Model | None"

    @classmethod
    def of(cls, history: History) -> "Surrogate":
        """Fit.

        Raises:
            NothingLearntError: too little, or nothing that varies, has been observed.
        """
        # torch takes a second to import, and nothing before the first model needs it.
        from primo_optimizer.gp.model import SingularModelError, fit
        from primo_optimizer.gp.threads import single_thread

        X, s, losses = _rows(history)
        if len(losses) < 2:
            raise NothingLearntError(f"{len(losses)} observations, a model needs 2")
        varies = losses.max(axis=0) > losses.min(axis=0)
        columns = np.flatnonzero(varies)
        if not len(columns):
            raise NothingLearntError("no objective varies")
        transforms = tuple(OutputTransform.of(losses[:, j]) for j in columns)
        Z = np.stack(
            [t.forward(losses[:, j]) for t, j in zip(transforms, columns, strict=True)], axis=1
        )
        if not (Z.std(axis=0) > 0.0).all():
            raise NothingLearntError("the objectives vary by rounding errors only")
        try:
            with single_thread():
                model = fit(X, s, Z, history.problem.space.categorical)
                success = _success(history)
        except SingularModelError as error:
            raise NothingLearntError(str(error)) from error
        constants = np.where(varies, np.nan, losses[0])
        return cls(model, columns, transforms, constants, success)

    def given(self, X: NDArray[np.float64]) -> "Surrogate":
        """With (p, d) pending points taken as observed at full fidelity as predicted.

        Raises:
            NothingLearntError: with them the models are singular.
        """
        from primo_optimizer.gp.model import SingularModelError
        from primo_optimizer.gp.threads import single_thread

        try:
            with single_thread():
                return replace(self, model=self.model.given(X))
        except SingularModelError as error:
            raise NothingLearntError(str(error)) from error

    def predict(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of the transformed losses that vary; each (n, v)."""
        from primo_optimizer.gp.threads import single_thread

        with single_thread():
            return self.model.predict(X)

    def log_success(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) log probability that a run does not fail; 0 while that cannot be learnt."""
        from primo_optimizer.gp.threads import single_thread

        if self.success is None:
            return np.zeros(len(X))
        with single_thread():
            mean, std = self.success.predict(X)
        likely = ndtr((mean[:, 0] - 0.5) / std[:, 0])
        return np.asarray(np.log(np.maximum(likely, LEAST_SUCCESS)), dtype=np.float64)

    def losses(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transformed losses (..., v) as losses."""
        parts = [t.backward(z[..., k]) for k, t in enumerate(self.transforms)]
        return np.stack(parts, axis=-1)


def _success(history: History) -> "Model | None":
    """A regression on labels: cruder than a classifier, and as good on a handful of failures."""
    from primo_optimizer.gp.model import fit

    failed = [trial for trial in history.trials if trial.failed is not None]
    sound = list(history.sound())
    if not failed or not sound:
        return None
    X = history.encode([*failed, *sound][:MAX_ROWS])
    labels = np.array([0.0] * len(failed) + [1.0] * len(sound))[: len(X), None]
    if labels.min() == labels.max():
        return None
    return fit(X, None, labels, history.problem.space.categorical)


def _rows(
    history: History,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64]]:
    """X (n, d), s (n,) in [0, 1] or None, losses (n, m): one row for each observation."""
    seen = [(trial, o) for trial in history.sound() for o in trial.observations]
    X = history.encode([trial for trial, _ in seen])
    losses = bounded(history.problem.losses([o.values for _, o in seen]))
    s = np.array([_depth(history, o.fidelity) for _, o in seen])
    if len(seen) > MAX_ROWS:
        place = np.empty(len(seen))
        place[best_first(losses)] = np.arange(len(seen))
        keep = np.sort(np.lexsort((place, -s))[:MAX_ROWS])
        X, s, losses = X[keep], s[keep], losses[keep]
    return X, s if len(history.rungs) > 1 else None, losses


def _depth(history: History, fidelity: float | None) -> float:
    """0 at the lowest rung, 1 at full fidelity, on the log scale."""
    if len(history.rungs) < 2 or fidelity is None:
        return 1.0
    low, high = math.log(history.rungs[0]), math.log(history.rungs[-1])
    return min(max((math.log(fidelity) - low) / (high - low), 0.0), 1.0)
