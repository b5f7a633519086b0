"""OpenAPI v3: one document a group version, made from the schemas that also validate.

kubectl reads it to explain fields, to decide that the server validates unknown fields, and to
compute strategic patches; it needs paths with get and patch, the kind's coordinates, and the
merge keys. OpenAPI v2 is not served: kubectl does without.
"""

import hashlib
from typing import Any

from primo_local.apiserver.errors import no_such_path
from primo_local.apiserver.models import QUANTITY
from primo_local.apiserver.objects import Json
from primo_local.apiserver.patch import JSON, MERGE, STRATEGIC
from primo_local.apiserver.registry import Registry, Resource
from primo_local.wire import encode

_COMPONENTS = "#/components/schemas/"
_QUERY = ("dryRun", "fieldManager", "fieldValidation")
_COORDINATES = "x-kubernetes-group-version-kind"


class OpenApi:
    """Documents are made when first asked for and kept until what is served changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._documents: dict[str, bytes] = {}
        self._generation = -1

    def index(self) -> Json:
        paths = {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(path)}"}
            for path in self._group_versions()
        }
        return {"paths": paths}

    def document(self, path: str) -> bytes:
        """The document of `api/v1` or `apis/GROUP/VERSION`; raises a 404."""
        self._refresh()
        if path not in self._documents:
            resources = self._group_versions().get(path)
            if resources is None:
                raise no_such_path()
            self._documents[path] = encode(_document(resources))
        return self._documents[path]

    def _group_versions(self) -> dict[str, list[Resource]]:
        return {
            f"apis/{group}/{version}" if group else f"api/{version}": resources
            for group, versions in self._registry.groups().items()
            for version, resources in versions.items()
        }

    def _hash(self, path: str) -> str:
        """Clients keep documents by this; it names a state of the registry, not a content."""
        text = f"{path} {self._registry.generation} {id(self)}"
        return hashlib.sha256(text.encode()).hexdigest()[:32].upper()

    def _refresh(self) -> None:
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._documents.clear()


def _document(resources: list[Resource]) -> Json:
    schemas: dict[str, Json] = {}
    paths: Json = {}
    for resource in resources:
        name = _component(resource)
        _add_references(resource, resource.strategy.schema(), schemas)
        schemas[name] = _kind_schema(resource)
        paths |= _paths(resource, name)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _component(resource: Resource) -> str:
    return f"{resource.group or 'core'}.{resource.version}.{resource.kind}"


def _kind_schema(resource: Resource) -> Json:
    schema = _published(resource.strategy.schema() or {"type": "object"})
    properties = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        **schema.get("properties", {}),
    }
    return {**schema, "properties": properties, _COORDINATES: [_coordinates(resource)]}


def _coordinates(resource: Resource) -> Json:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _add_references(resource: Resource, schema: Any, found: dict[str, Json]) -> None:
    """All models that a schema refers to, however deep."""
    if isinstance(schema, list):
        for each in schema:
            _add_references(resource, each, found)
    if not isinstance(schema, dict):
        return
    name = schema.get("$ref")
    if isinstance(name, str) and name not in found:
        model = resource.strategy.definitions()[name]
        found[name] = _published(model)
        _add_references(resource, model, found)
    for member in schema.values():
        _add_references(resource, member, found)


def _published(schema: Json) -> Json:
    """A schema as others may read it: full references, no marks of our own."""
    result: Json = {}
    for word, value in schema.items():
        if word == "$ref":
            result["$ref"] = _COMPONENTS + value
        elif word == "properties":
            result[word] = {name: _published(member) for name, member in value.items()}
        elif word in ("items", "additionalProperties") and isinstance(value, dict):
            result[word] = _published(value)
        elif word == QUANTITY:
            result["oneOf"] = [{"type": "string"}, {"type": "number"}]
        elif word != "x-kubernetes-validations":
            result[word] = value
    if QUANTITY in schema:
        result.pop("type", None)
    if "$ref" in result and len(result) > 1:
        # A reference beside other words is only read inside allOf.
        result["allOf"] = [{"$ref": result.pop("$ref")}]
    return result


def _paths(resource: Resource, component: str) -> Json:
    root = f"/apis/{resource.group}" if resource.group else "/api"
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    base = f"{root}/{resource.version}{scope}/{resource.plural}"
    paths: Json = {}
    collection = {"list": "get", "create": "post", "deletecollection": "delete"}
    single = {"get": "get", "update": "put", "patch": "patch", "delete": "delete"}
    for path, verbs in ((base, collection), (f"{base}/{{name}}", single)):
        operations = {
            method: _operation(resource, component, method, verb)
            for verb, method in verbs.items()
            if verb in resource.verbs
        }
        if operations:
            paths[path] = operations
    return paths


def _operation(resource: Resource, component: str, method: str, verb: str) -> Json:
    schema = {"$ref": _COMPONENTS + component}
    operation: Json = {
        "x-kubernetes-action": "post" if verb == "create" else verb,
        _COORDINATES: _coordinates(resource),
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
            for name in _QUERY
        ],
        "responses": {
            "200": {"description": "OK", "content": {"application/json": {"schema": schema}}}
        },
    }
    if method == "patch":
        accepted = (JSON, MERGE, STRATEGIC) if resource.strategy.strategic else (JSON, MERGE)
        content = {media: {"schema": {"type": "object"}} for media in accepted}
        operation["requestBody"] = {"content": content, "required": True}
    return operation
