"""Real helm against an API server: install, upgrade, uninstall, and what is left.

The local server has none of the kinds below; definitions that take any fields stand in for them,
so what is shown is what helm does with the chart, not that pods start. A change of a Deployment
cannot be shown: helm sends a strategic merge patch, which no API server takes for a defined kind.
For Helm 4's default, the server-side apply, the server has no answer; it is told to patch as Helm 3
does.

With PRIMO_TEST_KUBECONFIG set, the same tests run against a real cluster, and Helm 4 applies there.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from primo_operator.crds import KINDS
from primo_operator.selftest import study
from support.apiserver import GIVEN, ApiServer, Wire
from support.chart import CHART, RELEASE, ROOT, Helm, Object, Values
from support.kubectl import kubectl
from support.waiting import eventually

pytestmark = pytest.mark.cluster

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OURS = ("primostudies.primo.dev", "primotrials.primo.dev")
RBAC = "rbac.authorization.k8s.io"
STAND_INS = (
    ("apps", "Deployment", "deployments", "Namespaced"),
    ("networking.k8s.io", "NetworkPolicy", "networkpolicies", "Namespaced"),
    (RBAC, "Role", "roles", "Namespaced"),
    (RBAC, "RoleBinding", "rolebindings", "Namespaced"),
    (RBAC, "ClusterRole", "clusterroles", "Cluster"),
    (RBAC, "ClusterRoleBinding", "clusterrolebindings", "Cluster"),
)


def _stand_in(group: str, kind: str, plural: str, scope: str) -> Object:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": anything},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            # A real API server asks for it in the groups that are its own.
            "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"},
        },
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if GIVEN:
        if there := [name for name in OURS if not Wire(GIVEN).gone(f"{DEFINITIONS}/{name}")]:
            pytest.skip(f"these tests delete the definitions, and {there[0]} may be in use")
        yield GIVEN
        return
    with ApiServer(tmp_path_factory.mktemp("helm") / "state") as server:
        wire = Wire(server.kubeconfig)
        for stand_in in STAND_INS:
            made = wire.make(DEFINITIONS, _stand_in(*stand_in))
            path = f"{DEFINITIONS}/{made['metadata']['name']}"
            eventually(lambda path=path: _established(wire.found(path)), f"{path} is served")
        yield server.kubeconfig


def _established(definition: Object) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


class Release:
    """A release of the chart in a namespace of its own."""

    def __init__(self, helm: Helm, kubeconfig: Path, home: Path) -> None:
        self._helm = helm
        patches = helm.program.name == "helm4" and not GIVEN
        self._patching = ["--server-side=false"] if patches else []
        self.namespace = f"install-{helm.program.name}"
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(home)}

    def __call__(
        self, verb: str, values: Values | None = None, *more: str, check: bool = True
    ) -> str:
        chart = [] if verb == "uninstall" else [str(CHART), *self._patching]
        options = ["--create-namespace"] if verb == "install" else []
        return self._helm(
            verb, RELEASE, *chart, "-n", self.namespace, *options, *more,
            values=values, check=check, env=self._environment,
        )  # fmt: skip


@pytest.fixture
def wire(kubeconfig: Path) -> Wire:
    return Wire(kubeconfig)


@pytest.fixture
def release(any_helm: Helm, kubeconfig: Path, wire: Wire, tmp_path: Path) -> Iterator[Release]:
    release = Release(any_helm, kubeconfig, tmp_path)
    yield release
    release("uninstall", check=False)
    namespace = f"/api/v1/namespaces/{release.namespace}"
    for path in (*(f"{DEFINITIONS}/{name}" for name in OURS), namespace):
        wire("DELETE", path)
        eventually(lambda path=path: wire.gone(path), f"{path} is gone", 60)


def paths(objects: list[Object], namespace: str) -> set[str]:
    """Where the objects of a release are, those of the self-test and the definitions left out."""
    plurals = {kind: (f"/apis/{group}/v1", plural) for group, kind, plural, _ in STAND_INS}
    plurals |= {"ServiceAccount": ("/api/v1", "serviceaccounts")}
    found = set()
    for each in objects:
        if "helm.sh/hook" in each["metadata"].get("annotations", {}) or each["kind"] not in plurals:
            continue
        root, plural = plurals[each["kind"]]
        where = "" if each["kind"].startswith("Cluster") else f"/namespaces/{namespace}"
        found.add(f"{root}{where}/{plural}/{each['metadata']['name']}")
    return found


def versions(wire: Wire, objects: set[str]) -> dict[str, Any]:
    """By path; where controllers write a status, of the rest."""
    found = {path: wire.found(path) for path in objects}
    return {
        path: each["metadata"]["generation" if "status" in each else "resourceVersion"]
        for path, each in found.items()
    }


def test_install_upgrade_uninstall(release: Release, any_helm: Helm, wire: Wire) -> None:
    values: Values = {"networkPolicy": {"enabled": True}}
    objects = any_helm.template(values, "--namespace", release.namespace)
    expected = paths(objects, release.namespace)
    assert len(expected) == 9

    assert "helm test" in release("install", values)
    before = versions(wire, expected)
    for name in OURS:
        eventually(
            lambda name=name: _established(wire.found(f"{DEFINITIONS}/{name}")), "it is served"
        )

    release("upgrade", values)
    assert versions(wire, expected) == before

    release("upgrade", {"networkPolicy": {"enabled": False}})
    (policy,) = (path for path in expected if "networkpolicies" in path)
    assert wire.gone(policy)

    release("uninstall")
    assert [path for path in expected if not wire.gone(path)] == []
    for name in OURS:
        assert not wire.gone(f"{DEFINITIONS}/{name}")
    secrets = f"/api/v1/namespaces/{release.namespace}/secrets"
    assert wire.names(secrets) == []


def test_an_upgrade_changes_what_its_values_change(
    release: Release, any_helm: Helm, wire: Wire
) -> None:
    objects = any_helm.template({}, "--namespace", release.namespace)
    expected = paths(objects, release.namespace)
    release("install", {})
    before = versions(wire, expected)
    release("upgrade", {"serviceAccount": {"annotations": {"cloud/role": "tuner"}}})
    after = versions(wire, expected)
    (account,) = {path for path in expected if before[path] != after[path]}
    assert wire.found(account)["metadata"]["annotations"]["cloud/role"] == "tuner"


def test_definitions_survive_and_are_taken_over_by_the_next_install(
    release: Release, wire: Wire
) -> None:
    release("install", {})
    release("uninstall")
    kept = f"/apis/primo.dev/v1alpha1/namespaces/{release.namespace}/primostudies"
    wire.make(kept, study("kept", "image"))
    release("install", {})
    assert wire.names(kept) == ["kept"]


def test_definitions_that_were_applied_by_hand_are_taken_over_when_told(
    release: Release, kubeconfig: Path
) -> None:
    crds = [str(ROOT / "crds" / f"{kind.plural}.yaml") for kind in KINDS]
    kubectl(kubeconfig, "apply", *(f"--filename={path}" for path in crds))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        release("install", {})
    assert "invalid ownership metadata" in refused.value.stderr
    release("install", {}, "--take-ownership")


def test_definitions_go_with_the_release_where_they_are_not_kept(
    release: Release, wire: Wire
) -> None:
    release("install", {"crds": {"keep": False}})
    release("uninstall")
    for name in OURS:
        eventually(lambda name=name: wire.gone(f"{DEFINITIONS}/{name}"), f"{name} goes")


def test_the_plain_manifests_are_taken_by_kubectl(
    one_helm: Helm, kubeconfig: Path, wire: Wire, tmp_path: Path
) -> None:
    """As `make package` writes them: the self-test is Helm's and left out."""
    name = yaml.safe_load((ROOT / "helm" / "namespace.yaml").read_text())["metadata"]["name"]
    manifests = tmp_path / "install.yaml"
    rendered = one_helm("template", RELEASE, str(CHART), "--namespace", name, "--no-hooks")
    manifests.write_text((ROOT / "helm" / "namespace.yaml").read_text() + rendered)
    said = kubectl(kubeconfig, "apply", "-f", str(manifests)).splitlines()
    assert all(line.endswith(" created") for line in said), said
    assert wire.names(f"/apis/apps/v1/namespaces/{name}/deployments") == [RELEASE]
    assert not any("self-test" in line for line in said)
    kubectl(kubeconfig, "delete", "--ignore-not-found", "-f", str(manifests))
