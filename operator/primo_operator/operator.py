"""The operator at work: what runs, from its start to its end, and what ends it early."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from primo_operator.cluster import Object
from primo_operator.leadership import Candidacy, Elector, LeadershipLostError
from primo_operator.mirror import Kind, Mirror
from primo_operator.parts import Parts, assembled
from primo_operator.settings import Settings

log = logging.getLogger(__name__)


class Operator:
    """One that is started once, and stopped once."""

    def __init__(
        self,
        settings: Settings,
        context: str | None,
        candidacy: Candidacy | None,
        namespaces: Sequence[str],
        end: Callable[[int], None],
    ) -> None:
        """Args:
        candidacy: what it waits for before it works, while it watches already; None: it works at
            once.
        end: called with 1 if it leads no more, or a part of it has ended by a bug: all work has
            stopped, and the process must end.
        """
        self._mirror = Mirror()
        self._assembled = assembled(settings, self._mirror, context, candidacy, namespaces)
        self._end = end
        self._exit = contextlib.AsyncExitStack()
        self._parts: Parts | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        self._parts = parts = await self._exit.enter_async_context(self._assembled)
        await parts.definitions.look()  # before anything is written
        self._run("definitions", parts.definitions.run())
        self._run("watches", parts.watching.run())
        if parts.elector:
            self._run("leadership", self._lead(parts, parts.elector))
        else:
            self._work(parts)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._exit.aclose()

    def saw(self, study: Object, *, deleted: bool) -> None:
        """A study as a watch shows it."""
        key = self._mirror.absorb(Kind.STUDY, study, deleted=deleted)
        # Before all that belongs to studies has been listed there is nothing to decide from.
        if key and self._parts and self._parts.watching.is_synced(key):
            self._parts.queue.mark(key)

    @property
    def passes(self) -> int:
        """Those that have succeeded."""
        return self._parts.queue.passes if self._parts else 0

    @property
    def ended(self) -> list[str]:
        """What runs no more; without it the watches may go on and no study does."""
        return [task.get_name() for task in self._tasks if task.done()]

    def _run(self, name: str, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(what, name=name)
        task.add_done_callback(self._has_ended)
        self._tasks.append(task)

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        """Unless it was told to: nothing goes on without it, and nobody else would say why."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        known = isinstance(error, LeadershipLostError)
        log.error("stopping: %s: %s", task.get_name(), error, exc_info=None if known else error)
        for other in self._tasks:
            other.cancel()
        self._end(1)

    def _work(self, parts: Parts) -> None:
        # Who waits for the lead sees the studies too, and would show them a second time.
        parts.show_studies()
        self._run("passes", parts.queue.run())
        self._run("notices", parts.cluster.post_notices())

    async def _lead(self, parts: Parts, elector: Elector) -> None:
        await elector.acquire()
        self._work(parts)
        await elector.hold()
