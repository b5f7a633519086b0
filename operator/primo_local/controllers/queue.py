"""A queue of keys to look at: each at most once, never by two workers, later after a failure."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from primo_local.client import ClientError, ConflictError, NotFoundError

log = logging.getLogger(__name__)

RETRY_S: Final = 0.1
RETRY_AT_MOST_S: Final = 30.0

K = TypeVar("K")


class WorkQueue(Generic[K]):
    """Keys that need a look. A key added while it is being worked on is looked at once more."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def add(self, key: K) -> None:
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._working:
            self._ready.put_nowait(key)

    def add_after(self, key: K, delay_s: float) -> None:
        """Add later; of several wishes for one key the earliest holds."""
        loop = asyncio.get_running_loop()
        planned = self._timers.get(key)
        if planned is not None and planned.when() <= loop.time() + delay_s:
            return
        if planned is not None:
            planned.cancel()
        self._timers[key] = loop.call_later(max(delay_s, 0), self._due, key)

    async def run(self, work: Callable[[K], Awaitable[None]], workers: int = 1) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(work))

    async def _work(self, work: Callable[[K], Awaitable[None]]) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._working.add(key)
            try:
                await work(key)
            except (ConflictError, NotFoundError):
                self._retry(key)  # we acted on an old view; the new one is on its way
            except ClientError as error:
                log.warning("will try again", extra={"key": key, "error": str(error)})
                self._retry(key)
            except Exception:
                # One object that we cannot handle must not stop the others.
                log.exception("a bug of ours", extra={"key": key})
                self._retry(key)
            else:
                self._failures.pop(key, None)
            finally:
                self._working.discard(key)
                if key in self._waiting:
                    self._ready.put_nowait(key)

    def _retry(self, key: K) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.add_after(key, min(RETRY_S * 2 ** (failures - 1), RETRY_AT_MOST_S))

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)
