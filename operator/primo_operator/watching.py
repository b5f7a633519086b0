"""Lists and watches trials, Jobs and pods, into the mirror; studies come from kopf.

kopf keeps a task and a memory for each object, of which there may be a hundred thousand, and lists
nothing again. Here each object is read, put into the mirror in its short form, and let go.

A watch goes on where it ended. One in which nothing arrives, not even the bookmarks that the server
sends each minute, is taken for dead. And because events may be lost all the same, everything is
listed anew from time to time: what a list lacks and is no newer is gone.

Namespaces that are watched by name do not wait for each other: one may be gone, with our rights.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from primo_operator.cluster import ClusterError, ForbiddenError, Object, RefusedError
from primo_operator.mirror import UNREADABLE, Key, Kind, Mirror
from primo_operator.mirror import version as version_of
from primo_operator.queue import DEBOUNCE_S

log = logging.getLogger(__name__)

AGAIN_S = 0.1
# A watch that ends sooner, without an event, is none: something on the way does not let it live.
SHORT_S = 1.0
RETRY_S = 1.0
RETRY_MAX_S = 30.0
# Of the time after which a pass would list its study by itself.
EARLY = 0.75
CHILDREN = (Kind.TRIAL, Kind.JOB, Kind.POD)
# The passes that a list asks for are spread over so long.
SPREAD_S = 20.0
GONE = 410
# What an API server says of a version that it has not come to, as after a restore from a backup.
AHEAD = "Too large resource version"

Page = tuple[Sequence[Object], int]
Event = tuple[str, Object]


class Stream(Protocol):
    """What a cluster shows of all objects of a kind."""

    def pages(self, kind: Kind, namespace: str) -> AsyncIterator[Page]:
        """All there are, from the store, page by page, each with the version of the whole.

        Raises:
            ClusterError: and what came before is not all.
        """
        ...

    def events(self, kind: Kind, namespace: str, version: int) -> AsyncIterator[Event]:
        """What has happened since, bookmarks included, until the server ends it.

        Raises:
            ClusterError: a RefusedError of status 410 if the server no longer knows.
        """
        ...


@dataclass(slots=True)
class Watching:
    """Keeps the mirror up to date.

    Attributes:
        mark: told of each study about which there is something new, and when to look.
        namespaces: empty for all.
        synced: where everything has been listed, "" for all namespaces.
    """

    stream: Stream
    mirror: Mirror
    mark: Callable[[Key, float], None]
    monotonic: Callable[[], float]
    resync_s: float
    namespaces: Sequence[str] = ()
    _listed: dict[tuple[Kind, str], float] = field(default_factory=dict)
    _forbidden: dict[tuple[Kind, str], ForbiddenError] = field(default_factory=dict)
    synced: set[str] = field(default_factory=set)

    def check(self, key: Key) -> None:
        """Whether a pass may begin: everything in its namespace has been listed.

        Raises:
            ForbiddenError: the right to is missing.
            ClusterError: it has not been yet.
        """
        if self.is_synced(key):
            return
        for (_, namespace), error in self._forbidden.items():
            if namespace in ("", key.namespace):
                raise error
        raise ClusterError("not everything has been listed yet")

    def is_synced(self, key: Key) -> bool:
        return "" in self.synced or key.namespace in self.synced

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for namespace in self.namespaces or ("",):
                for kind in CHILDREN:
                    group.create_task(self._follow(kind, namespace))
                group.create_task(self._list_again(namespace))

    async def _follow(self, kind: Kind, namespace: str) -> None:
        """One kind in one namespace: list, then watch; list again when the watch cannot go on."""
        version, pause_s = 0, RETRY_S
        while True:
            try:
                if not version:
                    version = await self._list(kind, namespace)
                    self._mark_all(namespace)
                began, heard = self.monotonic(), False
                async for event, obj in self.stream.events(kind, namespace, version):
                    version, pause_s, heard = version_of(obj) or version, RETRY_S, True
                    if event != "BOOKMARK":
                        self._absorb(kind, obj, deleted=event == "DELETED")
                if not heard and self.monotonic() < began + SHORT_S:
                    raise ClusterError("it ended at once, and had nothing to show")
                await asyncio.sleep(AGAIN_S)
            except ClusterError as error:
                expired = isinstance(error, RefusedError) and error.status == GONE
                expired |= AHEAD in str(error)
                version = 0 if expired else version
                log.log(
                    logging.DEBUG if expired else logging.WARNING,
                    "watch interrupted",
                    extra={"kind": kind.value, "error": str(error)},
                )
                self._note_forbidden(kind, namespace, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)

    def _note_forbidden(self, kind: Kind, namespace: str, error: ClusterError) -> None:
        """Before everything has been listed only a pass that fails tells a study why it waits."""
        if namespace in self.synced or not isinstance(error, ForbiddenError):
            return
        self._forbidden[kind, namespace] = error
        for key in self.mirror.studies():
            if namespace in ("", key.namespace):
                self.mark(key, 0.0)

    async def _list_again(self, namespace: str) -> None:
        """Everything and the studies, in good time before a pass would do it for its study."""
        pause_s = self.resync_s * EARLY
        while True:
            await asyncio.sleep(pause_s)
            pause_s = self.resync_s * EARLY
            try:
                await self.list_everything(namespace)
            except ClusterError as error:
                log.warning("list interrupted", extra={"error": str(error)})
                pause_s = RETRY_MAX_S

    async def list_everything(self, namespace: str) -> None:
        """Raises ClusterError; what was listed before that counts."""
        for kind in CHILDREN:
            await self._list(kind, namespace)
        self._mark_all(namespace)

    async def _list(self, kind: Kind, namespace: str) -> int:
        """All objects of a kind; the version of the list.

        Before trials the studies, whose status speaks of trials that an older list may lack
        (docs/decisions/0014).
        """
        began = self.monotonic()
        oldest = await self._list_studies(namespace) if kind is Kind.TRIAL else 0
        version = await self._take_in(kind, namespace, oldest)
        self._listed[kind, namespace] = began
        self._forbidden.pop((kind, namespace), None)
        times = [at for (_, where), at in self._listed.items() if where == namespace]
        if len(times) == len(CHILDREN):
            self.mirror.listed_at[namespace] = min(times)
        return version

    async def _list_studies(self, namespace: str) -> int:
        """All studies; the version of the newest that we know."""
        await self._take_in(Kind.STUDY, namespace, 0)
        return self.mirror.newest_study(namespace)

    async def _take_in(self, kind: Kind, namespace: str, oldest: int) -> int:
        listed: dict[Key | None, set[str]] = {}
        version = 0
        async for objects, version in self.stream.pages(kind, namespace):
            if version < oldest:
                raise ClusterError(
                    f"the API server lists {kind.value}s as of version {version}, older than a "
                    f"study of {oldest}"
                )
            for obj in objects:
                key = self._absorb(kind, obj, mark=False)
                listed.setdefault(key, set()).add(obj["metadata"]["uid"])
        self.mirror.retain(kind, namespace, listed, version)
        return version

    def _mark_all(self, namespace: str) -> None:
        """Once everything has been listed: after a start at once, later spread."""
        if namespace not in self.mirror.listed_at:
            return
        keys = self.mirror.keys(namespace)
        spread_s = SPREAD_S if namespace in self.synced else 0.0
        for place, key in enumerate(keys):
            self.mark(key, spread_s * place / len(keys))
        self.synced.add(namespace)

    def _absorb(
        self, kind: Kind, obj: Object, *, deleted: bool = False, mark: bool = True
    ) -> Key | None:
        """Take an object in; whose it is."""
        try:
            key = self.mirror.absorb(kind, obj, deleted=deleted)
        except Exception:
            # Made past the definition's schema: one such object must not blind us to the others.
            name = (obj.get("metadata") or {}).get("name")
            log.exception("object not understood", extra={"kind": kind.value, "object": name})
            return UNREADABLE
        # Before all has been listed there is nothing to decide from.
        if key and mark and self.is_synced(key):
            self.mark(key, DEBOUNCE_S)
        return key
