"""The processes behind a local cluster: how they start, and what is left when one is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from primo_local.cluster import ClusterStartError, LocalCluster
from support.local_cluster import (
    FOR_EVER,
    Namespace,
    condition,
    ended,
    kill_program,
    needs_proc,
    processes,
    shell,
    sidecar,
)
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, needs_proc]

# A daemon that left its parent's session and process group is the hardest to find again.
SCRIPT = f"(setsid setsid {FOR_EVER} &) ; echo up; {FOR_EVER}"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster.start(tmp_path / "state", workdir=tmp_path) as cluster:
        yield cluster


def run_marked(cluster: LocalCluster) -> tuple[Namespace, str]:
    """A running pod, and the text by which its processes are known."""
    value = str(cluster.state_dir)
    mark = {"env": [{"name": "MARK", "value": value}]}
    ns = Namespace(cluster, "default")
    ns.run_pod("p", shell(SCRIPT, **mark), initContainers=[sidecar(**mark)])
    ns.wait_said("p", "up")
    ns.wait_condition("pods", "p", "Ready")  # and the API knows that it runs
    eventually(lambda: len(processes(f"MARK={value}")) >= 4, "the pod's processes")
    return ns, f"MARK={value}"


def test_stopping_a_cluster_ends_all_of_it(running: LocalCluster) -> None:
    _, mark = run_marked(running)
    running.stop()
    assert processes(mark) == set()
    assert processes(str(running.state_dir), "cmdline") == set()
    running.stop()


def test_a_killed_node_takes_its_containers_along(running: LocalCluster) -> None:
    _, mark = run_marked(running)
    kill_program(running, "primo_local.node")
    eventually(lambda: not processes(mark), "all its processes have ended")
    with pytest.raises(ClusterStartError, match="the cluster's node has ended"):
        eventually(lambda: bool(running.check()), "the end is noticed")


def test_a_node_that_starts_anew_gives_up_the_pods_it_had(running: LocalCluster) -> None:
    ns, mark = run_marked(running)
    kill_program(running, "primo_local.node")
    eventually(lambda: not processes(mark), "all its processes have ended")
    words = [sys.executable, "-m", "primo_local.node", "--state-dir", str(running.state_dir)]
    with subprocess.Popen(words) as node:
        try:
            pod = ns.wait_phase("p", "Failed")
        finally:
            node.terminate()
    assert pod["status"]["reason"] == "NodeLost"
    assert condition(pod, "DisruptionTarget")["status"] == "True"
    assert ended(pod)["reason"] == "ContainerStatusUnknown"


def test_a_killed_supervisor_takes_everything_along(tmp_path: Path) -> None:
    state = tmp_path / "state"
    words = [sys.executable, "-m", "primo_local", "--state-dir", str(state)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == f"export KUBECONFIG={state / 'kubeconfig'}\n"
        _, mark = run_marked(LocalCluster(state, []))
        supervisor.kill()
    eventually(lambda: not processes(mark), "all containers have ended")
    eventually(lambda: not processes(str(state), "cmdline"), "the cluster's programs have ended")


def test_a_cluster_in_the_foreground_ends_when_told_to(tmp_path: Path) -> None:
    state = tmp_path / "state"
    words = [sys.executable, "-m", "primo_local", "--state-dir", str(state)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as supervisor:
        assert supervisor.stdout is not None
        supervisor.stdout.readline()
        os.kill(supervisor.pid, signal.SIGTERM)
        assert supervisor.wait() == 0
    assert processes(str(state), "cmdline") == set()


def test_a_cluster_that_does_not_come_up_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ClusterStartError, match="apiserver was not ready in time"):
        LocalCluster.start(tmp_path, timeout_s=0)
    assert processes(str(tmp_path), "cmdline") == set()


def test_a_cluster_starts_again_in_the_same_place(tmp_path: Path) -> None:
    with LocalCluster.start(tmp_path) as first:
        before = first.kubeconfig.read_text()
    with LocalCluster.start(tmp_path) as second:
        assert second.kubeconfig.read_text() == before
        assert Namespace(second, "default").items("pods") == []
