"""Bayesian optimization at full fidelity, by whatever acquisition function an algorithm brings.

A space-filling start comes first; priors are not used. Then the acquisition function is climbed by
gradient, as if all parameters were real; what is compared in the end is valid configurations that
no trial has yet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.candidates import by_score
from primo_optimizer.draws import Purpose, generator, integer_seed
from primo_optimizer.evidence import Evidence, varies
from primo_optimizer.history import History, in_turn
from primo_optimizer.problem import Problem
from primo_optimizer.sampling import first_unknown, point_rng, space_filling, uniform
from primo_optimizer.settings import number_mistakes, unknown_settings
from primo_optimizer.space import SearchSpace
from primo_optimizer.surrogate import choices
from primo_optimizer.trial import Suggestion, Trial, Value, rounded

if TYPE_CHECKING:
    from primo_optimizer.gp.botorch_models import Acquisition, Models, Step

# The start has two trials for each parameter and two more, as is usual with BoTorch, up to so many:
# studies of trainings end after a few dozen.
MAX_INITIAL_DESIGN = 10
SAMPLES, MAX_SAMPLES = 64, 1024
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


def mistakes(algorithm: str, settings: Mapping[str, Any]) -> list[str]:
    return [
        *unknown_settings(algorithm, settings, ("initialDesign", "samples")),
        *number_mistakes(settings, "initialDesign", 0),
        *number_mistakes(settings, "samples", 1, MAX_SAMPLES),
    ]


def load_botorch() -> None:
    """It takes seconds to import."""
    import primo_optimizer.gp.botorch_models  # noqa: F401


def search(
    problem: Problem,
    trials: Sequence[Trial],
    count: int,
    seed: int,
    next_number: int,
    improve: Improve,
) -> list[Suggestion]:
    """Bayesian optimization at full fidelity."""
    settings = Settings.of(problem)
    learnt: Learnt | str | None = None

    def propose(history: History, number: int) -> Suggestion | None:
        nonlocal learnt
        if len(history.trials) < settings.initial_design:
            return spread_out(history, seed, number)
        # Pending trials do not change the fit, so one is enough.
        learnt = learn(history) if learnt is None else learnt
        return _propose(history, learnt, improve, settings.samples, seed, number)

    return in_turn(History.of(problem, trials), count, next_number, propose)


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


def step_of(history: History, evidence: Evidence, samples: int, seed: int, number: int) -> "Step":
    from primo_optimizer.gp.botorch_models import Step

    pending = history.encode(history.running())
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


# --- what the models are learnt from


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
