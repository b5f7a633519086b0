"""Deleting: finalizers, preconditions, dependents, namespaces and definitions."""

import pytest
import yaml

from support.apiserver import (
    CONFIG_MAPS,
    JOBS,
    PODS,
    WIDGETS,
    Obj,
    Wire,
    causes,
    config_map,
    job,
    owned_by,
    pod,
    widget,
)
from support.waiting import eventually

pytestmark = pytest.mark.cluster

FINALIZER = "contract.example.com/wait"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def owner_and_dependent(wire: Wire, space: str, blocks: bool = False) -> tuple[str, str]:
    """Their paths."""
    owner = wire.make(WIDGETS.format(space), widget("owner"))
    references = owned_by(owner, blocks)
    wire.make(CONFIG_MAPS.format(space), config_map("dependent", ownerReferences=references))
    return f"{WIDGETS.format(space)}/owner", f"{CONFIG_MAPS.format(space)}/dependent"


def test_what_nothing_holds_is_gone_at_once(wire: Wire, space: str) -> None:
    path = f"{WIDGETS.format(space)}/one"
    made = wire.make(WIDGETS.format(space), widget("one"))
    code, status = wire("DELETE", path)
    assert (code, status["status"]) == (200, "Success")
    assert status["details"]["uid"] == made["metadata"]["uid"]
    assert wire.gone(path)


def test_a_finalizer_holds_an_object_until_it_is_taken_away(wire: Wire, space: str) -> None:
    path = f"{WIDGETS.format(space)}/one"
    wire.make(WIDGETS.format(space), widget("one", finalizers=[FINALIZER]))
    _, marked = wire("DELETE", path)
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["generation"] == 2
    wire.change(path, {"metadata": {"finalizers": None}})
    assert wire.gone(path)


def test_no_finalizer_is_added_to_what_is_being_deleted(wire: Wire, space: str) -> None:
    path = f"{WIDGETS.format(space)}/one"
    wire.make(WIDGETS.format(space), widget("one", finalizers=[FINALIZER]))
    wire("DELETE", path)
    more = {"metadata": {"finalizers": [FINALIZER, f"{FINALIZER}-more"]}}
    code, refusal = wire("PATCH", path, more, "merge-patch+json")
    assert (code, causes(refusal)) == (422, {"metadata.finalizers": "FieldValueForbidden"})
    wire.change(path, {"metadata": {"finalizers": None}})


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
def test_a_precondition_that_does_not_hold_keeps_the_object(
    wire: Wire, space: str, field: str
) -> None:
    path = f"{WIDGETS.format(space)}/one"
    wire.make(WIDGETS.format(space), widget("one"))
    code, refusal = wire("DELETE", path, {"preconditions": {field: "1"}})
    assert (code, refusal["reason"]) == (409, "Conflict")
    assert not wire.gone(path)


def test_a_dry_run_deletes_nothing(wire: Wire, space: str) -> None:
    path = f"{WIDGETS.format(space)}/one"
    wire.make(WIDGETS.format(space), widget("one"))
    assert wire("DELETE", path, {"dryRun": ["All"]})[0] == 200
    assert not wire.gone(path)


def test_a_collection_is_deleted_by_label(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    for name, color in (("one", "red"), ("two", "red"), ("three", "blue")):
        wire.make(path, widget(name, labels={"color": color}))
    assert wire("DELETE", path, labelSelector="color=red")[0] == 200
    assert wire.names(path) == ["three"]


# --- dependents


def test_in_the_background_dependents_follow(wire: Wire, space: str) -> None:
    owner, dependent = owner_and_dependent(wire, space)
    wire("DELETE", owner, {"propagationPolicy": "Background"})
    assert wire.gone(owner)
    eventually(lambda: wire.gone(dependent), "the dependent has followed")


def test_in_the_foreground_the_owner_waits_for_who_blocks_it(wire: Wire, space: str) -> None:
    owner, dependent = owner_and_dependent(wire, space, blocks=True)
    wire.change(dependent, {"metadata": {"finalizers": [FINALIZER]}})
    _, marked = wire("DELETE", owner, {"propagationPolicy": "Foreground"})
    assert marked["metadata"]["finalizers"] == ["foregroundDeletion"]
    eventually(
        lambda: "deletionTimestamp" in wire.found(dependent)["metadata"], "the dependent is deleted"
    )
    assert not wire.gone(owner)
    wire.change(dependent, {"metadata": {"finalizers": None}})
    eventually(lambda: wire.gone(owner), "the owner has gone after its dependent")


def test_orphans_stay_and_forget_their_owner(wire: Wire, space: str) -> None:
    owner, dependent = owner_and_dependent(wire, space)
    wire("DELETE", owner, {"propagationPolicy": "Orphan"})
    eventually(lambda: wire.gone(owner), "the owner is gone")
    assert "ownerReferences" not in wire.found(dependent)["metadata"]


def test_the_dependent_of_an_owner_that_never_was_goes(wire: Wire, space: str) -> None:
    nobody: Obj = {**widget("nobody"), "metadata": {"name": "nobody", "uid": "no-such-uid"}}
    path = CONFIG_MAPS.format(space)
    wire.make(path, config_map("lost", ownerReferences=owned_by(nobody)))
    eventually(lambda: wire.gone(f"{path}/lost"), "the dependent of nobody is gone")


def test_a_dependent_made_after_its_owner_has_gone_goes(wire: Wire, space: str) -> None:
    owner = wire.make(WIDGETS.format(space), widget("owner"))
    wire("DELETE", f"{WIDGETS.format(space)}/owner")
    path = CONFIG_MAPS.format(space)
    wire.make(path, config_map("late", ownerReferences=owned_by(owner)))
    eventually(lambda: wire.gone(f"{path}/late"), "the late dependent is gone")


def test_who_has_another_owner_stays_with_it(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    owners = [wire.make(path, widget(name)) for name in ("one", "two")]
    references = [each for owner in owners for each in owned_by(owner)]
    shared = f"{CONFIG_MAPS.format(space)}/shared"
    wire.make(CONFIG_MAPS.format(space), config_map("shared", ownerReferences=references))
    wire("DELETE", f"{path}/one")
    eventually(
        lambda: len(wire.found(shared)["metadata"]["ownerReferences"]) == 1,
        "the owner that has gone is forgotten",
    )
    assert wire.found(shared)["metadata"]["ownerReferences"] == references[1:]


def test_a_job_without_a_policy_leaves_its_pods(wire: Wire, space: str) -> None:
    owner = wire.make(JOBS.format(space), job("one"))
    dependent = {**pod("its"), "metadata": {"name": "its", "ownerReferences": owned_by(owner)}}
    wire.make(PODS.format(space), dependent)
    wire("DELETE", f"{JOBS.format(space)}/one")
    eventually(lambda: wire.gone(f"{JOBS.format(space)}/one"), "the Job is gone")
    assert "ownerReferences" not in wire.found(f"{PODS.format(space)}/its")["metadata"]


# --- pods, namespaces, definitions


def test_a_pod_that_no_node_has_goes_at_once(wire: Wire, space: str) -> None:
    path = f"{PODS.format(space)}/one"
    wire.make(PODS.format(space), pod("one"))
    wire("DELETE", path)
    assert wire.gone(path)


@pytest.mark.usefixtures("local")
def test_a_bound_pod_waits_for_its_node_to_let_it_go(wire: Wire, space: str) -> None:
    path = f"{PODS.format(space)}/one"
    wire.make(PODS.format(space), pod("one"))
    binding = {"metadata": {"name": "one"}, "target": {"kind": "Node", "name": "nowhere"}}
    wire.make(f"{path}/binding", binding)
    _, marked = wire("DELETE", path)
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert not wire.gone(path)
    wire("DELETE", path, {"gracePeriodSeconds": 0})
    assert wire.gone(path)


def test_a_namespace_takes_everything_in_it_along(wire: Wire, space: str) -> None:
    path, held = f"/api/v1/namespaces/{space}", f"{WIDGETS.format(space)}/held"
    wire.make(WIDGETS.format(space), widget("held", finalizers=[FINALIZER]))
    _, marked = wire("DELETE", path)
    assert marked["status"]["phase"] == "Terminating"
    code, refusal = wire("POST", WIDGETS.format(space), widget("new"))
    assert (code, refusal["reason"]) == (403, "Forbidden")
    eventually(lambda: "deletionTimestamp" in wire.found(held)["metadata"], "the widget is deleted")
    assert not wire.gone(path)
    wire.change(held, {"metadata": {"finalizers": None}})
    eventually(lambda: wire.gone(path), "the namespace is gone")


def test_the_default_namespace_stays(wire: Wire) -> None:
    assert wire("DELETE", "/api/v1/namespaces/default", {"dryRun": ["All"]})[0] == 403


def test_a_definition_takes_its_objects_along_and_is_no_longer_served(
    wire: Wire, space: str
) -> None:
    definition = yaml.safe_load(GADGETS)
    wire.make(DEFINITIONS, definition)
    gadgets = f"/apis/gadgets.example.com/v1/namespaces/{space}/gadgets"
    eventually(lambda: wire("GET", gadgets)[0] == 200, "gadgets are served")
    gadget = {"apiVersion": "gadgets.example.com/v1", "kind": "Gadget", "metadata": {"name": "one"}}
    wire.make(gadgets, {**gadget, "metadata": {"name": "one", "finalizers": [FINALIZER]}})
    path = f"{DEFINITIONS}/gadgets.gadgets.example.com"
    wire("DELETE", path)
    eventually(
        lambda: "deletionTimestamp" in wire.found(f"{gadgets}/one")["metadata"],
        "the gadget is deleted",
    )
    wire.change(f"{gadgets}/one", {"metadata": {"finalizers": None}})
    eventually(lambda: wire.gone(path), "the definition is gone")
    eventually(lambda: wire.gone(gadgets), "gadgets are no longer served")


GADGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.gadgets.example.com}
spec:
  group: gadgets.example.com
  scope: Namespaced
  names: {plural: gadgets, kind: Gadget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object}}
"""
