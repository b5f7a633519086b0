"""A local cluster with a node, and short words for what its tests do: run pods, wait, look."""

import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch

from primo_local.cluster import LocalCluster
from support.kube import Kube
from support.waiting import eventually

Obj = dict[str, Any]

needs_proc = pytest.mark.skipif(
    sys.platform != "linux", reason="looks for processes in /proc, which only Linux has"
)

# Long enough that a wait is never what ends it: tests end what they start.
FOR_EVER = "sleep 3600"
# Ends when told to, after it has said something.
SIDECAR = 'trap "printf final >/dev/termination-log; exit 0" TERM; while :; do sleep 0.05; done'


def shell(script: str, name: str = "main", **fields: Any) -> Obj:
    """A container that runs a script; paths in it that a mount declares are rewritten."""
    return {"name": name, "image": "none", "command": ["sh", "-c", script], **fields}


def sidecar(script: str = SIDECAR, name: str = "sidecar", **fields: Any) -> Obj:
    return shell(script, name, restartPolicy="Always", **fields)


def pod_spec(*containers: Obj, **fields: Any) -> Obj:
    usual = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    return {**usual, "containers": list(containers), **fields}


def gpus(count: int) -> Obj:
    return {"limits": {"nvidia.com/gpu": str(count)}}


class Namespace:
    """A namespace of a test's own."""

    def __init__(self, cluster: LocalCluster, name: str) -> None:
        self.cluster = cluster
        self.kube = Kube(cluster.kubeconfig)
        self.name = name
        self._core = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))

    def path(self, plural: str, name: str = "", subresource: str = "") -> str:
        root = "/apis/batch/v1" if plural == "jobs" else "/api/v1"
        tail = "".join(f"/{part}" for part in (plural, name, subresource) if part)
        return f"{root}/namespaces/{self.name}{tail}"

    def create(self, plural: str, name: str, **body: Any) -> Obj:
        status, made = self.kube("POST", self.path(plural), {"metadata": {"name": name}, **body})
        assert status == 201, made
        return made

    def run_pod(self, name: str, *containers: Obj, **spec: Any) -> Obj:
        return self.create("pods", name, spec=pod_spec(*containers, **spec))

    def run_job(self, name: str, *containers: Obj, job: Obj | None = None, **spec: Any) -> Obj:
        template = {"spec": pod_spec(*containers, **spec)}
        return self.create(
            "jobs", name, spec={"backoffLimit": 0, "template": template, **(job or {})}
        )

    def get(self, plural: str, name: str) -> Obj:
        """Empty if there is none."""
        status, found = self.kube("GET", self.path(plural, name))
        return found if status == 200 else {}

    def items(self, plural: str) -> list[Obj]:
        status, found = self.kube("GET", self.path(plural))
        assert status == 200, found
        items: list[Obj] = found["items"]
        return items

    def pod_of(self, job: str) -> Obj:
        """The Job's only pod, once there is one."""
        eventually(lambda: bool(self._pods_of(job)), f"a pod of Job {job}")
        pods = self._pods_of(job)
        assert len(pods) == 1, [pod["metadata"]["name"] for pod in pods]
        return pods[0]

    def _pods_of(self, job: str) -> list[Obj]:
        label = "batch.kubernetes.io/job-name"
        return [p for p in self.items("pods") if p["metadata"]["labels"].get(label) == job]

    def patch(self, plural: str, name: str, body: Obj) -> None:
        status, answer = self.kube("PATCH", self.path(plural, name), body, "merge-patch+json")
        assert status == 200, answer

    def delete(self, plural: str, name: str, **options: Any) -> None:
        body = {"propagationPolicy": "Background", **options}
        status, answer = self.kube("DELETE", self.path(plural, name), body)
        assert status in (200, 202), answer

    def wait_gone(self, plural: str, name: str) -> None:
        eventually(lambda: not self.get(plural, name), f"{plural} {name} is gone")

    def wait(self, plural: str, name: str, holds: Callable[[Obj], bool], what: str) -> Obj:
        """The object, as soon as something holds for it."""
        seen: Obj = {}

        def look() -> bool:
            seen.clear()
            seen.update(self.get(plural, name))
            return bool(seen) and holds(seen)

        try:
            eventually(look, what)
        except AssertionError as error:
            raise AssertionError(f"{plural} {name}: {error}; {seen.get('status')}") from error
        return seen

    def wait_phase(self, pod: str, *phases: str) -> Obj:
        return self.wait("pods", pod, lambda p: p["status"]["phase"] in phases, f"{phases}")

    def wait_condition(self, plural: str, name: str, condition: str, value: str = "True") -> Obj:
        def holds(found: Obj) -> bool:
            conditions = found.get("status", {}).get("conditions") or []
            return any(c["type"] == condition and c["status"] == value for c in conditions)

        return self.wait(plural, name, holds, f"{condition}={value}")

    def wait_said(self, pod: str, text: str, container: str = "main") -> None:
        """Until the container's log holds a text."""
        eventually(lambda: text in self.log(pod, container), f"{text!r} in the log of {pod}")

    def log(self, pod: str, container: str = "main", **query: Any) -> str:
        """Empty if there is none yet."""
        try:
            text: str = self._core.read_namespaced_pod_log(
                pod, self.name, container=container, **query
            )
        except client.ApiException:
            return ""
        return text or ""

    def watch_pods(self, resource_version: str, until_type: str) -> list[tuple[str, Obj]]:
        """What happened to the pods here since a version, up to the first event of a type."""
        events = []
        stream = watch.Watch().stream(
            self._core.list_namespaced_pod,
            self.name,
            resource_version=resource_version,
            timeout_seconds=20,
        )
        for event in stream:
            events.append((event["type"], event["raw_object"]))
            if event["type"] == until_type:
                break
        return events

    def reasons(self, about: str) -> list[str]:
        """Of the Events about an object, by its name."""
        return [e["reason"] for e in self.items("events") if e["involvedObject"]["name"] == about]


def container_status(pod: Obj, name: str = "main") -> Obj:
    status = pod["status"]
    every = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    return next(each for each in every if each["name"] == name)


def ended(pod: Obj, name: str = "main") -> Obj:
    """How a container of a pod ended; empty if it has not."""
    found: Obj = container_status(pod, name)["state"].get("terminated") or {}
    return found


def condition(found: Obj, name: str) -> Obj:
    return next((c for c in found["status"].get("conditions") or [] if c["type"] == name), {})


_numbers = itertools.count()


@contextlib.contextmanager
def namespace_in(cluster: LocalCluster) -> Iterator[Namespace]:
    """A new namespace; at the end it goes, and every pod in it."""
    name = f"test-{next(_numbers)}"
    ns = Namespace(cluster, name)
    status, made = ns.kube("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert status == 201, made
    yield ns
    for pod in ns.items("pods"):
        ns.kube("DELETE", ns.path("pods", pod["metadata"]["name"]), {"gracePeriodSeconds": 1})
    ns.kube("DELETE", f"/api/v1/namespaces/{name}")
    gone = f"the namespace {name} is gone"
    eventually(lambda: ns.kube("GET", f"/api/v1/namespaces/{name}")[0] == 404, gone)


def processes(mark: str, where: str = "environ") -> set[int]:
    """Processes with a text in their environment (or `cmdline`), other than this one."""
    found = set()
    for entry in Path("/proc").glob(f"[0-9]*/{where}"):
        try:
            text = entry.read_bytes()
        except OSError:
            continue  # gone, or not ours to read
        pid = int(entry.parent.name)
        if mark.encode() in text and pid != os.getpid():
            found.add(pid)
    return found


def kill_program(cluster: LocalCluster, module: str) -> None:
    """SIGKILL to one of the cluster's programs, as the kernel's memory killer would."""
    ours = processes(str(cluster.state_dir), "cmdline")
    pids = processes(module, "cmdline") & ours
    assert len(pids) == 1, pids
    os.kill(pids.pop(), signal.SIGKILL)
