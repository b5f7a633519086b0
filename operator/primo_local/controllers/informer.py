"""A cache of one kind of object, kept up to date by a watch."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from primo_local.client import Client, ClientError, GoneError, Key, Obj, Resource, key_of

log = logging.getLogger(__name__)

RETRY_S: Final = 0.2
RETRY_AT_MOST_S: Final = 5.0

Handler = Callable[[Obj | None, Obj | None], None]


class Informer:
    """A cache of one kind of object, and calls when one of them changes.

    Handlers get the object before and after: None before for a new one, None after for one that
    is gone (then `before` is its last state). They run on the event loop and must not block.
    """

    def __init__(
        self, client: Client, resource: Resource, selector: Mapping[str, str] | None = None
    ) -> None:
        self._client = client
        self._resource = resource
        self._selector = dict(selector or {})
        self._objects: dict[Key, Obj] = {}
        self._handlers: list[Handler] = []
        self._version = "0"
        self._moved = asyncio.Condition()
        self.synced = asyncio.Event()

    def on_change(self, handler: Handler) -> None:
        self._handlers.append(handler)

    def get(self, key: Key) -> Obj | None:
        return self._objects.get(key)

    def __iter__(self) -> Iterator[Obj]:
        return iter(list(self._objects.values()))

    async def run(self) -> None:
        """List, then follow, for ever; any trouble leads back to a new list."""
        pause_s = RETRY_S
        while True:
            try:
                await self._list()
                pause_s = RETRY_S
                while True:
                    await self._follow()
            except GoneError:
                log.debug("watch expired", extra={"resource": self._resource.plural})
            except ClientError as error:
                log.warning(
                    "watch interrupted",
                    extra={"resource": self._resource.plural, "error": str(error)},
                )
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_AT_MOST_S)

    async def reached(self, resource_version: str, timeout_s: float = 5.0) -> None:
        """Wait until the cache holds what a write of ours returned, so as to read our own writes.

        Gives up quietly: the object may have left the selection in the meantime.
        """
        if not resource_version.isdecimal():
            return
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: int(self._version) >= int(resource_version))
        except TimeoutError:
            log.debug("no event for a write", extra={"resource": self._resource.plural})

    async def _list(self) -> None:
        answer = await self._client.list(self._resource, self._selector)
        head = {"apiVersion": self._resource.api_version, "kind": self._resource.kind}
        current = {key_of(item): {**head, **item} for item in answer.get("items") or []}
        for key in [key for key in self._objects if key not in current]:
            self._change(key, None)
        for key, item in current.items():
            self._change(key, item)
        # Not the maximum: a server that lost its memory counts from the start again.
        await self._advance(answer["metadata"]["resourceVersion"])
        self.synced.set()

    async def _follow(self) -> None:
        async for kind, item in self._client.watch(self._resource, self._version, self._selector):
            if kind == "DELETED":
                # The event's object is newer than ours: it carries the final state.
                self._objects[key_of(item)] = item
                self._change(key_of(item), None)
            elif kind != "BOOKMARK":
                self._change(key_of(item), item)
            await self._advance(item["metadata"]["resourceVersion"])

    def _change(self, key: Key, after: Obj | None) -> None:
        before = self._objects.get(key)
        if before and after and before["metadata"]["uid"] != after["metadata"]["uid"]:
            self._change(key, None)  # one of that name was deleted and made anew while we were away
            before = None
        if after is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = after
        if before is after or (before and after and _version(before) == _version(after)):
            return
        for handler in self._handlers:
            handler(before, after)

    async def _advance(self, version: str) -> None:
        async with self._moved:
            self._version = version
            self._moved.notify_all()


def _version(item: Obj) -> str:
    return str(item["metadata"].get("resourceVersion", ""))
