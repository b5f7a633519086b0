"""Nodes: cluster-scoped, with a status that whoever runs the pods writes."""

import datetime

from primo_local.apiserver.objects import Json, condition, dig
from primo_local.apiserver.registry import Strategy
from primo_local.apiserver.tables import AGE, NAME, Column, field_column

_ROLE = "node-role.kubernetes.io/"


def _status(obj: Json, _: datetime.datetime) -> str:
    word = {"True": "Ready", "False": "NotReady"}.get(condition(obj, "Ready").get("status", ""))
    cordoned = ",SchedulingDisabled" if dig(obj, "spec", "unschedulable") else ""
    return (word or "Unknown") + cordoned


def _roles(obj: Json, _: datetime.datetime) -> str:
    labels = obj["metadata"].get("labels") or {}
    roles = sorted(key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE))
    return ",".join(roles) or "<none>"


def _address(kind: str) -> Column:
    def cell(obj: Json, _: datetime.datetime) -> str:
        found = dig(obj, "status", "addresses") or ()
        return next((each["address"] for each in found if each["type"] == kind), "<none>")

    return Column("Internal-IP" if kind == "InternalIP" else "External-IP", cell, priority=1)


class NodeStrategy(Strategy):
    model = "V1Node"
    status_on_create = True
    selectable = ("spec.unschedulable",)
    columns = (
        NAME,
        Column("Status", _status),
        Column("Roles", _roles),
        AGE,
        field_column("Version", "status", "nodeInfo", "kubeletVersion"),
        _address("InternalIP"),
        _address("ExternalIP"),
        field_column("OS-Image", "status", "nodeInfo", "osImage", priority=1),
        field_column("Kernel-Version", "status", "nodeInfo", "kernelVersion", priority=1),
        field_column(
            "Container-Runtime", "status", "nodeInfo", "containerRuntimeVersion", priority=1
        ),
    )
