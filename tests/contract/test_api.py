"""Reading and writing objects over HTTP: what every Kubernetes API server does."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.apiserver import (
    CONFIG_MAPS,
    GROUP_VERSION,
    JOBS,
    PODS,
    WIDGETS,
    Obj,
    Wire,
    causes,
    config_map,
    job,
    pod,
    widget,
)

pytestmark = pytest.mark.cluster

JSON_PATCH, MERGE = "json-patch+json", "merge-patch+json"
STRATEGIC, APPLY = "strategic-merge-patch+json", "apply-patch+yaml"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


# --- discovery


def test_a_server_says_its_version_and_that_it_is_ready(wire: Wire) -> None:
    assert wire.found("/version")["major"] == "1"
    assert wire.raw("GET", "/readyz").data == b"ok"


def test_discovery_lists_resources_with_their_subresources(wire: Wire) -> None:
    listed = {each["name"]: each for each in wire.found("/api/v1")["resources"]}
    assert {"pods", "pods/log", "pods/status", "pods/binding"} <= set(listed)
    assert listed["pods"]["kind"] == "Pod"
    assert "watch" in listed["pods"]["verbs"]


@pytest.mark.parametrize("version", ["v2", "v2beta1"])
def test_aggregated_discovery_tells_all_groups_at_once(wire: Wire, version: str) -> None:
    media = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    reply = wire.raw("GET", "/apis", {"Accept": f"{media},application/json"})
    if reply.json()["kind"] == "APIGroupList":
        pytest.skip(f"this server no longer serves {version}")
    assert reply.headers["Content-Type"] == media
    groups = {each["metadata"]["name"]: each for each in reply.json()["items"]}
    served = groups[GROUP_VERSION.split("/")[0]]["versions"][0]["resources"]
    assert [each["resource"] for each in served] == ["widgets"]
    assert served[0]["shortNames"] == ["wd"]


def test_openapi_describes_custom_kinds_and_says_that_patches_are_validated(wire: Wire) -> None:
    path = f"apis/{GROUP_VERSION}"
    url = wire.found("/openapi/v3")["paths"][path]["serverRelativeURL"]
    document = json.loads(wire.raw("GET", url).data)
    single = document["paths"][f"/{path}/namespaces/{{namespace}}/widgets/{{name}}"]
    assert "fieldValidation" in {each["name"] for each in single["patch"]["parameters"]}
    kind = single["patch"]["x-kubernetes-group-version-kind"]
    schema = next(
        each
        for each in document["components"]["schemas"].values()
        if kind in each.get("x-kubernetes-group-version-kind", ())
    )
    color = schema["properties"]["spec"]["properties"]["color"]
    assert color["description"] == "Its paint."


# --- creating


def test_the_server_gives_a_new_object_its_own_metadata(wire: Wire, space: str) -> None:
    made = wire.make(WIDGETS.format(space), widget("one", labels={"a": "b"}))
    fields = made["metadata"]
    assert (fields["namespace"], fields["generation"], fields["labels"]) == (space, 1, {"a": "b"})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", fields["creationTimestamp"])
    assert fields["uid"]
    assert fields["resourceVersion"].isdigit()


def test_defaults_are_filled_in_at_every_depth(wire: Wire, space: str) -> None:
    made = wire.make(WIDGETS.format(space), widget("one"))
    assert made["spec"] == {"color": "red", "size": 10, "replicas": 1, "box": {"lid": True}}


def test_unknown_fields_are_pruned_but_where_they_are_preserved(wire: Wire, space: str) -> None:
    spec = {"colour": "red", "free": {"any": [{"thing": 1}]}}
    path = WIDGETS.format(space)
    made = wire.make(path, widget("one", spec), fieldValidation="Ignore")
    assert "colour" not in made["spec"]
    assert made["spec"]["free"] == spec["free"]


def test_strict_validation_refuses_unknown_fields(wire: Wire, space: str) -> None:
    obj = widget("one", {"colour": "red"})
    code, refusal = wire("POST", WIDGETS.format(space), obj, fieldValidation="Strict")
    assert (code, refusal["reason"]) == (400, "BadRequest")
    assert 'unknown field "spec.colour"' in refusal["message"]


def test_by_default_unknown_fields_are_warned_of(wire: Wire, space: str) -> None:
    _, warnings = wire.warned(WIDGETS.format(space), widget("one", {"colour": "red"}))
    assert warnings == ['299 - "unknown field \\"spec.colour\\""']


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        pytest.param({"color": "pink"}, "spec.color", "FieldValueNotSupported", id="enum"),
        pytest.param({"size": 0}, "spec.size", "FieldValueInvalid", id="minimum"),
        pytest.param({"size": "ten"}, "spec.size", "FieldValueTypeInvalid", id="type"),
        pytest.param({"parts": [{}]}, "spec.parts[0].name", "FieldValueRequired", id="required"),
        pytest.param(
            {"parts": [{"name": "A"}]}, "spec.parts[0].name", "FieldValueInvalid", id="pattern"
        ),
        pytest.param(
            {"parts": [{"name": "a"}, {"name": "a"}]},
            "spec.parts[1]",
            "FieldValueDuplicate",
            id="the key of a list twice",
        ),
        pytest.param({"replicas": 11}, "spec", "FieldValueInvalid", id="a rule over two fields"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(
    wire: Wire, space: str, spec: Obj, field: str, reason: str
) -> None:
    code, refusal = wire("POST", WIDGETS.format(space), widget("bad", spec))
    assert (code, refusal["reason"]) == (422, "Invalid")
    assert causes(refusal)[field] == reason


def test_a_rule_says_its_message(wire: Wire, space: str) -> None:
    _, refusal = wire("POST", WIDGETS.format(space), widget("bad", {"replicas": 11}))
    assert "replicas must not exceed size" in refusal["message"]


def test_a_transition_rule_compares_with_what_was_before(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    wire.make(path, widget("one"))
    code, refusal = wire("PATCH", f"{path}/one", {"spec": {"color": "blue"}}, MERGE)
    assert code == 422
    assert causes(refusal) == {"spec.color": "FieldValueForbidden"}
    assert "color is immutable" in refusal["message"]


def test_a_number_may_be_written_as_an_integer(wire: Wire, space: str) -> None:
    made = wire.make(WIDGETS.format(space), widget("one", {"weight": 1}))
    assert made["spec"]["weight"] == 1


def test_a_name_is_taken_once(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    wire.make(path, widget("one"))
    code, refusal = wire("POST", path, widget("one"))
    assert (code, refusal["reason"]) == (409, "AlreadyExists")


def test_a_generated_name_ends_in_five_letters(wire: Wire, space: str) -> None:
    obj = widget(None, generateName="many-")  # type: ignore[arg-type] # the server names it
    made = wire.make(WIDGETS.format(space), obj)
    assert re.fullmatch(r"many-[a-z0-9]{5}", made["metadata"]["name"])


def test_a_name_must_be_a_dns_name(wire: Wire, space: str) -> None:
    code, refusal = wire("POST", WIDGETS.format(space), widget("Bad_Name"))
    assert (code, list(causes(refusal))) == (422, ["metadata.name"])


def test_nothing_is_created_in_a_namespace_that_is_not_there(wire: Wire) -> None:
    code, refusal = wire("POST", WIDGETS.format("nowhere"), widget("one"))
    assert (code, refusal["details"]["kind"]) == (404, "namespaces")


def test_a_dry_run_stores_nothing(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    made = wire.make(path, widget("one"), dryRun="All")
    assert made["spec"]["color"] == "red"
    assert wire.gone(f"{path}/one")


def test_what_is_not_there_is_told_by_name(wire: Wire, space: str) -> None:
    code, refusal = wire("GET", f"{WIDGETS.format(space)}/none")
    assert (code, refusal["kind"], refusal["reason"]) == (404, "Status", "NotFound")
    assert refusal["message"] == 'widgets.contract.example.com "none" not found'
    assert refusal["details"]["name"] == "none"


# --- changing


def test_a_merge_patch_sets_and_removes(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    wire.make(path, widget("one", {"weight": 2.5}))
    changed = wire.change(f"{path}/one", {"spec": {"weight": None, "size": 5}})
    assert changed["spec"] == {"color": "red", "size": 5, "replicas": 1, "box": {"lid": True}}


def test_a_json_patch_tests_before_it_writes(wire: Wire, space: str) -> None:
    path = f"{CONFIG_MAPS.format(space)}/one"
    wire.make(CONFIG_MAPS.format(space), config_map("one", {"a": "1"}))
    test = {"op": "test", "path": "/data/a", "value": "2"}
    add = {"op": "add", "path": "/data/b", "value": "2"}
    code, _ = wire("PATCH", path, [test, add], JSON_PATCH)
    assert code == 422
    assert wire.change(path, [{**test, "value": "1"}, add], JSON_PATCH)["data"] == {
        "a": "1",
        "b": "2",
    }


def test_a_strategic_patch_merges_lists_by_their_key(wire: Wire, space: str) -> None:
    path = f"{PODS.format(space)}/one"
    wire.make(PODS.format(space), pod("one"))
    patch = {"spec": {"containers": [{"name": "main", "image": "none.invalid/other:2"}]}}
    changed = wire.change(path, patch, STRATEGIC)
    assert [c["image"] for c in changed["spec"]["containers"]] == ["none.invalid/other:2"]
    assert changed["spec"]["containers"][0]["terminationMessagePath"]


def test_custom_kinds_take_no_strategic_patches(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    wire.make(path, widget("one"))
    code, refusal = wire("PATCH", f"{path}/one", {"spec": {}}, STRATEGIC)
    assert (code, refusal["reason"]) == (415, "UnsupportedMediaType")


@pytest.mark.usefixtures("local")
def test_server_side_apply_is_refused_with_the_way_out(wire: Wire, space: str) -> None:
    path = f"{WIDGETS.format(space)}/one"
    code, refusal = wire("PATCH", path, widget("one"), APPLY, fieldManager="me")
    assert code == 415
    assert "leave out --server-side" in refusal["message"]


def test_what_changes_nothing_keeps_its_version(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    made = wire.make(path, widget("one"))
    patched = wire.change(f"{path}/one", {"spec": {"size": 10}})
    code, put = wire("PUT", f"{path}/one", made)
    assert code == 200
    assert made == patched == put


def test_generation_counts_changes_of_the_spec_alone(wire: Wire, space: str) -> None:
    path = f"{WIDGETS.format(space)}/one"
    wire.make(WIDGETS.format(space), widget("one"))
    patches: list[tuple[str, Obj]] = [
        (path, {"metadata": {"labels": {"a": "b"}}}),
        (f"{path}/status", {"status": {"phase": "Done"}}),
        (path, {"spec": {"size": 20}}),
    ]
    assert [wire.change(*each)["metadata"]["generation"] for each in patches] == [1, 1, 2]


def test_status_and_spec_change_through_their_own_paths_only(wire: Wire, space: str) -> None:
    path = f"{WIDGETS.format(space)}/one"
    made = wire.make(WIDGETS.format(space), {**widget("one"), "status": {"phase": "New"}})
    assert "status" not in made
    both: Obj = {"spec": {"size": 20}, "status": {"phase": "Done"}}
    assert wire.change(f"{path}/status", both)["spec"]["size"] == 10
    changed = wire.change(path, {**both, "status": {"phase": "Changed"}})
    assert (changed["spec"]["size"], changed["status"]) == (20, {"phase": "Done"})


def test_a_stale_write_is_a_conflict(wire: Wire, space: str) -> None:
    path = f"{WIDGETS.format(space)}/one"
    old = wire.make(WIDGETS.format(space), widget("one"))
    wire.change(path, {"spec": {"size": 20}})
    stale = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}}
    for method, body, kind in (
        ("PUT", {**old, "spec": {"size": 30}}, "json"),
        ("PATCH", {**stale, "spec": {"size": 30}}, MERGE),
        ("PATCH", {**stale, "status": {"phase": "Done"}}, MERGE),
    ):
        where = f"{path}/status" if "status" in body else path
        code, refusal = wire(method, where, body, kind)
        assert (code, refusal["reason"]) == (409, "Conflict"), method


def test_a_custom_object_is_not_replaced_without_its_version(wire: Wire, space: str) -> None:
    wire.make(WIDGETS.format(space), widget("one"))
    code, refusal = wire("PUT", f"{WIDGETS.format(space)}/one", widget("one", {"size": 2}))
    assert (code, list(causes(refusal))) == (422, ["metadata.resourceVersion"])


def test_what_the_server_writes_nobody_else_does(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    made = wire.make(path, widget("one"))
    forged: Obj = {"creationTimestamp": "2000-01-01T00:00:00Z", "generation": 7}
    changed = wire.change(f"{path}/one", {"metadata": forged})
    assert changed["metadata"] == made["metadata"]


def test_scale_is_a_view_of_the_fields_its_definition_names(wire: Wire, space: str) -> None:
    path = f"{WIDGETS.format(space)}/one"
    wire.make(WIDGETS.format(space), widget("one"))
    scaled = wire.change(f"{path}/scale", {"spec": {"replicas": 3}})
    assert (scaled["kind"], scaled["spec"]) == ("Scale", {"replicas": 3})
    assert wire.found(path)["spec"]["replicas"] == 3
    code, _ = wire("PATCH", f"{path}/scale", {"spec": {"replicas": 11}}, MERGE)
    assert code == 422


def test_a_lease_changes_hands_once_for_a_version(wire: Wire, space: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases"
    lease = {"metadata": {"name": "one"}, "spec": {"holderIdentity": "a"}}
    made = wire.make(path, lease)
    taken = {**made, "spec": {"holderIdentity": "b"}}
    codes = [wire("PUT", f"{path}/one", taken)[0] for _ in range(2)]
    assert codes == [200, 409]


# --- lists


def test_a_list_is_cut_from_one_snapshot(wire: Wire, space: str) -> None:
    path = CONFIG_MAPS.format(space)
    for name in ("a1", "a2", "a3"):
        wire.make(path, config_map(name, labels={"cut": "here"}))
    query = {"labelSelector": "cut=here"}
    _, first = wire("GET", path, limit="2", **query)
    wire.make(path, config_map("a4", labels={"cut": "here"}))
    _, second = wire("GET", path, limit="2", **query, **{"continue": first["metadata"]["continue"]})
    names = [each["metadata"]["name"] for each in first["items"] + second["items"]]
    assert names == ["a1", "a2", "a3"]
    assert "continue" not in second["metadata"]


def test_a_continue_token_is_not_made_up(wire: Wire, space: str) -> None:
    token = base64.b64encode(b"nonsense").decode()
    code, _ = wire("GET", CONFIG_MAPS.format(space), limit="1", **{"continue": token})
    assert code in (400, 410)


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("color=red", ["one"]),
        ("color==red", ["one"]),
        ("color!=red", ["three", "two"]),
        ("color in (red,blue)", ["one", "two"]),
        ("color notin (red)", ["three", "two"]),
        ("color", ["one", "two"]),
        ("!color", ["three"]),
        ("color in (red, blue),big", ["two"]),
    ],
)
def test_labels_select(wire: Wire, space: str, selector: str, names: list[str]) -> None:
    path = WIDGETS.format(space)
    for name, labels in (("one", {"color": "red"}), ("two", {"color": "blue", "big": ""})):
        wire.make(path, widget(name, labels=labels))
    wire.make(path, widget("three"))
    assert wire.names(path, labelSelector=selector) == names


def test_fields_select_where_the_kind_allows_it(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    wire.make(path, widget("one", {"color": "blue"}))
    wire.make(path, widget("two"))
    assert wire.names(path, fieldSelector="spec.color=blue") == ["one"]
    assert wire.names(path, fieldSelector="metadata.name!=one") == ["two"]
    assert wire.names(path, fieldSelector="spec.color=blue,metadata.name=two") == []


@pytest.mark.parametrize(
    ("kind", "selector"),
    [("fieldSelector", "spec.size=10"), ("labelSelector", "a in (b"), ("labelSelector", "=b")],
)
def test_what_is_no_selector_is_refused(wire: Wire, space: str, kind: str, selector: str) -> None:
    code, refusal = wire("GET", WIDGETS.format(space), **{kind: selector})
    assert (code, refusal["reason"]) == (400, "BadRequest")


def test_a_table_has_the_columns_of_the_definition(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    wire.make(path, widget("one", {"color": "green"}))
    table = wire.table(path)
    columns = [(each["name"], each["priority"]) for each in table["columnDefinitions"]]
    assert columns == [("Name", 0), ("Color", 0), ("Size", 1), ("Age", 0)]
    assert table["rows"][0]["cells"][:3] == ["one", "green", 10]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


# --- built-in kinds


def test_a_job_gets_its_defaults_and_owns_the_labels_of_its_pods(wire: Wire, space: str) -> None:
    made = wire.make(JOBS.format(space), job("one"))
    uid, spec = made["metadata"]["uid"], made["spec"]
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    labels = spec["template"]["metadata"]["labels"]
    assert labels["batch.kubernetes.io/job-name"] == labels["job-name"] == "one"
    assert (spec["backoffLimit"], spec["parallelism"], spec["completions"]) == (6, 1, 1)
    container = spec["template"]["spec"]["containers"][0]
    assert container["terminationMessagePolicy"] == "File"


@pytest.mark.parametrize(
    ("pod_spec", "field"),
    [
        pytest.param({"restartPolicy": "Always"}, "restartPolicy", id="pods that never end"),
        pytest.param({"containers": []}, "containers", id="no container"),
        pytest.param(
            {"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]},
            "containers[1].name",
            id="a name twice",
        ),
        pytest.param(
            {
                "containers": [
                    {
                        "name": "a",
                        "image": "x",
                        "volumeMounts": [{"name": "none", "mountPath": "/x"}],
                    }
                ]
            },
            "containers[0].volumeMounts[0].name",
            id="a mount without its volume",
        ),
    ],
)
def test_a_template_that_could_not_run_is_refused(
    wire: Wire, space: str, pod_spec: Obj, field: str
) -> None:
    code, refusal = wire("POST", JOBS.format(space), job("bad", pod_spec))
    assert code == 422
    assert f"spec.template.spec.{field}" in causes(refusal)


def test_gpus_are_not_overcommitted(wire: Wire, space: str) -> None:
    resources = {"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "1"}}
    code, refusal = wire("POST", PODS.format(space), pod("bad", resources=resources))
    assert code == 422
    assert "must be equal to nvidia.com/gpu limit" in refusal["message"]


def test_quantities_come_back_as_texts(wire: Wire, space: str) -> None:
    resources: Obj = {"limits": {"nvidia.com/gpu": 1, "cpu": 0.5, "memory": "1024Ki"}}
    made = wire.make(PODS.format(space), pod("one", resources=resources))
    limits = made["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"nvidia.com/gpu": "1", "cpu": "500m", "memory": "1Mi"}


def test_a_pod_is_bound_once(wire: Wire, space: str) -> None:
    path = f"{PODS.format(space)}/one"
    wire.make(PODS.format(space), pod("one"))
    binding = {"metadata": {"name": "one"}, "target": {"kind": "Node", "name": "nowhere"}}
    codes = [wire("POST", f"{path}/binding", binding)[0] for _ in range(2)]
    assert codes == [201, 409]
    bound = wire.found(path)
    assert bound["spec"]["nodeName"] == "nowhere"
    scheduled = [c["status"] for c in bound["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert scheduled == ["True"]


def test_an_event_is_seen_through_both_groups(wire: Wire, space: str) -> None:
    event = {
        "metadata": {"name": "one"},
        "involvedObject": {"kind": "Widget", "name": "w", "namespace": space},
        "reason": "Painted",
        "message": "red now",
        "type": "Normal",
    }
    wire.make(f"/api/v1/namespaces/{space}/events", event)
    newer = wire.found(f"/apis/events.k8s.io/v1/namespaces/{space}/events/one")
    assert (newer["regarding"]["name"], newer["note"]) == ("w", "red now")


def test_a_definition_whose_rule_cannot_be_read_is_refused(wire: Wire) -> None:
    schema = {"type": "object", "x-kubernetes-validations": [{"rule": "self.("}]}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "broken.contract.example.com"},
        "spec": {
            "group": "contract.example.com",
            "scope": "Namespaced",
            "names": {"plural": "broken", "kind": "Broken"},
            "versions": [version],
        },
    }
    code, refusal = wire(
        "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition
    )
    assert code == 422
    assert any("x-kubernetes-validations[0].rule" in field for field in causes(refusal))


# --- who may ask


def test_who_has_the_token_may_do_everything(wire: Wire) -> None:
    asked = {"spec": {"resourceAttributes": {"verb": "delete", "resource": "pods"}}}
    assert wire.make(REVIEWS, asked)["status"]["allowed"] is True


def test_a_wrong_token_is_refused(cluster: Any) -> None:
    nobody = Wire(cluster.kubeconfig, as_nobody=True)
    reply = nobody.raw("GET", "/api/v1/namespaces", {"Authorization": "Bearer wrong"})
    assert (reply.status, reply.json()["reason"]) == (401, "Unauthorized")


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("path", ["/readyz", "/api/v1/secrets"])
def test_a_name_that_is_made_to_lead_here_is_refused(wire: Wire, path: str) -> None:
    reply = wire.raw("GET", path, {"Host": "evil.example.com"})
    assert reply.status == 403


@pytest.mark.usefixtures("local")
def test_other_hosts_pages_get_no_leave_to_read(wire: Wire) -> None:
    reply = wire.raw("GET", "/version", {"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in reply.headers


@pytest.mark.usefixtures("local")
def test_a_body_that_is_too_large_is_refused(wire: Wire, space: str) -> None:
    code, refusal = wire(
        "POST", CONFIG_MAPS.format(space), config_map("big", {"a": "x" * 4_000_000})
    )
    assert (code, refusal["reason"]) == (413, "RequestEntityTooLarge")


def test_only_its_owner_reads_what_the_server_keeps(local: Any) -> None:
    state: Path = local.kubeconfig.parent
    files = [each for each in state.rglob("*") if each.is_file()]
    assert {"kubeconfig", "token", "ca.key"} <= {each.name for each in files}
    secret = [each for each in files if each.name != "lock"]
    assert {oct(each.stat().st_mode & 0o777) for each in secret} == {"0o600"}
    assert {oct(each.stat().st_mode & 0o777) for each in (state, state / "pki")} == {"0o700"}
