"""Persistent volumes and the claims on them; whoever provisions writes their status."""

import datetime
from collections.abc import Sequence

from primo_local.apiserver.errors import Cause, forbidden_field, required
from primo_local.apiserver.objects import Json, dig
from primo_local.apiserver.registry import Strategy
from primo_local.apiserver.tables import AGE, NAME, Column, field_column

_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def _short_modes(*path: str) -> Column:
    def cell(obj: Json, _: datetime.datetime) -> str:
        return ",".join(_MODES.get(mode, mode) for mode in dig(obj, *path) or ())

    return Column("Access Modes", cell)


def _claim(obj: Json, _: datetime.datetime) -> str:
    claim = dig(obj, "spec", "claimRef") or {}
    return f"{claim.get('namespace', '')}/{claim['name']}" if claim.get("name") else ""


class PersistentVolumeClaimStrategy(Strategy):
    model = "V1PersistentVolumeClaim"
    selectable = ("status.phase",)
    columns = (
        NAME,
        field_column("Status", "status", "phase"),
        field_column("Volume", "spec", "volumeName"),
        field_column("Capacity", "status", "capacity", "storage"),
        _short_modes("status", "accessModes"),
        field_column("StorageClass", "spec", "storageClassName"),
        AGE,
    )

    def defaulted(self, obj: Json) -> Json:
        return {**obj, "spec": {"volumeMode": "Filesystem", **obj.get("spec", {})}}

    def prepared_create(self, obj: Json) -> Json:
        return {**obj, "status": {"phase": "Pending"}}

    def validate(self, obj: Json) -> Sequence[Cause]:
        causes = []
        if not dig(obj, "spec", "accessModes"):
            causes.append(required("spec.accessModes", "at least 1 access mode is required"))
        if not dig(obj, "spec", "resources", "requests", "storage"):
            causes.append(required("spec.resources[storage]"))
        return causes

    def validate_update(self, new: Json, old: Json) -> Sequence[Cause]:
        mutable = ("resources", "volumeName", "volumeAttributesClassName")
        fixed = [{k: v for k, v in each["spec"].items() if k not in mutable} for each in (new, old)]
        if fixed[0] == fixed[1] and old["spec"].get("volumeName") in (
            None,
            new["spec"].get("volumeName"),
        ):
            return ()
        detail = "spec is immutable after creation except resources.requests"
        return [forbidden_field("spec", detail)]


class PersistentVolumeStrategy(Strategy):
    model = "V1PersistentVolume"
    columns = (
        NAME,
        field_column("Capacity", "spec", "capacity", "storage"),
        _short_modes("spec", "accessModes"),
        field_column("Reclaim Policy", "spec", "persistentVolumeReclaimPolicy"),
        field_column("Status", "status", "phase"),
        Column("Claim", _claim),
        field_column("StorageClass", "spec", "storageClassName"),
        AGE,
    )

    def defaulted(self, obj: Json) -> Json:
        spec = {
            "persistentVolumeReclaimPolicy": "Retain",
            "volumeMode": "Filesystem",
            **obj.get("spec", {}),
        }
        return {**obj, "spec": spec}

    def prepared_create(self, obj: Json) -> Json:
        return {**obj, "status": {"phase": "Pending"}}
