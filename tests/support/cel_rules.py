"""Evaluates the rules of a schema without an API server: where it stands, `self` and `oldSelf`."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import cel

Schema = dict[str, Any]


@cache
def _program(rule: str) -> Any:
    return cel.compile(rule)


def broken_rules(schema: Schema, value: Any, old: Any = None) -> list[str]:
    """Messages of the rules that an object breaks; with `old`, of an update."""
    return list(_walk(schema, _as_typed(schema, value), _as_typed(schema, old)))


def _walk(schema: Schema, value: Any, old: Any) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in rule["rule"] and old is None:
            continue
        variables = {"self": value, "oldSelf": old}
        context = cel.Context(variables, {"isSorted": lambda values: values == sorted(values)})
        if not _program(rule["rule"]).execute(context):
            yield rule["message"]
    if isinstance(value, list):
        for item in value:
            yield from _walk(schema.get("items", {}), item, None)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _walk(_child(schema, name), item, (old or {}).get(name))


def _child(schema: Schema, name: str) -> Schema:
    child: Schema = schema.get("properties", {}).get(name) or schema.get("additionalProperties", {})
    return child


def _as_typed(schema: Schema, value: Any) -> Any:
    """A whole number is a double where the schema says `number`, as it is to an API server."""
    if isinstance(value, dict):
        return {name: _as_typed(_child(schema, name), item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_typed(schema.get("items", {}), item) for item in value]
    return float(value) if schema.get("type") == "number" and isinstance(value, int) else value
