"""A definition must be structural, consistent and readable before it is served."""

import copy
from typing import Any

import pytest

from primo_local.apiserver.crd import CustomResourceDefinitionStrategy, resources_of
from primo_local.apiserver.errors import ApiError
from primo_local.apiserver.registry import Registry

Obj = dict[str, Any]


def definition(schema: Obj | None = None, **spec: Any) -> Obj:
    declared = {"type": "object", "properties": {"spec": schema or {"type": "object"}}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": declared},
    }
    return {
        "metadata": {"name": "things.x.io", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "group": "x.io",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [version],
            **spec,
        },
    }


def stored(obj: Obj) -> Obj:
    strategy = CustomResourceDefinitionStrategy()
    return strategy.prepared_create(strategy.defaulted(obj))


ROOT = "spec.versions[0].schema.openAPIV3Schema.properties[spec]"
KEYED = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
NAMED = {"type": "object", "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        pytest.param({"properties": {}}, f"{ROOT}.type", id="no type"),
        pytest.param({"type": "text"}, f"{ROOT}.type", id="no such type"),
        pytest.param({"type": "array"}, f"{ROOT}.items", id="no items"),
        pytest.param({"type": "string", "$ref": "x"}, f"{ROOT}.$ref", id="a reference"),
        pytest.param(
            {"type": "string", "anyOf": [{"type": "string"}]},
            f"{ROOT}.anyOf[0].type",
            id="a type within anyOf",
        ),
        pytest.param(
            {"type": "integer", "default": "x"}, f"{ROOT}.default", id="a default of another type"
        ),
        pytest.param(
            {"type": "array", "items": NAMED, **KEYED},
            f"{ROOT}.items.properties[name].default",
            id="a key that may be absent",
        ),
        pytest.param(
            {"type": "object", "x-kubernetes-validations": [{"rule": "self.a >"}]},
            f"{ROOT}.x-kubernetes-validations[0].rule",
            id="a rule that does not compile",
        ),
    ],
)
def test_schemas_that_are_refused(schema: Obj, field: str) -> None:
    causes = CustomResourceDefinitionStrategy().validate(stored(definition(schema)))
    assert [cause.field for cause in causes] == [field]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"group": "y.io"}, "metadata.name"),
        ({"scope": "Galaxy"}, "spec.scope"),
        ({"versions": []}, "spec.versions"),
        ({"conversion": {"strategy": "Webhook"}}, "spec.conversion.strategy"),
    ],
)
def test_definitions_that_are_refused(spec: Obj, field: str) -> None:
    causes = CustomResourceDefinitionStrategy().validate(stored(definition(**spec)))
    assert [cause.field for cause in causes] == [field]


def test_a_good_definition_is_established_at_once() -> None:
    made = stored(definition())
    assert CustomResourceDefinitionStrategy().validate(made) == []
    status = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert status == {"NamesAccepted": "True", "Established": "True"}
    assert made["status"]["storedVersions"] == ["v1"]
    assert made["spec"]["names"]["listKind"] == "ThingList"


def test_versions_differ_by_name_alone() -> None:
    obj = definition()
    second = {**copy.deepcopy(obj["spec"]["versions"][0]), "name": "v2", "storage": False}
    obj["spec"]["versions"].append(second)
    v1, v2 = resources_of(stored(obj))
    assert v1.shelf == v2.shelf
    thing = {"apiVersion": "x.io/v2", "kind": "Thing"}
    kept = v2.strategy.to_storage(thing)
    assert kept["apiVersion"] == "x.io/v1"
    assert v1.strategy.from_storage(kept) is kept
    assert v2.strategy.from_storage(kept) == thing


def test_a_version_that_is_not_served_is_not_there() -> None:
    obj = stored(definition())
    obj["spec"]["versions"][0]["served"] = False
    registry = Registry()
    registry.add(resources_of(obj))
    with pytest.raises(ApiError) as refused:
        registry.get("x.io", "v1", "things")
    assert refused.value.code == 404
