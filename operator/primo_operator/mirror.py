"""What the watches have shown so far, by study: the view that a pass starts from.

It is a cache that may lag behind the cluster, and nothing is lost with it. Our own writes are put
in at once, so a pass never overlooks what an earlier one did. A pod that is gone stays visible
with its last state until the end of its run has been recorded, because the API server forgets a
disrupted pod within a second.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from primo_operator import names
from primo_operator.cluster import Listing, Object


class Kind(StrEnum):
    STUDY = "study"
    TRIAL = "trial"
    JOB = "job"
    POD = "pod"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A study by its place; whether it is the same study, its UID says."""

    namespace: str
    name: str


def version(obj: Mapping[str, object]) -> int:
    """Its resourceVersion; they grow with time (Kubernetes KEP-5504)."""
    metadata = obj["metadata"]
    assert isinstance(metadata, Mapping)
    return int(metadata.get("resourceVersion") or 0)


@dataclass(slots=True)
class Family:
    """A study and what belongs to it.

    Attributes:
        objects: by kind and UID.
        gone: UIDs of objects seen deleted: an older event must not bring them back.
        departed: pods that are gone, with their last state.
    """

    study: Object | None = None
    objects: dict[Kind, dict[str, Object]] = field(
        default_factory=lambda: {Kind.TRIAL: {}, Kind.JOB: {}, Kind.POD: {}}
    )
    gone: set[str] = field(default_factory=set)
    departed: dict[str, Object] = field(default_factory=dict)

    @property
    def trials(self) -> Iterable[Object]:
        return self.objects[Kind.TRIAL].values()

    @property
    def jobs(self) -> Iterable[Object]:
        return self.objects[Kind.JOB].values()

    @property
    def pods(self) -> Iterable[Object]:
        """Those that exist; `departed` has the others."""
        return self.objects[Kind.POD].values()


class Mirror:
    """The view of all studies."""

    def __init__(self) -> None:
        self._families: dict[Key, Family] = {}

    def keys(self) -> list[Key]:
        return list(self._families)

    def studies(self) -> list[Key]:
        """Those that exist."""
        return sorted(key for key, family in self._families.items() if family.study)

    def family(self, key: Key) -> Family:
        return self._families.setdefault(key, Family())

    def forget(self, key: Key) -> None:
        self._families.pop(key, None)

    def absorb(self, kind: Kind, obj: Object, *, deleted: bool = False) -> Key | None:
        """Take in an object as a watch, a read or a write of ours has shown it.

        Returns:
            The study it belongs to; None if it belongs to none.
        """
        key = _key(kind, obj)
        if key is None:
            return None
        family = self.family(key)
        if kind is Kind.STUDY:
            _absorb_study(family, obj, deleted)
        else:
            _absorb_child(family, kind, obj, deleted)
        return key

    def found(self, kind: Kind, obj: Object) -> None:
        """Take in an object that was asked for by name, even if it was seen to go.

        A watch by label calls an object deleted that has lost its label.
        """
        if key := _key(kind, obj):
            self.family(key).gone.discard(obj["metadata"]["uid"])
            self.absorb(kind, obj)

    def replace(self, key: Key, kind: Kind, listing: Listing) -> None:
        """Take in a list of all there is of a kind: what it lacks, and is not newer, is gone."""
        family = self.family(key)
        for obj in listing.items:
            _absorb_child(family, kind, obj, deleted=False)
        listed = {obj["metadata"]["uid"] for obj in listing.items}
        missing = [
            obj
            for uid, obj in family.objects[kind].items()
            if uid not in listed and version(obj) <= listing.version
        ]
        for obj in missing:
            _absorb_child(family, kind, obj, deleted=True)


def _key(kind: Kind, obj: Object) -> Key | None:
    metadata = obj["metadata"]
    if kind is Kind.STUDY:
        return Key(metadata["namespace"], metadata["name"])
    if kind is Kind.TRIAL:
        study = (obj.get("spec") or {}).get("study")
    else:
        study = (metadata.get("labels") or {}).get(names.STUDY_LABEL)
    return Key(metadata["namespace"], study) if study else None


def _absorb_study(family: Family, obj: Object, deleted: bool) -> None:
    if obj["metadata"]["uid"] in family.gone:
        return
    if deleted:
        family.gone.add(obj["metadata"]["uid"])
        if family.study and family.study["metadata"]["uid"] == obj["metadata"]["uid"]:
            family.study = None
    elif family.study is None or version(obj) > version(family.study):
        family.study = obj


def _absorb_child(family: Family, kind: Kind, obj: Object, deleted: bool) -> None:
    uid = obj["metadata"]["uid"]
    if uid in family.gone:
        return
    known = family.objects[kind].get(uid)
    newest = obj if known is None or version(obj) >= version(known) else known
    if deleted:
        family.gone.add(uid)
        family.objects[kind].pop(uid, None)
        if kind is Kind.POD:
            family.departed[uid] = newest
    else:
        family.objects[kind][uid] = newest
