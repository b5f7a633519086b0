"""The three patch formats, each a pure function from an object and a patch to a new object.

The strategic format needs to know which lists are merged by which key: it reads
`x-kubernetes-patch-merge-key` from the kind's schema, the same that OpenAPI publishes.
"""

from collections.abc import Mapping
from typing import Any

import jsonpatch
import jsonpointer

from primo_local.apiserver.errors import ApiError, bad_request
from primo_local.apiserver.objects import Json

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"

MERGE_KEY = "x-kubernetes-patch-merge-key"
STRATEGY = "x-kubernetes-patch-strategy"

_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"
_RETAIN = "$retainKeys"


def merge_patch(value: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), change)
    return merged


def json_patch(obj: Json, operations: Any) -> Any:
    """RFC 6902; a `test` that fails and a path that is not there are 422, as on a real server."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    try:
        return jsonpatch.apply_patch(obj, operations)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        message = f"the server rejected our request due to an error in our request: {error}"
        raise ApiError(422, "Invalid", message) from error
    except (TypeError, KeyError, AttributeError) as error:
        raise bad_request(f"error decoding patch: {error}") from error


def strategic_patch(obj: Json, patch: Any, schema: Json, definitions: Mapping[str, Json]) -> Any:
    """Kubernetes' own merge: maps recurse, lists with a merge key match their items by it."""
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch is an object")
    return _Strategic(definitions).objects(obj, patch, schema)


class _Strategic:
    def __init__(self, definitions: Mapping[str, Json]) -> None:
        self._definitions = definitions

    def objects(self, value: Any, patch: Json, schema: Json) -> Json | None:
        directive = patch.get("$patch")
        if directive == "replace":
            return {name: each for name, each in patch.items() if name != "$patch"}
        if directive == "delete":
            return None
        merged = dict(value) if isinstance(value, dict) else {}
        properties, others = self._properties(schema)
        for name, change in patch.items():
            if name.startswith("$"):
                continue
            self._member(merged, name, change, properties.get(name, others))
        self._directives(merged, patch, properties)
        return merged

    def _member(self, merged: Json, name: str, change: Any, schema: Json) -> None:
        if change is None:
            merged.pop(name, None)
        elif isinstance(change, dict):
            result = self.objects(merged.get(name), change, schema)
            if result is None:
                merged.pop(name, None)
            else:
                merged[name] = result
        elif isinstance(change, list):
            merged[name] = self._lists(merged.get(name) or [], change, self._resolved(schema))
        else:
            merged[name] = change

    def _lists(self, values: list[Any], patch: list[Any], schema: Json) -> list[Any]:
        if schema.get(STRATEGY) != "merge":
            return [each for each in patch if not (isinstance(each, dict) and "$patch" in each)]
        key = schema.get(MERGE_KEY)
        if key is None:
            return values + [each for each in patch if each not in values]
        if any(isinstance(each, dict) and each.get("$patch") == "replace" for each in patch):
            return [each for each in patch if "$patch" not in each]
        return self._keyed(values, patch, key, schema.get("items", {}))

    def _keyed(self, values: list[Any], patch: list[Any], key: str, items: Json) -> list[Any]:
        merged = list(values)
        for each in patch:
            if not isinstance(each, dict) or key not in each:
                raise bad_request(f"a list item in a strategic merge patch lacks its key {key!r}")
            at = next((i for i, old in enumerate(merged) if old.get(key) == each[key]), None)
            result = self.objects(merged[at] if at is not None else {}, each, items)
            if at is None:
                merged += [result] if result is not None else []
            elif result is None:
                del merged[at]
            else:
                merged[at] = result
        return merged

    def _directives(self, merged: Json, patch: Json, properties: Json) -> None:
        for name, change in patch.items():
            if name.startswith(_DELETE_PRIMITIVES):
                field = name.removeprefix(_DELETE_PRIMITIVES)
                merged[field] = [each for each in merged.get(field, []) if each not in change]
            elif name == _RETAIN:
                for field in set(merged) - set(change):
                    del merged[field]
            elif name.startswith(_ORDER):
                field = name.removeprefix(_ORDER)
                key = self._resolved(properties.get(field, {})).get(MERGE_KEY)
                if isinstance(merged.get(field), list):
                    merged[field] = _ordered(merged[field], change, key)

    def _properties(self, schema: Json) -> tuple[Json, Json]:
        schema = self._resolved(schema)
        others = schema.get("additionalProperties")
        return schema.get("properties", {}), others if isinstance(others, dict) else {}

    def _resolved(self, schema: Json) -> Json:
        while "$ref" in schema:
            schema = {**schema, **self._definitions[schema["$ref"]]}
            del schema["$ref"]
        return schema


def _ordered(values: list[Any], order: list[Any], key: str | None) -> list[Any]:
    """Sort by the order a client gives; what it does not name keeps its place at the end."""

    def identity(each: Any) -> Any:
        return each.get(key) if key and isinstance(each, dict) else each

    wanted = [identity(each) for each in order]
    ranked = [each for each in values if identity(each) in wanted]
    ranked.sort(key=lambda each: wanted.index(identity(each)))
    return ranked + [each for each in values if identity(each) not in wanted]
