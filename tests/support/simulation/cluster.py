"""The ports of a pass, each call of which is handed to the simulator before it is applied."""

from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primo_operator.cluster import ConflictError, Listing, Notice, Object
from primo_operator.mirror import Kind
from primo_operator.ports import Answer
from primo_operator.watching import Event, Page
from primo_optimizer import SpaceExhaustedError, Suggestion
from primo_study.phases import TrialPhase
from primo_study.study import Study
from support.simulation.scenario import RUNGS

if TYPE_CHECKING:
    from support.simulation.api import Api


@dataclass
class Call:
    """A request that has not been applied yet.

    Attributes:
        list_at: applies it to the state of that version; None: it is no list.
    """

    what: str
    apply: Callable[[], Any]
    write: bool = False
    list_at: Callable[[int], Listing] | None = None

    def __await__(self) -> Generator["Call", Any, Any]:
        return (yield self)


class SimulatedCluster:
    """`Cluster` and `Leases`."""

    def __init__(self, api: "Api") -> None:
        self._api = api

    async def get_study(self, namespace: str, name: str) -> Object | None:
        return await Call("get study", lambda: self._api.get(Kind.STUDY, name))

    async def get_trial(self, namespace: str, name: str) -> Object | None:
        return await Call("get trial", lambda: self._api.get(Kind.TRIAL, name))

    async def get_job(self, namespace: str, name: str) -> Object | None:
        return await Call("get job", lambda: self._api.get(Kind.JOB, name))

    async def list_trials(self, namespace: str, study: str) -> Listing:
        return await self._list(Kind.TRIAL, study)

    async def list_jobs(self, namespace: str, study: str) -> Listing:
        return await self._list(Kind.JOB, study)

    async def list_pods(self, namespace: str, study: str) -> Listing:
        return await self._list(Kind.POD, study)

    async def pages(self, kind: Kind, namespace: str) -> AsyncIterator[Page]:
        """`Stream`, of which the events are the operator's own matter."""

        def list_at(version: int) -> Listing:
            return self._api.list_everything(kind, version)

        now: Callable[[], Listing] = lambda: self._api.list_everything(kind)  # noqa: E731
        listing = await Call(f"list all {kind}s", now, list_at=list_at)
        yield listing.items, listing.version

    def events(self, kind: Kind, namespace: str, version: int) -> AsyncIterator[Event]:
        raise AssertionError("which events arrive, and when, the simulated operator draws")

    async def _list(self, kind: Kind, study: str) -> Listing:
        def list_at(version: int) -> Listing:
            return self._api.list(kind, study, version)

        now: Callable[[], Listing] = lambda: self._api.list(kind, study)  # noqa: E731
        return await Call(f"list {kind}s", now, list_at=list_at)

    async def create_trial(self, trial: Object) -> Object:
        return await Call("create trial", lambda: self._api.create(Kind.TRIAL, trial), True)

    async def create_job(self, job: Object, *, dry_run: bool = False) -> Object:
        if dry_run:
            return await Call("dry-run job", lambda: job)
        return await Call("create job", lambda: self._api.create(Kind.JOB, job), True)

    async def dry_run_pod(self, pod: Object) -> None:
        await Call("dry-run pod", lambda: None)

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
        def apply() -> Object:
            self._api.world.checker.acts_on_job(name, self._api.author)
            return self._api.patch(Kind.JOB, name, patch)

        return await Call("patch job", apply, True)

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        def apply() -> None:
            job = self._api.get(Kind.JOB, name)
            if job and job["metadata"]["uid"] != uid:
                raise ConflictError(409, f"the UID of {name} is another one")
            self._api.world.checker.acts_on_job(name, self._api.author)
            self._api.delete(Kind.JOB, name)

        await Call("delete job", apply, True)

    async def failed_creates(self, namespace: str) -> dict[str, str]:
        return await Call("list events", lambda: dict(self._api.world.jobs.refused))

    def notify(self, notice: Notice) -> None:
        pass

    async def get_lease(self, namespace: str, name: str) -> Object | None:
        return await Call("get lease", lambda: self._api.leases.get(name))

    async def create_lease(self, lease: Object) -> Object:
        return await Call("create lease", lambda: self._api.write_lease(lease, create=True))

    async def update_lease(self, lease: Object) -> Object:
        return await Call("update lease", lambda: self._api.write_lease(lease))


class ScriptedSuggester:
    """Suggests by number alone, so that the end does not depend on when it was asked.

    Trials with even numbers are promoted to the top; the others stay on the lowest rung.
    """

    async def suggest(self, study: Study, count: int, new_trials: int) -> Answer:
        answer: Answer = await Call("ask", lambda: _answer(study, count, new_trials))
        return answer


def _answer(study: Study, count: int, new_trials: int) -> Answer:
    assert study.spec
    top = study.full_fidelity
    found = []
    for trial in study.trials if top else ():
        if trial.phase is TrialPhase.PAUSED and trial.number % 2 == 0 and len(found) < count:
            reached = trial.observations[-1].fidelity or 0.0
            higher = min(r for r in RUNGS if r > reached)
            found.append(Suggestion(trial.number, trial.configuration, higher, reached))
    low = RUNGS[0] if top else None
    for k in range(min(count - len(found), new_trials)):
        number = study.next_number + k
        found.append(Suggestion(number, {"x": number * 7}, low, None, {"stage": "InitialDesign"}))
    if not found and not study.unfinished:
        raise SpaceExhaustedError
    return Answer(found)
