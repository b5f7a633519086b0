"""Versioned objects in memory, with a bounded log of changes for each kind.

Everything runs on one event loop and no method awaits, so each call is atomic. A stored object
is never changed in place: readers may keep what they were given.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from primo_local.apiserver.objects import Json, Key, with_metadata
from primo_local.wire import encode

LOG_CHANGES = 10_000
LOG_BYTES = 32 << 20


class Change(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class Record:
    """One version of an object; its JSON text is made once, when first asked for."""

    __slots__ = ("_encoded", "obj", "revision")

    def __init__(self, obj: Json, revision: int) -> None:
        self.obj = obj
        self.revision = revision
        self._encoded: bytes | None = None

    @property
    def encoded(self) -> bytes:
        if self._encoded is None:
            self._encoded = encode(self.obj)
        return self._encoded


@dataclass(frozen=True, slots=True)
class Event:
    """One change; `before` is the version it replaced, None for a new object."""

    change: Change
    record: Record
    before: Record | None


Listener = Callable[[str, Key, Event], None]


class Shelf:
    """The objects of one kind and their latest changes."""

    def __init__(self, start: int) -> None:
        self.records: dict[Key, Record] = {}
        # Changes up to this revision are no longer in the log.
        self.compacted = start
        self._log: deque[Event] = deque()
        self._log_bytes = 0
        self._wakers: set[asyncio.Event] = set()

    def append(self, event: Event) -> None:
        self._log.append(event)
        self._log_bytes += len(event.record.encoded)
        while len(self._log) > LOG_CHANGES or (self._log_bytes > LOG_BYTES and len(self._log) > 1):
            dropped = self._log.popleft()
            self._log_bytes -= len(dropped.record.encoded)
            self.compacted = dropped.record.revision
        for waker in self._wakers:
            waker.set()

    def since(self, revision: int) -> list[Event]:
        """Changes after a revision, oldest first; the caller has compared it with `compacted`."""
        newer = itertools.takewhile(lambda e: e.record.revision > revision, reversed(self._log))
        return list(newer)[::-1]

    def subscribe(self, waker: asyncio.Event) -> None:
        """Have an event set at each change until `unsubscribe`."""
        self._wakers.add(waker)

    def unsubscribe(self, waker: asyncio.Event) -> None:
        self._wakers.discard(waker)

    def sorted(self) -> list[tuple[Key, Record]]:
        return sorted(self.records.items(), key=lambda item: item[0])


class Store:
    """All shelves and the one counter of revisions.

    Args:
        first_revision: where counting starts. Above anything an earlier process has handed out,
            so that a client's old resourceVersion is answered with 410 and not with wrong data.
    """

    def __init__(self, first_revision: int = 1) -> None:
        self.revision = first_revision
        self._start = first_revision
        self._shelves: dict[str, Shelf] = {}
        self._listeners: list[Listener] = []

    def shelf(self, name: str) -> Shelf:
        if name not in self._shelves:
            self._shelves[name] = Shelf(self._start)
        return self._shelves[name]

    def listen(self, listener: Listener) -> None:
        """Call this after every change, in the same step; it must not write."""
        self._listeners.append(listener)

    def get(self, shelf: str, key: Key) -> Record | None:
        return self.shelf(shelf).records.get(key)

    def put(self, shelf: str, key: Key, obj: Json) -> Record:
        before = self.get(shelf, key)
        record = self._next(obj)
        self.shelf(shelf).records[key] = record
        change = Change.MODIFIED if before else Change.ADDED
        self._publish(shelf, key, Event(change, record, before))
        return record

    def remove(self, shelf: str, key: Key, last: Json) -> Record:
        """Take an object away; `last` is the state its DELETED event carries."""
        before = self.shelf(shelf).records.pop(key)
        record = self._next(last)
        self._publish(shelf, key, Event(Change.DELETED, record, before))
        return record

    def restore(self, shelf: str, key: Key, obj: Json, revision: int) -> None:
        """Put back what an earlier process had; it keeps its revision, and nobody can watch it."""
        record = Record(obj, revision)
        self.shelf(shelf).records[key] = record
        for listener in self._listeners:
            listener(shelf, key, Event(Change.ADDED, record, None))

    def all(self) -> Iterator[tuple[str, Key, Record]]:
        for name, shelf in self._shelves.items():
            for key, record in shelf.records.items():
                yield name, key, record

    def _next(self, obj: Json) -> Record:
        self.revision += 1
        return Record(with_metadata(obj, resourceVersion=str(self.revision)), self.revision)

    def _publish(self, shelf: str, key: Key, event: Event) -> None:
        self.shelf(shelf).append(event)
        for listener in self._listeners:
            listener(shelf, key, event)
