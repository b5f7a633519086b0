"""What the watches have shown so far, by study: the view that a pass starts from.

It is a cache that may lag behind the cluster, and nothing is lost with it. Our own writes are put
in at once, so a pass never overlooks what an earlier one did. A pod that is gone stays visible
with its last state until the end of its run has been recorded, because the API server forgets a
disrupted pod within a second.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain

from primo_operator import names
from primo_operator.cluster import Listing, Object
from primo_operator.views import EndedJobs, Trials, TrialView, slim_job, slim_pod, trial_view


class Kind(StrEnum):
    STUDY = "study"
    TRIAL = "trial"
    JOB = "job"
    POD = "pod"


_SLIM: Mapping[Kind, Callable[[Object], Object]] = {Kind.JOB: slim_job, Kind.POD: slim_pod}


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A study by its place; whether it is the same study, its UID says."""

    namespace: str
    name: str


# Of what is there, and nobody knows whose it is.
UNREADABLE = Key("", "")


def version(obj: Mapping[str, object]) -> int:
    """Its resourceVersion; they grow with time (Kubernetes KEP-5504)."""
    metadata = obj["metadata"]
    assert isinstance(metadata, Mapping)
    return int(metadata.get("resourceVersion") or 0)


@dataclass(slots=True)
class Family:
    """A study and what belongs to it.

    Attributes:
        trials: whether or not they are its own.
        objects: Jobs and pods, by UID, as far as passes read them.
        ended_jobs: those whose run was recorded: a pass need not look at them.
        gone: UIDs of objects seen deleted: an older event must not bring them back.
        departed: pods that are gone, with their last state.
    """

    study: Object | None = None
    trials: Trials = field(default_factory=Trials)
    objects: dict[Kind, dict[str, Object]] = field(
        default_factory=lambda: {Kind.JOB: {}, Kind.POD: {}}
    )
    ended_jobs: EndedJobs = field(default_factory=EndedJobs)
    gone: set[str] = field(default_factory=set)
    departed: dict[str, Object] = field(default_factory=dict)

    @property
    def jobs(self) -> Iterable[Object]:
        """Without those put aside."""
        return self.objects[Kind.JOB].values()

    @property
    def all_jobs(self) -> Iterable[Object]:
        return chain(self.jobs, self.ended_jobs.by_name.values())

    @property
    def pods(self) -> Iterable[Object]:
        """Those that exist; `departed` has the others."""
        return self.objects[Kind.POD].values()


class Mirror:
    """The view of all studies.

    Attributes:
        listed_at: when everything in a namespace was last listed, by the clock that never goes
            back; "" for all namespaces.
    """

    def __init__(self) -> None:
        self._families: dict[Key, Family] = {}
        self.listed_at: dict[str, float] = {}

    def keys(self, namespace: str = "") -> list[Key]:
        """Those in a namespace; empty for all."""
        return [key for key in self._families if namespace in ("", key.namespace)]

    def studies(self) -> list[Key]:
        """Those that exist."""
        return sorted(key for key, family in self._families.items() if family.study)

    def family(self, key: Key) -> Family:
        """What is known; of a study that nothing is known of an empty one, which is not kept."""
        return self._families.get(key) or Family()

    def forget(self, key: Key) -> None:
        """All of a study that does not exist, but for users' trials: they may come before it."""
        family = self._families.pop(key, Family())
        waiting = [trial for trial in family.trials.moving.values() if trial.record is None]
        if waiting:
            left = self._families[key] = Family()
            for trial in waiting:
                left.trials.put(trial)

    def absorb(self, kind: Kind, obj: Object, *, deleted: bool = False) -> Key | None:
        """Take in an object as a watch, a read or a write of ours has shown it.

        Returns:
            The study it belongs to; None if it belongs to none.
        """
        key = _key(kind, obj)
        if key is None:
            return None
        family = self._families.setdefault(key, Family())
        match kind:
            case Kind.STUDY:
                _absorb_study(family, obj, deleted)
            case Kind.TRIAL:
                _absorb_trial(family, obj, deleted)
            case _:
                _absorb_child(family, kind, obj, deleted)
        return key

    def found(self, kind: Kind, obj: Object) -> None:
        """Take in an object that was asked for by name, even if it was seen to go.

        A watch by label calls an object deleted that has lost its label.
        """
        if key := _key(kind, obj):
            self.family(key).gone.discard(obj["metadata"]["uid"])
            self.absorb(kind, obj)

    def deleted(self, key: Key, trial: TrialView) -> None:
        """A trial of which a call has said that it is not there."""
        _drop_trial(self.family(key), trial)

    def removed(self, key: Key, kind: Kind, uid: str) -> None:
        """A Job or pod that we have deleted."""
        family = self.family(key)
        if obj := family.objects[kind].get(uid):
            _absorb_child(family, kind, obj, deleted=True)

    def replace(self, key: Key, kind: Kind, listing: Listing) -> None:
        """Take in a list of all that a study has of a kind: what it lacks and is no newer is gone.

        Objects of other studies in it do not count.
        """
        own = [obj for obj in listing.items if _key(kind, obj) == key]
        for obj in own:
            self.absorb(kind, obj)
        listed = {obj["metadata"]["uid"] for obj in own}
        _remove_missing(self.family(key), kind, listed, listing.version)

    def newest_study(self, namespace: str) -> int:
        """The highest version of a study here; empty for all namespaces."""
        return max(
            (
                version(family.study)
                for key, family in self._families.items()
                if family.study and namespace in ("", key.namespace)
            ),
            default=0,
        )

    def retain(
        self, kind: Kind, namespace: str, listed: Mapping[Key | None, set[str]], upto: int
    ) -> None:
        """What a list of all objects of a kind lacked, and is no newer than it, is gone.

        So is, for a study, what wears the label of another one now.

        Args:
            namespace: which was listed; empty for all.
            listed: UIDs, by their study; those of `UNREADABLE` may be of any.
            upto: the list's version.
        """
        unreadable = listed.get(UNREADABLE)
        for key, family in self._families.items():
            if namespace in ("", key.namespace):
                uids = listed.get(key, set())
                _remove_missing(family, kind, uids | unreadable if unreadable else uids, upto)


def _key(kind: Kind, obj: Object) -> Key | None:
    metadata = obj["metadata"]
    if kind is Kind.STUDY:
        return Key(metadata["namespace"], metadata["name"])
    if kind is Kind.TRIAL:
        study = (obj.get("spec") or {}).get("study")
    else:
        study = (metadata.get("labels") or {}).get(names.STUDY_LABEL)
    # A trial of a user's says what it likes there, and the answer ends in paths and selectors.
    return Key(metadata["namespace"], study) if study and names.LABEL.fullmatch(study) else None


def _absorb_study(family: Family, obj: Object, deleted: bool) -> None:
    if obj["metadata"]["uid"] in family.gone:
        return
    if deleted:
        family.gone.add(obj["metadata"]["uid"])
        if family.study and family.study["metadata"]["uid"] == obj["metadata"]["uid"]:
            family.study = None
    elif family.study is None or version(obj) > version(family.study):
        family.study = obj


def _absorb_trial(family: Family, obj: Object, deleted: bool) -> None:
    metadata = obj["metadata"]
    uid, known = metadata["uid"], family.trials.get(metadata["name"])
    if uid in family.gone:
        return
    if deleted:
        family.gone.add(uid)
        if known and known.uid == uid:
            family.trials.drop(known.name)
    elif known is None or version(obj) > int(known.version or 0):
        family.trials.put(trial_view(obj))


def _drop_trial(family: Family, view: TrialView) -> None:
    family.gone.add(view.uid)
    if family.trials.get(view.name) is view:
        family.trials.drop(view.name)


def _absorb_child(family: Family, kind: Kind, obj: Object, deleted: bool) -> None:
    uid, name = obj["metadata"]["uid"], obj["metadata"]["name"]
    if uid in family.gone:
        return
    aside = family.ended_jobs.by_name.get(name) if kind is Kind.JOB else None
    if aside and aside["metadata"]["uid"] != uid:
        aside = None
    known = family.objects[kind].get(uid) or aside
    if not deleted and known and version(obj) <= version(known):
        return
    if kind is Kind.POD and known is None and not deleted and _is_over(family, obj):
        return  # each list of everything would bring all of them back
    newest = _SLIM[kind](obj) if known is None or version(obj) >= version(known) else known
    if kind is Kind.POD and known:
        newest = _as_first_deleted(newest, known)
    family.objects[kind].pop(uid, None)
    if aside:
        family.ended_jobs.drop(name)
    if not deleted:
        family.objects[kind][uid] = newest
        return
    family.gone.add(uid)
    if kind is Kind.POD:
        family.departed[uid] = newest


def _is_over(family: Family, pod: Object) -> bool:
    """It has ended, and so has its Job, whose run was recorded."""
    owners = pod["metadata"].get("ownerReferences") or ()
    aside = any(
        owner["name"] in family.ended_jobs.by_name for owner in owners if owner["kind"] == "Job"
    )
    return aside and (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _remove_missing(family: Family, kind: Kind, listed: Collection[str], upto: int) -> None:
    match kind:
        case Kind.STUDY:
            study = family.study
            if study and study["metadata"]["uid"] not in listed and version(study) <= upto:
                _absorb_study(family, study, deleted=True)
        case Kind.TRIAL:
            for view in list(family.trials.values()):
                if view.uid not in listed and int(view.version or 0) <= upto:
                    _drop_trial(family, view)
        case _:
            known = family.all_jobs if kind is Kind.JOB else family.pods
            for obj in list(known):
                if obj["metadata"]["uid"] not in listed and version(obj) <= upto:
                    _absorb_child(family, kind, obj, deleted=True)


def _as_first_deleted(newest: Object, known: Object) -> Object:
    """The newest state, with the time of the first request to delete it.

    A deletion that has been carried out is followed by one without grace, of a later time.
    """
    before = known["metadata"]
    if "deletionTimestamp" not in before:
        return newest
    fields = ("deletionTimestamp", "deletionGracePeriodSeconds")
    first = {name: before[name] for name in fields if name in before}
    return {**newest, "metadata": {**newest["metadata"], **first}}
