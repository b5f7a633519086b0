"""A simulated cluster for the operator's real pass: virtual time, seeded faults, checked writes.

The pass is driven by hand: each call of the `Cluster` port yields a request, and the simulator
decides when it is applied, whether the answer arrives, and whether the operator dies before or
after it. No event loop, no threads, no wall clock: a seed replays to the letter.
"""

import copy
import heapq
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from primo_operator import names
from primo_operator.cluster import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    Listing,
    NotFoundError,
    Notice,
    Object,
    RefusedError,
)
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.ports import Answer
from primo_operator.reconcile import Reconciler
from primo_operator.settings import Settings
from primo_optimizer import SpaceExhaustedError, Suggestion
from primo_report.wire import Reduced, Summary, format_summary
from primo_study.study import (
    STUDY_TRANSITIONS,
    TRIAL_TRANSITIONS,
    Study,
    StudyPhase,
    TrialPhase,
)

START = 1_800_000_000.0
NAMESPACE, STUDY = "team", "digits"
KEY = Key(NAMESPACE, STUDY)
RUNGS = (1.0, 3.0, 9.0)


class ViolationError(AssertionError):
    """An invariant does not hold."""


def stamp(now: float) -> str:
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Scenario:
    """What a run is made of; the faults are probabilities.

    Attributes:
        refuse, lose: a call is refused, or has its effect and the answer is lost.
        crash: the operator dies before or after a call.
        disrupt: a pod is evicted on its way.
        fails: trials whose number leaves this remainder mod 5 fail; None: none does.
        drop, delay_s: watch events that never arrive, and how late the others are.
        delete_job, delete_trial: of 100 steps of a user's.
        annotate: of 100 steps of a user's: a trial is to be stopped or retried.
        own_trials: how many a user makes by hand; the first at once, and every third is no good.
        preempt: Jobs wait in a queue, and a pod is sent back into it with this probability.
        retention: which Jobs are kept.
        suspend_at_s: the study is suspended then, for a minute.
        calm_after_s: faults stop then.
    """

    trials: int = 6
    parallelism: int = 2
    rungs: int = 2
    refuse: float = 0.0
    lose: float = 0.0
    crash: float = 0.0
    disrupt: float = 0.0
    fails: int | None = None
    drop: float = 0.0
    delay_s: float = 0.1
    delete_job: float = 0.0
    delete_trial: float = 0.0
    annotate: float = 0.0
    own_trials: int = 0
    preempt: float | None = None
    suspend_at_s: float | None = None
    retention: str | None = None
    calm_after_s: float = 400.0

    @property
    def faulty(self) -> bool:
        return any((self.refuse, self.lose, self.crash, self.drop))

    @classmethod
    def drawn(cls, seed: int) -> "Scenario":
        """Each seed first draws which faults are on, and how often (swarm testing)."""
        rng = np.random.default_rng([seed, 0])

        def on(rate: float) -> float:
            return float(rng.uniform(0, rate)) if rng.random() < 0.5 else 0.0

        return cls(
            trials=int(rng.integers(1, 13)),
            parallelism=int(rng.integers(1, 6)),
            rungs=int(rng.integers(1, 4)),
            refuse=on(0.15),
            lose=on(0.15),
            crash=on(0.05),
            disrupt=on(0.3),
            fails=int(rng.integers(0, 5)) if rng.random() < 0.5 else None,
            drop=on(0.3),
            delay_s=float(rng.choice([0.01, 0.5, 5.0])),
            delete_job=on(3.0),
            delete_trial=on(1.0),
            annotate=on(5.0),
            own_trials=int(rng.integers(0, 5)) if rng.random() < 0.5 else 0,
            preempt=float(rng.uniform(0, 0.5)) if rng.random() < 0.3 else None,
            retention=str(rng.choice(["All", "Failed", "None"])) if rng.random() < 0.5 else None,
            suspend_at_s=float(rng.uniform(1, 60)) if rng.random() < 0.3 else None,
        )


def study_spec(scenario: Scenario) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "objectives": [
            {"name": "error", "goal": "Minimize", "metric": "val_error"},
            {"name": "cost", "goal": "Minimize", "metric": "kmacs"},
        ],
        "parameters": [{"name": "x", "int": {"min": 0, "max": 9999}}],
        "algorithm": {"name": "random"},
        "budget": {"trials": scenario.trials},
        "parallelism": scenario.parallelism,
        "retries": {"infrastructure": 20},
        "trialTemplate": {
            "spec": {
                "template": {
                    "spec": {"containers": [{"name": "train", "image": "i", "command": ["c"]}]}
                }
            }
        },
    }
    if scenario.retention:
        spec["retention"] = {"jobs": scenario.retention}
    if scenario.rungs > 1:
        spec["fidelity"] = {"name": "epochs", "min": 1, "max": RUNGS[scenario.rungs - 1], "eta": 3}
    return spec


# --- a call, as the pass sees it and as the simulator does


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


# --- the API server: objects, versions, owners, and the invariants on every write


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


@dataclass
class Checker:
    """The invariants I1 to I10 of a study, on every write."""

    world: "World"
    configurations: dict[int, Any] = field(default_factory=dict)
    trial_uids: dict[int, str] = field(default_factory=dict)
    job_names: set[str] = field(default_factory=set)
    observations: dict[str, list[Any]] = field(default_factory=dict)
    finished_runs: dict[str, list[Any]] = field(default_factory=dict)
    retries: set[tuple[str, str]] = field(default_factory=set)
    spent: float = 0.0
    numbers: int = 0

    def written(self, kind: Kind, before: Object | None, obj: Object) -> None:
        match kind:
            case Kind.TRIAL:
                self._trial(before, obj)
            case Kind.JOB if before is None:
                name = obj["metadata"]["name"]
                self._hold(name not in self.job_names, f"I3: Job {name} is created again")
                self.job_names.add(name)
            case Kind.STUDY:
                self._study(before, obj)

    def deleted(self, kind: Kind, obj: Object) -> None:
        if kind is Kind.TRIAL:
            self.observations.pop(obj["metadata"]["uid"], None)

    def _trial(self, before: Object | None, obj: Object) -> None:
        spec, status = obj["spec"], obj.get("status") or {}
        if "number" not in spec:
            return
        number, uid = spec["number"], obj["metadata"]["uid"]
        new = before is None or "number" not in before["spec"]
        if new:
            self._hold(number not in self.trial_uids, f"I2: number {number} is used again")
            self.trial_uids[number] = uid
            self.configurations[number] = spec["parameters"]
            budget = self.world.scenario.trials
            self._hold(len(self.trial_uids) <= budget, f"I5: trial {number} is over the budget")
        self._hold(self.configurations[number] == spec["parameters"], f"I2: trial {number} changed")
        phase = TrialPhase(status.get("phase") or "Queued")
        old = TrialPhase(((before or {}).get("status") or {}).get("phase") or "Queued")
        allowed = phase is old or phase in TRIAL_TRANSITIONS[old]
        self._hold(allowed, f"I8: trial {number} went from {old} to {phase}")
        seen = status.get("observations") or []
        kept = self.observations.get(uid, [])
        self._hold(seen[: len(kept)] == kept, f"I4: trial {number} lost an observation")
        self.observations[uid] = copy.deepcopy(seen)
        runs = [run for run in status.get("runs") or () if "finishedAt" in run]
        ended = self.finished_runs.get(uid, [])
        self._hold(runs[: len(ended)] == ended, f"I4: trial {number} lost a run")
        self.finished_runs[uid] = copy.deepcopy(runs)
        fidelities = [o.get("fidelity") or 0 for o in seen]
        self._hold(fidelities == sorted(set(fidelities)), f"I4: trial {number} observed twice")
        ended = old in (TrialPhase.PAUSED, TrialPhase.FAILED, TrialPhase.STOPPED)
        if new or (ended and phase is TrialPhase.QUEUED):
            self._slots()
        if ended and old is not TrialPhase.PAUSED and phase is TrialPhase.QUEUED:
            wish = (uid, status["retried"])
            self._hold(wish not in self.retries, f"trial {number}: a retry is granted twice")
            self.retries.add(wish)
        self._hold(len(str(obj)) < 16384, f"I9: trial {number} is too large")

    def _slots(self) -> None:
        trials = self.world.api.objects[Kind.TRIAL].values()
        numbered = [t for t in trials if "number" in t["spec"]]
        phases = [(t.get("status") or {}).get("phase") or "Queued" for t in numbered]
        open_ = sum(phase in ("Queued", "Running") for phase in phases)
        limit = self.world.scenario.parallelism
        self._hold(open_ <= limit, f"I1: {open_} unfinished runs, parallelism is {limit}")

    def _study(self, before: Object | None, obj: Object) -> None:
        status = obj.get("status") or {}
        if not status:
            return
        phase = StudyPhase(status["phase"])
        old = StudyPhase(((before or {}).get("status") or {}).get("phase") or "Pending")
        allowed = phase is old or phase in STUDY_TRANSITIONS[old]
        self._hold(allowed, f"I8: the study went from {old} to {phase}")
        ended = old in (StudyPhase.COMPLETED, StudyPhase.FAILED)
        edited = ended and status["observedGeneration"] != before["status"]["observedGeneration"]
        self._hold(not ended or edited or phase is old, f"I8: the study left {old}")
        spent = status["budgetUsed"]["fullEvaluations"]
        self._hold(spent >= self.spent - 1e-6, f"I5: budget used fell from {self.spent} to {spent}")
        self._hold(status["nextTrial"] >= self.numbers, "I2: the watermark went back")
        self.spent, self.numbers = spent, status["nextTrial"]
        self._hold(len(str(status)) < 65536, "I9: the study's status is too large")

    def _hold(self, good: bool, message: str) -> None:
        if not good:
            raise ViolationError(message)


# --- the world: time, Job controller, kubelet, watches, a user, and the operator


class World:
    """Everything around the pass. `run` drives it until the study has ended and nothing moves."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int = 0,
        *,
        fault_at: tuple[int, str] | None = None,
    ) -> None:
        self.scenario = scenario
        self.rng = np.random.default_rng([seed, 1])
        self.now = START
        self.checker = Checker(self)
        self.api = Api(self)
        self.trace: deque[str] = deque(maxlen=60)
        self.ended = False
        self.calls = 0
        self.preempted = 0
        self.failing = False  # whoever ends now
        self.writes: Counter[str] = Counter()
        self.fault_at = fault_at
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._pass: Coroutine[Any, Any, float | None] | None = None
        self._due = self.now
        self._boot()
        for k in range(scenario.own_trials):
            self.after(k * 15.0, lambda k=k: self.make_trial(f"mine-{k}", _own_x(k)))
        while self._heap and self._heap[0][0] <= self.now:
            heapq.heappop(self._heap)[2]()
        self.api.create(Kind.STUDY, self._study_object())
        if scenario.suspend_at_s is not None:
            self.after(scenario.suspend_at_s, lambda: self._suspend(True))
            self.after(scenario.suspend_at_s + 55.0, self._check_suspended)
            self.after(scenario.suspend_at_s + 60.0, lambda: self._suspend(False))
        self.after(3.0, self._user)

    @property
    def calm(self) -> bool:
        return self.ended or self.now - START > self.scenario.calm_after_s

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._sequence, act))

    def run(self, limit_s: float = 7200.0) -> None:
        """Until the study has ended; then three resyncs, which must write nothing."""
        self._drive(lambda: self.phase in ("Completed", "Failed"), limit_s)
        self.ended = True
        self._boot()
        self.advance(60.0)
        before = self.writes.total()
        for _ in range(3):
            self._boot()
            self.advance(20.0)
        if self.writes.total() != before:
            raise ViolationError(f"not stable: {self.writes}")
        self._check_retention()
        self._check_own_trials()

    def _check_retention(self) -> None:
        """Of the recorded runs' Jobs only those are left that are to be kept."""
        reasons = {
            run["job"]: run.get("reason")
            for trial in self.api.objects[Kind.TRIAL].values()
            for run in trial["status"].get("runs") or ()
        }
        for name in self.api.objects[Kind.JOB]:
            kept = {"None": False, "Failed": reasons.get(name) != "Completed"}
            if not kept.get(self.scenario.retention or "All", True):
                raise ViolationError(f"Job {name} is kept: {reasons.get(name)}")

    def result(self) -> Any:
        """What the study has come to, without names, times and attempts."""
        trials = {}
        for obj in self.api.objects[Kind.TRIAL].values():
            if "number" not in obj["spec"]:
                continue
            status = obj.get("status") or {}
            seen = [(o.get("fidelity"), o["values"]) for o in status.get("observations") or ()]
            trials[obj["spec"]["number"]] = (obj["spec"]["parameters"], status.get("phase"), seen)
        status = self.api.objects[Kind.STUDY][STUDY]["status"]
        return trials, status["phase"], status.get("front"), status["trials"]

    def delete_study(self, limit_s: float = 60.0) -> None:
        """Nothing of it may be left then, but trials of the user's that it has not taken in."""
        self.api.delete(Kind.STUDY, STUDY)
        self.ended = True
        self.advance(limit_s)
        left = [
            name
            for kind in (Kind.TRIAL, Kind.JOB, Kind.POD)
            for name, obj in self.api.objects[kind].items()
            if kind is not Kind.TRIAL or "number" in obj["spec"]
        ]
        if left:
            raise ViolationError(f"the study is deleted, and there are {left}")

    # --- time

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self._drive(lambda: False, seconds, patient=False)

    def _drive(self, done: Callable[[], bool], limit_s: float, *, patient: bool = True) -> None:
        end = self.now + limit_s
        while not done():
            next_event = self._heap[0][0] if self._heap else float("inf")
            next_step = self._due if self._pass is None else self.now
            moment = min(next_event, max(next_step, self.now))
            if moment > end:
                self.now = end
                if patient:
                    raise ViolationError(f"not finished after {limit_s:g} s: {self.phase}")
                return
            self.now = max(self.now, moment)
            if next_event <= self.now:
                heapq.heappop(self._heap)[2]()
            else:
                self._step()

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.api.objects[Kind.STUDY][STUDY]["spec"]
        return spec

    @property
    def phase(self) -> str:
        study = self.api.objects[Kind.STUDY].get(STUDY)
        if study is None:
            return "Deleted"
        return str((study.get("status") or {}).get("phase") or "Pending")

    # --- the operator

    def _boot(self) -> None:
        """Start the operator with an empty head."""
        if self._pass is not None:
            self._pass.close()
        self._pass, self._answer, self._error = None, None, None
        self._call: Call | None = None
        self.mirror = Mirror()
        self.reconciler = Reconciler(
            SimulatedCluster(self.api),
            ScriptedSuggester(),
            _Clock(self),
            Settings(resync_s=60.0),
            self.mirror,
        )
        self._due = self.now + 1.0

    def crash(self) -> None:
        """kill -9, and a new start a little later."""
        self._crash("by hand")

    def _crash(self, when: str) -> None:
        self.trace.append(f"{self.now - START:8.2f} CRASH {when}")
        self._boot()
        self._due = self.now + float(self.rng.uniform(0.5, 20.0))

    def _step(self) -> None:
        """One call of the running pass, or the start of the next."""
        if self._pass is None:
            self._pass = self.reconciler.reconcile(KEY)
        try:
            call = self._pass.throw(self._error) if self._error else self._pass.send(self._answer)
        except StopIteration as stop:
            self._pass, self._answer, self._error = None, None, None
            wait = stop.value
            self._due = self.now + (wait if wait is not None else 1e12)
            return
        except ClusterError:
            self._pass, self._answer, self._error = None, None, None
            self._due = self.now + 2.0
            return
        self._answer, self._error = None, None
        self.now += float(self.rng.uniform(0.001, 0.05))
        self._serve(call)

    def _serve(self, call: Call) -> None:
        self.calls += 1
        fault = self._fault(call)
        self.trace.append(f"{self.now - START:8.2f} {call.what} {fault}")
        if fault == "crash-before":
            self._crash("before " + call.what)
            return
        if fault == "refuse":
            self._error = RefusedError(429, "too many requests")
            return
        try:
            self._answer = call.apply()
            if call.write:
                self.writes[call.what] += 1
        except ClusterError as error:
            self._error = error
        if fault == "crash-after":
            self._crash("after " + call.what)
        elif fault == "lose":
            self._answer, self._error = None, ClusterError("the answer was lost")

    def _fault(self, call: Call) -> str:
        if self.fault_at is not None and not self.ended:
            return self.fault_at[1] if self.calls == self.fault_at[0] else ""
        if self.calm:
            return ""
        draw = float(self.rng.random())
        for fault, rate in (
            ("refuse", self.scenario.refuse),
            ("lose", self.scenario.lose),
            ("crash-before", self.scenario.crash / 2),
            ("crash-after", self.scenario.crash / 2),
        ):
            if draw < rate:
                return fault
            draw -= rate
        return ""

    # --- watches: late, lost and repeated events

    def watched(self, kind: Kind, obj: Object, event: str) -> None:
        self._world_acts(kind, obj, event)
        if not self.calm and self.rng.random() < self.scenario.drop:
            return
        mirror, shown = self.mirror, copy.deepcopy(obj)
        times = 2 if self.rng.random() < 0.05 else 1
        for _ in range(times):
            delay = float(self.rng.exponential(self.scenario.delay_s))
            self.after(delay, lambda: self._deliver(mirror, kind, shown, event))

    def _deliver(self, mirror: Mirror, kind: Kind, obj: Object, event: str) -> None:
        if mirror is self.mirror:  # a restarted operator has new watches
            mirror.absorb(kind, obj, deleted=event == "DELETED")
            self._due = min(self._due, self.now + 0.05)

    # --- Job controller and kubelet

    def _world_acts(self, kind: Kind, obj: Object, event: str) -> None:
        name = obj["metadata"]["name"]
        if kind is Kind.JOB and event == "ADDED":
            delay = float(self.rng.uniform(0.2, 2.0))
            if obj["spec"].get("suspend"):
                self.after(delay, lambda: self._admit(name))
            else:
                self.after(delay, lambda: self._make_pod(name))
        elif kind is Kind.JOB and event == "MODIFIED":
            conditions = (obj.get("status") or {}).get("conditions")
            ttl_s = obj["spec"].get("ttlSecondsAfterFinished")
            if conditions and ttl_s is not None:
                self.after(ttl_s + 0.2, lambda: self.api.delete(Kind.JOB, name))
        elif kind is Kind.POD and event == "ADDED":
            uid = obj["metadata"]["uid"]
            self.after(float(self.rng.uniform(0.1, 3.0)), lambda: self._start_pod(name, uid))

    def _admit(self, job_name: str) -> None:
        """The queue lets a Job go."""
        self.api.edit(Kind.JOB, job_name, lambda job: job["spec"].update(suspend=False))
        self.after(float(self.rng.uniform(0.2, 2.0)), lambda: self._make_pod(job_name))

    def _preempt(self, pod_name: str, uid: str) -> None:
        """The queue takes a Job back; it will have another pod."""
        job_name = pod_name.removesuffix("-pod")
        if not self._is_pod(pod_name, uid) or job_name not in self.api.objects[Kind.JOB]:
            return
        self.preempted += 1
        self.api.edit(Kind.JOB, job_name, lambda job: job["spec"].update(suspend=True))
        self.api.edit(Kind.POD, pod_name, self._disrupted)
        self.after(0.5, lambda: self.api.delete(Kind.POD, pod_name))
        self.after(float(self.rng.uniform(1.0, 9.0)), lambda: self._admit(job_name))

    def _is_pod(self, name: str, uid: str) -> bool:
        pod = self.api.objects[Kind.POD].get(name)
        return pod is not None and pod["metadata"]["uid"] == uid

    def _disrupted(self, pod: Object) -> None:
        pod["metadata"]["deletionTimestamp"] = stamp(self.now)
        pod["status"]["conditions"] = [
            {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        ]

    def _make_pod(self, job_name: str) -> None:
        job = self.api.objects[Kind.JOB].get(job_name)
        if job is None:
            return
        template = job["spec"]["template"]
        owner = {"kind": "Job", "name": job_name, "uid": job["metadata"]["uid"]}
        metadata = {
            "name": f"{job_name}-pod",
            "namespace": NAMESPACE,
            "labels": template["metadata"]["labels"],
            "ownerReferences": [owner],
        }
        pod = {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Pending"}}
        self.api.create(Kind.POD, pod)

    def _start_pod(self, name: str, uid: str) -> None:
        if not self._is_pod(name, uid):
            return

        def running(pod: Object) -> None:
            pod["status"] = {
                "phase": "Running",
                "containerStatuses": [{"name": "train", "state": {"running": {}}}],
                "initContainerStatuses": [{"name": names.SIDECAR, "state": {"running": {}}}],
            }

        self.api.edit(Kind.POD, name, running)
        # 9 epochs take longer than 1, and no two runs equally long.
        delay = float(self.rng.uniform(1.0, 20.0))
        if not self.calm and self.rng.random() < self.scenario.disrupt:
            self.after(delay / 2, lambda: self._evict(name, uid))
        elif not self.calm and self.rng.random() < (self.scenario.preempt or 0.0):
            self.after(delay / 2, lambda: self._preempt(name, uid))
        else:
            self.after(delay, lambda: self._finish_pod(name, uid))

    def _evict(self, name: str, uid: str) -> None:
        if not self._is_pod(name, uid):
            return
        self.api.edit(Kind.POD, name, self._disrupted)
        self.after(0.5, lambda: self.api.delete(Kind.POD, name))
        self.after(1.0, lambda: self._end_job(name.removesuffix("-pod"), "Failed"))

    def _finish_pod(self, name: str, uid: str) -> None:
        if not self._is_pod(name, uid):
            return
        pod = self.api.objects[Kind.POD][name]
        environment = {e["name"]: e["value"] for e in pod["spec"]["containers"][0]["env"]}
        number = int(environment["PRIMO_TRIAL"])
        failed = self.scenario.fails is not None and number % 5 == self.scenario.fails
        failed |= self.failing
        fidelity = float(environment.get("PRIMO_FIDELITY", 9))
        error = 1.0 / (1 + number % 7) / fidelity
        cost = float(1 + number % 7)
        metrics = {"val_error": Reduced(error, error, error, error), "kmacs": Reduced(*[cost] * 4)}
        message = format_summary(Summary(seq=1, metrics=metrics), 4096, ["val_error"]).decode()
        code = 1 if failed else 0

        def ended(pod: Object) -> None:
            end = {"exitCode": code, "finishedAt": stamp(self.now), "reason": "Completed"}
            ours = {"exitCode": 0, "finishedAt": stamp(self.now), "message": message}
            pod["status"] |= {
                "phase": "Failed" if failed else "Succeeded",
                "containerStatuses": [{"name": "train", "state": {"terminated": end}}],
                "initContainerStatuses": [{"name": names.SIDECAR, "state": {"terminated": ours}}],
            }

        self.api.edit(Kind.POD, name, ended)
        kind = "Failed" if failed else "Complete"
        self.after(1.0, lambda: self._end_job(name.removesuffix("-pod"), kind))

    def _end_job(self, name: str, kind: str) -> None:
        def ended(job: Object) -> None:
            job["status"] = {"conditions": [{"type": kind, "status": "True", "reason": kind}]}

        self.api.edit(Kind.JOB, name, ended)

    # --- a user

    def _user(self) -> None:
        if self.calm:
            return
        for kind, rate in (
            (Kind.JOB, self.scenario.delete_job),
            (Kind.TRIAL, self.scenario.delete_trial),
        ):
            known = self.counted_trials() if kind is Kind.TRIAL else list(self.api.objects[kind])
            if known and self.rng.random() < rate / 100 * 3:
                name = str(self.rng.choice(known))
                self.trace.append(f"{self.now - START:8.2f} USER deletes {name}")
                self.api.delete(kind, name)
        known = list(self.api.objects[Kind.TRIAL])
        if known and self.rng.random() < self.scenario.annotate / 100 * 3:
            name, stop = str(self.rng.choice(known)), bool(self.rng.random() < 0.3)
            self.trace.append(f"{self.now - START:8.2f} USER asks {name} to {stop=}")
            key = names.STOP_ANNOTATION if stop else names.RETRY_ANNOTATION
            self.annotate(name, key, f"{self.now:.0f}")
        self.after(3.0, self._user)

    def _suspend(self, suspend: bool) -> None:
        if self.phase not in ("Completed", "Failed"):
            self.edit_study({"suspend": suspend})

    def edit_study(self, spec: dict[str, Any]) -> None:
        """A merge patch of its spec, as `kubectl patch` would send it."""

        def edited(study: Object) -> None:
            patched = merged(study["spec"], spec)
            if patched != study["spec"]:
                study["spec"] = patched
                study["metadata"]["generation"] += 1

        self.api.edit(Kind.STUDY, STUDY, edited)

    def annotate(self, trial: str, key: str, value: str | None) -> None:
        patch = {"metadata": {"annotations": {key: value}}}
        self.api.edit(Kind.TRIAL, trial, lambda found: found.update(merged(found, patch)))

    def counted_trials(self) -> list[str]:
        """Those that a user has seen in the study's status, by name."""
        status = self.api.objects[Kind.STUDY][STUDY].get("status") or {}
        seen = status.get("nextTrial", 0)
        trials = self.api.objects[Kind.TRIAL]
        return [n for n, t in trials.items() if t["spec"].get("number", seen) < seen]

    def make_trial(self, name: str, x: int) -> None:
        """A trial of the user's own."""
        trial = {
            "apiVersion": names.API_VERSION,
            "kind": names.TRIAL_KIND,
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"study": STUDY, "parameters": {"x": x}},
        }
        self.api.create(Kind.TRIAL, trial)

    def _check_own_trials(self) -> None:
        """Each has become a trial of the study, or says why not."""
        for k in range(self.scenario.own_trials):
            trial = self.api.objects[Kind.TRIAL].get(f"mine-{k}")
            if trial is None or "number" in trial["spec"]:
                continue
            wanted = "InvalidTrial" if k % 3 == 1 else "StudyEnded"
            reason = (trial.get("status") or {}).get("reason")
            if reason != wanted:
                raise ViolationError(f"mine-{k} says {reason}, not {wanted}")

    def _check_suspended(self) -> None:
        """Without faults, a minute is enough: what ran has ended, and nothing waits for a pod."""
        if self.scenario.faulty or self.fault_at or self.phase != "Suspended":
            return
        for name, job in self.api.objects[Kind.JOB].items():
            if not (job.get("status") or {}).get("conditions"):
                raise ViolationError(f"suspended for 55 s, and Job {name} has not ended")

    def _study_object(self) -> Object:
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.STUDY_KIND,
            "metadata": {"name": STUDY, "namespace": NAMESPACE},
            "spec": study_spec(self.scenario),
        }


def _own_x(k: int) -> int:
    """Every third is outside the range."""
    return -1 if k % 3 == 1 else 5000 + k


@dataclass
class _Clock:
    world: World

    def now(self) -> float:
        return self.world.now

    def monotonic(self) -> float:
        return self.world.now - START
