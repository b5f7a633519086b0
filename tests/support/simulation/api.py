"""A simulated API server: the store of record, with all its past, and its garbage collector.

Objects in it are never changed, only replaced: readers share them, and must not write to them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from primo_operator import names
from primo_operator.cluster import (
    AlreadyExistsError,
    ConflictError,
    Listing,
    NotFoundError,
    Object,
    TooLargeError,
)
from primo_operator.mirror import Kind
from support.simulation.scenario import ViolationError, stamp

if TYPE_CHECKING:
    from support.simulation.operator import Pass
    from support.simulation.world import World

COLLECTED_AFTER_S = 0.3
CHILDREN = (Kind.TRIAL, Kind.JOB, Kind.POD)


@dataclass(frozen=True, slots=True)
class Change:
    """One write: what the object is since then, or was when it was deleted."""

    version: int
    kind: Kind
    obj: Object
    event: str
    text: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", json.dumps(self.obj))


@dataclass
class Api:
    """The store, and what happened to it: versions count all writes.

    Attributes:
        author: the pass whose call is applied now; None: somebody else writes.
        bulky: names of objects that are too large to be written.
        unknown: fields of a status that the definitions do not have.
    """

    world: "World"
    version: int = 100
    uids: int = 0
    objects: dict[Kind, dict[str, Object]] = field(
        default_factory=lambda: {kind: {} for kind in Kind}
    )
    leases: dict[str, Object] = field(default_factory=dict)
    past: list[Change] = field(default_factory=list)
    author: "Pass | None" = None
    bulky: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)

    # --- reads

    def get(self, kind: Kind, name: str) -> Object | None:
        return self.objects[kind].get(name)

    def list(self, kind: Kind, study: str, version: int | None = None) -> Listing:
        """What a list by the study's label shows, now or as it was at an earlier version."""
        version = self.version if version is None else version
        found = [obj for obj in self.at(kind, version) if _listed(kind, obj, study)]
        return Listing(found, version)

    def list_everything(self, kind: Kind, version: int | None = None) -> Listing:
        """What a list over all studies shows."""
        version = self.version if version is None else version
        return Listing([obj for obj in self.at(kind, version) if watched(kind, obj)], version)

    def at(self, kind: Kind, version: int) -> Iterable[Object]:
        """All objects of a kind as they were at a version."""
        if version >= self.version:
            return self.objects[kind].values()
        found: dict[str, Object] = {}
        for change in self.past:
            if change.version > version:
                break
            if change.kind is kind:
                name = change.obj["metadata"]["name"]
                found.pop(name, None)
                if change.event != "DELETED":
                    found[name] = change.obj
        return found.values()

    # --- writes

    def create(self, kind: Kind, obj: Object) -> Object:
        name = obj["metadata"]["name"]
        if name in self.objects[kind]:
            raise AlreadyExistsError(409, f"{name} already exists")
        self._check_size(name)
        self.uids += 1
        ours = {
            "uid": f"{self.uids:08x}-0000",
            "creationTimestamp": stamp(self.world.now),
            "generation": 1,
        }
        obj = {**obj, "metadata": {**obj["metadata"], **ours}}
        if kind is Kind.JOB:
            obj = self.world.queue.admission(obj)
        return self._commit(kind, obj, "ADDED")

    def patch_status(self, kind: Kind, name: str, patch: Object, version: str) -> Object:
        old = self._current(kind, name, version)
        self._check_size(name)
        known = {name: value for name, value in patch.items() if name not in self.unknown}
        new = {**old, "status": merged(old.get("status") or {}, known)}
        if new == old and known != patch:
            return old
        return self._differs(kind, old, new, patch)

    def patch(self, kind: Kind, name: str, patch: Object, version: str | None = None) -> Object:
        """A merge patch of all but the status."""
        old = self._current(kind, name, version)
        new = merged(old, patch)
        scenario = self.world.scenario
        if new == old and (scenario.operators > 1 or scenario.lose or scenario.slow):
            return old  # two have said the same, or one again that was given no answer
        return self._differs(kind, old, new, patch)

    def edit(self, kind: Kind, name: str, patch: Object) -> None:
        """A merge patch by someone else than the operator, if there is such an object."""
        old = self.objects[kind].get(name)
        if old is None:
            return
        new = merged(old, patch)
        if new == old:
            return
        if new.get("spec") != old.get("spec"):
            generation = old["metadata"]["generation"] + 1
            new["metadata"] = {**new["metadata"], "generation": generation}
        self._commit(kind, new, "MODIFIED")

    def delete(self, kind: Kind, name: str, *, orphan: bool = False) -> None:
        """Delete an object; its children follow, or lose the owner that they name.

        A pod that runs is told to stop first, and is gone when its kubelet says so.
        """
        obj = self.objects[kind].get(name)
        if obj is None:
            return
        if kind is Kind.POD and self.world.kubelet.terminates(obj):
            return
        self.remove(kind, name)
        uid = obj["metadata"]["uid"]
        for child_kind in CHILDREN:
            for child, child_obj in list(self.objects[child_kind].items()):
                if uid in _owners(child_obj):
                    if orphan:
                        self.edit(child_kind, child, _without_owner(child_obj, uid))
                    else:
                        self._collect_later(child_kind, child, uid)

    def remove(self, kind: Kind, name: str) -> None:
        """The object is gone."""
        obj = self.objects[kind].pop(name)
        self.version += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self.version)}
        last = {**obj, "metadata": metadata}
        self.past.append(Change(self.version, kind, last, "DELETED"))
        self.world.checker.deleted(kind, last)
        self.world.happened(kind, obj, last, "DELETED")

    # --- leases

    def write_lease(self, lease: Object, *, create: bool = False) -> Object:
        name = lease["metadata"]["name"]
        old = self.leases.get(name)
        if create and old:
            raise AlreadyExistsError(409, f"{name} already exists")
        if old and old["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
            raise ConflictError(409, "the lease has been modified")
        self.version += 1
        metadata = {**lease["metadata"], "resourceVersion": str(self.version)}
        self.leases[name] = {**lease, "metadata": metadata}
        return self.leases[name]

    def check_unchanged(self) -> None:
        """No reader has written to what it read."""
        for change in self.past:
            if change.text != json.dumps(change.obj):
                raise ViolationError(f"somebody has changed {change.obj} in place")

    # --- within

    def _current(self, kind: Kind, name: str, version: str | None) -> Object:
        old = self.objects[kind].get(name)
        if old is None:
            raise NotFoundError(404, f"{name} not found")
        if version not in (None, old["metadata"]["resourceVersion"]):
            raise ConflictError(409, "the object has been modified")
        return old

    def _check_size(self, name: str) -> None:
        if name in self.bulky:
            raise TooLargeError(413, f"{name}: etcdserver: request is too large")

    def _differs(self, kind: Kind, old: Object, new: Object, patch: Object) -> Object:
        if new == old:
            name = old["metadata"]["name"]
            raise ViolationError(f"I10: a write without difference to {kind} {name}: {patch}")
        return self._commit(kind, new, "MODIFIED")

    def _commit(self, kind: Kind, obj: Object, event: str) -> Object:
        self.version += 1
        name = obj["metadata"]["name"]
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        for owner in _owners(obj):
            # An owner that has gone takes what is made its own later too.
            if not self._exists(owner):
                self.world.after(1.0, lambda uid=owner: self._collect(kind, name, uid))
        before = self.objects[kind].get(name)
        self.objects[kind][name] = obj
        self.past.append(Change(self.version, kind, obj, event))
        self.world.checker.written(kind, before, obj, self.author)
        self.world.happened(kind, before, obj, event)
        return obj

    def _collect_later(self, kind: Kind, name: str, owner: str) -> None:
        self.world.later(COLLECTED_AFTER_S, lambda: self._collect(kind, name, owner))

    def _collect(self, kind: Kind, name: str, owner: str) -> None:
        obj = self.objects[kind].get(name)
        if obj and owner in _owners(obj) and not self._exists(owner):
            self.delete(kind, name)

    def _exists(self, uid: str) -> bool:
        return any(
            obj["metadata"]["uid"] == uid for kind in Kind for obj in self.objects[kind].values()
        )


def watched(kind: Kind, obj: Object) -> bool:
    """Whether the operator's watches show it: Jobs and pods by their label."""
    return kind in (Kind.STUDY, Kind.TRIAL) or names.STUDY_LABEL in labels(obj)


def labels(obj: Object) -> Object:
    return obj["metadata"].get("labels") or {}


def _listed(kind: Kind, obj: Object, study: str) -> bool:
    label = labels(obj).get(names.STUDY_LABEL)
    unlabelled = kind is Kind.TRIAL and label is None and obj["spec"].get("study") == study
    return label == study or unlabelled


def _owners(obj: Object) -> set[str]:
    return {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()}


def _without_owner(obj: Object, uid: str) -> Object:
    left = [o for o in obj["metadata"]["ownerReferences"] if o["uid"] != uid]
    return {"metadata": {"ownerReferences": left}}


def merged(old: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
