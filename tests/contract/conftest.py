"""An API server to hold to the contract: the local one, or that of a kubeconfig.

With PRIMO_TEST_KUBECONFIG set, the same tests run against a real cluster.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from support.apiserver import GIVEN, ApiServer, Wire
from support.waiting import eventually

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where tests go.

    Attributes:
        is_local: whether it is the server of this repository.
    """

    kubeconfig: Path
    is_local: bool


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if GIVEN:
        yield Cluster(GIVEN, is_local=False)
        return
    # What is kept is served like what is not; the other way is what integration tests have.
    with ApiServer(tmp_path_factory.mktemp("apiserver") / "state", keep=True) as server:
        yield Cluster(server.kubeconfig, is_local=True)


@pytest.fixture
def local(cluster: Cluster) -> Cluster:
    """For what a real server may do differently."""
    if not cluster.is_local:
        pytest.skip("says how the local API server differs from a real one")
    return cluster


@pytest.fixture(scope="session")
def wire(cluster: Cluster) -> Iterator[Wire]:
    """A server that serves widgets."""
    wire = Wire(cluster.kubeconfig)
    definition = yaml.safe_load((Path(__file__).parent / "widgets.yaml").read_text())
    path = f"{DEFINITIONS}/{definition['metadata']['name']}"
    wire("DELETE", path)
    eventually(lambda: wire.gone(path), "an earlier definition of widgets is gone")
    wire.make(DEFINITIONS, definition, fieldValidation="Strict")
    eventually(lambda: _established(wire, path), "widgets are established")
    yield wire
    wire("DELETE", path)


def _established(wire: Wire, path: str) -> bool:
    conditions = wire.found(path).get("status", {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


@pytest.fixture
def space(wire: Wire) -> Iterator[str]:
    """The name of a namespace of the test's own."""
    name = f"contract-{os.getpid()}-{next(_numbers)}"
    wire.make("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    wire("DELETE", f"/api/v1/namespaces/{name}")
