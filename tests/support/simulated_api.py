"""A simulated API server, and the `Cluster` whose calls it applies when the simulator says so."""

import copy
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from primo_operator.cluster import (
    AlreadyExistsError,
    ConflictError,
    Listing,
    NotFoundError,
    Notice,
    Object,
)
from primo_operator.mirror import Kind
from primo_operator.ports import Answer
from primo_optimizer import SpaceExhaustedError, Suggestion
from primo_study.phases import TrialPhase
from primo_study.study import Study
from support.scenario import (
    RUNGS,
    ViolationError,
    stamp,
)

if TYPE_CHECKING:
    from support.simulation import World


@dataclass
class Call:
    """A request to the API server that has not been applied yet."""

    what: str
    apply: Callable[[], Any]
    write: bool

    def __await__(self) -> Generator["Call", Any, Any]:
        return (yield self)


class SimulatedCluster:
    """`Cluster` whose calls are yielded to the simulator."""

    def __init__(self, api: "Api") -> None:
        self._api = api

    async def get_study(self, namespace: str, name: str) -> Object | None:
        return await Call("get study", lambda: self._api.get(Kind.STUDY, name), False)

    async def get_trial(self, namespace: str, name: str) -> Object | None:
        return await Call("get trial", lambda: self._api.get(Kind.TRIAL, name), False)

    async def get_job(self, namespace: str, name: str) -> Object | None:
        return await Call("get job", lambda: self._api.get(Kind.JOB, name), False)

    async def list_trials(self, namespace: str, study: str) -> Listing:
        return await Call("list trials", lambda: self._api.list(Kind.TRIAL), False)

    async def list_jobs(self, namespace: str, study: str) -> Listing:
        return await Call("list jobs", lambda: self._api.list(Kind.JOB), False)

    async def list_pods(self, namespace: str, study: str) -> Listing:
        return await Call("list pods", lambda: self._api.list(Kind.POD), False)

    async def create_trial(self, trial: Object) -> Object:
        return await Call("create trial", lambda: self._api.create(Kind.TRIAL, trial), True)

    async def create_job(self, job: Object, *, dry_run: bool = False) -> Object:
        if dry_run:
            return await Call("dry-run job", lambda: job, False)
        return await Call("create job", lambda: self._api.create(Kind.JOB, job), True)

    async def dry_run_pod(self, pod: Object) -> None:
        await Call("dry-run pod", lambda: None, False)

    async def patch_trial(self, namespace: str, name: str, patch: Object, version: str) -> Object:
        apply = lambda: self._api.patch(Kind.TRIAL, name, patch, version)  # noqa: E731
        return await Call("adopt trial", apply, True)

    async def patch_trial_status(
        self, namespace: str, name: str, patch: Object, version: str
    ) -> Object:
        apply = lambda: self._api.patch_status(Kind.TRIAL, name, patch, version)  # noqa: E731
        return await Call("patch trial", apply, True)

    async def patch_study_status(
        self, namespace: str, name: str, patch: Object, version: str
    ) -> Object:
        apply = lambda: self._api.patch_status(Kind.STUDY, name, patch, version)  # noqa: E731
        return await Call("patch study", apply, True)

    async def patch_job(self, namespace: str, name: str, patch: Object) -> Object:
        return await Call("patch job", lambda: self._api.patch(Kind.JOB, name, patch), True)

    async def delete_job(self, namespace: str, name: str) -> None:
        await Call("delete job", lambda: self._api.delete(Kind.JOB, name), True)

    async def failed_creates(self, namespace: str, job: str) -> Sequence[str]:
        return await Call("list events", list, False)

    def notify(self, notice: Notice) -> None:
        pass


class ScriptedSuggester:
    """Suggests by number alone, so that the end does not depend on when it was asked.

    Trials with even numbers are promoted to the top; the others stay on the lowest rung.
    """

    async def suggest(self, study: Study, count: int, new_trials: int) -> Answer:
        assert study.spec
        top = study.full_fidelity
        found = []
        for trial in study.trials:
            if trial.phase is TrialPhase.PAUSED and trial.number % 2 == 0 and len(found) < count:
                reached = trial.observations[-1].fidelity or 0.0
                higher = min(r for r in RUNGS if r > reached)
                found.append(Suggestion(trial.number, trial.configuration, higher, reached))
        low = RUNGS[0] if top else None
        for k in range(min(count - len(found), new_trials)):
            number = study.next_number + k
            found.append(
                Suggestion(number, {"x": number * 7}, low, None, {"stage": "InitialDesign"})
            )
        if not found and not study.unfinished:
            raise SpaceExhaustedError
        return Answer(found)


@dataclass
class Api:
    """The store of record."""

    world: "World"
    version: int = 100
    uids: int = 0
    objects: dict[Kind, dict[str, Object]] = field(
        default_factory=lambda: {kind: {} for kind in Kind}
    )

    def get(self, kind: Kind, name: str) -> Object | None:
        return copy.deepcopy(self.objects[kind].get(name))

    def list(self, kind: Kind) -> Listing:
        return Listing(copy.deepcopy(list(self.objects[kind].values())), self.version)

    def create(self, kind: Kind, obj: Object) -> Object:
        name = obj["metadata"]["name"]
        if name in self.objects[kind]:
            raise AlreadyExistsError(409, f"{name} already exists")
        self.uids += 1
        obj = copy.deepcopy(obj)
        if kind is Kind.JOB and self.world.scenario.preempt is not None:
            obj["spec"]["suspend"] = True  # as the queue's webhook does
        obj["metadata"] |= {
            "uid": f"{self.uids:08d}-0000",
            "creationTimestamp": stamp(self.world.now),
            "generation": 1,
        }
        for owner in obj["metadata"].get("ownerReferences") or ():
            # An owner that has gone takes what is created for it later too.
            if not self._exists(owner["uid"]):
                self.world.after(1.0, lambda uid=owner["uid"]: self._collect(kind, name, uid))
        return self._commit(kind, obj, "ADDED")

    def patch_status(self, kind: Kind, name: str, patch: Object, version: str) -> Object:
        old = self.objects[kind].get(name)
        if old is None:
            raise NotFoundError(404, f"{name} not found")
        if old["metadata"]["resourceVersion"] != version:
            raise ConflictError(409, "the object has been modified")
        new = copy.deepcopy(old)
        new["status"] = merged(old.get("status") or {}, patch)
        if new["status"] == old.get("status"):
            raise ViolationError(f"I10: a write without difference to {kind} {name}: {patch}")
        return self._commit(kind, new, "MODIFIED")

    def patch(self, kind: Kind, name: str, patch: Object, expected: str | None = None) -> Object:
        """A merge patch of all but the status."""
        old = self.objects[kind].get(name)
        if old is None:
            raise NotFoundError(404, f"{name} not found")
        if expected not in (None, old["metadata"]["resourceVersion"]):
            raise ConflictError(409, "the object has been modified")
        new = merged(old, patch)
        if new == old:
            raise ViolationError(f"I10: a write without difference to {kind} {name}: {patch}")
        return self._commit(kind, copy.deepcopy(new), "MODIFIED")

    def edit(self, kind: Kind, name: str, change: Callable[[Object], None]) -> None:
        """A write by someone else than the operator."""
        obj = self.objects[kind].get(name)
        if obj is not None:
            new = copy.deepcopy(obj)
            change(new)
            if new != obj:
                self._commit(kind, new, "MODIFIED")

    def delete(self, kind: Kind, name: str) -> None:
        obj = self.objects[kind].pop(name, None)
        if obj is None:
            return
        self.version += 1
        last = copy.deepcopy(obj)
        last["metadata"]["resourceVersion"] = str(self.version)
        self.world.checker.deleted(kind, last)
        self.world.watched(kind, last, "DELETED")
        uid = obj["metadata"]["uid"]
        for child_kind in (Kind.TRIAL, Kind.JOB, Kind.POD):
            for child in list(self.objects[child_kind].values()):
                owners = [o["uid"] for o in child["metadata"].get("ownerReferences") or ()]
                if uid in owners:
                    child_name = child["metadata"]["name"]
                    self.world.after(0.3, lambda k=child_kind, n=child_name: self.delete(k, n))

    def _exists(self, uid: str) -> bool:
        return any(
            obj["metadata"]["uid"] == uid for kind in Kind for obj in self.objects[kind].values()
        )

    def _collect(self, kind: Kind, name: str, owner: str) -> None:
        if not self._exists(owner):
            self.delete(kind, name)

    def _commit(self, kind: Kind, obj: Object, event: str) -> Object:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        before = self.objects[kind].get(obj["metadata"]["name"])
        self.objects[kind][obj["metadata"]["name"]] = obj
        self.world.checker.written(kind, before, obj)
        self.world.watched(kind, obj, event)
        return copy.deepcopy(obj)


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
