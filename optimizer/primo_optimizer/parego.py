"""ParEGO: each step improves on another weighted Chebyshev scalarization (Knowles 2006).

As qLogNParEGO in BoTorch (doi 10.1109/TEVC.2005.851274; Daulton et al. 2020, arXiv 2006.05078): one
Gaussian process for each objective and constraint, and a noisy expected improvement of the
scalarized posterior. The weights are drawn for each trial; where the user prefers a trade-off, they
are the user's. Every evaluation is at full fidelity, priors are not used.

A space-filling start comes first. Then the acquisition function is climbed by gradient, as if all
parameters were real; what is compared in the end is valid configurations that no trial has yet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.candidates import by_score
from primo_optimizer.draws import Purpose, generator, integer_seed
from primo_optimizer.history import History
from primo_optimizer.pareto import best_first, non_dominated
from primo_optimizer.problem import Problem, Scalarization
from primo_optimizer.sampling import first_unknown, point_rng, space_filling, uniform
from primo_optimizer.settings import number_mistakes, unknown_settings
from primo_optimizer.space import SearchSpace
from primo_optimizer.surrogate import choices
from primo_optimizer.transforms import bounded
from primo_optimizer.trial import Suggestion, Trial, Value, rounded

if TYPE_CHECKING:
    from primo_optimizer.gp.botorch_models import Acquisition, Data, Models, Step

# The start has two trials for each parameter and two more, as is usual with BoTorch, up to so many:
# studies of trainings end after a few dozen.
MAX_INITIAL_DESIGN = 10
SAMPLES, MAX_SAMPLES = 64, 1024
# Cubic in the number of observations: beyond this many, the worst are left out.
MAX_ROWS = 400
# Points scored before the best of them are climbed from, and around where that leads to.
UNIFORM, AROUND, STARTS, AFTERWARDS = 192, 64, 4, 32
PARENTS, REACH = 12, 0.1

# Makes a step's acquisition function, and says what there is to say about it; the generator is the
# trial's own.
Improve = Callable[
    [Problem, "Learnt", "Step", np.random.Generator], tuple["Acquisition", dict[str, Any]]
]


@dataclass(frozen=True, slots=True)
class Settings:
    """`algorithm.settings` of parego and qlognehvi.

    Attributes:
        initial_design: trials before the first model.
        samples: of the posterior, for one value of the acquisition function.
    """

    initial_design: int
    samples: int

    @classmethod
    def of(cls, problem: Problem) -> "Settings":
        default = min(2 * (len(problem.space.parameters) + 1), MAX_INITIAL_DESIGN)
        given = {k: v for k, v in problem.settings.items() if v is not None}
        return cls(int(given.get("initialDesign", default)), int(given.get("samples", SAMPLES)))


def check_settings(settings: Mapping[str, Any]) -> list[str]:
    return mistakes("parego", settings)


def mistakes(algorithm: str, settings: Mapping[str, Any]) -> list[str]:
    return [
        *unknown_settings(algorithm, settings, ("initialDesign", "samples")),
        *number_mistakes(settings, "initialDesign", 0),
        *number_mistakes(settings, "samples", 1, MAX_SAMPLES),
    ]


def suggest(
    problem: Problem, trials: Sequence[Trial], count: int, seed: int, next_number: int
) -> list[Suggestion]:
    return search(problem, trials, count, seed, next_number, improve_scalarized)


def search(
    problem: Problem,
    trials: Sequence[Trial],
    count: int,
    seed: int,
    next_number: int,
    improve: Improve,
) -> list[Suggestion]:
    """Bayesian optimization at full fidelity."""
    settings, history = Settings.of(problem), History.of(problem, trials)
    learnt: Learnt | str | None = None
    suggestions: list[Suggestion] = []
    for number in range(next_number, next_number + count):
        if len(history.trials) < settings.initial_design:
            suggestion = spread_out(history, seed, number)
        else:
            # Pending trials do not change the fit, so one is enough.
            learnt = learn(history) if learnt is None else learnt
            suggestion = _propose(history, learnt, improve, settings.samples, seed, number)
        if suggestion is None:
            break
        history = history.after(suggestion)
        suggestions.append(suggestion)
    return suggestions


def spread_out(history: History, seed: int, number: int, **explanation: Any) -> Suggestion | None:
    """The next point of a space-filling sequence, at full fidelity; None if nothing is left."""
    space, rng = history.problem.space, point_rng(seed, number)
    points = chain([space_filling(space, seed, len(history.trials))], uniform(space, rng))
    found = first_unknown(space, history.known(), points, rng)
    if found is None:
        return None
    explanation = {"stage": "InitialDesign", "origin": "Uniform", **explanation}
    return Suggestion(number, found[0], history.full, None, explanation)


def _propose(
    history: History, learnt: "Learnt | str", improve: Improve, samples: int, seed: int, number: int
) -> Suggestion | None:
    from primo_optimizer.gp.model import SingularModelError

    try:
        found = _maximize(history, learnt, improve, samples, seed, number)
    except SingularModelError as error:
        found = str(error)
    if isinstance(found, str):
        return spread_out(history, seed, number, stage="Optimizing", fallback=found)
    return found


def _maximize(
    history: History, learnt: "Learnt | str", improve: Improve, samples: int, seed: int, number: int
) -> Suggestion | str:
    """The best new configuration, or why there is none."""
    if isinstance(learnt, str):
        return learnt
    problem = history.problem
    step = step_of(history, learnt.evidence, samples, seed, number)
    acquisition, words = improve(problem, learnt, step, generator(seed, number, Purpose.PRIOR))
    rng = generator(seed, number, Purpose.CANDIDATES)
    points, scores = _ranked(problem.space, acquisition, learnt.evidence.X[:PARENTS], rng)
    new = best_unknown(history, points)
    if new is None:
        return "all configurations in reach are known"
    row, configuration = new
    explanation = {
        "stage": "Optimizing",
        "origin": "Model",
        "acquisition": rounded(scores[row]),
        "predicted": _predicted(problem, learnt, points[row]),
        **words,
    }
    return Suggestion(number, configuration, history.full, None, explanation)


def step_of(history: History, evidence: "Evidence", samples: int, seed: int, number: int) -> "Step":
    from primo_optimizer.gp.botorch_models import Step

    pending = history.encode([trial for trial in history.trials if trial.running])
    return Step(evidence.X, pending, samples, integer_seed(seed, number, Purpose.SAMPLES))


def best_unknown(
    history: History, points: NDArray[np.float64]
) -> tuple[int, dict[str, Value]] | None:
    """The first row of (n, d) whose configuration no trial has, and that configuration."""
    space, known = history.problem.space, history.known()
    for row, point in enumerate(points):
        configuration = space.decode(point)
        if space.key(configuration) not in known:
            return row, configuration
    return None


def _predicted(
    problem: Problem, learnt: "Learnt", point: NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    """In the user's unit and direction, at full fidelity."""
    centers, spreads = learnt.evidence.losses[0].copy(), np.zeros(len(problem.objectives))
    mean, std = learnt.models.predict(point[None, :])
    centers[learnt.columns], spreads[learnt.columns] = mean[0], std[0]
    return {
        o.name: {"mean": rounded(o.sign * center), "std": rounded(spread)}
        for o, center, spread in zip(problem.objectives, centers, spreads, strict=True)
    }


# --- where the acquisition function is looked at


def _ranked(
    space: SearchSpace,
    acquisition: "Acquisition",
    parents: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, d) valid points and their (n,) scores, best first; parents are the best observed."""
    if space.size <= UNIFORM:
        points = space.encode_all(list(space.grid()))
        return by_score(points, acquisition(points))
    anywhere = space.snap(space.spread(rng.random((UNIFORM, len(space.parameters)))))
    first = np.concatenate([anywhere, _around(space, parents, AROUND, rng)])
    first, scores = by_score(first, acquisition(first))
    climbed = space.snap(acquisition.climbed(first[:STARTS]))
    best = np.concatenate([climbed, first[:STARTS]])
    then = np.concatenate([climbed, _around(space, best, AFTERWARDS, rng)])
    return by_score(np.concatenate([then, first]), np.concatenate([acquisition(then), scores]))


def _around(
    space: SearchSpace, centers: NDArray[np.float64], n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(n, d) valid points; a step of a discrete parameter is about one value wide."""
    d = len(space.parameters)
    points = centers[rng.integers(0, len(centers), n)]
    near = points + np.maximum(REACH, 0.7 * space.steps) * rng.normal(size=(n, d))
    near = np.where(space.categorical, rng.random((n, d)), np.clip(near, 0.0, 1.0))
    return space.snap(np.where(rng.random((n, d)) < max(0.35, 1.5 / d), near, points))


# --- the scalarization


def improve_scalarized(
    problem: Problem, learnt: "Learnt", step: "Step", rng: np.random.Generator
) -> tuple["Acquisition", dict[str, Any]]:
    """With the user's weights, or else weights drawn uniformly from the simplex."""
    from primo_optimizer.gp.botorch_models import Scalar

    m, preference = len(problem.objectives), problem.preference
    weights = np.array(preference.weights) if preference else rng.dirichlet(np.ones(m))
    losses = learnt.evidence.losses[:, learnt.columns]
    scalar = Scalar(
        weights=weights[learnt.columns],
        ideal=losses.min(axis=0),
        span=losses.max(axis=0) - losses.min(axis=0),
        linear=preference is not None and preference.scalarization is Scalarization.LINEAR,
    )
    words = {o.name: rounded(w) for o, w in zip(problem.objectives, weights, strict=True)}
    return learnt.models.improvement(step, scalar), {"weights": words} if m > 1 else {}


# --- what the models are learnt from


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

        return Data(self.X, losses, self.slacks[:, varies(self.slacks)], self.failed)


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
    """Row numbers; the front is spread out, what it dominates goes by mean rank."""
    place = len(losses) + losses.argsort(axis=0).argsort(axis=0).mean(axis=1)
    feasible = np.flatnonzero(violation <= 0.0)
    front = feasible[non_dominated(losses[feasible])]
    place[front[best_first(losses[front])]] = np.arange(len(front))
    return np.lexsort((place, violation))


@dataclass(frozen=True, slots=True)
class Learnt:
    """Models, and what they were learnt from.

    Attributes:
        columns: (v,) of the m objectives, those that vary.
    """

    evidence: Evidence
    models: "Models"
    columns: NDArray[np.int64]


def learn(history: History) -> Learnt | str:
    """The models, or why there are none. Depends on observations only, not on what is pending."""
    complete = len(history.complete())
    if complete < 2:
        return f"{complete} full evaluations, a model needs 2"
    evidence = Evidence.of(history)
    columns = np.flatnonzero(varies(evidence.losses))
    if not len(columns):
        return "no objective varies"
    # torch and BoTorch take seconds to import, and nothing before the first model needs them.
    from primo_optimizer.gp.botorch_models import Models
    from primo_optimizer.gp.model import SingularModelError

    data = evidence.data(evidence.losses[:, columns])
    try:
        models = Models.fit(data, choices(history.problem))
    except SingularModelError as error:
        return str(error)
    return Learnt(evidence, models, columns)
