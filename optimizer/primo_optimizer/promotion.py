"""Promotions by the rule of successive halving, whatever proposes the new trials."""

from collections.abc import Iterator

from primo_optimizer.history import History
from primo_optimizer.rungs import Rung, promotable, reached, table
from primo_optimizer.trial import Suggestion, Trial


def earned(history: History, stage: str) -> Suggestion | None:
    """The promotion that is due, from the highest rung down; None if there is none."""
    for rung in _below_full(history):
        assert history.problem.fidelity is not None
        rows = promotable(rung.losses, rung.gone_on, history.problem.fidelity.eta)
        if rows.size:
            return _promotion(history, rung.trials[rows[0]], rung.index + 1, stage)
    return None


def unearned(history: History, stage: str) -> Suggestion | None:
    """In a used-up space the rule waits for trials that cannot come: then the best goes on."""
    for rung in _below_full(history):
        if waiting := rung.waiting():
            return _promotion(history, waiting[0], rung.index + 1, stage)
    # Trials of users may be below the only rung, where nobody is compared.
    return next((_promotion(history, trial, 0, stage) for trial in _below_all(history)), None)


def _below_all(history: History) -> tuple[Trial, ...]:
    return history.partial() if len(history.rungs) == 1 else ()


def _below_full(history: History) -> Iterator[Rung]:
    """From the highest down."""
    return reversed(table(history.problem, history.rungs, history.trials)[:-1])


def _promotion(history: History, trial: Trial, rung: int, stage: str) -> Suggestion:
    explanation = {"stage": stage, "origin": "Promotion", "rung": rung}
    return Suggestion(
        trial.number, trial.configuration, history.rungs[rung], reached(trial), explanation
    )
