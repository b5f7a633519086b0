"""What has to follow when a namespace or a definition is deleted, and events growing old."""

import asyncio
import datetime
import logging

from primo_local.apiserver import crd
from primo_local.apiserver.api import Api, WriteOptions
from primo_local.apiserver.builtins.event import TTL_S
from primo_local.apiserver.clock import parse_timestamp
from primo_local.apiserver.deletion import DeleteOptions, delete
from primo_local.apiserver.errors import ApiError
from primo_local.apiserver.objects import Json, Key, dig, is_deleting, with_metadata
from primo_local.apiserver.registry import Resource
from primo_local.apiserver.store import Change, Event

log = logging.getLogger(__name__)

_NAMESPACES = "namespaces"
_EVENTS = "events"
_SWEEP_S = 60.0

Place = tuple[str, Key]


class Lifecycle:
    """Empties what is being deleted, and lets go of it once it is empty."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._queue: asyncio.Queue[Place] = asyncio.Queue()
        api.store.listen(self._changed)

    async def run(self) -> None:
        while True:
            shelf, key = await self._queue.get()
            try:
                if shelf == _NAMESPACES:
                    self._empty_namespace(key)
                else:
                    self._empty_definition(key)
            except ApiError as error:
                log.debug("deletion put off", extra={"reason": error.reason})
            await asyncio.sleep(0)

    async def sweep_events(self) -> None:
        """Events are kept for an hour after they were last seen."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            oldest = self._api.clock() - datetime.timedelta(seconds=TTL_S)
            shelf = self._api.store.shelf(_EVENTS)
            for key, record in list(shelf.records.items()):
                if _last_seen(record.obj) < oldest:
                    self._api.store.remove(_EVENTS, key, record.obj)

    def _changed(self, shelf: str, key: Key, event: Event) -> None:
        if shelf in (_NAMESPACES, crd.SHELF):
            if is_deleting(event.record.obj) and event.change is not Change.DELETED:
                self._queue.put_nowait((shelf, key))
        elif event.change is Change.DELETED:
            # The last one out may be what a namespace or a definition waits for.
            self._queue_if_deleting(_NAMESPACES, Key("", key.namespace))
            self._queue_if_deleting(crd.SHELF, Key("", shelf))

    def _queue_if_deleting(self, shelf: str, key: Key) -> None:
        record = self._api.store.get(shelf, key)
        if record is not None and is_deleting(record.obj):
            self._queue.put_nowait((shelf, key))

    def _empty_namespace(self, key: Key) -> None:
        record = self._api.store.get(_NAMESPACES, key)
        if record is None or not is_deleting(record.obj):
            return
        empty = True
        for resource in self._api.registry.stored():
            if resource.namespaced:
                empty &= self._delete_all(resource, key.name)
        if empty and dig(record.obj, "spec", "finalizers"):
            namespaces = self._api.registry.get("", "v1", "namespaces")
            self._api.update(namespaces, key, _finalized, WriteOptions(), "finalize")

    def _empty_definition(self, key: Key) -> None:
        record = self._api.store.get(crd.SHELF, key)
        if record is None or not is_deleting(record.obj):
            return
        resource = self._api.registry.of_shelf(key.name)
        if resource is not None and not self._delete_all(resource, None):
            return
        if crd.CLEANUP_FINALIZER in (record.obj["metadata"].get("finalizers") or ()):
            definitions = self._api.registry.get(
                "apiextensions.k8s.io", "v1", "customresourcedefinitions"
            )
            self._api.update(definitions, key, _cleaned_up, WriteOptions())

    def _delete_all(self, resource: Resource, namespace: str | None) -> bool:
        """Delete what is there and is not yet being deleted; whether nothing is left."""
        shelf = self._api.store.shelf(resource.shelf)
        for key, record in list(shelf.records.items()):
            if namespace in (None, key.namespace) and not is_deleting(record.obj):
                delete(self._api, resource, key, DeleteOptions(propagation="Background"))
        return not any(namespace in (None, key.namespace) for key in shelf.records)


def _finalized(obj: Json) -> Json:
    return {**obj, "spec": {**obj["spec"], "finalizers": []}}


def _cleaned_up(obj: Json) -> Json:
    kept = [each for each in obj["metadata"]["finalizers"] if each != crd.CLEANUP_FINALIZER]
    return with_metadata(obj, finalizers=kept or None)


def _last_seen(obj: Json) -> datetime.datetime:
    at = (
        dig(obj, "series", "lastObservedTime")
        or obj.get("lastTimestamp")
        or obj["metadata"]["creationTimestamp"]
    )
    return parse_timestamp(at)
