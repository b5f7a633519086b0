"""Built-in kinds that are little more than their schema."""

from collections.abc import Sequence

from primo_local.apiserver import metadata
from primo_local.apiserver.errors import Cause, forbidden_field, invalid_value
from primo_local.apiserver.objects import Json, dig
from primo_local.apiserver.registry import Strategy
from primo_local.apiserver.tables import AGE, NAME, Column, field_column

_MAXIMUM_BYTES = 1 << 20


class ConfigMapStrategy(Strategy):
    model = "V1ConfigMap"
    columns = (NAME, Column("Data", lambda obj, _: _entries(obj, "data", "binaryData")), AGE)

    def validate(self, obj: Json) -> Sequence[Cause]:
        return _data_size(obj)

    def validate_update(self, new: Json, old: Json) -> Sequence[Cause]:
        return _immutable_data(new, old, ("data", "binaryData"))


class SecretStrategy(Strategy):
    model = "V1Secret"
    selectable = ("type",)
    columns = (
        NAME,
        field_column("Type", "type"),
        Column("Data", lambda obj, _: _entries(obj, "data"), "integer"),
        AGE,
    )

    def defaulted(self, obj: Json) -> Json:
        """stringData is write-only: its texts end up in data, encoded."""
        result = {"type": "Opaque", **obj}
        texts = result.pop("stringData", None)
        if texts:
            import base64

            encoded = {k: base64.b64encode(v.encode()).decode() for k, v in texts.items()}
            result["data"] = {**result.get("data", {}), **encoded}
        return result

    def validate(self, obj: Json) -> Sequence[Cause]:
        return _data_size(obj)

    def validate_update(self, new: Json, old: Json) -> Sequence[Cause]:
        causes = list(_immutable_data(new, old, ("data",)))
        if new.get("type") != old.get("type"):
            causes.append(invalid_value("type", new.get("type"), "field is immutable"))
        return causes


class ServiceAccountStrategy(Strategy):
    model = "V1ServiceAccount"
    columns = (
        NAME,
        Column("Secrets", lambda obj, _: len(obj.get("secrets") or ()), "integer"),
        AGE,
    )


class ServiceStrategy(Strategy):
    model = "V1Service"
    selectable = ("spec.clusterIP", "spec.type")
    columns = (
        NAME,
        field_column("Type", "spec", "type"),
        field_column("Cluster-IP", "spec", "clusterIP"),
        Column("External-IP", lambda *_: "<none>"),
        Column("Port(s)", lambda obj, _: _service_ports(obj)),
        AGE,
        Column("Selector", lambda obj, _: _pairs(dig(obj, "spec", "selector")), priority=1),
    )

    def name_problem(self, name: str) -> str | None:
        return metadata.service_name(name)

    def defaulted(self, obj: Json) -> Json:
        spec = {"type": "ClusterIP", "sessionAffinity": "None", **obj.get("spec", {})}
        # Nothing here routes traffic: every service is headless.
        spec.setdefault("clusterIP", "None")
        ports = [
            {"protocol": "TCP", **port, "targetPort": port.get("targetPort", port.get("port"))}
            for port in spec.get("ports", ())
        ]
        return {**obj, "spec": {**spec, "ports": ports} if ports else spec}

    def prepared_create(self, obj: Json) -> Json:
        return {**obj, "status": {"loadBalancer": {}}}


class LeaseStrategy(Strategy):
    model = "V1Lease"
    unconditional_update = False
    columns = (NAME, field_column("Holder", "spec", "holderIdentity"), AGE)

    def validate(self, obj: Json) -> Sequence[Cause]:
        causes = []
        for field in ("leaseDurationSeconds", "leaseTransitions"):
            value = dig(obj, "spec", field)
            minimum = 1 if field == "leaseDurationSeconds" else 0
            if value is not None and value < minimum:
                detail = f"must be greater than or equal to {minimum}"
                causes.append(invalid_value(f"spec.{field}", value, detail))
        return causes


def _entries(obj: Json, *fields: str) -> int:
    return sum(len(obj.get(field) or ()) for field in fields)


def _data_size(obj: Json) -> Sequence[Cause]:
    size = sum(
        len(text) for field in ("data", "binaryData") for text in (obj.get(field) or {}).values()
    )
    if size <= _MAXIMUM_BYTES:
        return ()
    return [
        Cause("data", "FieldValueTooLong", f"Too long: must have at most {_MAXIMUM_BYTES} bytes")
    ]


def _immutable_data(new: Json, old: Json, fields: Sequence[str]) -> Sequence[Cause]:
    if not old.get("immutable"):
        return ()
    detail = "field is immutable when `immutable` is set"
    return [
        forbidden_field(field, detail)
        for field in ("immutable", *fields)
        if new.get(field) != old.get(field)
    ]


def _service_ports(obj: Json) -> str:
    ports = dig(obj, "spec", "ports") or ()
    return ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in ports) or "<none>"


def _pairs(labels: Json | None) -> str:
    return ",".join(f"{key}={value}" for key, value in (labels or {}).items()) or "<none>"
