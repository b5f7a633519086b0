"""One walk defaults, prunes and validates, and names the field at fault."""

from typing import Any

import pytest

from primo_local.apiserver.models import shared_models
from primo_local.apiserver.schema import Shape, walk

Schema = dict[str, Any]


def of(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("schema", "value", "walked"),
    [
        pytest.param(of(a={"type": "integer", "default": 3}), {}, {"a": 3}, id="a default"),
        pytest.param(
            of(a={**of(b={"type": "boolean", "default": True}), "default": {}}),
            {},
            {"a": {"b": True}},
            id="a default within a default",
        ),
        pytest.param(
            of(a={"type": "integer", "default": 3}), {"a": None}, {"a": 3}, id="null is not given"
        ),
        pytest.param(
            of(a={"type": "integer", "nullable": True}),
            {"a": None},
            {"a": None},
            id="unless it is nullable",
        ),
        pytest.param(of(a={"type": "integer"}), {"a": 2.0}, {"a": 2}, id="a whole float"),
        pytest.param(of(a={"type": "number"}), {"a": 2}, {"a": 2}, id="an integer for a number"),
        pytest.param(
            of(a={"x-kubernetes-int-or-string": True}), {"a": "5%"}, {"a": "5%"}, id="int or string"
        ),
        pytest.param(
            of(a={"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
            {"a": {"any": [None, {"thing": 1}]}},
            {"a": {"any": [None, {"thing": 1}]}},
            id="unknown fields are kept where the schema says so, nulls too",
        ),
        pytest.param(
            of(properties={"type": "string"}, type={"type": "string"}, items=of()),
            {"properties": "x", "type": "y", "items": {}},
            {"properties": "x", "type": "y", "items": {}},
            id="fields named like words of a schema",
        ),
    ],
)
def test_the_value_that_is_stored(schema: Schema, value: Any, walked: Any) -> None:
    found = walk(schema, value)
    assert (found.value, found.causes, found.unknown) == (walked, [], [])


def test_unknown_fields_are_pruned_and_told() -> None:
    schema = of(list={"type": "array", "items": of(a={"type": "string"})})
    found = walk(schema, {"list": [{"a": "x", "b": 1}], "c": {"d": 2}})
    assert found.value == {"list": [{"a": "x"}]}
    assert found.unknown == ["list[0].b", "c"]


LIST_MAP = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": of(name={"type": "string"}),
}


@pytest.mark.parametrize(
    ("schema", "value", "reason", "message"),
    [
        pytest.param(
            {"type": "integer"},
            "x",
            "FieldValueTypeInvalid",
            'Invalid value: "string": f in body must be of type integer: "x"',
            id="type",
        ),
        pytest.param(
            {"type": "integer"},
            True,
            "FieldValueTypeInvalid",
            'Invalid value: "boolean": f in body must be of type integer: true',
            id="a boolean is no integer",
        ),
        pytest.param(
            {"type": "integer"},
            1.5,
            "FieldValueTypeInvalid",
            'Invalid value: "number": f in body must be of type integer: 1.5',
            id="a fraction is no integer",
        ),
        pytest.param(
            {"type": "string", "enum": ["a", "b"]},
            "c",
            "FieldValueNotSupported",
            'Unsupported value: "c": supported values: "a", "b"',
            id="enum",
        ),
        pytest.param(
            {"type": "integer", "minimum": 1},
            0,
            "FieldValueInvalid",
            "Invalid value: 0: f in body should be greater than or equal to 1",
            id="minimum",
        ),
        pytest.param(
            {"type": "number", "minimum": 0, "exclusiveMinimum": True},
            0,
            "FieldValueInvalid",
            "Invalid value: 0: f in body should be greater than 0",
            id="exclusive minimum",
        ),
        pytest.param(
            {"type": "integer", "maximum": 2},
            3,
            "FieldValueInvalid",
            "Invalid value: 3: f in body should be less than or equal to 2",
            id="maximum",
        ),
        pytest.param(
            {"type": "string", "pattern": "^a+$"},
            "b",
            "FieldValueInvalid",
            "Invalid value: \"b\": f in body should match '^a+$'",
            id="pattern",
        ),
        pytest.param(
            {"type": "string", "maxLength": 2},
            "abc",
            "FieldValueTooLong",
            "Too long: may not be more than 2 bytes",
            id="length",
        ),
        pytest.param(
            {"type": "array", "maxItems": 1, "items": {"type": "string"}},
            ["a", "b"],
            "FieldValueTooMany",
            "Too many: 2: must have at most 1 items",
            id="items",
        ),
        pytest.param(
            {"type": "string", "format": "date-time"},
            "yesterday",
            "FieldValueInvalid",
            "Invalid value: \"yesterday\": f in body must be of type date-time: 'yesterday'",
            id="date-time",
        ),
        pytest.param(
            {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]},
            3,
            "FieldValueInvalid",
            "Invalid value: 3: f in body must validate at least one schema (anyOf)",
            id="any of",
        ),
        pytest.param(
            {"type": "integer", "not": {"enum": [3]}},
            3,
            "FieldValueInvalid",
            "Invalid value: 3: f in body must not validate the schema (not)",
            id="not",
        ),
    ],
)
def test_what_is_refused(schema: Schema, value: Any, reason: str, message: str) -> None:
    (cause,) = walk(of(f=schema), {"f": value}).causes
    assert (cause.field, cause.reason, cause.message) == ("f", reason, message)


def test_the_second_item_with_a_key_is_the_duplicate() -> None:
    (cause,) = walk(of(l=LIST_MAP), {"l": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}).causes
    assert str(cause) == 'l[2]: Duplicate value: {"name":"a"}'


def test_required_fields_are_named_by_their_path() -> None:
    schema = of(a={**of(b={"type": "string"}), "required": ["b"]})
    (cause,) = walk(schema, {"a": {}}).causes
    assert str(cause) == "a.b: Required value"


def test_a_value_is_not_changed_in_place() -> None:
    value: dict[str, Any] = {"a": {"junk": 1}}
    walk(of(a=of(b={"type": "integer", "default": 1})), value)
    assert value == {"a": {"junk": 1}}


def test_built_in_quantities_are_stored_as_text() -> None:
    models = shared_models()
    pod = {"spec": {"containers": [{"name": "a", "resources": {"limits": {"x.com/gpu": 1}}}]}}
    found = walk(Shape(models.schema("V1Pod"), models.definitions), pod)
    assert found.causes == []
    assert found.value["spec"]["containers"][0]["resources"] == {"limits": {"x.com/gpu": "1"}}


@pytest.mark.parametrize("model", ["V1Pod", "V1Job", "V1CustomResourceDefinition", "CoreV1Event"])
def test_models_become_schemas_without_pydantic_words(model: str) -> None:
    models = shared_models()
    models.schema(model)

    def check(schema: Schema) -> None:
        assert not set(schema) & {"anyOf", "title", "default", "$defs"}, schema
        assert "$ref" not in schema or schema["$ref"] in models.definitions
        for member in schema.get("properties", {}).values():
            check(member)
        for word in ("items", "additionalProperties"):
            if word in schema:
                check(schema[word])

    for each in models.definitions.values():
        check(each)
