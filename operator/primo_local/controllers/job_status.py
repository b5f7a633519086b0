"""The status of a Job: its counters, its times, and conditions that come in pairs."""

from dataclasses import dataclass
from datetime import datetime

from primo_local.apiserver.clock import timestamp
from primo_local.client import Obj
from primo_local.controllers.events import Severity
from primo_local.controllers.tally import Tally


@dataclass(frozen=True, slots=True)
class Tell:
    """An Event about the Job."""

    severity: Severity
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class End:
    """Why the Job ends: what the condition pair will say."""

    success: bool
    reason: str
    message: str

    @property
    def interim(self) -> str:
        return "SuccessCriteriaMet" if self.success else "FailureTarget"

    @property
    def final(self) -> str:
        return "Complete" if self.success else "Failed"


def finished_condition(job: Obj) -> Obj | None:
    for name in ("Complete", "Failed"):
        if condition := true_condition(job, name):
            return condition
    return None


def true_condition(job: Obj, name: str) -> Obj | None:
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition["type"] == name and condition["status"] == "True":
            found: Obj = condition
            return found
    return None


def status_after(
    job: Obj, count: Tally, verdict: End | None, now: datetime
) -> tuple[Obj, list[Tell]]:
    """The status as it should be, and the Events that go with a change of condition."""
    old = job.get("status") or {}
    suspended = bool(job["spec"].get("suspend")) and verdict is None
    conditions, told = _conditions(old, count, verdict, suspended, now)
    moved_succeeded, moved_failed = count.counted_now
    counters = {
        "active": len(count.active),
        "succeeded": old.get("succeeded", 0) + moved_succeeded,
        "failed": old.get("failed", 0) + moved_failed,
    }
    status: Obj = {name: number for name, number in counters.items() if number}
    status["ready"] = count.ready
    status["terminating"] = len(count.terminating)
    status["uncountedTerminatedPods"] = count.uncounted
    if conditions:
        status["conditions"] = conditions
    if not suspended:
        resumed = any(tell.reason == "Resumed" for tell in told)
        started = None if resumed else old.get("startTime")
        status["startTime"] = started or timestamp(now)
    if any(c["type"] == "Complete" for c in conditions):
        status["completionTime"] = timestamp(now)
    return status, told


def _conditions(
    old: Obj, count: Tally, verdict: End | None, suspended: bool, now: datetime
) -> tuple[list[Obj], list[Tell]]:
    conditions = [dict(condition) for condition in old.get("conditions") or []]
    told: list[Tell] = []

    def say(name: str, value: str, reason: str, message: str) -> bool:
        wanted = {"type": name, "status": value, "reason": reason, "message": message}
        for condition in conditions:
            if condition["type"] == name:
                if condition["status"] == value:
                    return False
                conditions.remove(condition)
                break
        at = timestamp(now)
        conditions.append({**wanted, "lastProbeTime": at, "lastTransitionTime": at})
        return True

    if suspended:
        if say("Suspended", "True", "JobSuspended", "Job suspended"):
            told.append(Tell("Normal", "Suspended", "Job suspended"))
    elif verdict is None and true_condition({"status": old}, "Suspended"):
        say("Suspended", "False", "JobResumed", "Job resumed")
        told.append(Tell("Normal", "Resumed", "Job resumed"))
    if verdict is not None:
        say(verdict.interim, "True", verdict.reason, verdict.message)
        if not (count.active or count.terminating or count.uncounted or count.to_let_go):
            say(verdict.final, "True", verdict.reason, verdict.message)
            told.append(
                Tell("Normal", "Completed", "Job completed")
                if verdict.success
                else Tell("Warning", verdict.reason, verdict.message)
            )
    return conditions, told
