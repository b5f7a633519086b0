"""What the operator may do is what its code does, no less and no more."""

import asyncio
import inspect
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from primo_operator import names
from primo_operator.cluster import Cluster, Notice
from primo_operator.kubernetes_cluster import EVERYWHERE, KubernetesCluster
from primo_operator.leadership import Leases
from primo_operator.manifests import job, trial_object
from primo_operator.settings import Settings
from primo_optimizer import Suggestion
from primo_study.study import TrialPhase
from support import builders
from support.chart import MODES, NAMESPACE, Helm, Object, of_kind, operators_roles
from support.rights import Right, right, rights

PLURALS = {names.STUDY_KIND: names.STUDIES, names.TRIAL_KIND: names.TRIALS}
OUR_OBJECT = {
    "apiVersion": names.API_VERSION,
    "kind": names.STUDY_KIND,
    "metadata": {"name": "x", "namespace": "team", "uid": "u"},
}

BY_TYPE: dict[Any, Any] = {str: "team", Notice: Notice(OUR_OBJECT, "Reason", "message")}


class Recorder:
    """Stands in for the HTTP client; every answer is an empty list that is also an object."""

    def __init__(self) -> None:
        self.configuration = SimpleNamespace(host="https://api.example", refresh_api_key_hook=None)
        self.rest_client = self
        self.asked: set[Right] = set()

    async def update_params_for_auth(self, *_: Any) -> None: ...

    async def request(self, method: str, url: str, **_: Any) -> Any:
        needed = right(method, url)
        assert needed is not None
        self.asked.add(needed[0])
        content = {"items": [], "metadata": {"resourceVersion": "1"}}

        async def read() -> bytes:
            return json.dumps(content).encode()

        return SimpleNamespace(status=200, headers={}, read=read)


def _calls(port: type) -> list[str]:
    return [name for name in vars(port) if not name.startswith("_")]


async def _called(port: type) -> set[Right]:
    """Every call of a port, made once."""
    recorder = Recorder()
    cluster = KubernetesCluster(recorder, timeout_s=1)  # type: ignore[arg-type]
    posting = asyncio.create_task(cluster.post_notices())
    for name in _calls(port):
        given = {
            parameter: BY_TYPE.get(kind.annotation, OUR_OBJECT)
            for parameter, kind in inspect.signature(getattr(cluster, name)).parameters.items()
            if kind.default is inspect.Parameter.empty
        }
        answer = getattr(cluster, name)(**given)
        if inspect.isawaitable(answer):
            await answer
    while port is Cluster and ("create", "", "events") not in recorder.asked:
        await asyncio.sleep(0)
    posting.cancel()
    return recorder.asked


def _watched() -> Iterator[Right]:
    """What is watched is listed."""
    for root, plural, _ in EVERYWHERE.values():
        _, _, group_version = root.partition("/apis/")
        for verb in ("list", "watch"):
            yield verb, group_version.partition("/")[0], plural


def _owning() -> Iterator[Right]:
    """To block an owner's deletion is to set its finalizers, where a cluster checks that."""
    study = builders.study()
    trial = builders.trial(0, TrialPhase.QUEUED)
    suggestion = Suggestion(0, {"lr": 0.1}, None, {})
    for made in (trial_object(study, suggestion), job(study, trial, "uid", Settings())):
        for owner in made["metadata"]["ownerReferences"]:
            if owner["blockOwnerDeletion"]:
                yield "update", names.GROUP, f"{PLURALS[owner['kind']]}/finalizers"


@pytest.mark.parametrize("mode", MODES)
def test_the_operator_may_do_what_its_code_does_and_nothing_else(one_helm: Helm, mode: str) -> None:
    needed = asyncio.run(_called(Cluster)) | set(_watched()) | set(_owning())
    roles, (lease,) = _roles(one_helm.template(MODES[mode]))
    assert roles
    for role in roles:
        assert rights(role["rules"]) == needed
    assert rights(lease["rules"]) == asyncio.run(_called(Leases))


def test_no_two_releases_have_a_cluster_wide_object_in_common(one_helm: Helm) -> None:
    releases = [("ml", "ops-primo-operator"), ("ml-ops", "primo-operator")]
    named = [
        (each["kind"], each["metadata"]["name"])
        for namespace, name in releases
        for each in one_helm.template({"fullnameOverride": name}, "-n", namespace)
        if each["kind"].startswith("ClusterRole")
    ]
    assert len(set(named)) == len(named) == 8


def test_it_may_renew_its_own_lease_only(one_helm: Helm) -> None:
    objects = one_helm.template({"fullnameOverride": "tuner"})
    _, (lease,) = _roles(objects)
    assert lease["metadata"]["namespace"] == NAMESPACE
    named = [rule for rule in lease["rules"] if rule["verbs"] != ["create"]]
    assert [rule["resourceNames"] for rule in named] == [["tuner"]]
    (deployment,) = of_kind(objects, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {e["name"]: e["value"] for e in container["env"]}
    assert environment["PRIMO_LEASE_NAME"] == "tuner"
    assert environment["PRIMO_LEASE_NAMESPACE"] == NAMESPACE


def _roles(objects: list[Object]) -> tuple[list[Object], list[Object]]:
    """The operator's: where it works, and where its Lease is."""
    roles = operators_roles(objects)
    leases = [role for role in roles if role["metadata"]["name"].endswith("-lease")]
    return [role for role in roles if role not in leases], leases


def test_the_calls_are_found_in_the_code() -> None:
    """Else the test above would hold for an empty list."""
    assert len(_calls(Cluster)) >= 14
    assert len(_calls(Leases)) >= 3
    assert {right[2] for right in _watched()} == {"primostudies", "primotrials", "jobs", "pods"}


def test_with_namespaces_it_has_rights_in_these_only(one_helm: Helm) -> None:
    objects = one_helm.template(MODES["two namespaces"])
    roles, _ = _roles(objects)
    assert {(r["kind"], r["metadata"]["namespace"]) for r in roles} == {
        ("Role", "team-a"),
        ("Role", "team-b"),
    }
    assert of_kind(objects, "ClusterRoleBinding") == []


def test_nobody_gets_everything_or_what_is_secret(rendering: list[Object]) -> None:
    for role in of_kind(rendering, "Role", "ClusterRole"):
        for verb, group, resource in rights(role["rules"]):
            assert "*" not in (verb, group, resource)
            assert resource.partition("/")[0] not in ("secrets", "serviceaccounts", "nodes")
            assert not resource.startswith(("pods/", "configmaps"))
            assert group not in ("rbac.authorization.k8s.io", "admissionregistration.k8s.io")
            assert verb not in ("escalate", "bind", "impersonate")


def test_without_roles_there_are_none_for_the_operator(one_helm: Helm) -> None:
    assert operators_roles(one_helm.template({"rbac": {"create": False}})) == []


def test_users_may_write_studies_but_not_what_the_operator_observed(one_helm: Helm) -> None:
    by_name = {r["metadata"]["name"]: r for r in of_kind(one_helm.template(), "ClusterRole")}
    view = by_name[f"{NAMESPACE}.primo-operator-view"]
    edit = by_name[f"{NAMESPACE}.primo-operator-edit"]
    reads = {"get", "list", "watch"}
    assert {verb for verb, _, _ in rights(view["rules"])} == reads
    assert ("create", "primo.dev", "primostudies") in rights(edit["rules"])
    written = {r for v, _, r in rights(edit["rules"]) if v in ("create", "update", "patch")}
    assert written == {"primostudies", "primotrials", "primostudies/scale"}
    aggregates = "rbac.authorization.k8s.io/aggregate-to-"
    assert {k for k in edit["metadata"]["labels"] if k.startswith(aggregates)} == {
        f"{aggregates}edit",
        f"{aggregates}admin",
    }
    assert f"{aggregates}view" in view["metadata"]["labels"]
