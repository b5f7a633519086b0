"""What a pod says of its run: whether it runs, why it does not start, how it ended.

A run's verdict comes from the pod and its summary, never from the Job's condition: an evicted
script that exits 0 on SIGTERM leaves a Job that is Complete. What comes out of a pod is untrusted.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from primo_operator import names
from primo_operator.cluster import Object
from primo_report.wire import BadSummaryError, CutSummaryError, Summary, newest, parse_summary
from primo_study.phases import Reason
from primo_study.problem import Constraint, Objective
from primo_study.spec import StudySpec
from primo_study.study import Outcome, Run, Waiting, epoch

CRASHES = "CrashLoopBackOff"
# Waiting for these ends only by an edit or an administrator.
ENDLESS = frozenset(
    {
        CRASHES,
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
START_ERROR = "StartError"
# What Go says of a call that was given up: the kubelet or the runtime ended while a container
# started. A command that does not exist is a StartError in other words.
INTERRUPTED = ("context canceled", "context deadline exceeded")
KILLED = (137, 143)  # by SIGKILL, by SIGTERM
# Why the kubelet ended a pod for the pod's own doing: its storage, its own activeDeadlineSeconds.
OF_THE_POD: Mapping[str | None, Reason] = {
    "Evicted": Reason.EVICTED,
    "DeadlineExceeded": Reason.DEADLINE_EXCEEDED,
}
NEVER = "1970-01-01T00:00:00Z"
# A pod that has its node gets its volumes and its network within seconds.
CREATED_WITHIN_S = 60.0
CLOCKS_WITHIN_S = 10.0
MAX_NAMES = 10
MAX_REASON = 64
# Nine times 0.1 is less than 0.9, and 0.9 as a float of 32 bits is, too.
ROUNDING = 1e-6
# A script that looks at what it is asked for does not come so far, however seldom it evaluates.
FAR_BEYOND = 1.5
# What a Job says once it has given up on its pod, or is content with it.
VERDICTS = ("FailureTarget", "Failed", "SuccessCriteriaMet", "Complete")

State = Mapping[str, Any]


def main_started(pod: Object) -> bool:
    """A container of the user's runs."""
    return any("running" in state for state in _states(pod, "containerStatuses"))


def times(pod: Object) -> tuple[str | None, str | None]:
    """When the first of the user's containers started, and when the last of all ended."""
    states = list(_states(pod, "containerStatuses"))
    starts = [
        started
        for state in states
        for moment in (state.get("running"), state.get("terminated"))
        if (started := (moment or {}).get("startedAt")) and started != NEVER
    ]
    ends = [(state.get("terminated") or {}).get("finishedAt") for state in states]
    known = [end for end in ends if end]
    return min(starts, default=None), max(known) if known and len(known) == len(ends) else None


def lingers(pod: Object) -> bool:
    """It exists and a container of the user's may still write."""
    if _status(pod).get("phase") in ("Succeeded", "Failed"):
        return False
    states = list(_states(pod, "containerStatuses"))
    return not states or not all("terminated" in state for state in states)


def starting_since(pod: Object) -> str:
    """When it was made, was given a node, or the latest of its init containers ended."""
    scheduled = _condition(pod, "PodScheduled") or {}
    ends = (state.get("terminated") or {} for state in _states(pod, "initContainerStatuses"))
    later = (scheduled.get("lastTransitionTime"), *(end.get("finishedAt") for end in ends))
    known: list[str] = [pod["metadata"]["creationTimestamp"], *filter(None, later)]
    return max(known)


def waiting(pod: Object) -> Waiting | None:
    """Why no container of the user's has started; None if one has, or nothing is known yet."""
    mains = list(_states(pod, "containerStatuses"))
    if any("waiting" not in state for state in mains):
        return None
    for container in _containers(pod):
        why = (container.get("state") or {}).get("waiting") or {}
        reason, last = why.get("reason") or "", (container.get("lastState") or {}).get("terminated")
        if reason in ENDLESS:
            # Of one that ends again and again the kubelet says for how long it waits, not why.
            words = _failure(last) if last and reason == CRASHES else _text(why.get("message"))
            return Waiting(reason, words, endless=True)
    for condition in _status(pod).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            # Of any scheduler's: it may say what it likes.
            reason = _text(condition.get("reason"))[:MAX_REASON] or "Unschedulable"
            return Waiting(reason, _text(condition.get("message")), endless=False)
    return _creating(pod) if mains else None


def outcome(
    pod: Object | None,
    gone: bool,
    job: Object | None,
    job_gone: bool,
    run: Run,
    spec: StudySpec,
) -> Outcome | None:
    """How a run ended; None while it goes on, or as long as that cannot be told.

    Args:
        pod: the newest of the run's Job.
        gone: the pod no longer exists; this was its last state.
        job: as seen; None if it is not in our view.
        job_gone: the API server says there is no such Job.
    """
    verdict = _verdict(job)
    if pod is None:
        return _without_pod(job)
    if not (gone or _over(pod)):
        return None
    if _disrupted(pod, gone, job, job_gone):
        # The Job knows whether it was told to stop its pod (a queue took it back: it will have
        # another) or lost it. Its word may come later than the pod's end.
        if verdict or job_gone or (job and job["metadata"].get("deletionTimestamp")):
            return _lost(pod, verdict)
        return None
    return _ended(pod, run, spec)


def _creating(pod: Object) -> Waiting | None:
    """It has its node, which creates no container, not even ours; its status does not say why."""
    states = [container.get("state") or {} for container in _containers(pod)]
    if not _condition(pod, "PodScheduled") or not all("waiting" in state for state in states):
        return None
    words = (state["waiting"].get("reason") for state in states)
    reason = next(filter(None, words), "ContainerCreating")
    since, name = starting_since(pod), pod["metadata"]["name"]
    message = (
        f"its containers are not created, since {since}: see the Events of pod {name}"
        " (a volume, a ConfigMap or Secret, the network, an image)"
    )
    due_at = epoch(since) + CREATED_WITHIN_S
    return Waiting(_text(reason)[:MAX_REASON], message, endless=False, due_at=due_at)


def _without_pod(job: Object | None) -> Outcome | None:
    """Once the Job has ended. What it says before (FailureTarget), it says of a pod that exists."""
    verdict = job and final_verdict(job)
    if not verdict:
        return None
    if verdict.get("reason") == "DeadlineExceeded":
        return Outcome(Reason.DEADLINE_EXCEEDED, _text(verdict.get("message")))
    return Outcome(Reason.LOST, "the pod was gone before its result could be read")


def _lost(pod: Object, verdict: State | None) -> Outcome:
    if verdict and verdict.get("reason") == "DeadlineExceeded":
        return _late(pod, _text(verdict.get("message")))
    target = _condition(pod, "DisruptionTarget")
    if target:
        return Outcome(Reason.LOST, f"{target.get('reason')}: {_text(target.get('message'))}")
    return Outcome(Reason.LOST, "the pod was deleted before its end")


def _late(pod: Object, words: str) -> Outcome:
    """By the Job's deadline. That counts the wait for a node, too, which is not the run's doing."""
    states = [container.get("state") or {} for container in _containers(pod)]
    if any("running" in state or "terminated" in state for state in states):
        return Outcome(Reason.DEADLINE_EXCEEDED, words)
    why = waiting(pod)
    reason = Reason.START_FAILED if why and why.endless else Reason.LOST
    waited = f": {why.reason}: {why.message}" if why else ""
    return Outcome(reason, f"{words}; no container had started{waited}")


def _ended(pod: Object, run: Run, spec: StudySpec) -> Outcome:
    """The verdict on a pod that came to its own end."""
    status = _status(pod)
    if own := OF_THE_POD.get(status.get("reason")):
        return Outcome(own, _text(status.get("message")))
    ends = [s["terminated"] for s in _states(pod, "containerStatuses") if "terminated" in s]
    if not ends and (before := _ended_before(pod)):
        return before
    if not ends or any(end.get("reason") == "ContainerStatusUnknown" for end in ends):
        why = _text(status.get("message")) or status.get("reason")
        return Outcome(Reason.LOST, why or "how its containers ended is unknown")
    for end in ends:
        if why := _broken_off(end):
            return Outcome(Reason.LOST, why)
    for end in ends:
        if end.get("reason") == START_ERROR:
            return Outcome(Reason.START_FAILED, _failure(end))
    for end in ends:
        if end.get("reason") == "OOMKilled":
            return Outcome(Reason.OUT_OF_MEMORY, "a container exceeded its memory limit")
    for end in ends:
        if end.get("exitCode") != 0:
            return Outcome(Reason.FAILED, _failure(end))
    return _measured(pod, run, spec)


def _broken_off(end: State) -> str | None:
    """Why a container was not started, where that is not its own doing."""
    words, reason = _text(end.get("message")), end.get("reason")
    if reason == START_ERROR and any(text in words for text in INTERRUPTED):
        return f"a container could not be started: {words}"
    # What starts it was killed. What has left words has run, though the runtime may not say when.
    if reason == "Error" and end.get("startedAt") == NEVER and not words:
        return f"a container ended before it was started: {_failure(end)}"
    return None


def _ended_before(pod: Object) -> Outcome | None:
    """By an init container that did not end well, so that no container of the run has started."""
    for container in reversed(_status(pod).get("initContainerStatuses") or ()):
        # They run one after the other: after the latest that has ended none has begun.
        end = (container.get("state") or {}).get("terminated")
        if not end or container.get("name") == names.SIDECAR:
            continue
        if why := _broken_off(end):
            return Outcome(Reason.LOST, why)
        if end.get("exitCode") == 0:
            return None
        reason = Reason.START_FAILED if end.get("reason") == START_ERROR else Reason.FAILED
        return Outcome(reason, f"init container {container.get('name')}: {_failure(end)}")
    return None


def _failure(end: State) -> str:
    reason = end.get("reason") or "Error"
    code = f"exit code {end.get('exitCode')}"
    words = _text(end.get("message"))
    # Our own record is not the script's words, and the kubelet keeps either.
    lines = "its log has its last words" if _is_whole(words) is not None else words.strip()
    return f"{code} ({reason})" + (f": {lines[-900:]}" if lines else "")


def _measured(pod: Object, run: Run, spec: StudySpec) -> Outcome:
    """Exit code 0 throughout: what counts is what was reported."""
    summary = newest(_messages(pod))
    cut = any(_is_whole(message) is False for message in _messages(pod))
    if spec.reported and summary is None and cut:
        count = sum(1 for _ in _containers(pod))
        message = (
            f"what was reported is cut: {count} containers share the 12 KiB of a pod's messages"
        )
        return Outcome(Reason.METRICS_UNAVAILABLE, message)
    if spec.reported and (missing := _missing(summary, run, spec)):
        return Outcome(Reason.METRICS_UNAVAILABLE, missing + _doubts(summary))
    summary = summary or Summary(seq=0, metrics={})  # nothing had to be reported
    values = {o.name: _value(summary, o) for o in spec.objectives if o.metric}
    constrained = {c.metric: _value(summary, c) for c in spec.constraints or ()}
    bad = [(n, v) for n, v in (*values.items(), *constrained.items()) if not math.isfinite(v)]
    if bad:
        return Outcome(Reason.DIVERGED, ", ".join(f"{name} is {v}" for name, v in bad))
    told = None not in (summary.fidelity, run.fidelity) and not summary.partial
    if told and not _reached(summary, run):
        message = f"it ended with exit code 0 at fidelity {summary.fidelity:g} of {run.fidelity:g}"
        return Outcome(Reason.FAILED, message + _doubts(summary))
    feasible = spec.problem().violation(constrained) == 0.0 if constrained else None
    return Outcome(
        Reason.COMPLETED,
        _beyond(summary, run) if told else "",
        values=values,
        constrained=constrained,
        feasible=feasible,
        step=summary.step,
    )


def _is_whole(message: str) -> bool | None:
    """Whether a summary is; None if it is none."""
    try:
        parse_summary(message)
    except CutSummaryError:
        return False
    except BadSummaryError:
        return None
    return True


def _missing(summary: Summary | None, run: Run, spec: StudySpec) -> str:
    """What should have been reported and was not; empty if all was."""
    if summary is None or not summary.metrics:
        return "nothing was reported"
    if summary.partial and not _reached(summary, run):
        # A sidecar that was killed last knew earlier values, which are not the run's.
        return "the sidecar ended before it had read all reports"
    for wanted in spec.reported:
        if wanted.metric not in summary.metrics:
            seen = ", ".join(sorted(summary.metrics)[:MAX_NAMES])
            return f"metric {wanted.metric!r} was not reported (reported: {seen})"
    return ""


def _beyond(summary: Summary, run: Run) -> str:
    """A doubt whether the script looks at what it is asked for; empty without one."""
    assert summary.fidelity is not None
    assert run.fidelity is not None
    if summary.fidelity < run.fidelity * FAR_BEYOND:
        return ""
    return (
        f"it reported fidelity {summary.fidelity:g} and was asked for {run.fidelity:g}:"
        " does the script train to PRIMO_FIDELITY?"
    )


def _reached(summary: Summary, run: Run) -> bool:
    if run.fidelity is None or summary.fidelity is None:
        return False
    return summary.fidelity >= run.fidelity * (1 - ROUNDING)


def _value(summary: Summary, measured: Objective | Constraint) -> float:
    """Of one run."""
    assert measured.metric
    reduced = summary.metrics[measured.metric]
    return {
        "Last": reduced.last,
        "Min": reduced.min,
        "Max": reduced.max,
        "Mean": reduced.mean,
    }[measured.reduce or "Last"]


def _doubts(summary: Summary | None) -> str:
    """What else may explain that something is missing."""
    if summary is None:
        return ""
    parts = []
    if summary.rejection:
        line = f"line {summary.rejection.line} was refused: " if summary.rejection.line else ""
        parts.append(f"{line}{summary.rejection.reason}")
    if summary.rejected > 1:
        parts.append(f"{summary.rejected} reports were refused")
    if summary.truncated:
        parts.append(f"{summary.truncated} metrics had no room in the pod's message")
    if summary.note:
        parts.append(summary.note)
    return "".join(f"; {part}" for part in parts)


# --- reading a pod


def _status(pod: Object) -> State:
    return pod.get("status") or {}


def _states(pod: Object, which: str) -> Iterator[State]:
    for container in _status(pod).get(which) or ():
        yield container.get("state") or {}


def _containers(pod: Object) -> Iterator[State]:
    """What is said of each, of the init containers first."""
    for which in ("initContainerStatuses", "containerStatuses"):
        yield from _status(pod).get(which) or ()


def _messages(pod: Object) -> Iterator[str]:
    for container in _containers(pod):
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            if message := (state.get("terminated") or {}).get("message"):
                yield message


def _over(pod: Object) -> bool:
    """All containers have ended, ours too: its message is complete."""
    if _status(pod).get("phase") in ("Succeeded", "Failed"):
        return True
    mains = list(_states(pod, "containerStatuses"))
    if not mains or not all("terminated" in state for state in mains):
        return False
    ours = [
        container.get("state") or {}
        for container in _status(pod).get("initContainerStatuses") or ()
        if container.get("name") == names.SIDECAR
    ]
    return all("terminated" in state for state in ours)


def _disrupted(pod: Object, gone: bool, job: Object | None, job_gone: bool) -> bool:
    """It was stopped from outside before its containers had ended by themselves."""
    if target := _condition(pod, "DisruptionTarget"):
        return not _over_before(pod, target.get("lastTransitionTime"))
    deletion = pod["metadata"].get("deletionTimestamp")
    ends = [s["terminated"] for s in _states(pod, "containerStatuses") if "terminated" in s]
    mains = list(_states(pod, "containerStatuses"))
    if not mains or len(ends) < len(mains):
        return gone or bool(deletion)
    if not deletion:
        return False
    grace = pod["metadata"].get("deletionGracePeriodSeconds") or 0
    if grace == 0:
        return _taken(ends, job, job_gone)
    # The timestamp is when the grace period ends; in the second of the request nobody can tell.
    asked = datetime.fromisoformat(deletion).timestamp() - grace
    ended = [end.get("finishedAt") for end in ends]
    if not all(ended):  # when is unknown to the kubelet, too
        return True
    return max(datetime.fromisoformat(at).timestamp() for at in ended) >= asked


def _over_before(pod: Object, moment: str | None) -> bool:
    """Its containers had ended: a drain, or a node's taint, makes targets of such pods, too.

    A node's clock may be behind the server's, and then an end that came of it looks earlier.
    """
    ended = times(pod)[1]
    if moment is None or ended is None:
        return False
    return epoch(ended) + CLOCKS_WITHIN_S < epoch(moment)


def _taken(ends: list[State], job: Object | None, job_gone: bool) -> bool:
    """Whether a pod that is deleted for good had been asked to end before its containers did.

    A pod that has ended is deleted without grace, by the kubelet too when it has carried out a
    deletion; and that forgets when the deletion was asked for. But the Job knows. True as long as
    it has not spoken.
    """
    if job is None:
        return not job_gone
    if job["spec"].get("suspend"):
        return True
    if (verdict := _verdict(job)) is None:
        return not job["metadata"].get("deletionTimestamp")
    if verdict["type"] in ("SuccessCriteriaMet", "Complete"):
        return False
    killed = (e for e in ends if e.get("exitCode") in KILLED and e.get("reason") != "OOMKilled")
    return all(end.get("exitCode") == 0 for end in ends) or any(killed)


def _condition(obj: Object, kind: str) -> State | None:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)


def final_verdict(job: Object) -> State | None:
    """Of a Job that has ended, and each of its pods before it."""
    return _condition(job, "Failed") or _condition(job, "Complete")


def _verdict(job: Object | None) -> State | None:
    if job is None:
        return None
    return next((found for kind in VERDICTS if (found := _condition(job, kind))), None)


def _text(text: object) -> str:
    """Words from outside, without control characters."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in str(text or ""))
