"""Pods: bound once, mostly immutable, deleted gracefully by the node that runs them."""

import datetime
from collections.abc import Sequence

from primo_local.apiserver.builtins.podspec import (
    defaulted_spec,
    quality_of_service,
    validate_spec,
    with_requests,
)
from primo_local.apiserver.errors import Cause, forbidden_field
from primo_local.apiserver.objects import Json, condition, dig, is_deleting
from primo_local.apiserver.registry import Strategy
from primo_local.apiserver.tables import AGE, NAME, Column, field_column, since

_FINISHED = ("Succeeded", "Failed")
_MUTABLE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations")
_IMMUTABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` "
    "(only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
    "(allow it to be set to 1 if it was previously negative)"
)


def _pod_status(obj: Json, _: datetime.datetime) -> str:
    """One word for where the pod is, as kubectl prints it."""
    status = obj.get("status") or {}
    word = status.get("reason") or status.get("phase") or "Unknown"
    word = _init_status(obj) or _containers_status(obj, word)
    if is_deleting(obj):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return word


def _init_status(obj: Json) -> str:
    """`Init:0/2` and the like while init containers are not done, "" afterwards."""
    spec = {each["name"]: each for each in dig(obj, "spec", "initContainers") or ()}
    for index, each in enumerate(dig(obj, "status", "initContainerStatuses") or ()):
        state = each.get("state") or {}
        sidecar = spec.get(each["name"], {}).get("restartPolicy") == "Always"
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if (terminated and terminated.get("exitCode") == 0) or (sidecar and each.get("started")):
            continue
        if terminated:
            return f"Init:{_terminated(terminated)}"
        if waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{len(spec)}"
    return ""


def _containers_status(obj: Json, word: str) -> str:
    running = False
    for each in reversed(dig(obj, "status", "containerStatuses") or ()):
        state = each.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            word = waiting["reason"]
        elif terminated:
            word = _terminated(terminated)
        elif each.get("ready") and "running" in state:
            running = True
    if word == "Completed" and running:
        return "Running" if condition(obj, "Ready").get("status") == "True" else "NotReady"
    return word


def _terminated(state: Json) -> str:
    if state.get("reason"):
        return str(state["reason"])
    if state.get("signal"):
        return f"Signal:{state['signal']}"
    return f"ExitCode:{state.get('exitCode', 0)}"


def _restartable(obj: Json) -> list[Json]:
    """Statuses of main containers and sidecars: those that READY and RESTARTS count."""
    sidecars = {
        each["name"]
        for each in dig(obj, "spec", "initContainers") or ()
        if each.get("restartPolicy") == "Always"
    }
    found = [
        each
        for each in dig(obj, "status", "initContainerStatuses") or ()
        if each["name"] in sidecars
    ]
    return found + list(dig(obj, "status", "containerStatuses") or ())


def _ready(obj: Json, _: datetime.datetime) -> str:
    init = dig(obj, "spec", "initContainers") or ()
    total = len(obj["spec"]["containers"]) + sum(c.get("restartPolicy") == "Always" for c in init)
    return f"{sum(bool(each.get('ready')) for each in _restartable(obj))}/{total}"


def _restarts(obj: Json, now: datetime.datetime) -> str:
    statuses = _restartable(obj)
    count = sum(each.get("restartCount", 0) for each in statuses)
    ends = [dig(each, "lastState", "terminated", "finishedAt") for each in statuses]
    latest = max((end for end in ends if end), default=None)
    return f"{count} ({since(latest, now)} ago)" if count and latest else str(count)


class PodStrategy(Strategy):
    model = "V1Pod"
    counts_generation = True
    returns_deleted = True
    selectable = (
        "spec.host",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.nominatedNodeName",
        "status.phase",
        "status.podIP",
    )
    columns = (
        NAME,
        Column("Ready", _ready),
        Column("Status", _pod_status),
        Column("Restarts", _restarts),
        AGE,
        field_column("IP", "status", "podIP", priority=1),
        field_column("Node", "spec", "nodeName", priority=1),
        field_column("Nominated Node", "status", "nominatedNodeName", priority=1),
        field_column("Readiness Gates", "spec", "readinessGates", priority=1),
    )

    def defaulted(self, obj: Json) -> Json:
        spec = {"enableServiceLinks": True, **obj.get("spec", {})}
        return {**obj, "spec": with_requests(defaulted_spec(spec))}

    def prepared_create(self, obj: Json) -> Json:
        status = {"phase": "Pending", "qosClass": quality_of_service(obj["spec"])}
        return {**obj, "status": status}

    def validate(self, obj: Json) -> Sequence[Cause]:
        return validate_spec(obj["spec"], "spec")

    def validate_update(self, new: Json, old: Json) -> Sequence[Cause]:
        if _fixed(new["spec"]) == _fixed(old["spec"]):
            return ()
        return [forbidden_field("spec", _IMMUTABLE)]

    def grace_period_s(self, obj: Json, asked: int | None) -> int:
        # Nobody has to stop a pod that no node has taken or that has ended by itself.
        if not dig(obj, "spec", "nodeName") or dig(obj, "status", "phase") in _FINISHED:
            return 0
        if asked is not None:
            return asked
        return max(int(obj["spec"]["terminationGracePeriodSeconds"]), 1)


def _fixed(spec: Json) -> Json:
    result = {name: value for name, value in spec.items() if name not in _MUTABLE}
    for name in ("containers", "initContainers"):
        if name in spec:
            result[name] = [{**each, "image": ""} for each in spec[name]]
    return result
