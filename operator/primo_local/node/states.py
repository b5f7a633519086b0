"""The states a container can be in, and the pod status a kubelet would write for them; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from primo_local.apiserver.clock import parse_timestamp, timestamp
from primo_local.client import Obj

ADDRESS: Final = "127.0.0.1"


class Role(StrEnum):
    INIT = "init"
    SIDECAR = "sidecar"  # an init container with restartPolicy Always
    MAIN = "main"


@dataclass(frozen=True, slots=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    started_at: datetime
    container_id: str


@dataclass(frozen=True, slots=True)
class Terminated:
    exit_code: int
    reason: str
    message: str = ""
    started_at: datetime | None = None  # None if nobody saw it
    finished_at: datetime | None = None
    container_id: str = ""


State = Waiting | Running | Terminated

LOST: Final = Terminated(
    exit_code=137,
    reason="ContainerStatusUnknown",
    message="The container could not be located when the pod was terminated",
)


@dataclass(frozen=True, slots=True)
class ContainerView:
    """A container as its status shows it."""

    name: str
    image: str
    role: Role
    state: State
    last: Terminated | None = None
    restarts: int = 0

    @property
    def has_started(self) -> bool:
        return isinstance(self.state, Running)

    @property
    def has_succeeded(self) -> bool:
        return isinstance(self.state, Terminated) and self.state.exit_code == 0


@dataclass(frozen=True, slots=True)
class Override:
    """An end of the pod that its containers do not explain: evicted, refused, past a deadline.

    Attributes:
        disruption: reason of the condition DisruptionTarget; empty for an end of the pod's own
            making.
    """

    reason: str
    message: str
    disruption: str = ""


def phase_of(views: Sequence[ContainerView], restart_policy: str, *, over: bool) -> str:
    """Pending, Running, Succeeded or Failed.

    Only main containers decide, and the init containers they could not start without.

    Args:
        over: nothing runs any more and nothing will be started; before that no phase is final.
    """
    inits = [view for view in views if view.role is Role.INIT]
    mains = [view for view in views if view.role is Role.MAIN]
    if over:
        ended_well = all(view.has_succeeded for view in (*inits, *mains))
        return "Succeeded" if ended_well else "Failed"
    if not all(view.has_succeeded for view in inits):
        return "Pending"
    unstarted = [v for v in mains if isinstance(v.state, Waiting) and v.last is None]
    if unstarted:
        return "Pending"
    waiting = [view for view in mains if isinstance(view.state, Waiting)]
    if waiting and restart_policy == "Never":
        return "Pending"
    return "Running"


def pod_status(
    pod: Obj,
    views: Sequence[ContainerView],
    *,
    now: datetime,
    started_at: datetime,
    sandbox: bool,
    over: bool,
    override: Override | None = None,
) -> Obj:
    """The status to patch, complete but for what others write.

    Args:
        pod: for its spec, and for its conditions, whose times hold while they do not change.
        sandbox: the pod's directory and volumes are there, so containers can start.
    """
    policy = pod["spec"].get("restartPolicy", "Always")
    phase = phase_of(views, policy, over=over)
    if override is not None and over:
        phase = "Failed"
    inits = [view for view in views if view.role is not Role.MAIN]
    generation = pod["metadata"].get("generation")
    status: Obj = {
        "phase": phase,
        "hostIP": ADDRESS,
        "hostIPs": [{"ip": ADDRESS}],
        "startTime": timestamp(started_at),
        "conditions": conditions(pod, views, phase, now=now, sandbox=sandbox, override=override),
        "containerStatuses": [container_status(v) for v in views if v.role is Role.MAIN],
        "reason": override.reason if override else None,
        "message": override.message if override else None,
    }
    if inits:
        status["initContainerStatuses"] = [container_status(view) for view in inits]
    if sandbox:
        status |= {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}
    if generation is not None:
        status["observedGeneration"] = generation
    return status


def container_status(view: ContainerView) -> Obj:
    running = view.has_started
    status: Obj = {
        "name": view.name,
        "image": view.image,
        "imageID": view.image if _id_of(view.state) or view.last else "",
        "ready": view.has_succeeded if view.role is Role.INIT else running,
        "started": running,
        "restartCount": view.restarts,
        "state": _state(view.state),
        "lastState": _state(view.last) if view.last else {},
    }
    container_id = _id_of(view.state) or (view.last.container_id if view.last else "")
    if container_id:
        status["containerID"] = container_id
    return status


def _id_of(state: State) -> str:
    return "" if isinstance(state, Waiting) else state.container_id


def _state(state: State) -> Obj:
    match state:
        case Waiting(reason, message):
            return {"waiting": _filled({"reason": reason, "message": message})}
        case Running(started_at, _):
            return {"running": {"startedAt": timestamp(started_at)}}
        case Terminated():
            facts = {
                "reason": state.reason,
                "message": state.message,
                "startedAt": timestamp(state.started_at) if state.started_at else "",
                "finishedAt": timestamp(state.finished_at) if state.finished_at else "",
                "containerID": state.container_id,
            }
            return {"terminated": {"exitCode": state.exit_code, **_filled(facts)}}


def terminated_of(facts: Obj | None) -> Terminated | None:
    """What a status says of a terminated container; the inverse of what is written here."""
    if facts is None:
        return None
    started, finished = facts.get("startedAt"), facts.get("finishedAt")
    return Terminated(
        exit_code=int(facts["exitCode"]),
        reason=facts.get("reason", ""),
        message=facts.get("message", ""),
        started_at=parse_timestamp(started) if started else None,
        finished_at=parse_timestamp(finished) if finished else None,
        container_id=facts.get("containerID", ""),
    )


def _filled(facts: dict[str, str]) -> Obj:
    return {name: value for name, value in facts.items() if value}


def conditions(
    pod: Obj,
    views: Sequence[ContainerView],
    phase: str,
    *,
    now: datetime,
    sandbox: bool,
    override: Override | None,
) -> list[Obj]:
    """The conditions a kubelet owns; those of others are merged by the server, by type."""
    unready = [v.name for v in views if v.role is not Role.INIT and not v.has_started]
    incomplete = [v.name for v in views if not _is_initialised(v)]
    final = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "")
    not_ready = (
        ("False", final, "")
        if final
        else ("False", "ContainersNotReady", f"containers with unready status: {_listed(unready)}")
    )
    ready = ("True", "", "") if not (final or unready) else not_ready
    if phase == "Succeeded":
        initialised = ("True", "PodCompleted", "")
    elif incomplete:
        message = f"containers with incomplete status: {_listed(incomplete)}"
        initialised = ("False", "ContainersNotInitialized", message)
    else:
        initialised = ("True", "", "")
    wanted = {
        "PodReadyToStartContainers": ("True" if sandbox and not final else "False", "", ""),
        "Initialized": initialised,
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": ("True", "", ""),
    }
    if override is not None and override.disruption:
        wanted["DisruptionTarget"] = ("True", override.disruption, override.message)
    return [_condition(pod, name, *facts, now) for name, facts in wanted.items()]


def _is_initialised(view: ContainerView) -> bool:
    if view.role is Role.MAIN:
        return True
    if view.role is Role.SIDECAR:
        return not isinstance(view.state, Waiting) or view.last is not None
    return view.has_succeeded


def _listed(names: Sequence[str]) -> str:
    return f"[{' '.join(names)}]"


def _condition(pod: Obj, name: str, value: str, reason: str, message: str, now: datetime) -> Obj:
    since = timestamp(now)
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] == name and condition["status"] == value:
            since = condition.get("lastTransitionTime") or since
    return {
        "type": name,
        "status": value,
        "reason": reason or None,  # null removes what a merge by type would keep
        "message": message or None,
        "lastProbeTime": None,
        "lastTransitionTime": since,
        "observedGeneration": pod["metadata"].get("generation"),
    }
