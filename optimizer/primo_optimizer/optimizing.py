"""PriMO's second stage: Bayesian optimization weighted with the users' priors, and freeze-thaw.

A step scores new configurations and partly trained ones by expected hypervolume improvement at
full fidelity, times a prior's density to the power of a weight that decays. The best new one is
first run at a cheap rung, and trained on rung by rung for as long as it is the best of all.

Three departures from the paper, each for what it gained on its benchmarks: objectives are not
added up with random weights, so non-convex fronts are reached and units do not matter; low rungs
stay in the models; and a prior counts as much as the observations support it, not by the number
of steps alone, so that a wrong one does little harm.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer import candidates, initial_design
from primo_optimizer.draws import Purpose, generator
from primo_optimizer.history import History
from primo_optimizer.improvement import NODES, WEIGHTS, log_improvement
from primo_optimizer.pareto import aim, non_dominated
from primo_optimizer.rungs import reached
from primo_optimizer.surrogate import NothingLearntError, Prediction, Surrogate
from primo_optimizer.trial import Suggestion, Trial, rounded
from primo_optimizer.trust import Say, say

STAGE = "Optimizing"

# Full evaluations that many workers make without delay: all models wait for them.
FIRST = 3
# Configurations to see what is to be expected across the space.
UNIFORM_DRAWS = 128
# Of the predicted losses of uniform configurations: what may be hoped for, what still counts.
IDEAL_QUANTILE, REFERENCE_QUANTILE = 0.02, 0.9
# How many times as far as that a user's reference point may be: beyond it, gains get lost in it.
FARTHEST = 100.0
# The least span of losses: units do not matter, as long as they are numbers.
TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class Scale:
    """Losses scaled so that the ideal point is 0 and the reference point 1; (v,) each."""

    ideal: NDArray[np.float64]
    span: NDArray[np.float64]

    def __call__(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        return (losses - self.ideal) / self.span


def fit(history: History, device: str = "cpu") -> Surrogate | str:
    """The models, or why there are none. Depends on observations only, not on what is pending."""
    try:
        return Surrogate.of(history, device)
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

    The centre of each prior that no trial has comes first.

    Args:
        epsilon: the share of steps without a prior.
        decay_from: full evaluations after which the priors' weight begins to decay.

    Returns:
        None if nothing can be done now.
    """
    # Of a prior that came late, or after a warm start: its own first look tells most about it.
    if (center := initial_design.center(history, number)) is not None:
        return replace(center, explanation={**center.explanation, "stage": STAGE})
    if isinstance(fitted, str):
        return _without_model(history, fitted, seed, number)
    try:
        step = _Step.of(history, fitted, epsilon, decay_from, seed, number)
    except NothingLearntError as error:
        return _without_model(history, str(error), seed, number)
    known = "all configurations in reach are known"
    return step.decide() or _without_model(history, known, seed, number)


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
    say: Say
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
        pending = history.encode(history.running())
        surrogate = fitted.given(pending)
        feasible = history.feasible()
        done = history.full_losses(feasible)[:, fitted.columns]
        everywhere = _everywhere(history, seed, number)
        scale = _scale(history, fitted, done, surrogate.predict(everywhere).losses())
        return cls(
            history=history,
            surrogate=surrogate,
            scale=scale,
            front=scale(np.concatenate([done, _expected(fitted, pending)])),
            parents=_parents(history, feasible, done),
            say=say(history, surrogate, everywhere, epsilon, decay_from, seed, number),
            seed=seed,
            number=number,
        )

    def decide(self) -> Suggestion | None:
        score = self._score()
        if (first := self._first(score)) is not None:
            return self._go_on(first)
        new = self._best_new(score)
        going_on = self._best_of(self.history.partial(), score)
        if going_on is not None and (new is None or going_on[1] >= new[1]):
            return self._go_on(going_on[0])
        return None if new is None else self._begin(new[0])

    def _score(self) -> candidates.Score:
        log_gain = self._log_gain()
        prior = self.say.prior

        def score(X: NDArray[np.float64]) -> NDArray[np.float64]:
            predicted = self.surrogate.predict(X)
            total = log_gain(predicted) + predicted.log_feasible() + self.surrogate.log_success(X)
            if prior is not None:
                total = total + self.say.weight * prior.log_density(X)
            return total

        return score

    def _log_gain(self) -> Callable[[Prediction], NDArray[np.float64]]:
        preference = self.history.problem.preference
        if preference is not None:
            weights = tuple(preference.weights[j] for j in self.surrogate.columns)
            preference = replace(preference, weights=weights)
        log_gain = log_improvement(self.front, preference)
        return lambda predicted: log_gain(lambda z: self.scale(predicted.losses(z)))

    def _best_new(self, score: candidates.Score) -> tuple[dict[str, Any], float] | None:
        space, known = self.history.problem.space, self.history.known()
        rng = generator(self.seed, self.number, Purpose.CANDIDATES)
        points, scores = candidates.ranked(space, score, self.parents, self.say.prior, rng)
        for point, value in zip(points, scores, strict=True):
            configuration = space.decode(point)
            if space.key(configuration) not in known:
                return configuration, float(value)
        return None

    def _first(self, score: candidates.Score) -> Trial | None:
        """Who is to be among the first full evaluations, when other workers are busy."""
        history = self.history
        made = len(history.complete()) + len(history.completing())
        if made >= FIRST or not history.running():
            return None
        ready = [t for t in history.partial() if (reached(t) or 0.0) >= history.last_but_one]
        best = self._best_of(ready, score)
        return None if best is None else best[0]

    def _best_of(
        self, partial: Sequence[Trial], score: candidates.Score
    ) -> tuple[Trial, float] | None:
        """What is already trained is free: improvement counts for each unit still to be paid."""
        if not partial or self.history.full is None:
            return None
        paid = np.array([reached(trial) or 0.0 for trial in partial]) / self.history.full
        scores = score(self.history.encode(partial)) - np.log(np.clip(1.0 - paid, 0.05, 1.0))
        best = int(np.argmax(scores))
        return partial[best], float(scores[best])

    def _go_on(self, trial: Trial) -> Suggestion:
        """To the next rung, where it is compared with all others again."""
        paid, rungs = reached(trial) or 0.0, self.history.rungs
        rung = next(k for k, fidelity in enumerate(rungs) if fidelity > paid)
        explanation = self._explain("Promotion", trial.configuration, rung)
        return Suggestion(trial.number, trial.configuration, rungs[rung], paid, explanation)

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
            explanation["epsilon"] = self.say.epsilon
            explanation["priorWeight"] = rounded(self.say.weight)
            explanation["priorTrust"] = {k: rounded(v) for k, v in self.say.trust.items()}
        if self.say.prior is not None:
            explanation["prior"] = self.say.prior.objective
        predicted = self.surrogate.predict(X)
        explanation["acquisition"] = rounded(float(self._log_gain()(predicted)[0]))
        explanation["predicted"] = self._in_users_terms(predicted)
        return explanation

    def _in_users_terms(self, predicted: Prediction) -> dict[str, dict[str, float]]:
        """In the user's unit and direction, at full fidelity."""
        columns = list(self.surrogate.columns)
        losses = predicted.losses(np.repeat(NODES[:, None], len(columns), axis=1))[0]
        terms = {}
        for j, objective in enumerate(self.history.problem.objectives):
            center, spread = float(self.surrogate.constants[j]), 0.0
            if j in columns:
                column = losses[:, columns.index(j)]
                center = float(WEIGHTS @ column)
                spread = math.sqrt(float(WEIGHTS @ (column - center) ** 2))
            terms[objective.name] = {
                "mean": rounded(objective.sign * center),
                "std": rounded(spread),
            }
        return terms


def _screening_rung(rungs: int) -> int:
    """The second lowest of three or more: the lowest says too little about the end."""
    return 1 if rungs > 2 else 0


def _expected(surrogate: Surrogate, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, v) losses at the models' means, of those points that are likely to be feasible."""
    if not len(X):
        return np.zeros((0, len(surrogate.columns)))
    predicted = surrogate.predict(X)
    return predicted.losses()[predicted.log_feasible() >= math.log(0.5)]


def _parents(
    history: History, feasible: tuple[Trial, ...], done: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The front; before there is one, whatever has been seen of the greatest fidelity."""
    if feasible:
        return history.encode(feasible)[non_dominated(done)]
    return history.encode(history.complete() or history.partial())


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
    """From what is predicted across the space and what was reached, and the user's reference."""
    ideal = np.quantile(predicted, IDEAL_QUANTILE, axis=0)
    reference = np.quantile(predicted, REFERENCE_QUANTILE, axis=0)
    if len(done):
        front = done[non_dominated(done)]
        best, worst = front.min(axis=0), front.max(axis=0)
        ideal = np.minimum(ideal, best)
        reference = np.maximum(reference, worst + 0.1 * (worst - best))
    far = ideal + FARTHEST * (reference - ideal)
    reference = aim(history.problem.reference[fitted.columns], reference, done)
    reference = np.where(far > ideal, np.minimum(reference, far), reference)
    # The reference may be the best there is, or predictions flat: a span of the right size.
    fallback = np.maximum(np.abs(reference) * 1e-6, TINY)
    ideal = np.minimum(ideal, reference - fallback)
    return Scale(ideal, reference - ideal)
