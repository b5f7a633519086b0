"""Writes obey the rules that every kind shares; garbage and namespaces are cleared away."""

import asyncio
import datetime
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primo_local.apiserver.api import Api, WriteOptions
from primo_local.apiserver.deletion import DeleteOptions, delete
from primo_local.apiserver.errors import ApiError
from primo_local.apiserver.gc import GarbageCollector
from primo_local.apiserver.lifecycle import Lifecycle
from primo_local.apiserver.objects import Json, Key, with_metadata
from primo_local.apiserver.registry import Resource
from primo_local.apiserver.server import new_api

DEFINITION: Json = {
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"size": {"type": "integer"}},
                            },
                            "status": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                                "properties": {"phase": {"type": "string"}},
                                "x-kubernetes-validations": [
                                    {"rule": "!has(self.phase) || self.phase != 'Bad'"}
                                ],
                            },
                        },
                    }
                },
            }
        ],
    },
}


class Time:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def __call__(self) -> datetime.datetime:
        return self.now


class World:
    """An API with its background work, done when a test says so."""

    def __init__(self) -> None:
        self.time = Time()
        self.api: Api = new_api(self.time, first_revision=1)
        self._work = [GarbageCollector(self.api), Lifecycle(self.api)]
        self.make("customresourcedefinitions", "", DEFINITION)

    def resource(self, plural: str) -> Resource:
        groups = self.api.registry.groups().values()
        found = (r for versions in groups for rs in versions.values() for r in rs)
        return next(each for each in found if each.plural == plural)

    def make(self, plural: str, namespace: str, obj: Json, **options: Any) -> Json:
        resource = self.resource(plural)
        return self.api.create(resource, namespace, obj, WriteOptions(**options)).obj

    def change(
        self, plural: str, name: str, change: Callable[[Json], Json], part: str = "", **options: Any
    ) -> Json:
        resource = self.resource(plural)
        key = Key("default" if resource.namespaced else "", name)
        return self.api.update(resource, key, change, WriteOptions(**options), part).obj

    def delete(self, plural: str, name: str, namespace: str = "default", **options: Any) -> bool:
        key = Key(namespace if self.resource(plural).namespaced else "", name)
        return delete(self.api, self.resource(plural), key, DeleteOptions(**options))[1]

    def found(self, plural: str, name: str, namespace: str = "default") -> Json | None:
        key = Key(namespace if self.resource(plural).namespaced else "", name)
        record = self.api.store.get(self.resource(plural).shelf, key)
        return record.obj if record else None

    def settle(self) -> None:
        """Let background work run until no write comes any more."""
        asyncio.run(self._settle())

    async def _settle(self) -> None:
        tasks = [asyncio.ensure_future(each.run()) for each in self._work]
        before = -1
        while self.api.store.revision != before:
            before = self.api.store.revision
            for _ in range(100):
                await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def world() -> World:
    return World()


def widget(name: str = "w", size: int = 1, **metadata: Any) -> Json:
    return {"metadata": {"name": name, **metadata}, "spec": {"size": size}}


def config_map(name: str, **metadata: Any) -> Json:
    return {"metadata": {"name": name, **metadata}, "data": {}}


def owned_by(owner: Json, blocks: bool = False) -> list[Json]:
    reference = {name: owner[name] for name in ("apiVersion", "kind")}
    fields = {name: owner["metadata"][name] for name in ("name", "uid")}
    return [{**reference, **fields, "blockOwnerDeletion": blocks}]


def refused(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ApiError) as error:
        call()
    return error.value.code, error.value.reason


def test_a_new_object_gets_what_only_the_server_gives(world: World) -> None:
    made = world.make("widgets", "default", widget())
    fields = made["metadata"]
    assert fields["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert (fields["namespace"], fields["generation"]) == ("default", 1)
    assert fields["uid"]
    assert (made["apiVersion"], made["kind"]) == ("example.com/v1", "Widget")


@pytest.mark.parametrize(
    ("plural", "namespace", "obj", "code", "reason"),
    [
        pytest.param("widgets", "none", widget(), 404, "NotFound", id="no such namespace"),
        pytest.param("widgets", "default", widget("No"), 422, "Invalid", id="a bad name"),
        pytest.param("widgets", "default", {"spec": {}}, 422, "Invalid", id="no name"),
        pytest.param(
            "widgets", "default", widget(labels={"a": "b c"}), 422, "Invalid", id="a bad label"
        ),
        pytest.param(
            "widgets", "default", widget(namespace="x"), 400, "BadRequest", id="another namespace"
        ),
        pytest.param(
            "widgets", "default", widget(resourceVersion="5"), 400, "BadRequest", id="a version"
        ),
        pytest.param(
            "widgets", "default", {**widget(), "kind": "Pod"}, 400, "BadRequest", id="another kind"
        ),
        pytest.param(
            "widgets",
            "default",
            widget(ownerReferences=[{"kind": "x"}]),
            422,
            "Invalid",
            id="owner",
        ),
        pytest.param(
            "configmaps", "default", {**config_map("c"), "data": 1}, 400, "BadRequest", id="a type"
        ),
        pytest.param(
            "namespaces", "", {"metadata": {"name": "a.b"}}, 422, "Invalid", id="no label"
        ),
    ],
)
def test_objects_that_are_not_made(
    world: World, plural: str, namespace: str, obj: Json, code: int, reason: str
) -> None:
    assert refused(lambda: world.make(plural, namespace, obj)) == (code, reason)


def test_a_name_is_taken_once(world: World) -> None:
    world.make("widgets", "default", widget())
    again = refused(lambda: world.make("widgets", "default", widget()))
    assert again == (409, "AlreadyExists")


def test_generated_names_differ_and_stay_short(world: World) -> None:
    obj = {"metadata": {"generateName": "x" * 80}, "spec": {}}
    names = {world.make("widgets", "default", obj)["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert {len(name) for name in names} == {63}


def test_a_write_that_changes_nothing_is_no_write(world: World) -> None:
    made = world.make("widgets", "default", widget())
    revision = world.api.store.revision
    assert world.change("widgets", "w", lambda obj: {**obj, "spec": {"size": 1}}) == made
    assert world.api.store.revision == revision


def test_generation_counts_changes_of_the_spec_alone(world: World) -> None:
    world.make("widgets", "default", widget())
    labelled = world.change("widgets", "w", lambda obj: with_metadata(obj, labels={"a": "b"}))
    assert labelled["metadata"]["generation"] == 1
    changed = world.change("widgets", "w", lambda obj: {**obj, "spec": {"size": 2}})
    assert changed["metadata"]["generation"] == 2


def test_status_and_the_rest_change_apart(world: World) -> None:
    world.make("widgets", "default", {**widget(), "status": {"phase": "New"}})

    def both(obj: Json) -> Json:
        return {**obj, "spec": {"size": 9}, "status": {"phase": "Done"}}

    assert "status" not in world.change("widgets", "w", both)
    world.change("widgets", "w", lambda obj: {**obj, "spec": {"size": 1}})
    changed = world.change("widgets", "w", both, "status")
    assert changed["status"] == {"phase": "Done"}
    assert changed["spec"] == {"size": 1}


@pytest.mark.parametrize("status", [{"phase": 1}, {"phase": "Bad"}], ids=["a type", "a rule"])
def test_a_status_obeys_what_is_said_of_it(world: World, status: Json) -> None:
    world.make("widgets", "default", widget())
    written = refused(
        lambda: world.change("widgets", "w", lambda obj: {**obj, "status": status}, "status")
    )
    assert written == (422, "Invalid")


def test_a_stale_version_is_a_conflict(world: World) -> None:
    old = world.make("widgets", "default", widget())
    world.change("widgets", "w", lambda obj: {**obj, "spec": {"size": 2}})
    assert refused(lambda: world.change("widgets", "w", lambda _: old)) == (409, "Conflict")


def test_system_fields_are_the_servers(world: World) -> None:
    made = world.make("widgets", "default", widget())
    changed = world.change(
        "widgets", "w", lambda obj: with_metadata(obj, creationTimestamp="x", generation=7)
    )
    assert changed == made


def test_unknown_fields_are_refused_told_or_dropped(world: World) -> None:
    obj = {**widget(), "extra": 1}
    strict = refused(lambda: world.make("widgets", "default", obj, field_validation="Strict"))
    assert strict == (400, "BadRequest")
    warnings: list[str] = []
    assert "extra" not in world.make("widgets", "default", obj, warnings=warnings)
    assert warnings == ['unknown field "extra"']


def test_a_dry_run_stores_nothing(world: World) -> None:
    made = world.make("widgets", "default", widget(), dry_run=True)
    assert made["metadata"]["uid"]
    assert world.found("widgets", "w") is None
    world.make("widgets", "default", widget())
    world.change("widgets", "w", lambda obj: {**obj, "spec": {"size": 2}}, dry_run=True)
    world.delete("widgets", "w", dry_run=True)
    assert world.found("widgets", "w")["spec"] == {"size": 1}  # type: ignore[index]


def test_finalizers_hold_a_deleted_object(world: World) -> None:
    world.make("widgets", "default", widget(finalizers=["x.io/a"]))
    assert not world.delete("widgets", "w")
    held = world.found("widgets", "w")
    assert held is not None
    assert held["metadata"]["deletionGracePeriodSeconds"] == 0
    assert held["metadata"]["generation"] == 2
    more = ["x.io/a", "x.io/b"]
    added = refused(
        lambda: world.change("widgets", "w", lambda obj: with_metadata(obj, finalizers=more))
    )
    assert added == (422, "Invalid")
    world.change("widgets", "w", lambda obj: with_metadata(obj, finalizers=None))
    assert world.found("widgets", "w") is None


@pytest.mark.parametrize("precondition", [{"uid": "other"}, {"resource_version": "1"}])
def test_a_delete_may_ask_for_a_certain_object(world: World, precondition: dict[str, str]) -> None:
    world.make("widgets", "default", widget())
    assert refused(lambda: world.delete("widgets", "w", **precondition)) == (409, "Conflict")


POD: Json = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "x"}]}}


def running_pod(world: World) -> None:
    world.make("pods", "default", POD)
    pod = world.found("pods", "p")
    assert pod is not None
    bound = {**pod, "spec": {**pod["spec"], "nodeName": "n"}}
    world.api.store.put("pods", Key("default", "p"), bound)


def test_a_running_pod_is_deleted_by_its_node(world: World) -> None:
    running_pod(world)
    assert not world.delete("pods", "p")
    pod = world.found("pods", "p")
    assert pod is not None
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 30
    assert pod["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    assert not world.delete("pods", "p", grace_period_s=5)
    assert not world.delete("pods", "p", grace_period_s=20)
    pod = world.found("pods", "p")
    assert pod is not None
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 5
    assert world.delete("pods", "p", grace_period_s=0)


def test_a_pod_without_a_node_is_gone_at_once(world: World) -> None:
    world.make("pods", "default", POD)
    assert world.delete("pods", "p")


def test_a_pod_held_by_a_finalizer_goes_when_both_have_let_go(world: World) -> None:
    running_pod(world)
    world.change("pods", "p", lambda obj: with_metadata(obj, finalizers=["x.io/a"]))
    world.delete("pods", "p")
    world.change("pods", "p", lambda obj: with_metadata(obj, finalizers=None))
    assert world.found("pods", "p") is not None
    assert world.delete("pods", "p", grace_period_s=0)


# --- garbage


def test_dependents_follow_in_the_background(world: World) -> None:
    owner = world.make("widgets", "default", widget())
    world.make("configmaps", "default", config_map("c", ownerReferences=owned_by(owner)))
    assert world.delete("widgets", "w")
    world.settle()
    assert world.found("configmaps", "c") is None


def test_an_owner_waits_in_the_foreground_for_those_that_block_it(world: World) -> None:
    owner = world.make("widgets", "default", widget())
    held = config_map("c", ownerReferences=owned_by(owner, blocks=True), finalizers=["x.io/a"])
    world.make("configmaps", "default", held)
    assert not world.delete("widgets", "w", propagation="Foreground")
    world.settle()
    waiting = world.found("widgets", "w")
    assert waiting is not None
    assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
    world.change("configmaps", "c", lambda obj: with_metadata(obj, finalizers=None))
    world.settle()
    assert world.found("widgets", "w") is None


def test_a_chain_goes_in_the_foreground_from_its_end(world: World) -> None:
    top = world.make("widgets", "default", widget("top"))
    middle = widget("middle", ownerReferences=owned_by(top, blocks=True))
    made = world.make("widgets", "default", middle)
    held = config_map("end", ownerReferences=owned_by(made, blocks=True), finalizers=["x.io/a"])
    world.make("configmaps", "default", held)
    world.delete("widgets", "top", propagation="Foreground")
    world.settle()
    assert world.found("widgets", "middle") is not None
    world.change("configmaps", "end", lambda obj: with_metadata(obj, finalizers=None))
    world.settle()
    assert world.found("widgets", "middle") is None
    assert world.found("widgets", "top") is None


def test_orphans_stay_without_their_owner(world: World) -> None:
    owner = world.make("widgets", "default", widget())
    world.make("configmaps", "default", config_map("c", ownerReferences=owned_by(owner)))
    world.delete("widgets", "w", propagation="Orphan")
    world.settle()
    assert world.found("widgets", "w") is None
    orphan = world.found("configmaps", "c")
    assert orphan is not None
    assert "ownerReferences" not in orphan["metadata"]


@pytest.mark.parametrize("earlier", [True, False], ids=["gone before", "never there"])
def test_an_object_made_after_its_owner_had_gone_goes_too(world: World, earlier: bool) -> None:
    owner = world.make("widgets", "default", widget(), dry_run=not earlier)
    if earlier:
        world.delete("widgets", "w")
    world.make("configmaps", "default", config_map("c", ownerReferences=owned_by(owner)))
    world.settle()
    assert world.found("configmaps", "c") is None


def test_an_owner_of_a_kind_nobody_knows_is_left_alone(world: World) -> None:
    owner = {"apiVersion": "x.io/v1", "kind": "X", "metadata": {"name": "x", "uid": "1"}}
    world.make("configmaps", "default", config_map("c", ownerReferences=owned_by(owner)))
    world.settle()
    assert world.found("configmaps", "c") is not None


def test_a_second_owner_keeps_an_object(world: World) -> None:
    owners = [world.make("widgets", "default", widget(name)) for name in "ab"]
    references = [*owned_by(owners[0]), *owned_by(owners[1])]
    world.make("configmaps", "default", config_map("c", ownerReferences=references))
    world.delete("widgets", "a")
    world.settle()
    kept = world.found("configmaps", "c")
    assert kept is not None
    assert kept["metadata"]["ownerReferences"] == owned_by(owners[1])


def test_an_owner_in_another_namespace_is_none(world: World) -> None:
    owner = world.make("widgets", "default", widget())
    world.make("configmaps", "kube-system", config_map("c", ownerReferences=owned_by(owner)))
    world.settle()
    assert world.found("configmaps", "c", "kube-system") is None


# --- namespaces and definitions


def test_a_deleted_namespace_waits_for_what_is_in_it(world: World) -> None:
    world.make("namespaces", "", {"metadata": {"name": "n"}})
    world.make("configmaps", "n", config_map("c"))
    world.make("widgets", "n", widget(finalizers=["x.io/a"]))
    assert not world.delete("namespaces", "n")
    world.settle()
    namespace = world.found("namespaces", "n")
    assert namespace is not None
    assert namespace["status"]["phase"] == "Terminating"
    assert world.found("configmaps", "c", "n") is None
    late = refused(lambda: world.make("configmaps", "n", config_map("late")))
    assert late == (403, "Forbidden")
    resource = world.resource("widgets")
    world.api.update(
        resource, Key("n", "w"), lambda obj: with_metadata(obj, finalizers=None), WriteOptions()
    )
    world.settle()
    assert world.found("namespaces", "n") is None


def test_a_namespaces_own_finalizers_are_not_for_editing(world: World) -> None:
    world.make("namespaces", "", {"metadata": {"name": "n"}})
    changed = world.change("namespaces", "n", lambda obj: {**obj, "spec": {"finalizers": []}})
    assert changed["spec"] == {"finalizers": ["kubernetes"]}


def test_a_deleted_definition_takes_its_objects_along(world: World) -> None:
    owner = world.make("widgets", "default", widget())
    world.make("configmaps", "default", config_map("c", ownerReferences=owned_by(owner)))
    assert not world.delete("customresourcedefinitions", "widgets.example.com")
    world.settle()
    assert world.found("customresourcedefinitions", "widgets.example.com") is None
    assert world.api.registry.of_kind("example.com/v1", "Widget") is None
    assert world.found("configmaps", "c") is None


# --- nothing breaks the server

CONTAINER: Json = {
    "name": "a",
    "image": "x:1",
    "env": [
        {"name": "A", "value": "b"},
        {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
    ],
    "ports": [{"containerPort": 80}],
    "resources": {"limits": {"cpu": 1, "x.io/gpu": "2"}, "requests": {"cpu": "500m"}},
    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    "livenessProbe": {"httpGet": {"port": 80}},
}
POD_SPEC: Json = {
    "restartPolicy": "Never",
    "containers": [CONTAINER],
    "initContainers": [{**CONTAINER, "name": "b", "restartPolicy": "Always"}],
    "volumes": [{"name": "v", "configMap": {"name": "c"}}, {"name": "w"}],
}
METADATA: Json = {
    "generateName": "x-",
    "labels": {"a": "b"},
    "annotations": {"c": "d"},
    "finalizers": ["x.io/a"],
    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"}],
}
CLAIM: Json = {
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Gi"}},
}
GOOD: dict[str, Json] = {
    "pods": {"metadata": METADATA, "spec": POD_SPEC},
    "jobs": {"metadata": METADATA, "spec": {"template": {"spec": POD_SPEC}, "completions": 1}},
    "widgets": {"metadata": METADATA, "spec": {"size": 1}},
    "customresourcedefinitions": {
        "metadata": {"name": "gadgets.example.com"},
        "spec": {**DEFINITION["spec"], "names": {"plural": "gadgets", "kind": "Gadget"}},
    },
    "events": {"metadata": METADATA, "involvedObject": {"kind": "Pod", "namespace": "default"}},
    "secrets": {"metadata": METADATA, "data": {"a": "Yg=="}, "stringData": {"c": "d"}},
    "services": {"metadata": METADATA, "spec": {"ports": [{"port": 80}]}},
    "leases": {"metadata": METADATA, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 5}},
    "nodes": {"metadata": METADATA, "status": {"capacity": {"cpu": 4}}},
    "persistentvolumeclaims": {"metadata": METADATA, "spec": CLAIM},
}
WRONG = st.sampled_from([None, True, 0, -1, 1.5, "", "x", [], ["x"], [{}], {}, {"x": 1}, [None]])


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a value."""
    members = value.items() if isinstance(value, dict) else ()
    members = enumerate(value) if isinstance(value, list) else members
    return [path, *(place for name, each in members for place in _places(each, (*path, name)))]


def _replaced(value: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    if not path:
        return wrong
    copy = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], wrong)
    return copy


@pytest.mark.parametrize("plural", GOOD)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), wrong=WRONG)
def test_an_object_with_one_wrong_value_is_taken_or_refused(
    world: World, plural: str, data: st.DataObject, wrong: Any
) -> None:
    path = data.draw(st.sampled_from(_places(GOOD[plural])[1:]))
    namespace = "default" if world.resource(plural).namespaced else ""
    codes = set()
    try:
        world.make(plural, namespace, _replaced(GOOD[plural], path, wrong))
    except ApiError as error:
        codes.add(error.code)
    assert codes <= {400, 409, 422}


@pytest.mark.parametrize("plural", GOOD)
def test_an_object_with_nothing_wrong_is_taken(world: World, plural: str) -> None:
    namespace = "default" if world.resource(plural).namespaced else ""
    assert world.make(plural, namespace, GOOD[plural])
