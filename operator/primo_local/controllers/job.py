"""What a Job needs next: `sync(job, pods, now)` says it, as the Job controller of Kubernetes 1.36.

The pods are counted exactly once although they may vanish at any time: each carries a finalizer;
first its uid goes into `status.uncountedTerminatedPods`, then the finalizer is dropped, and only
when it is seen to be gone the counter moves and the uid leaves, in one write. A crash between any
two of these steps is made good by the next look.

Left out: Indexed completion, success policies, `backoffLimitPerIndex`, adoption of foreign pods.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from primo_local.apiserver.clock import parse_timestamp, timestamp
from primo_local.client import Obj
from primo_local.controllers.events import Severity
from primo_local.controllers.failure_policy import Verdict, judge

TRACKING: Final = "batch.kubernetes.io/job-tracking"
MANAGED_BY_US: Final = "kubernetes.io/job-controller"
CREATE_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Backoff:
    """How many pods failed since the last success, and when the last of them ended."""

    failures: int = 0
    last: datetime | None = None


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    base_s: float = 10.0
    at_most_s: float = 600.0


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Replace the Job's status; refused by the server if the Job has changed since."""

    status: Obj


@dataclass(frozen=True, slots=True)
class DropFinalizer:
    """Let go of a pod: its end is on record, or will not be counted."""

    pod: Obj


@dataclass(frozen=True, slots=True)
class CreatePods:
    count: int


@dataclass(frozen=True, slots=True)
class DeletePod:
    pod: Obj


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """The Job has outlived its ttl."""


@dataclass(frozen=True, slots=True)
class Tell:
    """An Event about the Job."""

    severity: Severity
    reason: str
    message: str


Action = SetStatus | DropFinalizer | CreatePods | DeletePod | DeleteJob | Tell


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order; a failed step ends it.

    Attributes:
        again_s: look again after so long even if nothing changes; None to wait for a change.
        backoff: to be handed in at the next look, in memory only, as the real controller does.
    """

    actions: tuple[Action, ...] = ()
    again_s: float | None = None
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True)
class _Verdict:
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


@dataclass(frozen=True, slots=True)
class _Count:
    """The pods of a Job, sorted by what they mean for it."""

    active: list[Obj]
    terminating: list[Obj]
    ready: int
    succeeded: int
    failed: int
    counted_now: tuple[int, int]  # succeeded and failed that move into the counters
    uncounted: Obj
    to_let_go: list[Obj]
    backoff: Backoff


def sync(
    job: Obj,
    pods: Sequence[Obj],
    now: datetime,
    backoff: Backoff = Backoff(),
    settings: BackoffSettings = BackoffSettings(),
) -> Plan:
    """Look at a Job and the pods it controls; pure.

    Args:
        job: as the API server has it, defaults filled in.
        pods: all pods whose controller is this Job, by uid, finished ones included.
    """
    if job["spec"].get("managedBy", MANAGED_BY_US) != MANAGED_BY_US:
        return Plan()
    if job["metadata"].get("deletionTimestamp"):
        # The garbage collector deletes the pods; it only must not wait for us.
        return Plan(tuple(DropFinalizer(pod) for pod in pods if is_tracked(pod)))
    if finished := _finished(job):
        return _after_the_end(job, pods, finished, now)
    if job["spec"].get("completionMode", "NonIndexed") != "NonIndexed":
        message = "completionMode Indexed is not implemented by this Job controller"
        return Plan((Tell("Warning", "FailedCreate", message),))
    return _unfinished(job, pods, now, backoff, settings)


def controller_of(pod: Obj) -> Obj | None:
    """The owner reference of the controlling Job, if a Job controls the pod."""
    for reference in pod["metadata"].get("ownerReferences") or []:
        if reference.get("controller") and reference.get("kind") == "Job":
            found: Obj = reference
            return found
    return None


def is_tracked(pod: Obj) -> bool:
    return TRACKING in (pod["metadata"].get("finalizers") or [])


def _unfinished(
    job: Obj, pods: Sequence[Obj], now: datetime, backoff: Backoff, settings: BackoffSettings
) -> Plan:
    count = _count(job, pods, now, backoff)
    verdict = _verdict(job, pods, count, now)
    status, told = _status(job, count, verdict, now)
    actions: list[Action] = []
    if status != (job.get("status") or {}):
        actions.append(SetStatus(status))
        actions += told
    actions += [DropFinalizer(pod) for pod in count.to_let_go]
    again_s = _until_deadline(job, status, now)
    if verdict is not None:
        # Not let go of first: these ends are to be counted.
        actions += [DeletePod(pod) for pod in count.active]
    else:
        managed, wait_s = _manage(job, count, now, settings)
        actions += managed
        again_s = min((s for s in (again_s, wait_s) if s is not None), default=None)
    return Plan(tuple(actions), again_s, count.backoff)


def _finished(job: Obj) -> Obj | None:
    for name in ("Complete", "Failed"):
        if condition := _condition(job, name):
            return condition
    return None


def _condition(job: Obj, name: str) -> Obj | None:
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition["type"] == name and condition["status"] == "True":
            found: Obj = condition
            return found
    return None


def _after_the_end(job: Obj, pods: Sequence[Obj], finished: Obj, now: datetime) -> Plan:
    freed: tuple[Action, ...] = tuple(DropFinalizer(pod) for pod in pods if is_tracked(pod))
    ttl_s = job["spec"].get("ttlSecondsAfterFinished")
    if ttl_s is None:
        return Plan(freed)
    left_s = ttl_s - (now - parse_timestamp(finished["lastTransitionTime"])).total_seconds()
    if left_s > 0:
        return Plan(freed, left_s)
    return Plan((*freed, DeleteJob()))


def _count(job: Obj, pods: Sequence[Obj], now: datetime, backoff: Backoff) -> _Count:
    status = job.get("status") or {}
    recorded = status.get("uncountedTerminatedPods") or {}
    held = {pod["metadata"]["uid"] for pod in pods if is_tracked(pod)}
    uncounted: Obj = {}
    moving = {}
    for outcome in ("succeeded", "failed"):
        uids = recorded.get(outcome) or []
        moving[outcome] = sum(uid not in held for uid in uids)
        uncounted[outcome] = [uid for uid in uids if uid in held]
    known = {*(recorded.get("succeeded") or []), *(recorded.get("failed") or [])}
    to_let_go, ended = [], []
    for pod in pods:
        outcome = _outcome(job, pod)
        if not outcome or not is_tracked(pod):
            continue
        to_let_go.append(pod)
        if pod["metadata"]["uid"] in known:
            continue
        ended.append(pod)
        if outcome == "succeeded" or judge(_rules(job), pod).counts:
            uncounted[outcome].append(pod["metadata"]["uid"])
    running = [pod for pod in pods if _phase(pod) in ("Pending", "Running")]
    succeeded = status.get("succeeded", 0) + moving["succeeded"] + len(uncounted["succeeded"])
    failed = status.get("failed", 0) + moving["failed"] + len(uncounted["failed"])
    return _Count(
        active=[pod for pod in running if not pod["metadata"].get("deletionTimestamp")],
        terminating=[pod for pod in running if pod["metadata"].get("deletionTimestamp")],
        ready=sum(_is_ready(pod) for pod in running),
        succeeded=succeeded,
        failed=failed,
        counted_now=(moving["succeeded"], moving["failed"]),
        uncounted={name: uids for name, uids in uncounted.items() if uids},
        to_let_go=to_let_go,
        backoff=_with(backoff, job, ended, now),
    )


def _outcome(job: Obj, pod: Obj) -> str:
    """`succeeded`, `failed`, or nothing while it is open."""
    phase = _phase(pod)
    if phase in ("Succeeded", "Failed"):
        return str(phase.lower())
    if _replaces_only_failed(job):
        return ""
    # A pod that is being deleted may never be seen to end, so it counts as failed from now on.
    return "failed" if pod["metadata"].get("deletionTimestamp") else ""


def _phase(pod: Obj) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def _is_ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def _rules(job: Obj) -> list[Obj]:
    return list((job["spec"].get("podFailurePolicy") or {}).get("rules") or [])


def _replaces_only_failed(job: Obj) -> bool:
    default = "Failed" if _rules(job) else "TerminatingOrFailed"
    return bool(job["spec"].get("podReplacementPolicy", default) == "Failed")


def _with(backoff: Backoff, job: Obj, ended: Sequence[Obj], now: datetime) -> Backoff:
    """The record after some more pods have ended, in the order of their ends."""
    outcomes = sorted(
        ((ended_at(pod) or now, _outcome(job, pod)) for pod in ended), key=lambda end: end[0]
    )
    for at, outcome in outcomes:
        backoff = Backoff() if outcome == "succeeded" else Backoff(backoff.failures + 1, at)
    return backoff


def ended_at(pod: Obj) -> datetime | None:
    """When the last container of a pod ended, or its deletion was asked for; None if unknown."""
    ends = [
        state["terminated"]["finishedAt"]
        for state in _states(pod)
        if (state.get("terminated") or {}).get("finishedAt")
    ]
    if ends:
        return max(parse_timestamp(end) for end in ends)
    if deleted := pod["metadata"].get("deletionTimestamp"):
        # It names the end of the grace period.
        grace_s = pod["metadata"].get("deletionGracePeriodSeconds") or 0
        return parse_timestamp(deleted) - timedelta(seconds=grace_s)
    return None


def _states(pod: Obj) -> Iterator[Obj]:
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        yield container.get("state") or {}


def _verdict(job: Obj, pods: Sequence[Obj], count: _Count, now: datetime) -> _Verdict | None:
    if failing := _condition(job, "FailureTarget"):
        return _Verdict(False, failing["reason"], failing["message"])
    if succeeding := _condition(job, "SuccessCriteriaMet"):
        return _Verdict(True, succeeding["reason"], succeeding["message"])
    for judged in (judge(_rules(job), pod) for pod in pods if _phase(pod) == "Failed"):
        if judged.verdict is Verdict.FAIL_JOB:
            return _Verdict(False, "PodFailurePolicy", judged.message)
    if count.failed > job["spec"]["backoffLimit"] or _restarted_too_often(job, count.active):
        message = "Job has reached the specified backoff limit"
        return _Verdict(False, "BackoffLimitExceeded", message)
    left_s = _until_deadline(job, job.get("status") or {}, now)
    if left_s is not None and left_s <= 0:
        message = "Job was active longer than specified deadline"
        return _Verdict(False, "DeadlineExceeded", message)
    if _has_succeeded(job, count):
        message = "Reached expected number of succeeded pods"
        return _Verdict(True, "CompletionsReached", message)
    return None


def _has_succeeded(job: Obj, count: _Count) -> bool:
    completions = job["spec"].get("completions")
    if completions is None:  # a work queue: one success means there is no work left
        return count.succeeded > 0 and not count.active and not count.terminating
    return bool(count.succeeded >= completions)


def _restarted_too_often(job: Obj, active: Sequence[Obj]) -> bool:
    """The limit for pods that restart in place, whose failures never reach the counters."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = 0
    for pod in active:
        status = pod.get("status") or {}
        sidecars = {
            container["name"]
            for container in pod["spec"].get("initContainers") or []
            if container.get("restartPolicy") == "Always"
        }
        for each in (status.get("initContainerStatuses") or []) + (
            status.get("containerStatuses") or []
        ):
            restarts += 0 if each["name"] in sidecars else each.get("restartCount", 0)
    limit = job["spec"]["backoffLimit"]
    return bool(restarts > 0 if limit == 0 else restarts >= limit)


def _until_deadline(job: Obj, status: Obj, now: datetime) -> float | None:
    deadline_s = job["spec"].get("activeDeadlineSeconds")
    started = status.get("startTime")
    if deadline_s is None or started is None or job["spec"].get("suspend"):
        return None
    return float(deadline_s - (now - parse_timestamp(started)).total_seconds())


def _status(
    job: Obj, count: _Count, verdict: _Verdict | None, now: datetime
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
    old: Obj, count: _Count, verdict: _Verdict | None, suspended: bool, now: datetime
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
    elif verdict is None and _condition({"status": old}, "Suspended"):
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


def _manage(
    job: Obj, count: _Count, now: datetime, settings: BackoffSettings
) -> tuple[list[Action], float | None]:
    """Bring the number of running pods to what is wanted; and when to look again."""
    active = len(count.active)
    if job["spec"].get("suspend"):
        return _remove(count.active), None
    wanted = _wanted(job, count)
    if active > wanted:
        return _remove(_dispensable_first(count.active)[: active - wanted]), None
    missing = wanted - active
    if _replaces_only_failed(job):
        missing -= len(count.terminating)
    if missing <= 0:
        return [], None
    wait_s = _backoff_left_s(count.backoff, now, settings)
    if wait_s > 0:
        return [], wait_s
    return [CreatePods(min(missing, CREATE_AT_ONCE))], None


def _wanted(job: Obj, count: _Count) -> int:
    parallelism = int(job["spec"].get("parallelism", 1))
    completions = job["spec"].get("completions")
    if completions is None:
        return len(count.active) if count.succeeded else parallelism
    return max(min(parallelism, int(completions) - count.succeeded), 0)


def _remove(pods: Sequence[Obj]) -> list[Action]:
    """Delete without counting: their finalizer goes first, so their end is nobody's failure."""
    actions: list[Action] = []
    for pod in pods:
        if is_tracked(pod):
            actions.append(DropFinalizer(pod))
        actions.append(DeletePod(pod))
    return actions


def _dispensable_first(pods: Sequence[Obj]) -> list[Obj]:
    """Those without a node, then not running, then not ready, then the newest."""

    def worth(pod: Obj) -> tuple[bool, bool, bool]:
        return bool(pod["spec"].get("nodeName")), _phase(pod) == "Running", _is_ready(pod)

    newest_first = sorted(pods, key=lambda p: str(p["metadata"]["creationTimestamp"]), reverse=True)
    return sorted(newest_first, key=worth)


def _backoff_left_s(backoff: Backoff, now: datetime, settings: BackoffSettings) -> float:
    if backoff.failures == 0 or backoff.last is None:
        return 0.0
    # The exponent is bounded before it is used: 2**10000 is a number, base_s times that is not.
    doublings = min(backoff.failures - 1, math.ceil(math.log2(settings.at_most_s + 1)) + 10)
    pause_s = min(settings.base_s * 2**doublings, settings.at_most_s)
    return (backoff.last + timedelta(seconds=pause_s) - now).total_seconds()


def pod_of(job: Obj) -> Obj:
    """The pod to create for a Job."""
    template = job["spec"]["template"]
    meta = template.get("metadata") or {}
    name = job["metadata"]["name"]
    return {
        "metadata": {
            # Cut as the API server does, which appends five characters within 63.
            "generateName": f"{name[:57]}-",
            "namespace": job["metadata"]["namespace"],
            "labels": dict(meta.get("labels") or {}),
            "annotations": dict(meta.get("annotations") or {}),
            "finalizers": [*(meta.get("finalizers") or []), TRACKING],
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": name,
                    "uid": job["metadata"]["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": template["spec"],
    }
