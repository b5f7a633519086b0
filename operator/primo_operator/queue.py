"""The queue of studies that a pass is due for: each once, in turn, and one pass at a time each."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from primo_operator.cluster import ClusterError
from primo_operator.mirror import Key

log = logging.getLogger(__name__)

# Events come in bursts, one for each object that a pass wrote.
DEBOUNCE_S = 0.05
RETRY_S = 1.0
RETRY_MAX_S = 300.0
# A pass that always asks for another at once must not starve the others.
AT_ONCE_S = 0.01

Pass = Callable[[Key], Awaitable[float | None]]


class StudyQueue:
    """Marks studies as due, and runs their passes in a few workers."""

    def __init__(self, run_pass: Pass, workers: int) -> None:
        self._run_pass = run_pass
        self._workers = workers
        self._due: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self.passes = 0

    def mark(self, key: Key, after_s: float = DEBOUNCE_S) -> None:
        """A pass is due for this study after so long; an earlier one stays."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer and not timer.cancelled():
            if timer.when() <= loop.time() + after_s:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(after_s, self._put, key)

    async def run(self) -> None:
        """Work, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    @property
    def depth(self) -> int:
        """Studies that wait for a worker."""
        return len(self._queued)

    def _put(self, key: Key) -> None:
        self._timers.pop(key, None)
        if key in self._busy:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._due.put_nowait(key)

    async def _work(self) -> None:
        while True:
            key = await self._due.get()
            self._queued.discard(key)
            self._busy.add(key)
            try:
                after_s = await self._pass(key)
            finally:
                self._busy.discard(key)
            if key in self._again:
                self._again.discard(key)
                after_s = AT_ONCE_S
            if after_s is not None:
                self.mark(key, max(after_s, AT_ONCE_S))

    async def _pass(self, key: Key) -> float | None:
        """One pass; a failed one is repeated after 1 s, then twice as long, up to 5 minutes."""
        try:
            after_s = await self._run_pass(key)
        except Exception as error:  # one study's failure must not end the others'
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            known = isinstance(error, ClusterError)
            log.log(
                logging.WARNING if known else logging.ERROR,
                "pass failed: %s",
                error,
                exc_info=None if known else error,
                extra={"study": key.name, "failures": failures},
            )
            return min(RETRY_S * 2.0 ** min(failures - 1, 10), RETRY_MAX_S)
        self.passes += 1
        self._failures.pop(key, None)
        return after_s
