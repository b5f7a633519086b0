"""Schemas of the built-in kinds, made at run time from the models of the `kubernetes` client.

The client's pydantic models carry every field, type and description of the release it was
generated from. Here they become the plain OpenAPI that the schema walk and `kubectl explain`
read, with what pydantic does not know added: quantities, merge keys, any-valued fields.
"""

import functools

from primo_local.apiserver.objects import Json
from primo_local.apiserver.patch import MERGE_KEY, STRATEGY

QUANTITY = "x-quantity"

_QUANTITY_MAPS = frozenset(
    {
        "limits",
        "requests",
        "capacity",
        "allocatable",
        "hard",
        "used",
        "overhead",
        "allocatedResources",
    }
)
_QUANTITIES = frozenset({"sizeLimit", "divisor"})

# (model or *, field): the key of a merged list; None merges a list of plain values.
_MERGE_KEYS: dict[tuple[str, str], str | None] = {
    ("V1Container", "env"): "name",
    ("V1Container", "ports"): "containerPort",
    ("V1Container", "volumeDevices"): "devicePath",
    ("V1Container", "volumeMounts"): "mountPath",
    ("V1JobStatus", "conditions"): "type",
    ("V1NamespaceStatus", "conditions"): "type",
    ("V1NodeSpec", "podCIDRs"): None,
    ("V1NodeStatus", "addresses"): "type",
    ("V1NodeStatus", "conditions"): "type",
    ("V1ObjectMeta", "finalizers"): None,
    ("V1ObjectMeta", "ownerReferences"): "uid",
    ("V1PersistentVolumeClaimStatus", "conditions"): "type",
    ("V1PodSpec", "containers"): "name",
    ("V1PodSpec", "ephemeralContainers"): "name",
    ("V1PodSpec", "hostAliases"): "ip",
    ("V1PodSpec", "imagePullSecrets"): "name",
    ("V1PodSpec", "initContainers"): "name",
    ("V1PodSpec", "resourceClaims"): "name",
    ("V1PodSpec", "topologySpreadConstraints"): "topologyKey",
    ("V1PodSpec", "volumes"): "name",
    ("V1PodStatus", "conditions"): "type",
    ("V1PodStatus", "podIPs"): "ip",
    ("V1ServiceAccount", "secrets"): "name",
    ("V1ServiceSpec", "ports"): "port",
    ("V1ServiceStatus", "conditions"): "type",
}

# Fields that hold a schema or a value of any type; the models describe them too narrowly.
_ANY_FIELDS = frozenset(
    ("V1JSONSchemaProps", field)
    for field in (
        "additionalItems",
        "additionalProperties",
        "default",
        "dependencies",
        "example",
        "items",
    )
)


class Models:
    """Schemas by model name; all models met on the way stand in `definitions`."""

    def __init__(self) -> None:
        self.definitions: dict[str, Json] = {}

    def schema(self, model: str) -> Json:
        """The schema of a model such as `V1Pod`; its references point into `definitions`."""
        if model not in self.definitions:
            self._load(model)
        return self.definitions[model]

    def _load(self, model: str) -> None:
        # Half a second of import: paid by the first request that needs a built-in kind.
        import kubernetes.client

        raw = getattr(kubernetes.client, model).model_json_schema(
            by_alias=True, ref_template="{model}"
        )
        found = raw.pop("$defs", {})
        for name, schema in {**found, model: raw}.items():
            if name not in self.definitions:
                self.definitions[name] = _plain_model(name, schema)


@functools.cache
def shared_models() -> Models:
    """One set for the process: they never change."""
    return Models()


def _plain_model(model: str, raw: Json) -> Json:
    if "properties" not in raw:
        return _plain(raw)
    properties = {}
    for name, schema in raw["properties"].items():
        if (model, name) in _ANY_FIELDS:
            properties[name] = _described({"x-kubernetes-preserve-unknown-fields": True}, schema)
        else:
            properties[name] = _annotated(model, name, _described(_plain(schema), schema))
    result: Json = {"type": "object", "properties": properties}
    if raw.get("required"):
        result["required"] = raw["required"]
    description = raw.get("description", "").split("\n\nAttributes:")[0]
    return {**result, "description": description} if description else result


def _described(schema: Json, raw: Json) -> Json:
    return {**schema, "description": raw["description"]} if "description" in raw else schema


def _annotated(model: str, name: str, schema: Json) -> Json:
    if name in _QUANTITIES or name in _QUANTITY_MAPS:
        return _with_quantities(schema)
    if (model, name) not in _MERGE_KEYS:
        return schema
    key = _MERGE_KEYS[model, name]
    schema = {**schema, STRATEGY: "merge"}
    return {**schema, MERGE_KEY: key} if key else schema


def _with_quantities(schema: Json) -> Json:
    if schema.get("type") == "string":
        return {**schema, QUANTITY: True}
    values = schema.get("additionalProperties")
    if isinstance(values, dict) and values.get("type") == "string":
        return {**schema, "additionalProperties": {**values, QUANTITY: True}}
    return schema


def _plain(raw: Json) -> Json:
    """Structural OpenAPI of what pydantic writes: no null branches, no titles, no defaults."""
    if "$ref" in raw:
        return {"$ref": raw["$ref"]}
    if "anyOf" in raw:
        return _union([each for each in raw["anyOf"] if each.get("type") != "null"])
    schema: Json = {}
    for name in ("type", "format"):
        if isinstance(raw.get(name), str):
            schema[name] = raw[name]
    if "items" in raw:
        schema["items"] = _plain(raw["items"])
    values = raw.get("additionalProperties")
    if isinstance(values, dict):
        schema["additionalProperties"] = _plain(values)
    elif values is True or (schema.get("type") == "object" and values is None):
        schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema or {"x-kubernetes-preserve-unknown-fields": True}


def _union(branches: list[Json]) -> Json:
    if len(branches) == 1:
        return _plain(branches[0])
    types = {each.get("type") for each in branches}
    if types == {"integer", "string"}:
        return {"x-kubernetes-int-or-string": True}
    if types == {"integer", "number"}:
        return {"type": "number"}
    if types == {"string"}:
        return {"type": "string"}
    return {"x-kubernetes-preserve-unknown-fields": True}
