"""Garbage collection: objects follow their owners, in the background, foreground or not at all."""

import asyncio
import logging
from collections import OrderedDict, defaultdict

from primo_local.apiserver.api import Api, WriteOptions, owner_references
from primo_local.apiserver.deletion import (
    BACKGROUND,
    FOREGROUND,
    FOREGROUND_FINALIZER,
    ORPHAN,
    ORPHAN_FINALIZER,
    DeleteOptions,
    delete,
)
from primo_local.apiserver.errors import ApiError
from primo_local.apiserver.objects import Json, Key, is_deleting, with_metadata
from primo_local.apiserver.registry import Resource
from primo_local.apiserver.store import Change, Event

log = logging.getLogger(__name__)

Place = tuple[str, Key]
_REMEMBERED_GONE = 10_000


class GarbageCollector:
    """Watches the store's changes, keeps owners and dependents by uid, and settles them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._places: dict[str, Place] = {}
        self._dependents: dict[str, set[Place]] = defaultdict(set)
        # Owners known to have been here: their kind may no longer be served when we look.
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._queue: asyncio.Queue[Place] = asyncio.Queue()
        self._queued: set[Place] = set()
        api.store.listen(self._changed)

    async def run(self) -> None:
        while True:
            place = await self._queue.get()
            self._queued.discard(place)
            try:
                self._settle(place)
            except ApiError as error:
                log.debug("garbage collection put off", extra={"reason": error.reason})
            await asyncio.sleep(0)

    def _changed(self, shelf: str, key: Key, event: Event) -> None:
        place, obj = (shelf, key), event.record.obj
        uid = obj["metadata"]["uid"]
        for owner in owner_references(event.before.obj) if event.before else ():
            self._forget_dependent(owner["uid"], place)
        if event.change is Change.DELETED:
            self._deleted(uid, obj)
            return
        self._places[uid] = place
        for owner in owner_references(obj):
            self._dependents[owner["uid"]].add(place)
        if owner_references(obj) or is_deleting(obj):
            self._enqueue(place)

    def _forget_dependent(self, owner: str, place: Place) -> None:
        self._dependents[owner].discard(place)
        if not self._dependents[owner]:
            del self._dependents[owner]

    def _deleted(self, uid: str, obj: Json) -> None:
        self._places.pop(uid, None)
        self._gone[uid] = None
        if len(self._gone) > _REMEMBERED_GONE:
            self._gone.popitem(last=False)
        for place in self._dependents.get(uid, ()):
            self._enqueue(place)
        # An owner deleted in the foreground waits for its dependents to be gone.
        for owner in owner_references(obj):
            if owner["uid"] in self._places:
                self._enqueue(self._places[owner["uid"]])

    def _enqueue(self, place: Place) -> None:
        if place not in self._queued:
            self._queued.add(place)
            self._queue.put_nowait(place)

    def _settle(self, place: Place) -> None:
        shelf, key = place
        record = self._api.store.get(shelf, key)
        resource = self._api.registry.of_shelf(shelf)
        if record is None or resource is None:
            return
        finalizers = record.obj["metadata"].get("finalizers") or ()
        if is_deleting(record.obj) and ORPHAN_FINALIZER in finalizers:
            self._orphan_dependents(resource, key, record.obj)
        elif is_deleting(record.obj) and FOREGROUND_FINALIZER in finalizers:
            self._delete_dependents(resource, key, record.obj)
        elif not is_deleting(record.obj):
            self._follow_owners(resource, key, record.obj)

    def _orphan_dependents(self, resource: Resource, key: Key, obj: Json) -> None:
        uid = obj["metadata"]["uid"]
        for shelf, dependent in tuple(self._dependents.get(uid, ())):
            kind = self._api.registry.of_shelf(shelf)
            if kind is not None:
                self._drop_owners(kind, dependent, {uid})
        self._drop_finalizer(resource, key, ORPHAN_FINALIZER)

    def _delete_dependents(self, resource: Resource, key: Key, obj: Json) -> None:
        uid = obj["metadata"]["uid"]
        blocked = False
        for place in tuple(self._dependents.get(uid, ())):
            record = self._api.store.get(*place)
            if record is None:
                continue
            blocked |= any(
                owner["uid"] == uid and owner.get("blockOwnerDeletion")
                for owner in owner_references(record.obj)
            )
            if not is_deleting(record.obj):
                self._enqueue(place)
        if not blocked:
            self._drop_finalizer(resource, key, FOREGROUND_FINALIZER)

    def _follow_owners(self, resource: Resource, key: Key, obj: Json) -> None:
        states = [(owner["uid"], self._state(key, owner)) for owner in owner_references(obj)]
        if not states:
            return
        lost = {uid for uid, state in states if state in ("gone", "waiting")}
        if any(state in ("alive", "unknown") for _, state in states):
            if lost:
                self._drop_owners(resource, key, lost)
            return
        waiting = any(state == "waiting" for _, state in states)
        policy = self._policy(obj, waiting)
        uid = obj["metadata"]["uid"]
        delete(self._api, resource, key, DeleteOptions(propagation=policy, uid=uid))

    def _policy(self, obj: Json, owner_waits: bool) -> str:
        """How a dependent goes: as its own finalizers say, else as its owner does."""
        finalizers = obj["metadata"].get("finalizers") or ()
        if ORPHAN_FINALIZER in finalizers:
            return ORPHAN
        has_dependents = bool(self._dependents.get(obj["metadata"]["uid"]))
        if FOREGROUND_FINALIZER in finalizers or (owner_waits and has_dependents):
            return FOREGROUND
        return BACKGROUND

    def _state(self, dependent: Key, owner: Json) -> str:
        place = self._places.get(owner["uid"])
        if place is None:
            known = owner["uid"] in self._gone or self._api.registry.of_kind(
                owner["apiVersion"], owner["kind"]
            )
            return "gone" if known else "unknown"
        shelf, key = place
        record = self._api.store.get(shelf, key)
        if record is None or key.name != owner["name"] or record.obj["kind"] != owner["kind"]:
            return "gone"
        if key.namespace not in ("", dependent.namespace):
            return "gone"  # an owner in another namespace is none
        finalizers = record.obj["metadata"].get("finalizers") or ()
        deleting = is_deleting(record.obj) and FOREGROUND_FINALIZER in finalizers
        return "waiting" if deleting else "alive"

    def _drop_owners(self, resource: Resource, key: Key, uids: set[str]) -> None:
        def change(obj: Json) -> Json:
            kept = [each for each in owner_references(obj) if each["uid"] not in uids]
            return with_metadata(obj, ownerReferences=kept or None)

        self._api.update(resource, key, change, WriteOptions())

    def _drop_finalizer(self, resource: Resource, key: Key, finalizer: str) -> None:
        def change(obj: Json) -> Json:
            kept = [each for each in obj["metadata"]["finalizers"] if each != finalizer]
            return with_metadata(obj, finalizers=kept or None)

        self._api.update(resource, key, change, WriteOptions())
