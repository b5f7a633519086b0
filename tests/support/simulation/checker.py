"""What must hold after every write of a simulated operator, and at the end."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from primo_operator import names
from primo_operator.cluster import Listing, Object
from primo_operator.mirror import Kind
from primo_study.phases import (
    STUDY_TRANSITIONS,
    TRIAL_TRANSITIONS,
    Obstacle,
    Reason,
    StudyPhase,
    TrialPhase,
)
from support.simulation.api import labels
from support.simulation.scenario import NEIGHBOUR, STUDY, ViolationError

if TYPE_CHECKING:
    from support.simulation.operator import Operator, Pass
    from support.simulation.world import World

REASONS = {reason.value for reason in Reason}
CALLS_A_MINUTE = 400
PASSES_A_MINUTE = 1000  # as many as come of `SHORTEST_WAIT_S` are more
# A study whose passes have failed is looked at again after five minutes at the latest.
IDLE_CHECKS = 13


@dataclass
class Ledger:
    """What has been seen of one study, by its UID: what once was may not become otherwise.

    Attributes:
        limits: by generation of the spec, how many runs and trials it allows.
        openings: versions of the writes that opened a run.
        hidden: so many of them a stale list has hidden.
    """

    limits: dict[int, tuple[float, float]] = field(default_factory=dict)
    configurations: dict[int, Any] = field(default_factory=dict)
    trial_uids: dict[int, str] = field(default_factory=dict)
    openings: list[int] = field(default_factory=list)
    hidden: int = 0
    spent: float = 0.0
    numbers: int = 0
    idle: int = 0


@dataclass
class Checker:
    """The invariants of a study, on every write; `reliability.md` numbers them.

    Attributes:
        hidden: UIDs of objects that the latest list of their kind lacked, as it was an older one.
        made_blindly: those of the time when a Job was made, by its name.
    """

    world: "World"
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    job_names: set[str] = field(default_factory=set)
    observations: dict[str, list[Any]] = field(default_factory=dict)
    finished_runs: dict[str, list[Any]] = field(default_factory=dict)
    retries: set[tuple[str, str]] = field(default_factory=set)
    orphans: set[str] = field(default_factory=set)
    observed: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    made_blindly: dict[str, frozenset[str]] = field(default_factory=dict)
    _minute: tuple[int, int] = (0, 0)
    _passes: tuple[int, int] = (0, 0)

    def written(
        self, kind: Kind, before: Object | None, obj: Object, author: "Pass | None"
    ) -> None:
        match kind:
            case Kind.TRIAL:
                self._trial(before, obj, author)
            case Kind.JOB if before is None and author:
                self._job(obj)
            case Kind.STUDY:
                self._limits(obj)
                if author:
                    self._study(before, obj)

    def deleted(self, kind: Kind, obj: Object) -> None:
        if kind is Kind.TRIAL:
            self.observations.pop(obj["metadata"]["uid"], None)

    def shown(self, version: int) -> None:
        """The operator was shown a list as of this version."""
        for ledger in self.ledgers.values():
            hidden = sum(opened > version for opened in ledger.openings)
            ledger.hidden = max(ledger.hidden, hidden)

    def listed(self, there: Listing, shown: Listing) -> None:
        """Of the objects that are there an older list hides some."""
        self.hidden |= {obj["metadata"]["uid"] for obj in there.items}
        self.hidden -= {obj["metadata"]["uid"] for obj in shown.items}

    def leads(self, operators: Sequence["Operator"]) -> None:
        leaders = [o.name for o in operators if o.elector and o.elector.leads]
        self._hold(len(leaders) <= 1, f"{leaders} lead at once")

    def acts_on_job(self, name: str, author: "Pass | None") -> None:
        """I15: before a Job is patched or deleted."""
        job = self.world.api.objects[Kind.JOB].get(name)
        if job is not None:
            ours = self.owned(Kind.JOB, job)
            self._hold(ours, f"I15: {name} is somebody else's, and {author} writes to it")

    def owned(self, kind: Kind, obj: Object) -> bool:
        """Whether it has, or had, a study above it, or is one's trial."""
        kinds = {owner["kind"] for owner in obj["metadata"].get("ownerReferences") or ()}
        if obj["metadata"]["uid"] in self.orphans:
            return False
        return bool(kinds & {"PriMOStudy", "PriMOTrial", "Job"})

    def _job(self, obj: Object) -> None:
        name = obj["metadata"]["name"]
        owners = {owner["uid"] for owner in obj["metadata"]["ownerReferences"]}
        again = name in self.job_names and not owners & self.world.user.touched
        again &= not self._stopped_beside_another()
        self._hold(not again, f"I3: Job {name} is created again")
        self.job_names.add(name)
        self.made_blindly[name] = frozenset(self.hidden)

    # --- trials

    def _ledger(self, trial: Object) -> Ledger | None:
        for owner in trial["metadata"].get("ownerReferences") or ():
            if owner["kind"] == "PriMOStudy":
                return self.ledgers.get(owner["uid"])
        return None

    def _trial(self, before: Object | None, obj: Object, author: "Pass | None") -> None:
        spec, status, uid = obj["spec"], obj.get("status") or {}, obj["metadata"]["uid"]
        ledger = self._ledger(obj)
        if "number" not in spec or ledger is None:
            if ledger is None and before is not None and names.STUDY_LABEL in labels(obj):
                self.orphans.add(uid)
                self._hold(author is None, f"I15: the operator writes to {spec} that has no study")
            return
        number = spec["number"]
        new = before is None or "number" not in before["spec"]
        if new:
            again = number in ledger.trial_uids and not self._stopped_beside_another()
            self._hold(not again, f"I2: number {number} is used again")
            ledger.trial_uids[number] = uid
            ledger.configurations[number] = spec["parameters"]
            budget = max(most for _, most in self._known_limits(ledger, author))
            self._hold(len(ledger.trial_uids) <= budget, f"I5: trial {number} is over the budget")
        held = ledger.configurations[number]
        self._hold(held == spec["parameters"], f"I2: trial {number} changed")
        if uid not in self.world.user.touched:
            self._record(before, obj)
            self._attempts(number, spec, status)
        phase = TrialPhase(status.get("phase") or "Queued")
        old = _phase(before)
        ended = old in (TrialPhase.PAUSED, TrialPhase.FAILED, TrialPhase.STOPPED)
        if new or (ended and phase is TrialPhase.QUEUED):
            ledger.openings.append(self.world.api.version)
            self._slots(ledger, author)
        again = ended and old is not TrialPhase.PAUSED and phase is TrialPhase.QUEUED
        if author and again and uid not in self.world.user.touched:
            wish = (uid, status.get("retried", ""))
            self._hold(wish not in self.retries, f"trial {number}: a retry is granted twice")
            self.retries.add(wish)
        self._hold(len(json.dumps(obj)) < 16384, f"I9: trial {number} is too large")

    def _stopped_beside_another(self) -> bool:
        """Who goes on after minutes may make what was made, and deleted, meanwhile: see 0014."""
        scenario = self.world.scenario
        return bool(scenario.freeze) and scenario.operators > 1 and not scenario.lease

    def _record(self, before: Object | None, obj: Object) -> None:
        number, status = obj["spec"]["number"], obj.get("status") or {}
        uid, old, phase = obj["metadata"]["uid"], _phase(before), _phase(obj)
        allowed = phase is old or phase in TRIAL_TRANSITIONS[old]
        self._hold(allowed, f"I8: trial {number} went from {old} to {phase}")
        seen = status.get("observations") or []
        kept = self.observations.get(uid, [])
        self._hold(seen[: len(kept)] == kept, f"I4: trial {number} lost an observation")
        self.observations[uid] = seen
        self.observed.update(_text(o["values"]) for o in seen)
        runs = [run for run in status.get("runs") or () if "finishedAt" in run]
        ended = self.finished_runs.get(uid, [])
        self._hold(runs[: len(ended)] == ended, f"I4: trial {number} lost a run")
        self.finished_runs[uid] = runs
        for run in runs[len(ended) :]:
            self._hold(not self._healthy(run), f"{run['job']} is called lost, and is not")
        fidelities = [o.get("fidelity") or 0 for o in seen]
        once = fidelities == sorted(set(fidelities))
        self._hold(once, f"I4: trial {number} observed twice")
        completed = sum(run["reason"] == Reason.COMPLETED for run in runs)
        self._hold(
            completed == len(seen), f"I4: trial {number}: {completed} runs, {len(seen)} seen"
        )

    def _healthy(self, run: Object) -> bool:
        """It is called lost, and there are its Job and its pod, with nothing wrong with them."""
        name = run["job"]
        job = self.world.api.objects[Kind.JOB].get(name)
        if (
            run["reason"] not in (Reason.LOST, Reason.NOT_CREATED)
            or job is None
            or (job.get("status") or {})
        ):
            return False
        pod = self.world.jobs.pod_of(job)
        if pod is None or pod["metadata"].get("deletionTimestamp"):
            return False
        ours = self.owned(Kind.JOB, job) and not job["spec"].get("suspend")
        return bool(ours and pod["status"].get("phase") in ("Pending", "Running"))

    def _attempts(self, number: int, spec: Object, status: Object) -> None:
        runs = status.get("runs") or []
        seen = {o.get("fidelity") for o in status.get("observations") or ()}
        first = spec.get("fidelity")
        for run in runs:
            known = "finishedAt" not in run or run["reason"] in REASONS
            self._hold(known, f"I16: trial {number}: a run ended for {run.get('reason')!r}")
            if run["rung"] > 0:
                below = [r["fidelity"] for r in runs if r["rung"] == run["rung"] - 1]
                reached = bool(below) and below[-1] in seen
                self._hold(reached, f"I14: trial {number} is on rung {run['rung']} too early")
            else:
                self._hold(run.get("fidelity") == first, f"trial {number} is on another rung")
        order = [(run["rung"], run["attempt"]) for run in runs]
        self._hold(order == sorted(set(order)), f"I3: trial {number}: attempts {order}")
        if not runs:
            return
        rung = [run for run in runs if run["rung"] == runs[-1]["rung"]]
        asked = max((at for at, run in enumerate(rung) if run.get("asked")), default=0)
        lost = sum(run.get("reason") == Reason.LOST and "finishedAt" in run for run in rung[asked:])
        limit = self.world.scenario.infrastructure
        last, phase = runs[-1], status.get("phase")
        if phase == "Failed":
            self._hold(
                status.get("reason") in REASONS, f"I16: trial {number} failed, and no reason"
            )
            free = status["reason"] == Reason.LOST and lost <= limit
            self._hold(not free, f"I11: trial {number} failed with {lost} losses of {limit}")
        if phase == "Queued" and last.get("reason") == Reason.LOST and "finishedAt" in last:
            self._hold(lost <= limit, f"I11: trial {number}: {lost} losses, {limit} are free")

    def _known_limits(self, ledger: Ledger, author: "Pass | None") -> list[tuple[float, float]]:
        """Limits that were in force when the author's pass began, and since."""
        since = author.generation if author and author.generation in ledger.limits else 0
        return [limits for generation, limits in ledger.limits.items() if generation >= since]

    def _open(self, ledger: Ledger) -> int:
        """Trials with a run under way, but for those that a user has written to."""
        return sum(
            _phase(trial) in (TrialPhase.QUEUED, TrialPhase.RUNNING)
            for trial in self.world.api.objects[Kind.TRIAL].values()
            if "number" in trial["spec"]
            and self._ledger(trial) is ledger
            and trial["metadata"]["uid"] not in self.world.user.touched
        )

    def _slots(self, ledger: Ledger, author: "Pass | None") -> None:
        open_ = self._open(ledger)
        limit = max(slots for slots, _ in self._known_limits(ledger, author))
        if not self.world.scenario.lease:  # each fills the slots that it sees free
            limit *= max(len(self.world.operators), 1)
        good = open_ <= limit + ledger.hidden
        self._hold(good, f"I1: {open_} unfinished runs, parallelism is {limit}")

    # --- studies

    def _limits(self, study: Object) -> None:
        spec = study["spec"]
        ledger = self.ledgers.setdefault(study["metadata"]["uid"], Ledger())
        slots = max(spec.get("parallelism") or 1, 0)  # -1 is no good, and allows none
        trials = (spec.get("budget") or {}).get("trials")
        most = float("inf") if trials is None else trials
        ledger.limits[study["metadata"]["generation"]] = (slots, most)

    def _study(self, before: Object | None, obj: Object) -> None:
        status, ledger = obj.get("status") or {}, self.ledgers[obj["metadata"]["uid"]]
        if "trials" not in status:
            return
        phase = StudyPhase(status["phase"])
        was = (before or {}).get("status") or {}
        old = StudyPhase(was.get("phase") or "Pending")
        allowed = phase is old or phase in STUDY_TRANSITIONS[old]
        self._hold(allowed, f"I8: the study went from {old} to {phase}")
        ended = old in (StudyPhase.COMPLETED, StudyPhase.FAILED)
        edited = ended and obj["metadata"]["generation"] != was["observedGeneration"]
        self._hold(not ended or edited or phase is old, f"I8: the study left {old}")
        if phase in (StudyPhase.COMPLETED, StudyPhase.FAILED) and not ended:
            open_ = self._open(ledger)
            self._hold(open_ == 0, f"I8: the study is {phase}, and {open_} runs are under way")
        used, numbers = status["budgetUsed"]["fullEvaluations"], status["nextTrial"]
        self._hold(used >= ledger.spent - 1e-6, f"I5: budget used fell: {ledger.spent} to {used}")
        self._hold(numbers >= ledger.numbers, "I2: the watermark went back")
        ledger.spent, ledger.numbers = used, numbers
        tried, before_tried = _tried(status), _tried(was)
        forward = tried >= before_tried or bool(self.world.user.touched)
        self._hold(forward, f"I7: progress went back from {before_tried} to {tried}")
        self._counts(status)
        self._front(status)
        self._hold(len(json.dumps(status)) < 65536, "I9: the study's status is too large")

    def _counts(self, status: Object) -> None:
        counts = dict(status["trials"])
        total = counts.pop("total")
        self._hold(total == sum(counts.values()), f"I7: {counts} are not {total}")
        open_ = counts["queued"] + counts["running"]
        self._hold(status["running"] == open_, f"I7: {status['running']} run, and {counts}")

    def _front(self, status: Object) -> None:
        """I7: what it shows was observed."""
        for entry in status.get("front") or ():
            known = _text(entry["values"]) in self.observed or self.world.user.touched
            self._hold(bool(known), f"I7: the front shows {entry}, which nobody has observed")

    # --- now and then, and at the end

    def passed(self) -> None:
        """I13: no loop that does nothing at all."""
        minute, passes = self._passes
        now = int(self.world.now // 60)
        self._passes = (now, passes + 1 if minute == now else 1)
        self._hold(self._passes[1] <= PASSES_A_MINUTE, "I13: one pass after the other")

    def called(self) -> None:
        """I13: no loop that only asks."""
        minute, calls = self._minute
        now = int(self.world.now // 60)
        self._minute = (now, calls + 1 if minute == now else 1)
        most = CALLS_A_MINUTE * len(self.world.operators or "1") * len(self.world.keys)
        self._hold(self._minute[1] <= most, f"I13: {self._minute[1]} calls in a minute")

    def look_for_idle_slots(self) -> None:
        """While there is work left, all slots are used: but for a while nobody may have looked."""
        frozen = any(self.world.now < o.frozen_until for o in self.world.operators)
        for study in self.world.api.objects[Kind.STUDY].values():
            ledger, status = self.ledgers[study["metadata"]["uid"]], study.get("status") or {}
            slots, most = ledger.limits[study["metadata"]["generation"]]
            left = status.get("phase") in ("InitialDesign", "Optimizing")
            left &= status.get("running", 0) < slots and status.get("nextTrial", 0) < most
            left &= _condition(status, "Running").get("reason") in ("InitialDesign", "Optimizing")
            ledger.idle = ledger.idle + 1 if left and not frozen else 0
            self._hold(ledger.idle < IDLE_CHECKS, f"slots stay idle: {status}")

    def at_the_end(self) -> None:
        """Of what has come to rest."""
        self._check_retention()
        self._check_owners()
        for study in self.world.api.objects[Kind.STUDY].values():
            degraded = _condition(study["status"], "Degraded")
            # What an ask has failed with holds until the next one.
            healed = degraded.get("status") != "True" or degraded["reason"] not in set(Obstacle)
            self._hold(healed, f"Degraded has not healed: {degraded}")

    def _check_retention(self) -> None:
        """Of the recorded runs' Jobs only those are left that are to be kept."""
        reasons = {
            run["job"]: run.get("reason")
            for trial in self.world.api.objects[Kind.TRIAL].values()
            for run in (trial.get("status") or {}).get("runs") or ()
            if self._ledger(trial)
        }
        for name, job in self.world.api.objects[Kind.JOB].items():
            if name not in reasons or labels(job).get(names.STUDY_LABEL) not in (STUDY, NEIGHBOUR):
                continue
            kept = {"None": False, "Failed": reasons[name] != "Completed"}
            retained = kept.get(self.world.scenario.retention or "All", True)
            self._hold(retained, f"Job {name} is kept: {reasons[name]}")

    def _check_owners(self) -> None:
        """I6: a Job has a trial and a trial a study, if it ever had one."""
        alive = {
            o["metadata"]["uid"] for kind in Kind for o in self.world.api.objects[kind].values()
        }
        for kind in (Kind.TRIAL, Kind.JOB, Kind.POD):
            for name, obj in self.world.api.objects[kind].items():
                owners = obj["metadata"].get("ownerReferences") or ()
                gone = owners and not any(owner["uid"] in alive for owner in owners)
                self._hold(not gone, f"I6: {name} is left behind")

    def _hold(self, good: bool, message: str) -> None:
        if not good:
            raise ViolationError(message)


def _phase(trial: Object | None) -> TrialPhase:
    return TrialPhase(((trial or {}).get("status") or {}).get("phase") or "Queued")


def _tried(status: Object) -> int:
    return int((status.get("progress") or "0").partition("/")[0])


def _text(values: Object) -> str:
    return json.dumps(values, sort_keys=True)


def _condition(status: Object, kind: str) -> Object:
    found = (c for c in status.get("conditions") or () if c["type"] == kind)
    return next(found, {})
