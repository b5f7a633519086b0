"""What is kept of trials, Jobs and pods: what passes read of them, and no more.

As the API server sends it an ended trial takes 20 KB of memory, and its Job and pod as much again.
"""

import sys
from collections.abc import Collection, Iterator, Mapping, ValuesView
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from primo_operator import names
from primo_operator.cluster import Object
from primo_operator.gpus import gpus
from primo_operator.reading import read_trial
from primo_study import record
from primo_study.blocks import SIZE, Block
from primo_study.requests import INVALID
from primo_study.study import TrialRecord


@dataclass(frozen=True, slots=True)
class TrialView:
    """A trial's object.

    Attributes:
        owners: their UIDs.
        studies: the UIDs of those that are studies.
        created: when.
        record: None without a number of ours: a user has made it by hand; or it is a copy of
            another one, and was refused.
        at_rest: the cluster has nothing to tell of it: it has no open run, and nobody asks for one.
        obj: the whole object, where the record does not tell all of it, or it will change soon.
    """

    name: str
    uid: str
    version: str
    owners: tuple[str, ...]
    studies: tuple[str, ...]
    created: str
    deleting: bool
    at_rest: bool
    record: TrialRecord | None
    obj: Object | None

    @property
    def status(self) -> Mapping[str, Any]:
        """As written; of a trial at rest, as we would write it."""
        if self.obj is not None:
            return self.obj.get("status") or {}
        assert self.record
        return record.status(self.record)


def trial_view(obj: Object) -> TrialView:
    metadata = obj["metadata"]
    references = metadata.get("ownerReferences") or ()
    owners = tuple(sys.intern(owner["uid"]) for owner in references)
    studies = tuple(sys.intern(o["uid"]) for o in references if o["kind"] == names.STUDY_KIND)
    # Ours comes last, where there was another.
    numbered = "number" in obj["spec"] and not _refused(obj) and bool(studies or _labelled(obj))
    found = read_trial(obj, studies[-1] if studies else "") if numbered else None
    return TrialView(
        name=metadata["name"],
        uid=metadata["uid"],
        version=metadata.get("resourceVersion") or "",
        owners=owners,
        studies=owners if studies == owners else studies,
        created=sys.intern(metadata.get("creationTimestamp") or ""),
        deleting=bool(metadata.get("deletionTimestamp")),
        at_rest=bool(found and found.at_rest),
        record=found,
        obj=None if found and _told(found, obj) else _without_managers(obj),
    )


def _labelled(obj: Object) -> bool:
    """As all that we give a number."""
    return names.STUDY_LABEL in (obj["metadata"].get("labels") or {})


def _refused(obj: Object) -> bool:
    """It is a copy of another: it has no runs, and never will."""
    status = obj.get("status") or {}
    return status.get("reason") == INVALID and not status.get("runs")


class Trials(Mapping[str, TrialView]):
    """A study's trials by name. Those at rest lie in blocks too, of numbers next to each other.

    Attributes:
        moving: the others by name, and those without a number.
    """

    def __init__(self, size: int = SIZE) -> None:
        """Args:
        size: how many numbers a block is for.
        """
        self._size = size
        self._views: dict[str, TrialView] = {}
        self.moving: dict[str, TrialView] = {}
        self._blocks: dict[int, Block[TrialView]] = {}

    def __getitem__(self, name: str) -> TrialView:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def values(self) -> ValuesView[TrialView]:
        return self._views.values()  # a Mapping's own looks each up

    @property
    def blocks(self) -> list[Block[TrialView]]:
        """In the order of their numbers; within one they are in any."""
        return [self._blocks[place] for place in sorted(self._blocks)]

    def put(self, view: TrialView) -> None:
        """In the place of what has its name."""
        self.drop(view.name)
        if view.at_rest:
            place = self._place(view)
            block = self._blocks.get(place, Block())
            self._blocks[place] = Block((*block.items, view))
        else:
            self.moving[view.name] = view
        self._views[view.name] = view

    def drop(self, name: str) -> None:
        view = self._views.pop(name, None)
        if view is None:
            return
        if not view.at_rest:
            del self.moving[name]
            return
        place = self._place(view)
        left = tuple(other for other in self._blocks[place].items if other is not view)
        if left:
            self._blocks[place] = Block(left)
        else:
            del self._blocks[place]

    def _place(self, view: TrialView) -> int:
        assert view.record
        return view.record.number // self._size


def _told(found: TrialRecord, obj: Object) -> bool:
    """Its record tells all that its object does; one of a newer version may hold more."""
    return not found.unfinished and record.status(found) == obj.get("status")


def slim_job(obj: Object) -> Object:
    """A Job without what nobody reads: of its pod the limits that ask for GPUs."""
    metadata, spec = obj["metadata"], obj["spec"]
    template = ((spec.get("template") or {}).get("spec")) or {}
    kept = {name: spec[name] for name in ("suspend", "ttlSecondsAfterFinished") if name in spec}
    conditions = [_plain(c) for c in (obj.get("status") or {}).get("conditions") or ()]
    return {
        "metadata": _metadata(metadata, (names.TEMPLATE_LABEL, names.STUDY_LABEL)),
        "spec": {**kept, "template": {"spec": _limits(template) if gpus(template) else {}}},
        "status": {"conditions": conditions},
    }


@dataclass(slots=True)
class EndedJobs:
    """Jobs that are put aside; there may be as many as trials.

    Attributes:
        by_name: to be read.
    """

    by_name: dict[str, Object] = field(default_factory=dict)
    _by_ttl: dict[int | None, dict[str, Object]] = field(default_factory=dict)

    def put(self, job: Object) -> None:
        """In the place of what has its name."""
        name = job["metadata"]["name"]
        self.drop(name)
        self.by_name[name] = self._by_ttl.setdefault(ttl_s(job), {})[name] = job

    def drop(self, name: str) -> None:
        if job := self.by_name.pop(name, None):
            alike = self._by_ttl[ttl_s(job)]
            del alike[name]
            if not alike:
                del self._by_ttl[ttl_s(job)]

    def but(self, ttls: Collection[int | None]) -> Iterator[Object]:
        """Those that are deleted at another time than so many seconds after their end."""
        others = (jobs.values() for ttl, jobs in self._by_ttl.items() if ttl not in ttls)
        return chain.from_iterable(others)


def ttl_s(job: Object) -> int | None:
    """After so many seconds an ended Job is deleted; None: it stays."""
    ttl: int | None = job["spec"].get("ttlSecondsAfterFinished")
    return ttl


def slim_pod(obj: Object) -> Object:
    """A pod without its spec: how it stands says its status."""
    return {
        "metadata": _metadata(obj["metadata"], (names.STUDY_LABEL, names.JOB_LABEL)),
        "status": obj.get("status") or {},
    }


_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def _metadata(metadata: Object, labels: tuple[str, ...]) -> Object:
    kept = {name: metadata[name] for name in _METADATA if metadata.get(name) is not None}
    given = metadata.get("labels") or {}
    owners = metadata.get("ownerReferences") or ()
    return {
        **kept,
        "labels": {label: sys.intern(given[label]) for label in labels if label in given},
        "ownerReferences": [{name: o[name] for name in ("kind", "name", "uid")} for o in owners],
    }


def _plain(condition: Object) -> Object:
    return {sys.intern(name): _interned(value) for name, value in condition.items()}


def _interned(value: Any) -> Any:
    return sys.intern(value) if isinstance(value, str) else value


def _limits(pod: Object) -> Object:
    return {
        part: [{"resources": container.get("resources") or {}} for container in pod[part]]
        for part in ("containers", "initContainers")
        if pod.get(part)
    }


def _without_managers(obj: Object) -> Object:
    """A third of an object says who wrote which field."""
    metadata = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    return {**obj, "metadata": metadata}
