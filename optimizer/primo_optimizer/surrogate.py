"""What the observations of a study let us expect at full fidelity.

One Gaussian process for each objective and each constraint, over the trials at *all* fidelities:
low rungs are most of what has been seen, and leaving them out, as the paper does, is paid with a
tenth of the attainable hypervolume in our measurements.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from primo_optimizer.evidence import places
from primo_optimizer.history import History
from primo_optimizer.parameters import Categorical
from primo_optimizer.problem import Constraint, Problem
from primo_optimizer.rungs import reached
from primo_optimizer.transforms import OutputTransform, bounded
from primo_optimizer.trial import Observation, Trial

if TYPE_CHECKING:
    from primo_optimizer.gp.model import Model

# Cubic in the number of observations: beyond this many, what tells least is left out.
MAX_ROWS = 1000
# New hyperparameters with each observation up to so many, then with each tenth more.
REFIT_EACH_UP_TO, REFIT_RATIO = 20, 1.1
# No region is given up for good: some failures are accidents.
LEAST_SUCCESS = 1e-3
# The chance that a run does not fail counts to this power: one that fails is paid all the same.
CAUTION = 5.0
# The label of a trial that did not come as far as the first failure: it may fail there as well.
UNKNOWN = 0.5
# A constraint is measured: no gain, be it ever so large, makes up for one that is known to break.
# Below the least gain (`improvement.HOPE`), and well above the rounding of a probability.
LEAST_FEASIBLE = 1e-12


# What was observed, and of which trial; whether that is the study's own.
Seen = tuple[tuple[Trial, bool], Observation]


class NothingLearntError(Exception):
    """The observations do not determine a model; the search falls back and says why."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Fitted models of the outputs: m losses, then the values of the constraints.

    Attributes:
        columns: of the m objectives, those v that vary; the others have nothing to be learnt.
        bounds: the constraints whose values vary; the model's columns from v on.
        transforms: one for each column of the model.
        constants: (m,) the loss of those objectives that do not vary; NaN for the others.
        success: of 1 where trials came as far as others failed, 0 where they failed; None if it is
            all the same.
        warm: the models tell trials of earlier studies from the study's own.
    """

    model: "Model"
    columns: NDArray[np.int64]
    bounds: tuple[Constraint, ...]
    transforms: tuple[OutputTransform, ...]
    constants: NDArray[np.float64]
    success: "Model | None"
    warm: bool

    @classmethod
    def of(cls, history: History, device: str = "cpu") -> "Surrogate":
        """Fit.

        Raises:
            NothingLearntError: too little, or nothing that varies, has been observed.
        """
        # torch takes a second to import, and nothing before the first model needs it.
        from primo_optimizer.gp.model import SingularModelError, fit
        from primo_optimizer.gp.threads import single_thread

        X, s, outputs = _rows(history)
        if len(outputs) < 2:
            raise NothingLearntError(f"{len(outputs)} observations, a model needs 2")
        varies = outputs.max(axis=0) > outputs.min(axis=0)
        m = len(history.problem.objectives)
        if not varies[:m].any():
            raise NothingLearntError("no objective varies")
        columns = np.flatnonzero(varies)
        warm = bool(history.problem.earlier)
        # Each of a few own trials may show that the many earlier ones are of something else.
        known = len(outputs) if warm else _settled(outputs[:, columns])
        transforms = tuple(_transform(history.problem, outputs[:known], int(j)) for j in columns)
        Z = np.stack(
            [t.forward(outputs[:, j]) for t, j in zip(transforms, columns, strict=True)], axis=1
        )
        if not (Z[:known].std(axis=0) > 0.0).all():
            raise NothingLearntError("the objectives vary by rounding errors only")
        try:
            with single_thread():
                model = fit(X, s, Z, _inputs(history.problem), device, known)
                success = _success(history, device)
        except SingularModelError as error:
            raise NothingLearntError(str(error)) from error
        return cls(
            model=model,
            columns=columns[columns < m],
            bounds=tuple(history.problem.constraints[j - m] for j in columns[columns >= m]),
            transforms=transforms,
            constants=np.where(varies, np.nan, outputs[0])[:m],
            success=success,
            warm=warm,
        )

    def given(self, X: NDArray[np.float64]) -> "Surrogate":
        """With (p, d) pending points taken as observed at full fidelity as predicted.

        Raises:
            NothingLearntError: with them the models are singular.
        """
        from primo_optimizer.gp.model import SingularModelError
        from primo_optimizer.gp.threads import single_thread

        try:
            with single_thread():
                return replace(self, model=self.model.given(self._own(X)))
        except SingularModelError as error:
            raise NothingLearntError(str(error)) from error

    def predict(self, X: NDArray[np.float64]) -> "Prediction":
        """At n points, at full fidelity."""
        from primo_optimizer.gp.threads import single_thread

        with single_thread():
            mean, std = self.model.predict(self._own(X))
        return Prediction(self, mean, std)

    def log_success(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) how likely a run does not fail, `CAUTION` times its log; 0 if that is not known."""
        from primo_optimizer.gp.threads import single_thread

        if self.success is None:
            return np.zeros(len(X))
        with single_thread():
            mean, std = self.success.predict(self._own(X))
        likely = ndtr((mean[:, 0] - 0.5) / std[:, 0])
        log_likely = np.log(np.maximum(likely, LEAST_SUCCESS))
        return np.asarray(CAUTION * log_likely, dtype=np.float64)

    def _own(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inputs of the models for (n, d) points, as trials of this study."""
        return np.column_stack([X, np.ones(len(X))]) if self.warm else X


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of n points at full fidelity: independent normals of transformed outputs.

    Attributes:
        mean, std: (n, outputs that vary).
    """

    surrogate: Surrogate
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def losses(self, z: NDArray[np.float64] | float = 0.0) -> NDArray[np.float64]:
        """(n, v) losses of the objectives that vary, z standard deviations from the mean.

        (n, s, v) if z is (s, v).
        """
        v = len(self.surrogate.columns)
        mean, std = self.mean[:, :v], self.std[:, :v]
        if isinstance(z, np.ndarray):
            mean, std = mean[:, None, :], std[:, None, :]
        at = mean + std * z
        transforms = self.surrogate.transforms[:v]
        return np.stack([t.backward(at[..., k]) for k, t in enumerate(transforms)], axis=-1)

    def log_feasible(self) -> NDArray[np.float64]:
        """(n,) log probability that all constraints hold."""
        total = np.zeros(len(self.mean))
        first = len(self.surrogate.columns)
        for k, bound in enumerate(self.surrogate.bounds, start=first):
            transform, mean, std = self.surrogate.transforms[k], self.mean[:, k], self.std[:, k]
            high, low = np.inf, -np.inf
            if bound.at_most is not None:
                high = float(transform.forward(np.array([bound.at_most]))[0])
            if bound.at_least is not None:
                low = float(transform.forward(np.array([bound.at_least]))[0])
            likely = ndtr((high - mean) / std) - ndtr((low - mean) / std)
            total += np.log(np.maximum(likely, LEAST_FEASIBLE))
        return total


def _transform(problem: Problem, outputs: NDArray[np.float64], column: int) -> OutputTransform:
    m = len(problem.objectives)
    if column < m:
        return OutputTransform.of(outputs[:, column])
    bound = problem.constraints[column - m]
    return OutputTransform.within(outputs[:, column], bound.at_least, bound.at_most)


def _settled(outputs: NDArray[np.float64]) -> int:
    """From how many first rows to learn transforms and hyperparameters.

    The count moves on by a tenth at a time, so that most asks need no new fit. Those must show
    what varies, and that not all are positive, which decides on the transform.
    """
    count = first = min(REFIT_EACH_UP_TO, len(outputs))
    while (count := max(count + 1, int(count * REFIT_RATIO))) <= len(outputs):
        first = count
    head = outputs[:first]
    telling = (head.max(axis=0) > head.min(axis=0)) & (
        (head.min(axis=0) <= 0.0) == (outputs.min(axis=0) <= 0.0)
    )
    return first if telling.all() else len(outputs)


def choices(problem: Problem) -> NDArray[np.int64]:
    """(d,) how many values a categorical parameter has; 0 for the others."""
    sizes = [len(p.choices) if isinstance(p, Categorical) else 0 for p in problem.space.parameters]
    return np.array(sizes, dtype=np.int64)


def _inputs(problem: Problem) -> NDArray[np.int64]:
    """Of the models, as `choices`: a study that learns from earlier ones has one input more.

    It is 0 for their trials and 1 for its own, so that they count only as far as the two agree.
    """
    return np.append(choices(problem), 0) if problem.earlier else choices(problem)


def _sources(history: History) -> Iterator[tuple[Trial, bool]]:
    """All trials, and whether they are the study's own; those of earlier studies come first."""
    yield from ((trial, False) for trial in history.problem.earlier)
    yield from ((trial, True) for trial in history.trials)


def _encoded(history: History, trials: Sequence[tuple[Trial, bool]]) -> NDArray[np.float64]:
    """(n, inputs) of n trials, as `_sources` has them."""
    X = history.encode([trial for trial, _ in trials])
    return np.column_stack([X, [own for _, own in trials]]) if history.problem.earlier else X


def _success(history: History, device: str) -> "Model | None":
    """A regression on labels: cruder than a classifier, and as good on a handful of failures."""
    from primo_optimizer.gp.model import fit

    both = list(_sources(history))
    failed = [(trial, own) for trial, own in both if trial.failed is not None]
    sound = [(trial, own) for trial, own in both if trial.failed is None and trial.observations]
    if not failed or not sound:
        return None
    # The latest of both kinds: of one alone there is nothing to be learnt.
    failed = failed[-max(MAX_ROWS // 2, MAX_ROWS - len(sound)) :]
    sound = sound[-(MAX_ROWS - len(failed)) :]
    X = _encoded(history, [*failed, *sound])
    least = min(trial.fidelity or 0.0 for trial, _ in failed)
    far = [(reached(trial) or 0.0) >= least for trial, _ in sound]
    labels = np.concatenate([np.zeros(len(failed)), np.where(far, 1.0, UNKNOWN)])[:, None]
    return fit(X, None, labels, _inputs(history.problem), device)


def _rows(
    history: History,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64]]:
    """X (n, inputs), s (n,) in [0, 1] or None, outputs (n, m + c): one row for each observation."""
    problem = history.problem
    # With one rung all the model knows is full fidelity.
    least = history.rungs[0] if len(history.rungs) == 1 else 0.0
    sound = [(trial, own) for trial, own in _sources(history) if trial.failed is None]
    seen = [(of, o) for of in sound for o in of[0].observations if (o.fidelity or least) >= least]
    if len(seen) > MAX_ROWS:
        seen = _telling(history, seen)
    X = _encoded(history, [of for of, _ in seen])
    losses = problem.losses([o.values for _, o in seen])
    bounds = [[o.constrained[c.metric] for c in problem.constraints] for _, o in seen]
    bounded_by = np.array(bounds, dtype=np.float64).reshape(len(seen), len(problem.constraints))
    outputs = bounded(np.concatenate([losses, bounded_by], axis=1))
    s = np.array([_depth(history, o.fidelity) for _, o in seen])
    return X, s if len(history.rungs) > 1 else None, outputs


def _telling(history: History, seen: Sequence[Seen]) -> list[Seen]:
    """At most `MAX_ROWS` of them.

    Of a learning curve only its rungs and its end. If that is still too much, the study's own come
    first, and of all trials their ends: those of the front, then the others by mean rank.
    """
    problem = history.problem
    seen = [(of, o) for of, o in seen if o.fidelity in history.rungs or o is of[0].observations[-1]]
    if len(seen) <= MAX_ROWS:
        return seen
    earlier = np.array([not own for (_, own), _ in seen])
    counts = [len(list(rows)) for _, rows in groupby(seen, itemgetter(0))]
    before_end = np.concatenate([np.arange(count)[::-1] for count in counts])
    s = np.array([_depth(history, o.fidelity) for _, o in seen])
    losses = bounded(problem.losses([o.values for _, o in seen]))
    violation = np.array([problem.violation(o.constrained) for _, o in seen])
    place, full = _mean_rank(losses), s == 1.0
    place[full] = places(losses[full], violation[full])
    keep = np.sort(np.lexsort((place, -s, before_end, earlier))[:MAX_ROWS])
    return [seen[row] for row in keep]


def _mean_rank(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) low for rows that are good in all losses."""
    return np.asarray(losses.argsort(axis=0).argsort(axis=0).mean(axis=1), dtype=np.float64)


def _depth(history: History, fidelity: float | None) -> float:
    """0 at the lowest rung, 1 at full fidelity, on the log scale."""
    if len(history.rungs) < 2 or fidelity is None:
        return 1.0
    low, high = math.log(history.rungs[0]), math.log(history.rungs[-1])
    return min(max((math.log(fidelity) - low) / (high - low), 0.0), 1.0)
