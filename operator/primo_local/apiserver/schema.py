"""Structural schemas: default, prune and validate an object in one walk.

The walk recurses only through the values of `properties`, `items` and `additionalProperties`:
fields are really named `type`, `items` or `properties`, in every schema of schemas.

Most of an object is texts that may be anything. What a schema says of each of its fields is made
out once, so that a walk passes over those.
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


# What a schema can ask of a text, beside its type.
_RULES = ("enum", "pattern", "minLength", "maxLength", "format", "allOf", "anyOf", "oneOf", "not")


class Shape:
    """One place of a schema, and those inside it that a walk has come to.

    Attributes:
        schema: what it says there.
        plain: the types whose values fit as they are.
        defaults: of members, by their names.
    """

    __slots__ = ("_definitions", "_items", "_members", "_others", "defaults", "plain", "schema")

    def __init__(self, schema: Json, definitions: Mapping[str, Json]) -> None:
        while "$ref" in schema:
            schema = definitions[schema["$ref"]]
        self.schema = schema
        self.plain = _plain(schema)
        declared = schema.get("properties") or {}
        self.defaults = {
            name: each["default"]
            for name, each in declared.items()
            if each.get("default") is not None
        }
        self._definitions = definitions
        self._members: dict[str, Shape] | None = None
        self._items: Shape | None = None
        self._others: Shape | None = None

    @property
    def members(self) -> "Mapping[str, Shape]":
        """Of `properties`."""
        if self._members is None:
            declared = self.schema.get("properties") or {}
            self._members = {name: self.inside(each) for name, each in declared.items()}
        return self._members

    @property
    def items(self) -> "Shape | None":
        if self._items is None and self.schema.get("items"):
            self._items = self.inside(self.schema["items"])
        return self._items

    @property
    def others(self) -> "Shape | None":
        """Of `additionalProperties`, if that is a schema."""
        if self._others is None and isinstance(self.schema.get("additionalProperties"), dict):
            self._others = self.inside(self.schema["additionalProperties"])
        return self._others

    def inside(self, schema: Json) -> "Shape":
        return Shape(schema, self._definitions)


def _plain(schema: Json) -> frozenset[type]:
    if any(rule in schema for rule in _RULES) or schema.get(QUANTITY):
        return frozenset()
    words = {"string": str, "boolean": bool}
    return frozenset({words[schema["type"]]} if schema.get("type") in words else ())


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


def walk(schema: Shape | Json, value: Any, path: str = "", settled: Collection[str] = ()) -> Walked:
    """Apply a schema to a value; nothing is changed in place.

    Args:
        schema: one that is used again is better a `Shape`; one that refers to others has to be.
        settled: members of an object that have been through this before, and are taken as they are.
    """
    shape = schema if isinstance(schema, Shape) else Shape(schema, {})
    walker = _Walker(settled)
    result = walker.visit(shape, value, path)
    return Walked(result, walker.causes, walker.unknown)


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


@dataclass(slots=True)
class _Walker:
    settled: Collection[str] = ()
    causes: list[Cause] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)

    def visit(self, shape: Shape, value: Any, path: str) -> Any:
        if value.__class__ in shape.plain:
            return value
        schema = shape.schema
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
            value = self._object(shape, value, path)
        elif isinstance(value, list):
            value = self._array(shape, value, path)
        elif isinstance(value, str):
            self._string(schema, value, path)
        elif not isinstance(value, bool):
            self._number(schema, value, path)
        if "allOf" in schema or "anyOf" in schema or "oneOf" in schema or "not" in schema:
            self._combined(shape, value, path)
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

    def _object(self, shape: Shape, value: Json, path: str) -> Json:
        schema = shape.schema
        result = self._members(shape, value, path)
        for name, given in shape.defaults.items():
            if name not in result:
                default = copy.deepcopy(given)
                result[name] = self.visit(shape.members[name], default, _join(path, name))
        for name in schema.get("required", ()):
            if name not in result:
                self.causes.append(required(_join(path, name)))
        self._count_properties(schema, result, path)
        return result

    def _members(self, shape: Shape, value: Json, path: str) -> Json:
        schema, members, others = shape.schema, shape.members, shape.others
        keep = schema.get(_PRESERVE) or schema.get("additionalProperties") is True
        embedded = ("apiVersion", "kind", "metadata") if schema.get(_EMBEDDED) else ()
        result = {}
        for name, member in value.items():
            declared = members.get(name)
            if not path and name in self.settled:
                result[name] = member
            elif declared is not None:
                if member.__class__ in declared.plain:
                    result[name] = member
                # A null stands for "not given" wherever the schema does not say nullable.
                elif member is not None or declared.schema.get("nullable"):
                    result[name] = self.visit(declared, member, _join(path, name))
            elif others is not None:
                if member is not None or others.schema.get("nullable"):
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

    def _array(self, shape: Shape, value: list[Any], path: str) -> list[Any]:
        schema, items = shape.schema, shape.items
        if len(value) > schema.get("maxItems", len(value)):
            self.causes.append(too_many(path, len(value), schema["maxItems"]))
        if len(value) < schema.get("minItems", 0):
            detail = f"{path} in body should have at least {schema['minItems']} items"
            self.causes.append(invalid_value(path, len(value), detail))
        if items is not None:
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

    def _combined(self, shape: Shape, value: Any, path: str) -> None:
        """allOf, anyOf, oneOf and not only validate: they neither prune nor default."""
        schema = shape.schema

        def judged(branch: Json) -> list[Cause]:
            return walk(shape.inside(branch), value, path).causes

        for each in schema.get("allOf", ()):
            self.causes += judged(each)
        for word, how_many in (("anyOf", "at least one"), ("oneOf", "one and only one")):
            if word in schema:
                passing = sum(not judged(each) for each in schema[word])
                if passing == 0 or (word == "oneOf" and passing > 1):
                    detail = f"{path} in body must validate {how_many} schema ({word})"
                    self.causes.append(invalid_value(path, value, detail))
        if "not" in schema and not judged(schema["not"]):
            detail = f"{path} in body must not validate the schema (not)"
            self.causes.append(invalid_value(path, value, detail))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
