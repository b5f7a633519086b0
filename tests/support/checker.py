"""What must hold after every write of a simulated operator."""

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from primo_operator.cluster import (
    Object,
)
from primo_operator.mirror import Kind
from primo_study.phases import STUDY_TRANSITIONS, TRIAL_TRANSITIONS, StudyPhase, TrialPhase
from support.scenario import (
    ViolationError,
)

if TYPE_CHECKING:
    from support.simulation import World


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
