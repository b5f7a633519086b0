"""Counts the pods of a Job, each exactly once although it may vanish at any time.

Each pod carries a finalizer. First its uid goes into `status.uncountedTerminatedPods`, then the
finalizer is dropped, and only when it is seen to be gone the counter moves and the uid leaves, in
one write. A crash between any two of these steps is made good by the next look.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from primo_local.apiserver.clock import parse_timestamp
from primo_local.client import Obj
from primo_local.controllers.failure_policy import judge

TRACKING: Final = "batch.kubernetes.io/job-tracking"


@dataclass(frozen=True, slots=True)
class Backoff:
    """How many pods failed since the last success, and when the last of them ended."""

    failures: int = 0
    last: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tally:
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


def tally(job: Obj, pods: Sequence[Obj], now: datetime, backoff: Backoff) -> Tally:
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
        if outcome == "succeeded" or judge(rules_of(job), pod).counts:
            uncounted[outcome].append(pod["metadata"]["uid"])
    running = [pod for pod in pods if phase_of(pod) in ("Pending", "Running")]
    succeeded = status.get("succeeded", 0) + moving["succeeded"] + len(uncounted["succeeded"])
    failed = status.get("failed", 0) + moving["failed"] + len(uncounted["failed"])
    return Tally(
        active=[pod for pod in running if not pod["metadata"].get("deletionTimestamp")],
        terminating=[pod for pod in running if pod["metadata"].get("deletionTimestamp")],
        ready=sum(is_ready(pod) for pod in running),
        succeeded=succeeded,
        failed=failed,
        counted_now=(moving["succeeded"], moving["failed"]),
        uncounted={name: uids for name, uids in uncounted.items() if uids},
        to_let_go=to_let_go,
        backoff=_with(backoff, job, ended, now),
    )


def _outcome(job: Obj, pod: Obj) -> str:
    """`succeeded`, `failed`, or nothing while it is open."""
    phase = phase_of(pod)
    if phase in ("Succeeded", "Failed"):
        return str(phase.lower())
    if replaces_only_failed(job):
        return ""
    # A pod that is being deleted may never be seen to end, so it counts as failed from now on.
    return "failed" if pod["metadata"].get("deletionTimestamp") else ""


def phase_of(pod: Obj) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def rules_of(job: Obj) -> list[Obj]:
    return list((job["spec"].get("podFailurePolicy") or {}).get("rules") or [])


def replaces_only_failed(job: Obj) -> bool:
    default = "Failed" if rules_of(job) else "TerminatingOrFailed"
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


def is_tracked(pod: Obj) -> bool:
    return TRACKING in (pod["metadata"].get("finalizers") or [])
