"""Structural schemas: default, prune and validate an object in one walk.

The walk recurses only through the values of `properties`, `items` and `additionalProperties`:
fields are really named `type`, `items` or `properties`, in every schema of schemas.
"""

import copy
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from primo_local.apiserver import quantity
from primo_local.apiserver.clock import parse_timestamp
from primo_local.apiserver.errors import (
    Cause,
    duplicate,
    invalid_value,
    not_supported,
    required,
    too_long,
    too_many,
    type_invalid,
)
from primo_local.apiserver.models import QUANTITY
from primo_local.apiserver.objects import Json

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED = "x-kubernetes-embedded-resource"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_INT64 = 1 << 63
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk found.

    Attributes:
        value: the object with defaults and without what the schema does not know.
        causes: what is wrong with it, in the order met.
        unknown: paths of the fields that were pruned.
    """

    value: Any
    causes: list[Cause]
    unknown: list[str]


def walk(
    schema: Json,
    value: Any,
    definitions: Mapping[str, Json] | None = None,
    path: str = "",
    settled: Collection[str] = (),
) -> Walked:
    """Apply a schema to a value; nothing is changed in place.

    Args:
        settled: members of an object that have been through this before, and are taken as they are.
    """
    walker = _Walker(definitions or {}, settled)
    result = walker.visit(schema, value, path)
    return Walked(result, walker.causes, walker.unknown)


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


@dataclass(slots=True)
class _Walker:
    definitions: Mapping[str, Json]
    settled: Collection[str] = ()
    causes: list[Cause] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)

    def visit(self, schema: Json, value: Any, path: str) -> Any:
        while "$ref" in schema:
            schema = self.definitions[schema["$ref"]]
        if value is None:
            return self._null(schema, path)
        if schema.get(_INT_OR_STRING):
            return self._int_or_string(schema, value, path)
        kind = schema.get("type")
        if kind is not None:
            value, fits = self._typed(schema, kind, value, path)
            if not fits:
                return value
        if "enum" in schema and value not in schema["enum"]:
            self.causes.append(not_supported(path, value, schema["enum"]))
        if isinstance(value, dict):
            value = self._object(schema, value, path)
        elif isinstance(value, list):
            value = self._array(schema, value, path)
        elif isinstance(value, str):
            self._string(schema, value, path)
        elif not isinstance(value, bool):
            self._number(schema, value, path)
        if "allOf" in schema or "anyOf" in schema or "oneOf" in schema or "not" in schema:
            self._combined(schema, value, path)
        return value

    def _null(self, schema: Json, path: str) -> None:
        # Objects drop their nulls before they come here; these stand in lists.
        if not schema.get("nullable") and "type" in schema:
            self.causes.append(type_invalid(path, None, schema["type"]))

    def _int_or_string(self, schema: Json, value: Any, path: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | str):
            self.causes.append(type_invalid(path, value, "integer or string"))
        elif isinstance(value, str):
            self._string(schema, value, path)
        else:
            self._number(schema, value, path)
        return value

    def _typed(self, schema: Json, kind: str, value: Any, path: str) -> tuple[Any, bool]:
        """The value in the schema's type, and whether it has one."""
        if schema.get(QUANTITY):
            return self._quantity(value, path)
        if kind == "integer" and isinstance(value, float) and value.is_integer():
            return int(value), True
        fits = isinstance(value, _TYPES[kind])
        if isinstance(value, bool) and kind != "boolean":
            fits = False
        if isinstance(value, int) and not -_INT64 <= value < _INT64:
            fits = False  # clients in Go could not read it
        if not fits:
            self.causes.append(type_invalid(path, value, kind))
            if kind == "array" and isinstance(value, dict):
                self.unknown += [_join(path, name) for name in value]
        return value, fits

    def _quantity(self, value: Any, path: str) -> tuple[Any, bool]:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.causes.append(type_invalid(path, value, "string"))
            return value, False
        try:
            return quantity.canonical(value), True
        except quantity.QuantityError as error:
            self.causes.append(Cause(path, "FieldValueTypeInvalid", f"Invalid value: {error}"))
            return value, False

    def _object(self, schema: Json, value: Json, path: str) -> Json:
        properties: Json = schema.get("properties") or {}
        result = self._members(schema, properties, value, path)
        for name, declared in properties.items():
            if name not in result and declared.get("default") is not None:
                default = copy.deepcopy(declared["default"])
                result[name] = self.visit(declared, default, _join(path, name))
        for name in schema.get("required", ()):
            if name not in result:
                self.causes.append(required(_join(path, name)))
        self._count_properties(schema, result, path)
        return result

    def _members(self, schema: Json, properties: Json, value: Json, path: str) -> Json:
        others = schema.get("additionalProperties")
        keep = schema.get(_PRESERVE) or others is True
        embedded = ("apiVersion", "kind", "metadata") if schema.get(_EMBEDDED) else ()
        result = {}
        for name, member in value.items():
            declared = properties.get(name)
            if not path and name in self.settled:
                result[name] = member
            elif declared is not None:
                # A null stands for "not given" wherever the schema does not say nullable.
                if member is not None or declared.get("nullable"):
                    result[name] = self.visit(declared, member, _join(path, name))
            elif isinstance(others, dict):
                if member is not None or others.get("nullable"):
                    here = _join(path, name)
                    self.keys[here] = f"{path}[{name}]"
                    result[name] = self.visit(others, member, here)
            elif keep or name in embedded:
                result[name] = member
            else:
                self.unknown.append(_join(path, name))
        return result

    def _count_properties(self, schema: Json, value: Json, path: str) -> None:
        if len(value) > schema.get("maxProperties", len(value)):
            self.causes.append(too_many(path, len(value), schema["maxProperties"]))
        if len(value) < schema.get("minProperties", 0):
            detail = f"{path} in body should have at least {schema['minProperties']} properties"
            self.causes.append(invalid_value(path, len(value), detail))

    def _array(self, schema: Json, value: list[Any], path: str) -> list[Any]:
        if len(value) > schema.get("maxItems", len(value)):
            self.causes.append(too_many(path, len(value), schema["maxItems"]))
        if len(value) < schema.get("minItems", 0):
            detail = f"{path} in body should have at least {schema['minItems']} items"
            self.causes.append(invalid_value(path, len(value), detail))
        items = schema.get("items")
        if items:
            value = [self.visit(items, each, f"{path}[{i}]") for i, each in enumerate(value)]
        if schema.get("x-kubernetes-list-type") in ("map", "set") or schema.get("uniqueItems"):
            self._unique(schema.get("x-kubernetes-list-map-keys"), value, path)
        return value

    def _unique(self, keys: list[str] | None, value: list[Any], path: str) -> None:
        seen = set()
        for index, each in enumerate(value):
            identity = each
            if keys and isinstance(each, dict):
                identity = {key: each.get(key) for key in keys}
            text = json.dumps(identity, sort_keys=True)
            if text in seen:
                # Here alone, the key of a map is written in brackets.
                self.causes.append(duplicate(f"{self.keys.get(path, path)}[{index}]", identity))
            seen.add(text)

    def _string(self, schema: Json, value: str, path: str) -> None:
        if "pattern" in schema and not _pattern(schema["pattern"]).search(value):
            detail = f"{path} in body should match '{schema['pattern']}'"
            self.causes.append(invalid_value(path, value, detail))
        if len(value) > schema.get("maxLength", len(value)):
            self.causes.append(too_long(path, schema["maxLength"]))
        if len(value) < schema.get("minLength", 0):
            detail = f"{path} in body should be at least {schema['minLength']} chars long"
            self.causes.append(invalid_value(path, value, detail))
        if schema.get("format") in ("date-time", "date"):
            try:
                parse_timestamp(value)
            except ValueError:
                detail = f"{path} in body must be of type {schema['format']}: {value!r}"
                self.causes.append(invalid_value(path, value, detail))

    def _number(self, schema: Json, value: float, path: str) -> None:
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None:
            open_end = schema.get("exclusiveMinimum") is True
            if value < low or (open_end and value == low):
                relation = "greater than" if open_end else "greater than or equal to"
                self._out_of_range(path, value, relation, low)
        if high is not None:
            open_end = schema.get("exclusiveMaximum") is True
            if value > high or (open_end and value == high):
                relation = "less than" if open_end else "less than or equal to"
                self._out_of_range(path, value, relation, high)
        factor = schema.get("multipleOf")
        if factor and abs(value / factor - round(value / factor)) > 1e-9:
            detail = f"{path} in body should be a multiple of {factor}"
            self.causes.append(invalid_value(path, value, detail))

    def _out_of_range(self, path: str, value: float, relation: str, limit: float) -> None:
        detail = f"{path} in body should be {relation} {limit}"
        self.causes.append(invalid_value(path, value, detail))

    def _combined(self, schema: Json, value: Any, path: str) -> None:
        """allOf, anyOf, oneOf and not only validate: they neither prune nor default."""
        for each in schema.get("allOf", ()):
            self.causes += self._judged(each, value, path)
        for word, how_many in (("anyOf", "at least one"), ("oneOf", "one and only one")):
            if word in schema:
                passing = sum(not self._judged(each, value, path) for each in schema[word])
                if passing == 0 or (word == "oneOf" and passing > 1):
                    detail = f"{path} in body must validate {how_many} schema ({word})"
                    self.causes.append(invalid_value(path, value, detail))
        if "not" in schema and not self._judged(schema["not"], value, path):
            detail = f"{path} in body must not validate the schema (not)"
            self.causes.append(invalid_value(path, value, detail))

    def _judged(self, schema: Json, value: Any, path: str) -> list[Cause]:
        return walk(schema, value, self.definitions, path).causes


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
