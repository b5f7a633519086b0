"""PriMO's second stage: Bayesian optimization weighted with the users' priors, and freeze-thaw.

A step scores new configurations and partly trained ones by expected hypervolume improvement at
full fidelity, times a prior's density to the power of a weight that decays. The best new one is
first run at a cheap rung, and trained on once it is still the best of all.

Three departures from the paper, each for what it gained on its benchmarks: objectives are not
added up with random weights, so non-convex fronts are reached and units do not matter; low rungs
stay in the models; and a prior counts as much as the observations support it, not by the number
of steps alone, so that a wrong one does little harm.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer import candidates, initial_design
from primo_optimizer.draws import Purpose, generator, integer_seed
from primo_optimizer.history import History
from primo_optimizer.pareto import non_dominated
from primo_optimizer.priors import PriorDensity, densities
from primo_optimizer.rungs import reached
from primo_optimizer.surrogate import NothingLearntError, Surrogate
from primo_optimizer.transforms import bounded
from primo_optimizer.trial import Suggestion, Trial

STAGE = "Optimizing"

# Draws to tell how a prior's region compares with the space at large.
UNIFORM_DRAWS, PRIOR_DRAWS = 128, 48
# Share of prior draws predicted better than uniform ones: no better than chance, fully trusted.
CHANCE, TRUSTED = 0.5, 0.75
# A fully trusted prior decays this many times more slowly, less one.
TRUST_SLOWS = 3.0
# A weight below it moves nothing.
LEAST_WEIGHT = 1e-3
# Of the predicted losses of uniform configurations: what may be hoped for, what still counts.
IDEAL_QUANTILE, REFERENCE_QUANTILE = 0.02, 0.9


@dataclass(frozen=True, slots=True)
class Belief:
    """What is known about the users' priors in one step.

    Attributes:
        prior: the one that takes part; None if none does.
        weight: the exponent of its density, 0 to 1.
        epsilon: this step leaves the priors aside by chance.
    """

    prior: PriorDensity | None = None
    weight: float = 0.0
    epsilon: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """Losses scaled so that the ideal point is 0 and the reference point 1; (v,) each."""

    ideal: NDArray[np.float64]
    span: NDArray[np.float64]

    def __call__(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        return (losses - self.ideal) / self.span


def fit(history: History) -> Surrogate | str:
    """The models, or why there are none. Depends on observations only, not on what is pending."""
    try:
        return Surrogate.of(history)
    except NothingLearntError as error:
        return str(error)


def propose(
    history: History,
    fitted: Surrogate | str,
    epsilon: float,
    decay_from: float,
    seed: int,
    number: int,
) -> Suggestion | None:
    """A new trial with this number, or a further run of a partly trained one.

    Args:
        epsilon: the share of steps without a prior.
        decay_from: full evaluations after which the priors' weight begins to decay.

    Returns:
        None if nothing can be done now.
    """
    if isinstance(fitted, str):
        return _without_model(history, fitted, seed, number)
    try:
        step = _Step.of(history, fitted, epsilon, decay_from, seed, number)
    except NothingLearntError as error:
        return _without_model(history, str(error), seed, number)
    return step.decide()


def _without_model(history: History, reason: str, seed: int, number: int) -> Suggestion | None:
    suggestion = initial_design.propose(history, seed, number)
    if suggestion is None:
        return None
    explanation = {**suggestion.explanation, "stage": STAGE, "fallback": reason}
    return Suggestion(
        suggestion.trial,
        suggestion.configuration,
        suggestion.fidelity,
        suggestion.resume_from,
        explanation,
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """One decision with all it depends on.

    Attributes:
        surrogate: conditioned on the pending trials.
        front: (k, v) scaled losses reached at full fidelity, and those expected of pending trials.
        parents: (p, d) configurations to search around.
    """

    history: History
    surrogate: Surrogate
    scale: Scale
    front: NDArray[np.float64]
    parents: NDArray[np.float64]
    belief: Belief
    seed: int
    number: int

    @classmethod
    def of(
        cls,
        history: History,
        fitted: Surrogate,
        epsilon: float,
        decay_from: float,
        seed: int,
        number: int,
    ) -> "_Step":
        pending = history.encode([t for t in history.trials if t.running])
        surrogate = fitted.given(pending)
        complete = history.complete()
        done = _full_losses(history, complete)[:, fitted.columns]
        expected = _expected(fitted, pending)
        everywhere = _everywhere(history, seed, number)
        predicted = _expected(surrogate, everywhere)
        scale = _scale(history, fitted, done, predicted)
        X = history.encode(complete)
        parents = X[non_dominated(done)] if len(X) else history.encode(history.partial())
        return cls(
            history=history,
            surrogate=surrogate,
            scale=scale,
            front=scale(np.concatenate([done, expected])),
            parents=parents,
            belief=_belief(history, surrogate, everywhere, epsilon, decay_from, seed, number),
            seed=seed,
            number=number,
        )

    def decide(self) -> Suggestion | None:
        score = self._score()
        new = self._best_new(score)
        going_on = self._best_partial(score)
        if going_on is not None and (new is None or going_on[1] >= new[1]):
            return self._go_on(going_on[0])
        return None if new is None else self._begin(new[0])

    def _score(self) -> candidates.Score:
        log_improvement = self._log_improvement()
        belief = self.belief

        def score(X: NDArray[np.float64]) -> NDArray[np.float64]:
            total = log_improvement(X) + self.surrogate.log_success(X)
            if belief.prior is not None:
                total = total + belief.weight * belief.prior.log_density(X)
            return total

        return score

    def _log_improvement(self) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        from primo_optimizer.gp.improvement import log_expected_improvement

        normal = self._normal()

        def log_improvement(X: NDArray[np.float64]) -> NDArray[np.float64]:
            mean, std = self.surrogate.predict(X)
            samples = self.scale(
                self.surrogate.losses(mean[:, None, :] + std[:, None, :] * normal[None, :, :])
            )
            optimistic = self.scale(self.surrogate.losses(mean - std))
            return log_expected_improvement(samples, optimistic, self.front)

        return log_improvement

    def _normal(self) -> NDArray[np.float64]:
        from primo_optimizer.gp.improvement import normal_samples

        seed = integer_seed(self.seed, self.number, Purpose.SAMPLES)
        return normal_samples(len(self.surrogate.columns), seed)

    def _best_new(self, score: candidates.Score) -> tuple[dict[str, Any], float] | None:
        space, known = self.history.problem.space, self.history.known()
        rng = generator(self.seed, self.number, Purpose.CANDIDATES)
        points, scores = candidates.ranked(space, score, self.parents, self.belief.prior, rng)
        for point, value in zip(points, scores, strict=True):
            configuration = space.decode(point)
            if space.key(configuration) not in known:
                return configuration, float(value)
        return None

    def _best_partial(self, score: candidates.Score) -> tuple[Trial, float] | None:
        """What is already trained is free: improvement counts for each unit still to be paid."""
        partial = self.history.partial()
        if not partial or self.history.full is None:
            return None
        paid = np.array([reached(trial) or 0.0 for trial in partial]) / self.history.full
        scores = score(self.history.encode(partial)) - np.log(np.clip(1.0 - paid, 0.05, 1.0))
        best = int(np.argmax(scores))
        return partial[best], float(scores[best])

    def _go_on(self, trial: Trial) -> Suggestion:
        rung = len(self.history.rungs) - 1
        explanation = self._explain("Promotion", trial.configuration, rung)
        return Suggestion(
            trial.number, trial.configuration, self.history.full, reached(trial), explanation
        )

    def _begin(self, configuration: dict[str, Any]) -> Suggestion:
        if not self.history.rungs:
            explanation = self._explain("Model", configuration, None)
            return Suggestion(self.number, configuration, None, None, explanation)
        rung = _screening_rung(len(self.history.rungs))
        explanation = self._explain("Model", configuration, rung)
        return Suggestion(self.number, configuration, self.history.rungs[rung], None, explanation)

    def _explain(self, origin: str, configuration: Any, rung: int | None) -> dict[str, Any]:
        X = self.history.problem.space.encode(configuration)[None, :]
        explanation: dict[str, Any] = {"stage": STAGE, "origin": origin}
        if rung is not None:
            explanation["rung"] = rung
        if self.history.problem.priors:
            explanation["epsilon"] = self.belief.epsilon
            explanation["priorWeight"] = _rounded(self.belief.weight)
        if self.belief.prior is not None:
            explanation["prior"] = self.belief.prior.objective
        explanation["acquisition"] = _rounded(float(self._log_improvement()(X)[0]))
        explanation["predicted"] = self._predicted(X)
        return explanation

    def _predicted(self, X: NDArray[np.float64]) -> dict[str, dict[str, float]]:
        """In the user's unit and direction, at full fidelity."""
        mean, std = self.surrogate.predict(X)
        losses = self.surrogate.losses(mean + std * self._normal())
        predicted = {}
        for j, objective in enumerate(self.history.problem.objectives):
            center, spread = float(self.surrogate.constants[j]), 0.0
            if j in self.surrogate.columns:
                column = losses[:, list(self.surrogate.columns).index(j)]
                center, spread = float(column.mean()), float(column.std())
            predicted[objective.name] = {
                "mean": _rounded(objective.sign * center),
                "std": _rounded(spread),
            }
        return predicted


def _screening_rung(rungs: int) -> int:
    """The second lowest of three or more: the lowest says too little about the end."""
    return 1 if rungs > 2 else 0


def _full_losses(history: History, complete: tuple[Trial, ...]) -> NDArray[np.float64]:
    seen = [trial.at(history.full) for trial in complete]
    return bounded(history.problem.losses([o.values for o in seen if o is not None]))


def _expected(surrogate: Surrogate, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, v) losses at the models' means."""
    if not len(X):
        return np.zeros((0, len(surrogate.columns)))
    return surrogate.losses(surrogate.predict(X)[0])


def _everywhere(history: History, seed: int, number: int) -> NDArray[np.float64]:
    rng = generator(seed, number, Purpose.PRIOR)
    space = history.problem.space
    return space.snap(space.spread(rng.random((UNIFORM_DRAWS, len(space.parameters)))))


def _scale(
    history: History,
    fitted: Surrogate,
    done: NDArray[np.float64],
    predicted: NDArray[np.float64],
) -> Scale:
    """From what is predicted across the space and what was reached; the user's reference wins."""
    ideal = np.quantile(predicted, IDEAL_QUANTILE, axis=0)
    reference = np.quantile(predicted, REFERENCE_QUANTILE, axis=0)
    if len(done):
        front = done[non_dominated(done)]
        best, worst = front.min(axis=0), front.max(axis=0)
        ideal = np.minimum(ideal, best)
        reference = np.maximum(reference, worst + 0.1 * (worst - best))
    for k, j in enumerate(fitted.columns):
        objective = history.problem.objectives[j]
        if objective.reference_point is not None:
            reference[k] = objective.sign * objective.reference_point
    # Nothing reached below the user's reference, or flat predictions: a span of the right size.
    fallback = np.maximum(np.abs(reference) * 1e-6, 1e-12)
    ideal = np.minimum(ideal, reference - fallback)
    return Scale(ideal, reference - ideal)


def _belief(
    history: History,
    surrogate: Surrogate,
    everywhere: NDArray[np.float64],
    epsilon: float,
    decay_from: float,
    seed: int,
    number: int,
) -> Belief:
    """Whether a prior takes part in this step, which one, and how much it counts."""
    names = [history.problem.objectives[j].name for j in surrogate.columns]
    priors = [prior for prior in densities(history.problem) if prior.objective in names]
    if not priors:
        return Belief()
    rng = generator(seed, number, Purpose.PRIOR)
    if rng.random() < epsilon:
        return Belief(epsilon=True)
    prior = priors[int(rng.integers(len(priors)))]
    drawn = history.problem.space.snap(prior.sample(rng, PRIOR_DRAWS))
    trust = _trust(surrogate, names.index(prior.objective), drawn, everywhere)
    steps = max(history.spent(with_running=False) - decay_from, 0.0)
    weight = prior_weight(trust, steps, len(history.problem.space.parameters))
    return Belief(prior, weight) if weight > LEAST_WEIGHT else Belief()


def _trust(
    surrogate: Surrogate, column: int, drawn: NDArray[np.float64], everywhere: NDArray[np.float64]
) -> float:
    """0 to 1: how far configurations from the prior are predicted to be better than any others."""
    ours = surrogate.predict(drawn)[0][:, column]
    theirs = surrogate.predict(everywhere)[0][:, column]
    better = float((ours[:, None] < theirs[None, :]).mean())
    return min(max((better - CHANCE) / (TRUSTED - CHANCE), 0.0), 1.0)


def prior_weight(trust: float, steps: float, d: int) -> float:
    """The exponent of a prior's density: the paper's exp(-n²/d), led by trust.

    Args:
        trust: 0 takes the prior out, 1 makes it last twice as long.
        steps: full evaluations since the initial design.
        d: number of parameters.
    """
    return trust * math.exp(-(steps**2) / (d * (1.0 + TRUST_SLOWS * trust)))


def _rounded(value: float) -> float:
    """Six digits: explanations are for people, and stay small."""
    return float(f"{value:.6g}")
