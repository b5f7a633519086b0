"""One local cluster for all; an operator for each test that may kill it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from primo_cli.kube import Kube
from primo_local.cluster import LocalCluster
from support.cluster import Operator, install


@pytest.fixture(scope="session")
def local_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    state = tmp_path_factory.mktemp("cluster") / "state"
    with LocalCluster.start(state, gpus=4, workdir=Path(__file__).parent, timeout_s=90) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kube(local_cluster: LocalCluster) -> Kube:
    return install(local_cluster.kubeconfig)


@pytest.fixture
def operator(local_cluster: LocalCluster, kube: Kube, tmp_path: Path) -> Iterator[Operator]:
    started = Operator(local_cluster.kubeconfig, tmp_path / "operator.log")
    yield started
    started.stop()
