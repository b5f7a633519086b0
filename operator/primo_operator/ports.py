"""What a pass reaches the world through, beside `Cluster`: clock, optimizer, Prometheus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from primo_operator.mirror import Key
from primo_optimizer import Suggestion
from primo_study.queries import Question
from primo_study.study import Study, Trouble


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for waiting."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an ask.

    Attributes:
        degraded: why these suggestions are not the algorithm's own; None if they are.
    """

    suggestions: Sequence[Suggestion]
    degraded: Trouble | None = None


class Suggester(Protocol):
    """Runs the optimizer; never raises for the optimizer's own failures."""

    async def suggest(self, study: Study, count: int, new_trials: int) -> Answer:
        """What to run next.

        Raises:
            SpaceExhaustedError: there is nothing left to propose.
        """
        ...


class Metrics(Protocol):
    """Asks Prometheus, for runs that it knows more about than they do."""

    def ask(self, key: Key, job: str, questions: Sequence[Question]) -> None:
        """Ask about a run, and do not wait: `Reconciler.answered` is told sometime.

        A run that is being asked about is not asked about again.
        """
        ...
