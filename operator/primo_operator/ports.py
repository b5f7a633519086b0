"""What a pass reaches the world through, beside `Cluster`: clock, optimizer, Prometheus."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from primo_operator.mirror import Key
from primo_optimizer import Suggestion
from primo_study.queries import Question
from primo_study.study import Study, Trouble

T = TypeVar("T")
# Trials of one pass that something is done for at once. A server that is busy answers late, and a
# study with many slots must not wait for one answer after the other.
AT_ONCE = 32


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


class Together(Protocol):
    """Does several things of a pass at once, in whatever order their calls are answered."""

    async def __call__(self, calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Their results, in their order. If some fail, the others are finished all the same.

        Raises:
            Exception: the first of their errors.
        """
        ...


async def at_once(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """`Together` in the event loop."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(call: Coroutine[Any, Any, T]) -> T:
        try:
            async with slots:
                return await call
        finally:
            call.close()  # one that was cancelled before its turn has never begun

    results = await asyncio.gather(*map(one, calls), return_exceptions=True)
    found: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
