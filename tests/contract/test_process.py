"""The local server as a process: how it starts, ends and starts again."""

import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
import yaml

from support.apiserver import (
    CONFIG_MAPS,
    WIDGETS,
    ApiServer,
    Wire,
    config_map,
    owned_by,
    widget,
)
from support.waiting import eventually

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


# --- with --data-dir


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path / "state", keep=True) as server:
        yield server


def test_a_killed_server_has_all_that_it_had_confirmed(keeper: ApiServer) -> None:
    wire = Wire(keeper.kubeconfig)
    definition = yaml.safe_load((Path(__file__).parent / "widgets.yaml").read_text())
    wire.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    widgets, maps = WIDGETS.format("default"), CONFIG_MAPS.format("default")
    first = wire.make(widgets, widget("first", {"size": 1}))
    kept = wire.make(maps, config_map("kept", {"text": "\u00fc \U0001f600 \x00"}))
    wire.make(maps, config_map("gone"))
    wire("DELETE", f"{maps}/gone")
    changed = wire.change(f"{widgets}/first", {"metadata": {"labels": {"a": "b"}}})
    keeper.kill()
    keeper.start()
    wire = Wire(keeper.kubeconfig)
    assert wire.found(f"{maps}/kept") == kept
    assert wire.gone(f"{maps}/gone")
    # The definition is served again, and an old version is as stale as it was.
    assert wire.found(f"{widgets}/first") == changed
    stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"], "labels": {}}}
    assert wire("PATCH", f"{widgets}/first", stale, "merge-patch+json")[0] == 409
    later = wire.make(widgets, widget("second"))
    assert int(later["metadata"]["resourceVersion"]) > int(changed["metadata"]["resourceVersion"])


def test_a_watch_from_before_a_kill_is_told_to_begin_anew(keeper: ApiServer) -> None:
    maps = CONFIG_MAPS.format("default")
    made = Wire(keeper.kubeconfig).make(maps, config_map("one"))
    version = made["metadata"]["resourceVersion"]
    for _ in range(2):
        keeper.kill()
        keeper.start()
        wire = Wire(keeper.kubeconfig)
        events = list(wire.watch(maps, resourceVersion=version))
        assert [each["object"].get("code") for each in events] == [410]
        listed = wire.found(maps)
        assert [each["metadata"]["name"] for each in listed["items"]] == ["one"]
        assert int(listed["metadata"]["resourceVersion"]) > int(version)
        version = listed["metadata"]["resourceVersion"]


def test_what_a_killed_server_was_about_to_do_it_does_after_its_restart(
    keeper: ApiServer,
) -> None:
    wire = Wire(keeper.kubeconfig)
    wire.make("/api/v1/namespaces", {"metadata": {"name": "ending"}})
    maps = CONFIG_MAPS.format("ending")
    owner = wire.make(maps, config_map("owner", finalizers=["test.example/stay"]))
    path = f"{maps}/follower"
    wire.make(maps, config_map("follower", ownerReferences=owned_by(owner, blocks=True)))
    wire("DELETE", f"{maps}/owner", {"propagationPolicy": "Foreground"})
    wire("DELETE", "/api/v1/namespaces/ending")
    keeper.kill()
    keeper.start()
    wire = Wire(keeper.kubeconfig)
    eventually(lambda: wire.gone(path), "the follower is gone")
    wire.change(f"{maps}/owner", {"metadata": {"finalizers": None}})
    eventually(lambda: wire.gone("/api/v1/namespaces/ending"), "the namespace is gone")


def test_no_write_is_lost_or_half_done_wherever_the_kill_falls(keeper: ApiServer) -> None:
    maps = CONFIG_MAPS.format("default")
    confirmed: list[str] = []
    for round_ in range(3):
        wire = Wire(keeper.kubeconfig)
        killer = threading.Timer(0.1 + 0.07 * round_, keeper.kill)
        killer.start()
        for number in itertools.count():
            name = f"map-{round_}-{number}"
            try:
                status, _ = wire("POST", maps, config_map(name, {"x": "y" * 20_000}))
            except urllib3.exceptions.HTTPError:
                break
            assert status == 201
            confirmed.append(name)
        killer.join()
        keeper.start()
        listed = Wire(keeper.kubeconfig).found(maps)["items"]
        found = {each["metadata"]["name"]: each for each in listed}
        assert set(confirmed) <= found.keys()
        assert len(found) <= len(confirmed) + round_ + 1  # the one whose answer was lost
        assert {each["data"]["x"] for each in found.values()} == {"y" * 20_000}


def test_a_file_that_is_none_of_ours_is_refused_in_words(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "data").mkdir(parents=True)
    (state / "data" / "objects.sqlite").write_text("no database at all, though long enough" * 9)
    command = [sys.executable, "-m", "primo_local.apiserver", "--state-dir", str(state)]
    command += ["--data-dir", str(state / "data")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "objects.sqlite: file is not a database" in ended.stderr
