"""What a Job needs next: `sync(job, pods, now)` says it, as the Job controller of Kubernetes 1.36.

How pods are counted is in `tally`, what the status says in `job_status`.

Left out: Indexed completion, success policies, `backoffLimitPerIndex`, adoption of foreign pods.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from primo_local.apiserver.clock import parse_timestamp
from primo_local.client import Obj
from primo_local.controllers.failure_policy import Verdict, judge
from primo_local.controllers.job_status import (
    End,
    Tell,
    finished_condition,
    status_after,
    true_condition,
)
from primo_local.controllers.tally import (
    TRACKING,
    Backoff,
    Tally,
    is_ready,
    is_tracked,
    phase_of,
    replaces_only_failed,
    rules_of,
    tally,
)

MANAGED_BY_US: Final = "kubernetes.io/job-controller"
CREATE_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    base_s: float = 10.0
    at_most_s: float = 600.0


NO_FAILURES: Final = Backoff()
USUAL_BACKOFF: Final = BackoffSettings()


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


def sync(
    job: Obj,
    pods: Sequence[Obj],
    now: datetime,
    backoff: Backoff = NO_FAILURES,
    settings: BackoffSettings = USUAL_BACKOFF,
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
    if finished := finished_condition(job):
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


def _unfinished(
    job: Obj, pods: Sequence[Obj], now: datetime, backoff: Backoff, settings: BackoffSettings
) -> Plan:
    count = tally(job, pods, now, backoff)
    verdict = _verdict(job, pods, count, now)
    status, told = status_after(job, count, verdict, now)
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


def _after_the_end(job: Obj, pods: Sequence[Obj], finished: Obj, now: datetime) -> Plan:
    freed: tuple[Action, ...] = tuple(DropFinalizer(pod) for pod in pods if is_tracked(pod))
    ttl_s = job["spec"].get("ttlSecondsAfterFinished")
    if ttl_s is None:
        return Plan(freed)
    left_s = ttl_s - (now - parse_timestamp(finished["lastTransitionTime"])).total_seconds()
    if left_s > 0:
        return Plan(freed, left_s)
    return Plan((*freed, DeleteJob()))


def _verdict(job: Obj, pods: Sequence[Obj], count: Tally, now: datetime) -> End | None:
    if failing := true_condition(job, "FailureTarget"):
        return End(False, failing["reason"], failing["message"])
    if succeeding := true_condition(job, "SuccessCriteriaMet"):
        return End(True, succeeding["reason"], succeeding["message"])
    for judged in (judge(rules_of(job), pod) for pod in pods if phase_of(pod) == "Failed"):
        if judged.verdict is Verdict.FAIL_JOB:
            return End(False, "PodFailurePolicy", judged.message)
    if count.failed > job["spec"]["backoffLimit"] or _restarted_too_often(job, count.active):
        message = "Job has reached the specified backoff limit"
        return End(False, "BackoffLimitExceeded", message)
    left_s = _until_deadline(job, job.get("status") or {}, now)
    if left_s is not None and left_s <= 0:
        message = "Job was active longer than specified deadline"
        return End(False, "DeadlineExceeded", message)
    if _has_succeeded(job, count):
        message = "Reached expected number of succeeded pods"
        return End(True, "CompletionsReached", message)
    return None


def _has_succeeded(job: Obj, count: Tally) -> bool:
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


def _manage(
    job: Obj, count: Tally, now: datetime, settings: BackoffSettings
) -> tuple[list[Action], float | None]:
    """Bring the number of running pods to what is wanted; and when to look again."""
    active = len(count.active)
    if job["spec"].get("suspend"):
        return _remove(count.active), None
    wanted = _wanted(job, count)
    if active > wanted:
        return _remove(_dispensable_first(count.active)[: active - wanted]), None
    missing = wanted - active
    if replaces_only_failed(job):
        missing -= len(count.terminating)
    if missing <= 0:
        return [], None
    wait_s = _backoff_left_s(count.backoff, now, settings)
    if wait_s > 0:
        return [], wait_s
    return [CreatePods(min(missing, CREATE_AT_ONCE))], None


def _wanted(job: Obj, count: Tally) -> int:
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
        return bool(pod["spec"].get("nodeName")), phase_of(pod) == "Running", is_ready(pod)

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
