"""Watching a kind: from a snapshot or a revision on, as a stream of batches of events.

A watcher pulls from the shelf's log by revision and keeps no queue of its own, so one that reads
slowly costs nothing; when the log has moved on without it, it is told to start afresh (410).
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from primo_local.apiserver.errors import expired
from primo_local.apiserver.objects import Json
from primo_local.apiserver.selectors import Selection
from primo_local.apiserver.store import Change, Event, Record, Shelf, Store

BOOKMARK_EVERY_S = 60.0
_BOOKMARK_BEFORE_END_S = 2.0


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What a client wants to be told.

    Attributes:
        after: tell changes after this revision; None begins with what is there.
        timeout_s: when the stream ends by itself.
        announce_end: send the bookmark that says the initial events are complete.
    """

    select: Selection
    after: int | None
    timeout_s: float
    bookmarks: bool = False
    announce_end: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """An event of a watch: a change of a record, a bookmark or the error that ends it."""

    type: str
    record: Record | None = None
    revision: int = 0
    initial_end: bool = False
    error: Json | None = None


async def watch(store: Store, shelf: Shelf, request: WatchRequest) -> AsyncIterator[list[Observed]]:
    """Batches of events until the time is over; an empty batch is never given."""
    loop = asyncio.get_running_loop()
    end = loop.time() + request.timeout_s
    bookmark_at = min(
        loop.time() + BOOKMARK_EVERY_S, max(loop.time(), end - _BOOKMARK_BEFORE_END_S)
    )
    waker = asyncio.Event()
    shelf.subscribe(waker)
    try:
        position = store.revision if request.after is None else request.after
        if request.after is None and (initial := _initial(store, shelf, request)):
            yield initial
        while loop.time() < end:
            waker.clear()
            if position < shelf.compacted:
                yield [_too_old(position, store.revision)]
                return
            events = shelf.since(position)
            position = max(position, store.revision)
            if batch := [seen for event in events if (seen := _seen(event, request.select))]:
                yield batch
            if request.bookmarks and loop.time() >= bookmark_at:
                bookmark_at = loop.time() + BOOKMARK_EVERY_S
                yield [Observed("BOOKMARK", revision=position)]
            due = min(end, bookmark_at) if request.bookmarks else end
            await _woken(waker, due - loop.time())
    finally:
        shelf.unsubscribe(waker)


async def _woken(waker: asyncio.Event, limit_s: float) -> None:
    if limit_s > 0:
        try:
            await asyncio.wait_for(waker.wait(), limit_s)
        except TimeoutError:
            return


def _initial(store: Store, shelf: Shelf, request: WatchRequest) -> list[Observed]:
    found = [
        Observed("ADDED", record) for _, record in shelf.sorted() if request.select(record.obj)
    ]
    if request.announce_end:
        found.append(Observed("BOOKMARK", revision=store.revision, initial_end=True))
    return found


def _seen(event: Event, select: Selection) -> Observed | None:
    """An event as one selection sees it: what leaves the selection is deleted for it."""
    now = event.change is not Change.DELETED and select(event.record.obj)
    before = event.before is not None and select(event.before.obj)
    if now:
        return Observed("MODIFIED" if before else "ADDED", event.record)
    return Observed("DELETED", event.record) if before else None


def _too_old(position: int, current: int) -> Observed:
    error = expired(f"too old resource version: {position} ({current})")
    return Observed("ERROR", error=error.status())
