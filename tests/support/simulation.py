"""A simulated cluster for the operator's real pass: virtual time, seeded faults, checked writes.

The pass is driven by hand: each call of the `Cluster` port yields a request, and the simulator
decides when it is applied, whether the answer arrives, and whether the operator dies before or
after it. No event loop, no threads, no wall clock: a seed replays to the letter.
"""

import copy
import heapq
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from primo_operator import names
from primo_operator.cluster import (
    ClusterError,
    Object,
    RefusedError,
)
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.reconcile import Reconciler
from primo_operator.settings import Settings
from primo_report.wire import Reduced, Summary, format_summary
from primo_study.queries import Gap, Question, Reading
from support.checker import Checker
from support.scenario import (
    KEY,
    NAMESPACE,
    START,
    STUDY,
    Scenario,
    ViolationError,
    stamp,
    study_spec,
)
from support.simulated_api import Api, Call, ScriptedSuggester, SimulatedCluster, merged


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
        self.prometheus_away = False
        self.asked: list[Question] = []
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
        self._asleep = False
        self.mirror = Mirror()
        self.reconciler = Reconciler(
            SimulatedCluster(self.api),
            ScriptedSuggester(),
            _Metrics(self),
            _Clock(self),
            Settings(
                resync_s=60.0,
                prometheus_url="http://prometheus",
                prometheus_namespaces=NAMESPACE,
                prometheus_patience_s=self.scenario.patience_s,
            ),
            self.mirror,
        )
        self._due = self.now + 1.0

    def crash(self) -> None:
        """kill -9, and a new start a little later."""
        self._crash("by hand")

    def sleep(self, seconds: float) -> None:
        """The operator is not there for so long; then it starts with an empty head."""
        self._boot()
        self._asleep, self._due = True, float("inf")
        self.advance(seconds)
        self._boot()

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

    def look_again(self) -> None:
        """As the queue does when a study is marked."""
        if not self._asleep:
            self._due = min(self._due, self.now + 0.05)

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
            self.look_again()

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
        metrics = {"val_error": Reduced(error, error, error, error)}
        if self.scenario.prometheus is None:
            metrics["kmacs"] = Reduced(*[cost] * 4)
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


@dataclass
class _Metrics:
    """A Prometheus that knows a run's cost by its trial, and is at times down, slow or empty."""

    world: World
    asking: set[str] = field(default_factory=set)

    def ask(self, key: Key, job: str, questions: Sequence[Question]) -> None:
        if job in self.asking:
            return
        self.asking.add(job)
        world, reconciler = self.world, self.world.reconciler
        world.asked += questions
        readings = {question.objective: self._reading(question) for question in questions}

        def answer() -> None:
            self.asking.discard(job)
            if reconciler is world.reconciler:  # else whoever has asked has died
                reconciler.answered(key, job, readings)
                world.look_again()

        world.after(float(world.rng.exponential(2.0)), answer)

    def _reading(self, question: Question) -> Reading:
        world = self.world
        if world.prometheus_away:
            return Reading(gap=Gap.UNREACHABLE, message="away")
        if not world.calm and world.rng.random() < (world.scenario.prometheus or 0.0):
            gap = str(world.rng.choice([Gap.UNREACHABLE, Gap.TIMED_OUT, Gap.NO_SERIES]))
            return Reading(gap=Gap(gap), message="a fault")
        number = int(question.query.partition("trial=")[2])
        return Reading(float(1 + number % 7))
