"""The queue of studies that a pass is due for: each once, in turn, and one pass at a time each."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from primo_operator.cluster import ClusterError
from primo_operator.mirror import Key
from primo_operator.ports import Answer, Suggester
from primo_study.study import Study

log = logging.getLogger(__name__)

# Events come in bursts, one for each object that a pass wrote.
DEBOUNCE_S = 0.05
RETRY_S = 1.0
RETRY_MAX_S = 300.0
# An edit may be the cure, so an event brings the next try forward; but not each event, or a pass
# that writes something and then fails would wake itself.
RETRY_EARLY_S = 15.0
LOG_AGAIN_S = 60.0
# A pass that always asks for another at once must not starve the others.
AT_ONCE_S = 0.01

Pass = Callable[[Key], Awaitable[float | None]]
Tell = Callable[[Key, Exception], Awaitable[None]]


class StudyQueue:
    """Marks studies as due, and runs their passes, so many at once.

    Args:
        tell: given each failure of a pass.
    """

    def __init__(self, run_pass: Pass, workers: int, tell: Tell | None = None) -> None:
        self._run_pass = run_pass
        self._workers = workers
        self._tell = tell
        self._working = 0
        self._may_work = asyncio.Event()
        self._due: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        self._logged: dict[Key, dict[str, float]] = {}
        self.passes = 0

    def mark(self, key: Key, after_s: float = DEBOUNCE_S) -> None:
        """A pass is due for this study after so long; an earlier one stays."""
        loop = asyncio.get_running_loop()
        when = max(loop.time() + after_s, self._not_before.get(key, 0.0))
        timer = self._timers.get(key)
        if timer and not timer.cancelled():
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._put, key)

    async def run(self) -> None:
        """Work, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                while self._working >= self._workers:
                    self._may_work.clear()
                    await self._may_work.wait()
                key = await self._due.get()
                self._queued.discard(key)
                self._busy.add(key)
                self._working += 1
                group.create_task(self._work(key))

    @contextlib.asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """In a pass: let another study's take its place, for as long as it only waits.

        Coming back needs no place: more passes than workers for a moment do no harm.
        """
        self._leave()
        try:
            yield
        finally:
            self._working += 1

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

    def _leave(self) -> None:
        self._working -= 1
        self._may_work.set()

    async def _work(self, key: Key) -> None:
        try:
            after_s = await self._pass(key)
        finally:
            self._busy.discard(key)
            self._leave()
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
            return await self._failed(key, error)
        self.passes += 1
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        self._logged.pop(key, None)
        return after_s

    async def _failed(self, key: Key, error: Exception) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._log(key, "pass failed: %s", error, failures)
        if self._tell:
            try:
                await self._tell(key, error)
            except Exception as second:
                self._log(key, "the failure was not told: %s", second, failures)
        wait_s = min(RETRY_S * 2.0 ** min(failures - 1, 10), RETRY_MAX_S)
        now = asyncio.get_running_loop().time()
        self._not_before[key] = now + min(wait_s, RETRY_EARLY_S)
        if timer := self._timers.pop(key, None):  # of an event during the pass
            timer.cancel()
            self.mark(key, 0)
        return wait_s

    def _log(self, key: Key, text: str, error: Exception, failures: int) -> None:
        """The same words of a study once a minute: a right may be gone for days."""
        now = asyncio.get_running_loop().time()
        said, what = self._logged.setdefault(key, {}), text % error
        again = now < said.get(what, now)
        if not again:
            self._logged[key] = {w: at for w, at in said.items() if now < at}
            self._logged[key][what] = now + LOG_AGAIN_S
        known = isinstance(error, ClusterError)
        level = logging.WARNING if known else logging.ERROR
        log.log(
            logging.DEBUG if again else level,
            text,
            error,
            exc_info=None if known else error,
            extra={"study": key.name, "failures": failures},
        )


class StepsAside:
    """A `Suggester` whose callers are passes: they hold up no others while they wait for it."""

    def __init__(self, suggester: Suggester, queue: StudyQueue) -> None:
        self._suggester, self._queue = suggester, queue

    async def suggest(self, study: Study, count: int, new_trials: int) -> Answer:
        async with self._queue.aside():
            return await self._suggester.suggest(study, count, new_trials)
