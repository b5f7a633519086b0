"""The three patch formats do to an object what a real API server does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_local.apiserver.errors import ApiError
from primo_local.apiserver.models import shared_models
from primo_local.apiserver.patch import json_patch, merge_patch, strategic_patch

Obj = dict[str, Any]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "patch", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        pytest.param({"a": 1}, {"a": None}, {}, id="null takes away"),
        pytest.param({"a": [1, 2]}, {"a": [3]}, {"a": [3]}, id="lists are replaced"),
        pytest.param({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}, id="maps merge"),
        pytest.param({"a": 1}, {"a": {"b": None}}, {"a": {}}, id="a scalar gives way to a map"),
    ],
)
def test_merge_patch(value: Obj, patch: Obj, merged: Obj) -> None:
    assert merge_patch(value, patch) == merged


@given(value=st.dictionaries(st.sampled_from("abc"), VALUES), patch=VALUES)
def test_a_merge_patch_changes_nothing_twice_or_in_place(value: Obj, patch: Any) -> None:
    before = repr(value)
    once = merge_patch(value, patch)
    assert repr(value) == before
    assert merge_patch(once, patch) == once


def test_json_patch() -> None:
    operations = [
        {"op": "test", "path": "/a", "value": 1},
        {"op": "replace", "path": "/a", "value": 2},
        {"op": "add", "path": "/list/-", "value": "x"},
    ]
    assert json_patch({"a": 1, "list": []}, operations) == {"a": 2, "list": ["x"]}


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        pytest.param([{"op": "test", "path": "/a", "value": 9}], 422, id="a test that fails"),
        pytest.param([{"op": "remove", "path": "/none"}], 422, id="a path that is not there"),
        pytest.param([{"op": "leap", "path": "/a"}], 422, id="an unknown operation"),
        pytest.param({"a": 1}, 400, id="not a list"),
        pytest.param(["a"], 422, id="not operations"),
    ],
)
def test_a_json_patch_that_cannot_be_done_is_refused(operations: Any, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch({"a": 1}, operations)
    assert refused.value.code == code


def pod(*containers: Obj, **spec: Any) -> Obj:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


def strategic(value: Obj, patch: Obj) -> Obj:
    models = shared_models()
    result = strategic_patch(value, patch, models.schema("V1Pod"), models.definitions)
    assert isinstance(result, dict)
    return result


A = {"name": "a", "image": "x", "args": ["1"]}
B = {"name": "b", "image": "y"}


@pytest.mark.parametrize(
    ("spec", "containers"),
    [
        pytest.param(
            {"containers": [{"name": "b", "image": "z"}]},
            [A, {**B, "image": "z"}],
            id="items are merged by name",
        ),
        pytest.param({"containers": [{"name": "c"}]}, [A, B, {"name": "c"}], id="or appended"),
        pytest.param({"containers": [{"name": "a", "$patch": "delete"}]}, [B], id="or deleted"),
        pytest.param(
            {"containers": [{"$patch": "replace"}, {"name": "c"}]},
            [{"name": "c"}],
            id="or the list is replaced",
        ),
        pytest.param(
            {"containers": [{"name": "a", "args": ["2", "3"]}]},
            [{**A, "args": ["2", "3"]}, B],
            id="a list without a key is replaced",
        ),
        pytest.param(
            {"containers": [{"name": "a", "image": None}]},
            [{"name": "a", "args": ["1"]}, B],
            id="null takes a field away",
        ),
        pytest.param(
            {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]},
            [B, A],
            id="an order is followed",
        ),
    ],
)
def test_strategic_patch_of_containers(spec: Obj, containers: list[Obj]) -> None:
    assert strategic(pod(A, B), {"spec": spec})["spec"]["containers"] == containers


def test_strategic_patch_of_finalizers_adds_and_can_delete() -> None:
    held = {"metadata": {"finalizers": ["x/a", "x/b"]}}
    added = strategic(held, {"metadata": {"finalizers": ["x/c", "x/a"]}})
    assert added["metadata"]["finalizers"] == ["x/a", "x/b", "x/c"]
    deletion = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"]}}
    assert strategic(held, deletion)["metadata"]["finalizers"] == ["x/b"]


def test_volumes_keep_only_the_source_that_is_told() -> None:
    value = pod(A, volumes=[{"name": "v", "emptyDir": {}}])
    volume = {"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}
    changed = strategic(value, {"spec": {"volumes": [volume]}})
    assert changed["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}]


def test_a_list_item_without_its_key_is_a_400() -> None:
    with pytest.raises(ApiError, match="lacks its key 'name'"):
        strategic(pod(A), {"spec": {"containers": [{"image": "z"}]}})
