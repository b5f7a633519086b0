"""One pod on the node, with real processes and a stand-in for the API server."""

import asyncio
import datetime
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from primo_local.client import (
    CONFIG_MAPS,
    EVENTS,
    Client,
    Key,
    NotFoundError,
    Obj,
    Resource,
)
from primo_local.controllers.events import Recorder
from primo_local.node.container import BackoffSettings
from primo_local.node.devices import Devices
from primo_local.node.pod import Pod
from primo_local.node.quarters import Host, Settings

DEADLINE_S = 30

Check = Callable[[Obj], bool]


class FakeServer:
    """Keeps one pod's status as the API server would, and the objects that it refers to."""

    def __init__(self, pod: Obj) -> None:
        self.pod = pod
        self.objects: dict[tuple[str, str], Obj] = {}
        self.history: list[Obj] = []
        self.deleted = asyncio.Event()
        self.events: list[str] = []
        self._changed = asyncio.Condition()

    async def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        found = self.objects.get((resource.plural, name))
        if found is None:
            raise NotFoundError(404, "NotFound", f'{resource.plural} "{name}" not found')
        return found

    async def create(self, resource: Resource, namespace: str, body: Obj, *_: str) -> Obj:
        self.events.append(body["reason"])
        return body

    async def patch(self, resource: Resource, key: Key, body: Obj, *_: str) -> Obj:
        if resource is EVENTS:
            return body
        status = {name: v for name, v in body.get("status", {}).items() if v is not None}
        async with self._changed:
            self.pod = {**self.pod, "status": status}
            self.history.append(status)
            self._changed.notify_all()
        return self.pod

    async def delete(self, resource: Resource, key: Key, *, uid: str, grace_s: int) -> None:
        assert (uid, grace_s) == (self.pod["metadata"]["uid"], 0)
        self.deleted.set()

    async def until(self, holds: Check) -> Obj:
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: holds(self.pod.get("status") or {}))
        return cast(Obj, self.pod["status"])


class Node:
    """The pod under test, its server, and what it runs on."""

    def __init__(self, tmp_path: Path, spec: Obj, status: Obj | None = None, **host: Any) -> None:
        meta = {"name": "p", "namespace": "ns", "uid": "uid-1", "generation": 1}
        self.object: Obj = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, **spec},
            "status": status or {"phase": "Pending"},
        }
        self.server = FakeServer(self.object)
        client = cast(Client, self.server)
        self.recorder = Recorder(client, "kubelet", "local")
        self.devices = host.pop("devices", Devices(2))
        self.workdir = tmp_path / "work"
        self.workdir.mkdir()
        backoff = BackoffSettings(first_s=host.pop("backoff_s", 0.05), config_retry_s=0.05)
        self.host = Host(
            client=client,
            recorder=self.recorder,
            devices=self.devices,
            pods=tmp_path / "pods",
            claims=tmp_path / "volumes",
            workdir=self.workdir,
            capacity={"cpu": "2"},
            settings=Settings(backoff=backoff, usage_period_s=0.05),
        )
        self.pod = Pod(self.host, self.object)
        self.asked_to_delete = False
        self.directory = tmp_path / "pods" / "uid-1"

    def delete(self, grace_s: int = 5) -> None:
        self.asked_to_delete = True
        meta = {
            **self.object["metadata"],
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": grace_s,
        }
        self.pod.update({**self.server.pod, "metadata": meta})

    async def until_traps(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(list(self.workdir.glob("p.*"))) < count:
                await asyncio.sleep(0.01)

    def run(self, story: Callable[["Node"], Awaitable[None]], *, lost: bool = False) -> None:
        async def whole() -> None:
            writer = asyncio.create_task(self.recorder.run())
            life = asyncio.create_task(self.pod.run_lost() if lost else self.pod.run())
            try:
                await story(self)
                if not self.asked_to_delete:
                    self.delete(grace_s=1)
                await asyncio.wait_for(self.server.deleted.wait(), DEADLINE_S)
                self.pod.removed()
                await asyncio.wait_for(life, DEADLINE_S)
                await self.recorder.flush()
            finally:
                writer.cancel()
                life.cancel()
            assert not self.directory.exists(), "a pod leaves nothing on disk"

        asyncio.run(whole())


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def sh(script: str, name: str = "main", **facts: Any) -> Obj:
    return {"name": name, "image": "i", "command": ["sh", "-c", script], **facts}


def sidecar(script: str, name: str = "side", **facts: Any) -> Obj:
    return sh(script, name, restartPolicy="Always", **facts)


def state(status: Obj, name: str) -> Obj:
    for each in (*status.get("initContainerStatuses", []), *status["containerStatuses"]):
        if each["name"] == name:
            return cast(Obj, each)
    raise AssertionError(name)


def ended(status: Obj, name: str = "main") -> Obj:
    return cast(Obj, state(status, name)["state"].get("terminated") or {})


def condition(status: Obj, name: str) -> tuple[str, str | None]:
    found = next(c for c in status["conditions"] if c["type"] == name)
    return found["status"], found["reason"]


def in_phase(*phases: str) -> Check:
    return lambda status: status.get("phase") in phases


def runs(name: str = "main") -> Check:
    return lambda status: (
        "containerStatuses" in status and "running" in state(status, name)["state"]
    )


over = in_phase("Succeeded", "Failed")

LOOP = "touch $HOSTNAME.$$$$; while :; do sleep 0.05; done"  # the file says that the trap is set
# Writes a message when told to end.
PATIENT = f"trap 'echo flushed > /dev/termination-log; exit 0' TERM; {LOOP}"
DEAF = f"trap '' TERM; {LOOP}"


def test_a_sidecar_outlives_main_flushes_its_message_and_does_not_decide(tmp_path: Path) -> None:
    spec = {
        "initContainers": [
            sidecar(
                "trap 'cat /r/out > /dev/termination-log; exit 9' TERM; "
                "while :; do sleep 0.05; done",
                volumeMounts=[{"name": "r", "mountPath": "/r"}],
            ),
        ],
        "containers": [sh("echo result > /r/out", volumeMounts=[{"name": "r", "mountPath": "/r"}])],
        "volumes": [{"name": "r", "emptyDir": {}}],
    }

    async def story(node: Node) -> None:
        status = await node.server.until(over)
        assert status["phase"] == "Succeeded"
        assert ended(status)["reason"] == "Completed"
        assert ended(status, "side") | {"startedAt": 0, "finishedAt": 0, "containerID": 0} == {
            "exitCode": 9,
            "reason": "Error",
            "message": "result\n",
            "startedAt": 0,
            "finishedAt": 0,
            "containerID": 0,
        }
        assert condition(status, "Initialized") == ("True", "PodCompleted")
        assert condition(status, "Ready") == ("False", "PodCompleted")
        assert not any(s["phase"] in ("Succeeded", "Failed") for s in node.server.history[:-1])

    Node(tmp_path, spec).run(story)


@linux_only
def test_a_sidecar_that_is_not_up_yet_when_main_ends_still_does_its_work(tmp_path: Path) -> None:
    slow = "while [ ! -e go ]; do sleep 0.02; done"
    spec = {
        "initContainers": [
            sidecar(f"{slow}; trap 'echo flushed > /dev/termination-log; exit 0' TERM; {LOOP}")
        ],
        "containers": [sh("exit 0")],
    }

    async def story(node: Node) -> None:
        await node.server.until(lambda s: "containerStatuses" in s and bool(ended(s)))
        (node.workdir / "go").touch()
        status = await node.server.until(over)
        assert ended(status, "side")["message"] == "flushed\n"

    Node(tmp_path, spec).run(story)


def test_sidecars_start_in_order_before_main_and_stop_in_reverse_after_it(tmp_path: Path) -> None:
    note = "echo {0} up >> n; trap 'echo {0} down >> n; exit' TERM; while :; do sleep 0.02; done"
    spec = {
        "initContainers": [sidecar(note.format("a"), "a"), sidecar(note.format("b"), "b")],
        "containers": [sh("while ! grep -q 'b up' n; do sleep 0.01; done; echo main >> n")],
    }

    async def story(node: Node) -> None:
        await node.server.until(over)
        lines = (node.workdir / "n").read_text().splitlines()
        assert sorted(lines[:2]) == ["a up", "b up"]  # both started, neither need be ready
        assert lines[2:] == ["main", "b down", "a down"]

    Node(tmp_path, spec).run(story)


def test_init_containers_run_in_order_and_a_failed_one_ends_the_pod(tmp_path: Path) -> None:
    spec = {
        "initContainers": [sh("echo 1 >> n", "one"), sh("echo 2 >> n; exit 4", "two")],
        "containers": [sh("echo main >> n")],
    }

    async def story(node: Node) -> None:
        status = await node.server.until(over)
        assert status["phase"] == "Failed"
        assert (node.workdir / "n").read_text() == "1\n2\n"
        assert ended(status, "two")["exitCode"] == 4
        assert state(status, "main")["state"] == {"waiting": {"reason": "PodInitializing"}}
        assert condition(status, "Initialized") == ("False", "ContainersNotInitialized")

    Node(tmp_path, spec).run(story)


def test_two_main_containers_are_both_waited_for(tmp_path: Path) -> None:
    spec = {
        "initContainers": [sidecar(PATIENT)],
        "containers": [
            sh("exit 1", "quick"),
            sh("while ! test -e go; do sleep 0.02; done", "slow"),
        ],
    }

    async def story(node: Node) -> None:
        status = await node.server.until(lambda s: runs("slow")(s) and bool(ended(s, "quick")))
        assert status["phase"] == "Running"
        (node.workdir / "go").touch()
        status = await node.server.until(over)
        assert status["phase"] == "Failed"
        assert ended(status, "slow")["exitCode"] == 0

    Node(tmp_path, spec).run(story)


@pytest.mark.parametrize(
    ("policy", "scripts", "phase", "restarts"),
    [
        pytest.param("Never", "exit 1", "Failed", 0, id="Never"),
        pytest.param(
            "OnFailure", "echo x >> n; test $(wc -l < n) -ge 3", "Succeeded", 2, id="OnFailure"
        ),
    ],
)
def test_a_main_container_restarts_as_the_pod_wishes(
    tmp_path: Path, policy: str, scripts: str, phase: str, restarts: int
) -> None:
    async def story(node: Node) -> None:
        status = await node.server.until(over)
        assert status["phase"] == phase
        assert state(status, "main")["restartCount"] == restarts

    Node(tmp_path, {"restartPolicy": policy, "containers": [sh(scripts)]}).run(story)


def test_a_killed_sidecar_is_started_again_and_its_last_state_kept(tmp_path: Path) -> None:
    script = "echo $$$$ >> pids; echo kept > /dev/termination-log; exec sleep 600"
    spec = {"initContainers": [sidecar(script)], "containers": [sh("sleep 600")]}

    async def story(node: Node) -> None:
        await node.server.until(runs())
        pids = node.workdir / "pids"
        async with asyncio.timeout(DEADLINE_S):
            while not (pids.exists() and pids.read_text().endswith("\n")):
                await asyncio.sleep(0.01)
        os.kill(int(pids.read_text()), signal.SIGKILL)
        status = await node.server.until(
            lambda s: state(s, "side")["restartCount"] == 1 and runs("side")(s)
        )
        last = state(status, "side")["lastState"]["terminated"]
        assert (last["exitCode"], last["message"]) == (137, "kept\n")
        assert status["phase"] == "Running"

    Node(tmp_path, spec).run(story)


def test_a_sidecar_in_back_off_at_the_end_is_unknown_and_keeps_its_last_state(
    tmp_path: Path,
) -> None:
    spec = {
        "initContainers": [sidecar("echo old > /dev/termination-log; exit 3")],
        "containers": [sh("while ! test -e go; do sleep 0.02; done")],
    }

    async def story(node: Node) -> None:
        status = await node.server.until(
            lambda s: "CrashLoopBackOff" in str(s.get("initContainerStatuses"))
        )
        assert status["phase"] == "Running"
        (node.workdir / "go").touch()
        status = await node.server.until(over)
        assert status["phase"] == "Succeeded"
        assert ended(status, "side")["reason"] == "ContainerStatusUnknown"
        assert state(status, "side")["lastState"]["terminated"]["message"] == "old\n"

    node = Node(tmp_path, spec, backoff_s=600)
    node.run(story)
    assert "BackOff" in node.server.events


@pytest.mark.parametrize(
    ("script", "grace_s", "code", "phase"),
    [
        pytest.param(PATIENT, 20, 0, "Succeeded", id="ends in peace"),
        pytest.param("sleep 600", 20, 143, "Failed", id="ended by SIGTERM"),
        pytest.param(DEAF, 1, 137, "Failed", id="killed after the grace period"),
        pytest.param(DEAF, 0, 137, "Failed", id="grace 0 is one second"),
    ],
)
def test_deleting_a_pod_ends_it_and_the_last_status_says_how(
    tmp_path: Path, script: str, grace_s: int, code: int, phase: str
) -> None:
    spec = {"initContainers": [sidecar(PATIENT)], "containers": [sh(script)]}

    async def story(node: Node) -> None:
        await node.server.until(runs())
        await node.until_traps(1 + (LOOP in script))
        node.delete(grace_s)
        await asyncio.wait_for(node.server.deleted.wait(), DEADLINE_S)
        status = node.server.history[-1]
        assert (status["phase"], ended(status)["exitCode"]) == (phase, code)
        assert ended(status, "side")["message"] == "flushed\n", "the sidecar goes last, in peace"

    Node(tmp_path, spec).run(story)


def test_a_second_deletion_may_shorten_the_first(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await node.server.until(runs())
        await node.until_traps(1)
        node.delete(grace_s=600)
        node.delete(grace_s=1)
        await asyncio.wait_for(node.server.deleted.wait(), DEADLINE_S)
        assert ended(node.server.history[-1])["exitCode"] == 137

    Node(tmp_path, {"containers": [sh(DEAF)]}).run(story)


@pytest.mark.parametrize(
    ("container", "reason", "words"),
    [
        pytest.param(
            {"name": "main", "image": "img", "args": ["x"]},
            "ErrImageNeverPull",
            "must set command",
            id="no command",
        ),
        pytest.param(
            sh(
                "true",
                env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            ),
            "CreateContainerConfigError",
            'secret "s" not found',
            id="no secret",
        ),
    ],
)
def test_a_container_that_cannot_be_made_waits_and_says_why(
    tmp_path: Path, container: Obj, reason: str, words: str
) -> None:
    async def story(node: Node) -> None:
        status = await node.server.until(lambda s: reason in str(s))
        waiting = state(status, "main")["state"]["waiting"]
        assert words in waiting["message"]
        assert status["phase"] == "Pending"

    node = Node(tmp_path, {"containers": [container]})
    node.run(story)
    assert "Failed" in node.server.events


def test_what_was_missing_is_taken_up_when_it_comes(tmp_path: Path) -> None:
    reference = {"configMapKeyRef": {"name": "c", "key": "k"}}
    spec = {
        "containers": [
            sh(
                'printf "%s" "$A-$(cat /cfg/k)" > /dev/termination-log',
                env=[{"name": "A", "valueFrom": reference}],
                volumeMounts=[{"name": "cfg", "mountPath": "/cfg"}],
            )
        ],
        "volumes": [{"name": "cfg", "configMap": {"name": "c"}}],
    }

    async def story(node: Node) -> None:
        await node.server.until(lambda s: "containerStatuses" in s)
        found = {"metadata": {"name": "c", "namespace": "ns"}, "data": {"k": "v"}}
        node.server.objects[CONFIG_MAPS.plural, "c"] = found
        assert ended(await node.server.until(over))["message"] == "v-v"

    node = Node(tmp_path, spec)
    node.run(story)


def test_a_program_that_does_not_exist_is_a_start_error(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        status = await node.server.until(over)
        assert status["phase"] == "Failed"
        assert ended(status)["exitCode"] == 128
        assert ended(status)["reason"] == "StartError"
        assert 'exec: "nosuch": executable file not found' in ended(status)["message"]

    Node(tmp_path, {"containers": [{"name": "main", "command": ["nosuch"]}]}).run(story)


def test_an_empty_dir_over_its_limit_evicts_the_pod_and_loses_the_messages(tmp_path: Path) -> None:
    mount = [{"name": "big", "mountPath": "/big"}]
    spec = {
        "initContainers": [sidecar(PATIENT)],
        "containers": [
            sh("dd if=/dev/zero of=/big/f bs=1k count=64; sleep 600", volumeMounts=mount)
        ],
        "volumes": [{"name": "big", "emptyDir": {"sizeLimit": "32Ki"}}],
    }

    async def story(node: Node) -> None:
        status = await node.server.until(over)
        assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
        assert status["message"] == 'Usage of EmptyDir volume "big" exceeds the limit "32Ki". '
        assert ended(status, "side")["reason"] == "ContainerStatusUnknown"
        assert "DisruptionTarget" not in str(status["conditions"])

    Node(tmp_path, spec).run(story)


def test_a_pod_past_its_own_deadline_fails(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        status = await node.server.until(over)
        assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")

    spec = {"activeDeadlineSeconds": 1, "containers": [sh("sleep 600")]}
    Node(tmp_path, spec).run(story)


def test_host_paths_are_refused_in_words(tmp_path: Path) -> None:
    spec = {
        "containers": [sh("true")],
        "volumes": [{"name": "h", "hostPath": {"path": "/etc"}}],
    }

    async def story(node: Node) -> None:
        status = await node.server.until(over)
        assert status["reason"] == "UnsupportedVolume"
        assert 'volume "h": hostPath is refused' in status["message"]

    Node(tmp_path, spec).run(story)


def test_devices_are_seen_by_who_asked_for_them_and_come_back(tmp_path: Path) -> None:
    spec = {
        "initContainers": [sidecar('echo "side=$CUDA_VISIBLE_DEVICES." >> n; ' + PATIENT)],
        "containers": [
            sh(
                'echo "main=$CUDA_VISIBLE_DEVICES,$NVIDIA_VISIBLE_DEVICES,$CUDA_DEVICE_ORDER" >> n',
                resources={"limits": {"nvidia.com/gpu": "1"}},
            )
        ],
    }

    async def story(node: Node) -> None:
        await node.server.until(over)
        assert await asyncio.wait_for(node.devices.lend(2), DEADLINE_S) == (0, 1)
        assert set((node.workdir / "n").read_text().split()) == {"side=.", "main=0,0,PCI_BUS_ID"}

    Node(tmp_path, spec).run(story)


def test_a_pod_waits_for_devices_that_another_has_not_given_back(tmp_path: Path) -> None:
    devices = Devices(1)
    spec = {"containers": [sh("true", resources={"limits": {"nvidia.com/gpu": "1"}})]}

    async def story(node: Node) -> None:
        await node.server.until(lambda s: "containerStatuses" in s)
        assert node.server.pod["status"]["phase"] == "Pending"
        await devices.take_back((0,))
        await node.server.until(over)

    node = Node(tmp_path, spec, devices=devices)

    async def with_the_device_lent() -> None:
        await devices.lend(1)

    asyncio.run(with_the_device_lent())
    node.run(story)


def test_where_more_devices_are_pretended_real_ones_are_shared() -> None:
    assert Devices(4, real=2).visible((2, 3)) == "0,1"
    assert Devices(4, real=1).visible((0, 3)) == "0"
    assert Devices(4).visible((2, 3)) == "2,3"


def test_a_pod_of_an_earlier_node_is_lost(tmp_path: Path) -> None:
    started = "2026-01-01T00:00:00Z"
    last = {"exitCode": 137, "reason": "Error", "message": "m", "finishedAt": started}
    before = {
        "phase": "Running",
        "startTime": started,
        "containerStatuses": [{"name": "main", "state": {"running": {"startedAt": started}}}],
        "initContainerStatuses": [
            {
                "name": "side",
                "restartCount": 1,
                "state": {"running": {"startedAt": started}},
                "lastState": {"terminated": last},
            }
        ],
    }
    spec = {"initContainers": [sidecar(PATIENT)], "containers": [sh("true")]}

    async def story(node: Node) -> None:
        status = await node.server.until(over)
        assert (status["phase"], status["reason"]) == ("Failed", "NodeLost")
        assert condition(status, "DisruptionTarget") == ("True", "NodeLost")
        assert ended(status)["reason"] == "ContainerStatusUnknown"
        assert state(status, "side")["lastState"]["terminated"]["message"] == "m"
        assert state(status, "side")["restartCount"] == 1

    Node(tmp_path, spec, before).run(story, lost=True)


def test_a_node_that_ends_says_so_in_its_pods(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await node.server.until(runs())
        await node.pod.shut_down()
        status = node.server.history[-1]
        assert (status["phase"], status["reason"]) == ("Failed", "Terminated")
        assert condition(status, "DisruptionTarget") == ("True", "TerminationByKubelet")

    Node(tmp_path, {"containers": [sh("sleep 600")]}).run(story)


def test_files_of_claims_stay_when_the_pod_goes(tmp_path: Path) -> None:
    spec = {
        "containers": [
            sh("echo kept > /ckpt/t/f", volumeMounts=[{"name": "c", "mountPath": "/ckpt"}]),
        ],
        "volumes": [{"name": "c", "persistentVolumeClaim": {"claimName": "ckpt"}}],
    }
    spec["containers"][0]["volumeMounts"][0]["subPath"] = "deep"
    spec["containers"][0]["command"][2] = "echo kept > /ckpt/f"

    async def story(node: Node) -> None:
        assert (await node.server.until(over))["phase"] == "Succeeded"

    Node(tmp_path, spec).run(story)
    assert (tmp_path / "volumes" / "ns" / "ckpt" / "deep" / "f").read_text() == "kept\n"


@pytest.mark.parametrize(
    ("directory", "where"),
    [
        pytest.param(None, "work", id="the node's by default"),
        pytest.param("/workspace", "work", id="the node's for a place in an image"),
        pytest.param("/data", "pods/uid-1/volumes/d", id="a mount"),
    ],
)
def test_containers_run_in_a_directory_that_exists(
    tmp_path: Path, directory: str | None, where: str
) -> None:
    container = sh("pwd > /dev/termination-log", volumeMounts=[{"name": "d", "mountPath": "/data"}])
    if directory:
        container["workingDir"] = directory

    async def story(node: Node) -> None:
        status = await node.server.until(over)
        assert ended(status)["message"].strip() == str(tmp_path / where)

    Node(tmp_path, {"containers": [container], "volumes": [{"name": "d"}]}).run(story)


def test_times_of_conditions_hold_while_they_do_not_change() -> None:
    from primo_local.node.states import ContainerView, Role, Running, pod_status

    def at(second: int) -> datetime.datetime:
        return datetime.datetime(2026, 1, 1, 0, 0, second, tzinfo=datetime.UTC)

    view = ContainerView("main", "i", Role.MAIN, Running(at(0), "id"))
    pod: Obj = {"metadata": {}, "spec": {}, "status": {}}
    first = pod_status(pod, [view], now=at(1), started_at=at(0), sandbox=True, over=False)
    again = pod_status(
        {**pod, "status": first}, [view], now=at(9), started_at=at(0), sandbox=True, over=False
    )
    assert again == first
