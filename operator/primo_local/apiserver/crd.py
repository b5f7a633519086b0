"""Custom resources: what a CustomResourceDefinition must be, and the resources it serves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from primo_local.apiserver.cel_rules import RuleTree, rule_problem
from primo_local.apiserver.errors import (
    Cause,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from primo_local.apiserver.models import shared_models
from primo_local.apiserver.objects import Json, Key, dig
from primo_local.apiserver.registry import SCALE, STATUS, Registry, Resource, Strategy
from primo_local.apiserver.schema import walk
from primo_local.apiserver.store import Change, Event
from primo_local.apiserver.tables import AGE_ONLY, NAME, Column, path_column

SHELF = "customresourcedefinitions.apiextensions.k8s.io"
CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"

_TYPES = ("object", "array", "string", "integer", "number", "boolean")
_ANY: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where a custom resource keeps what its scale subresource shows; "" for not at all."""

    replicas: str
    status_replicas: str
    selector: str = ""


class CustomStrategy(Strategy):
    """One version of a custom resource, as its definition has it."""

    counts_generation = True
    unconditional_update = False
    strategic = False
    decodes_strictly = False

    def __init__(self, definition: Json, version: Json) -> None:
        self._declared: Json = dig(version, "schema", "openAPIV3Schema") or _ANY
        group = definition["spec"]["group"]
        stored = next(v["name"] for v in definition["spec"]["versions"] if v["storage"])
        self._stored_version = f"{group}/{stored}"
        self._version = f"{group}/{version['name']}"
        self._rules = RuleTree.of(self._declared)
        self.columns = _columns(version.get("additionalPrinterColumns") or ())
        fields = version.get("selectableFields") or ()
        self.selectable = tuple(field["jsonPath"].lstrip(".") for field in fields)
        self.scale = _scale_paths(version)

    @cached_property
    def _schema(self) -> Json:
        shared_models().schema("V1ObjectMeta")
        common: Json = {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": "V1ObjectMeta"},
        }
        properties = {**self._declared.get("properties", {}), **common}
        # Root rules of anyOf and the like see the object too; only the metadata is swapped.
        return {**self._declared, "properties": properties}

    def schema(self) -> Json:
        return self._schema

    def definitions(self) -> Mapping[str, Json]:
        return shared_models().definitions

    def validate(self, obj: Json) -> Sequence[Cause]:
        declared = dig(self._declared, "properties", "metadata")
        if not declared or "properties" not in declared:
            return ()
        return walk({**declared, **_ANY}, obj["metadata"], path="metadata").causes

    def validate_rules(self, obj: Json, old: Json | None) -> Sequence[Cause]:
        return self._rules.causes(_rule_view(obj), None if old is None else _rule_view(old))

    def to_storage(self, obj: Json) -> Json:
        return self._converted(obj, self._stored_version)

    def from_storage(self, obj: Json) -> Json:
        return self._converted(obj, self._version)

    def _converted(self, obj: Json, version: str) -> Json:
        """Conversion strategy None: versions differ by name alone."""
        return obj if obj["apiVersion"] == version else {**obj, "apiVersion": version}


def _rule_view(obj: Json) -> Json:
    """Rules see of the metadata only the name and what it was generated from."""
    fields = {k: v for k, v in obj["metadata"].items() if k in ("name", "generateName")}
    return {**obj, "metadata": fields}


def _columns(declared: Sequence[Json]) -> tuple[Column, ...]:
    if not declared:
        return AGE_ONLY
    return (
        NAME,
        *(
            path_column(
                each["name"],
                each["jsonPath"],
                each["type"],
                each.get("priority", 0),
                each.get("description", ""),
            )
            for each in declared
        ),
    )


def _scale_paths(version: Json) -> ScalePaths | None:
    scale = dig(version, "subresources", "scale")
    if scale is None:
        return None
    return ScalePaths(
        scale["specReplicasPath"],
        scale["statusReplicasPath"],
        scale.get("labelSelectorPath", ""),
    )


def resources_of(definition: Json) -> list[Resource]:
    """The resources that a definition serves, its newest-listed version first."""
    spec = definition["spec"]
    names = spec["names"]
    return [
        Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            strategy=CustomStrategy(definition, version),
            namespaced=spec["scope"] == "Namespaced",
            singular=names.get("singular", ""),
            list_kind=names.get("listKind", ""),
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            subresources=tuple(
                each
                for each in (SCALE, STATUS)
                if dig(version, "subresources", each.name) is not None
            ),
            custom=True,
        )
        for version in spec["versions"]
        if version.get("served")
    ]


def serve_definitions(registry: Registry) -> Any:
    """A listener of the store that keeps the registry in step with the definitions."""

    def changed(shelf: str, _: Key, event: Event) -> None:
        if shelf != SHELF:
            return
        definition, before = event.record.obj, event.before
        gone = event.change is Change.DELETED
        if before is not None and before.obj["spec"] == definition["spec"] and not gone:
            return
        registry.remove(definition["spec"]["group"], definition["spec"]["names"]["plural"])
        if not gone:
            registry.add(resources_of(definition))

    return changed


class CustomResourceDefinitionStrategy(Strategy):
    """The definitions themselves; one that is valid is established in the same step."""

    model = "V1CustomResourceDefinition"
    counts_generation = True
    unconditional_update = False
    columns = (
        NAME,
        path_column("Created At", ".metadata.creationTimestamp", "string"),
    )

    def defaulted(self, obj: Json) -> Json:
        spec = {"conversion": {"strategy": "None"}, **obj.get("spec", {})}
        names = dict(spec.get("names", {}))
        if kind := names.get("kind"):
            names.setdefault("listKind", f"{kind}List")
            names.setdefault("singular", kind.lower())
        return {**obj, "spec": {**spec, "names": names}}

    def prepared_create(self, obj: Json) -> Json:
        fields = obj["metadata"]
        finalizers = [*fields.get("finalizers", ()), CLEANUP_FINALIZER]
        obj = {**obj, "metadata": {**fields, "finalizers": finalizers}}
        return {**obj, "status": _established(obj, [])}

    def prepared_update(self, new: Json, old: Json) -> Json:
        stored = dig(old, "status", "storedVersions") or []
        if new["spec"] == old["spec"]:
            return new
        return {**new, "status": _established(new, stored)}

    def deleting(self, obj: Json) -> Json:
        terminating = {
            "type": "Terminating",
            "status": "True",
            "reason": "InstanceDeletionInProgress",
            "message": "CustomResource deletion is in progress",
            "lastTransitionTime": obj["metadata"].get("deletionTimestamp"),
        }
        status = obj.get("status", {})
        others = [c for c in status.get("conditions", ()) if c["type"] != "Terminating"]
        return {**obj, "status": {**status, "conditions": [*others, terminating]}}

    def validate(self, obj: Json) -> Sequence[Cause]:
        return list(_definition_causes(obj))

    def validate_update(self, new: Json, old: Json) -> Sequence[Cause]:
        return [
            invalid_value(f"spec.{'.'.join(path)}", dig(new["spec"], *path), "field is immutable")
            for path in (("group",), ("scope",), ("names", "plural"), ("names", "kind"))
            if dig(new["spec"], *path) != dig(old["spec"], *path)
        ]


def _established(obj: Json, stored: Sequence[str]) -> Json:
    """The status of a definition whose names nobody else has taken."""
    versions = [*stored]
    for version in obj["spec"].get("versions", ()):
        if version.get("storage") and version.get("name") not in versions:
            versions.append(version["name"])
    since = obj["metadata"]["creationTimestamp"]
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": text,
            "lastTransitionTime": since,
        }
        for kind, reason, text in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]
    return {
        "acceptedNames": obj["spec"].get("names", {}),
        "storedVersions": versions,
        "conditions": conditions,
    }


def _definition_causes(obj: Json) -> Iterator[Cause]:
    spec = obj["spec"]
    expected = f"{dig(spec, 'names', 'plural')}.{spec.get('group')}"
    if obj["metadata"].get("name") != expected:
        detail = 'must be spec.names.plural+"."+spec.group'
        yield invalid_value("metadata.name", obj["metadata"].get("name"), detail)
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        yield not_supported("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"))
    if dig(spec, "conversion", "strategy") != "None":
        yield not_supported(
            "spec.conversion.strategy", dig(spec, "conversion", "strategy"), ("None",)
        )
    versions = spec.get("versions") or []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        yield invalid_value("spec.versions", len(versions), detail)
    for index, version in enumerate(versions):
        here = f"spec.versions[{index}].schema.openAPIV3Schema"
        declared = dig(version, "schema", "openAPIV3Schema")
        if declared is None:
            yield required(here, "schemas are required")
        elif declared.get("type") != "object":
            yield invalid_value(f"{here}.type", declared.get("type"), "must be object at the root")
        else:
            yield from _structure(declared, here)


def _structure(schema: Json, path: str) -> Iterator[Cause]:
    """What a structural schema must say at every node, and rules that cannot be compiled."""
    yield from _node(schema, path)
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        here = f"{path}.x-kubernetes-validations[{index}]"
        if problem := rule_problem(rule.get("rule", "")):
            yield invalid_value(f"{here}.rule", rule.get("rule"), f"compilation failed: {problem}")
    if schema.get("properties") and isinstance(schema.get("additionalProperties"), dict):
        detail = "additionalProperties and properties are mutual exclusive"
        yield forbidden_field(f"{path}.additionalProperties", detail)
    for name, member in (schema.get("properties") or {}).items():
        yield from _structure(member, f"{path}.properties[{name}]")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from _structure(schema[word], f"{path}.{word}")


def _node(schema: Json, path: str) -> Iterator[Cause]:
    kind = schema.get("type")
    untyped = schema.get("x-kubernetes-int-or-string") or schema.get(
        "x-kubernetes-preserve-unknown-fields"
    )
    if kind is None and not untyped:
        yield required(f"{path}.type", "must not be empty for specified object fields")
    elif kind is not None and kind not in _TYPES:
        yield not_supported(f"{path}.type", kind, _TYPES)
    if "$ref" in schema:
        yield forbidden_field(f"{path}.$ref", "$ref is not supported")
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield forbidden_field(f"{path}.uniqueItems", detail)
    if kind == "array" and not isinstance(schema.get("items"), dict):
        yield required(f"{path}.items", "must be specified")
    if schema.get("x-kubernetes-list-type") == "map":
        yield from _list_map(schema, path)
    for word in ("allOf", "anyOf", "oneOf"):
        for index, branch in enumerate(schema.get(word) or ()):
            # int-or-string is the one place where a branch may name types.
            if "type" in branch and not schema.get("x-kubernetes-int-or-string"):
                yield forbidden_field(
                    f"{path}.{word}[{index}].type", "must be empty to be structural"
                )
    if "default" in schema and (wrong := walk(schema, schema["default"]).causes):
        yield invalid_value(f"{path}.default", schema["default"], "; ".join(map(str, wrong)))


def _list_map(schema: Json, path: str) -> Iterator[Cause]:
    keys = schema.get("x-kubernetes-list-map-keys") or []
    items = schema.get("items") or {}
    if not keys:
        yield required(
            f"{path}.x-kubernetes-list-map-keys", "must not be empty if list-type is map"
        )
    for key in keys:
        member = (items.get("properties") or {}).get(key)
        if member is None:
            detail = "entries must all be names of item properties"
            yield invalid_value(f"{path}.x-kubernetes-list-map-keys", keys, detail)
        elif key not in (items.get("required") or ()) and "default" not in member:
            detail = (
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be "
                "a required property"
            )
            yield required(f"{path}.items.properties[{key}].default", detail)
