"""The local server as a process: how it starts, ends and starts again."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.apiserver import ApiServer, Wire

pytestmark = pytest.mark.cluster


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path / "state") as server:
        yield server


def port_of(kubeconfig: Path) -> int:
    cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    return int(cluster["server"].rpartition(":")[2])


def test_it_ends_well_while_somebody_watches(server: ApiServer) -> None:
    events = Wire(server.kubeconfig).watch("/api/v1/namespaces")
    next(events)
    began = time.monotonic()
    assert server.stop() == 0
    # A second is the promise; the rest is for machines that are busy.
    assert time.monotonic() - began < 5


def test_a_kubeconfig_outlives_a_restart(server: ApiServer) -> None:
    before = server.kubeconfig.read_text()
    wire = Wire(server.kubeconfig)
    version = wire.found("/api/v1/namespaces")["metadata"]["resourceVersion"]
    server.stop()
    server.start()
    assert server.kubeconfig.read_text() == before
    # What an earlier process counted is forgotten, and clients are told so.
    events = list(Wire(server.kubeconfig).watch("/api/v1/namespaces", resourceVersion=version))
    assert [each["object"].get("code") for each in events] == [410]


def test_another_port_is_taken_where_the_last_one_is_not_free(server: ApiServer) -> None:
    port = port_of(server.kubeconfig)
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        server.start()
        assert port_of(server.kubeconfig) != port
        assert Wire(server.kubeconfig).found("/version")


def test_two_servers_do_not_share_a_directory(server: ApiServer) -> None:
    command = [sys.executable, "-m", "primo_local.apiserver", "--state-dir", str(server.state_dir)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert "another API server" in second.stderr
