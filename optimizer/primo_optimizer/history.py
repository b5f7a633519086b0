"""What a study has done so far, in the terms of an algorithm that climbs rungs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from primo_optimizer.problem import Problem
from primo_optimizer.rungs import is_open, ladder, reached
from primo_optimizer.sampling import Key
from primo_optimizer.transforms import bounded
from primo_optimizer.trial import Suggestion, Trial


@dataclass(frozen=True, slots=True)
class History:
    """A problem, its trials in the order of their numbers, and its rungs.

    Attributes:
        rungs: from low to high; empty without a fidelity.
    """

    problem: Problem
    trials: tuple[Trial, ...]
    rungs: tuple[float, ...]

    @classmethod
    def of(cls, problem: Problem, trials: Sequence[Trial]) -> "History":
        return cls(problem, tuple(trials), ladder(problem.fidelity) if problem.fidelity else ())

    @property
    def full(self) -> float | None:
        """The fidelity that counts; None without one."""
        return self.rungs[-1] if self.rungs else None

    @property
    def last_but_one(self) -> float:
        """That rung, or the last one if it would be the lowest; infinite without several."""
        return self.rungs[max(len(self.rungs) - 2, 1)] if len(self.rungs) > 1 else math.inf

    def known(self) -> set[Key]:
        """Configurations that must not be proposed as new."""
        return self.problem.space.keys(trial.configuration for trial in self.trials)

    def after(self, suggestion: Suggestion) -> "History":
        """As if the suggestion ran already."""
        running = next((t for t in self.trials if t.number == suggestion.trial), None)
        if running is None:
            running = Trial(suggestion.trial, suggestion.configuration)
        running = replace(running, running=True, fidelity=suggestion.fidelity)
        others = [t for t in self.trials if t.number != suggestion.trial]
        trials = sorted([*others, running], key=lambda trial: trial.number)
        return replace(self, trials=tuple(trials))

    def spent(self, with_running: bool, from_trial: int = 0) -> float:
        """In full evaluations: each trial counts with the highest fidelity it was trained to.

        A failed run counts as if it had got where it was to go.

        Args:
            from_trial: trials with lower numbers are left out.
        """
        counted = (trial for trial in self.trials if trial.number >= from_trial)
        return sum(self._cost(trial, with_running) for trial in counted)

    def _cost(self, trial: Trial, with_running: bool) -> float:
        tried = trial.failed is not None or (with_running and trial.running)
        if self.full is None:
            return 1.0 if tried or trial.observations else 0.0
        asked = trial.fidelity or 0.0 if tried else 0.0
        return max(asked, reached(trial) or 0.0) / self.full

    def sound(self) -> tuple[Trial, ...]:
        """Trials whose observations may be learnt from: those that have not failed.

        Trials of earlier studies come first.
        """
        both = (*self.problem.earlier, *self.trials)
        return tuple(t for t in both if t.failed is None and t.observations)

    def spent_earlier(self) -> float:
        """What trials of earlier studies have cost, in full evaluations."""
        return sum(self._cost(trial, with_running=False) for trial in self.problem.earlier)

    def _own(self) -> tuple[Trial, ...]:
        return tuple(t for t in self.trials if t.failed is None and t.observations)

    def complete(self) -> tuple[Trial, ...]:
        """The study's own sound trials that were observed at full fidelity."""
        return tuple(t for t in self._own() if t.at(self.full) is not None)

    def running(self) -> tuple[Trial, ...]:
        """What other workers are busy with."""
        return tuple(trial for trial in self.trials if trial.running)

    def completing(self) -> tuple[Trial, ...]:
        """Those that run at full fidelity now."""
        return tuple(trial for trial in self.running() if trial.fidelity == self.full)

    def near_full(self) -> bool:
        """Whether a trial has come to the last rung but one, or runs there or beyond."""
        return any(
            max(reached(trial) or 0.0, (trial.fidelity or 0.0) if trial.running else 0.0)
            >= self.last_but_one
            for trial in self.trials
        )

    def feasible(self) -> tuple[Trial, ...]:
        """The complete ones that keep all constraints there."""
        seen = ((trial, trial.at(self.full)) for trial in self.complete())
        return tuple(t for t, o in seen if o and self.problem.violation(o.constrained) <= 0.0)

    def full_losses(self, complete: Sequence[Trial]) -> NDArray[np.float64]:
        """(n, m) of n trials that were observed at full fidelity."""
        seen = [trial.at(self.full) for trial in complete]
        return bounded(self.problem.losses([o.values for o in seen if o is not None]))

    def partial(self) -> tuple[Trial, ...]:
        """The study's own that were observed, but below full fidelity only, and may go on."""
        if self.full is None:
            return ()
        return tuple(t for t in self._own() if is_open(t) and (reached(t) or 0.0) < self.full)

    def encode(self, trials: Sequence[Trial]) -> NDArray[np.float64]:
        """(n, d) in the unit cube."""
        return self.problem.space.encode_all([trial.configuration for trial in trials])


def in_turn(
    history: History,
    count: int,
    next_number: int,
    propose: Callable[[History, int], Suggestion | None],
) -> list[Suggestion]:
    """One after the other, the earlier ones pending: q at once are the same as q asks in a row.

    Args:
        propose: given what has been done and the number of the next new trial; None ends it.
    """
    suggestions: list[Suggestion] = []
    while len(suggestions) < count:
        suggestion = propose(history, next_number)
        if suggestion is None:
            break
        history = history.after(suggestion)
        next_number = max(next_number, suggestion.trial + 1)
        suggestions.append(suggestion)
    return suggestions
