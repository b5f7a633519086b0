"""The operator as its chart installs it, on a cluster with a real kubelet.

PRIMO_TEST_KUBECONFIG is the cluster's; the tests take it for their own, so nothing else may run
studies there. PRIMO_TEST_REGISTRY is where its nodes find primo-operator and primo-sidecar of this
version: a registry, or `localhost` if the images were imported into the nodes.
"""

import os
from collections.abc import Iterator

import pytest
import yaml

from support import helm
from support.apiserver import GIVEN, Wire
from support.chart import CHART, Helm
from support.real_cluster import Release, Space, restricted

REGISTRY = os.environ.get("PRIMO_TEST_REGISTRY", "")


@pytest.fixture(scope="session")
def wire() -> Wire:
    if GIVEN is None or not REGISTRY:
        pytest.skip("PRIMO_TEST_KUBECONFIG and PRIMO_TEST_REGISTRY name no cluster with our images")
    return Wire(GIVEN)


@pytest.fixture(scope="session")
def sidecar() -> str:
    """The image; a trial's script runs in it too."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    return f"{REGISTRY}/primo-sidecar:{version}"


@pytest.fixture(scope="session")
def release(wire: Wire) -> Iterator[Release]:
    program = helm.binary("helm4")
    if program is None:
        pytest.skip("helm4 is not installed: `make helm`")
    assert GIVEN
    with restricted(wire, "release") as space:
        installed = Release(Helm(program), GIVEN, space, REGISTRY)
        try:
            installed("install")
            yield installed
        finally:
            installed("uninstall", "--wait", "--ignore-not-found")


@pytest.fixture
def space(release: Release, wire: Wire) -> Iterator[Space]:
    """A namespace for studies."""
    with restricted(wire, "studies") as space:
        yield space
