"""Programs that speak to the server: the Python client and kopf."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import kopf
import pytest
from kubernetes import client, config, watch

from support.apiserver import GROUP_VERSION, JOBS, PODS, WIDGETS, Wire, job, pod, widget
from support.waiting import eventually

pytestmark = pytest.mark.cluster


@pytest.fixture
def typed(cluster: Any) -> client.ApiClient:
    return config.new_client_from_config(str(cluster.kubeconfig))


def test_the_python_client_reads_built_in_kinds_strictly(
    wire: Wire, space: str, typed: client.ApiClient
) -> None:
    resources = {"limits": {"nvidia.com/gpu": 1, "cpu": 2}}
    wire.make(PODS.format(space), pod("one", resources=resources))
    wire.make(JOBS.format(space), job("one"))
    pods = client.CoreV1Api(typed).list_namespaced_pod(space).items
    assert pods[0].spec.containers[0].resources.limits == {"nvidia.com/gpu": "1", "cpu": "2"}
    assert client.BatchV1Api(typed).read_namespaced_job("one", space).spec.suspend is True
    assert client.CoreV1Api(typed).list_node().items is not None
    names = [each.metadata.name for each in client.CoreV1Api(typed).list_namespace().items]
    assert space in names


def test_the_python_client_watches(wire: Wire, space: str, typed: client.ApiClient) -> None:
    wire.make(WIDGETS.format(space), widget("one"))
    group, version = GROUP_VERSION.split("/")
    stream = watch.Watch().stream(
        client.CustomObjectsApi(typed).list_namespaced_custom_object,
        group,
        version,
        space,
        "widgets",
        timeout_seconds=5,
    )
    assert next(iter(stream))["object"]["metadata"]["name"] == "one"


@contextlib.contextmanager
def operator(registry: kopf.OperatorRegistry, space: str) -> Iterator[None]:
    """kopf in a thread of its own, watching one namespace."""
    kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)
    stop, ready = threading.Event(), threading.Event()
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None

    def serve() -> None:
        asyncio.run(
            kopf.operator(
                registry=registry,
                settings=settings,
                standalone=True,
                namespaces=[space],
                stop_flag=stop,
                ready_flag=ready,
            )
        )

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        assert ready.wait(30), "kopf is not ready"
        yield
    finally:
        stop.set()
        thread.join(30)


@pytest.fixture
def registry(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> kopf.OperatorRegistry:
    """For an operator that finds the cluster by itself, and nobody else's handlers."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    return kopf.OperatorRegistry()


def test_kopf_sees_an_object_come_change_and_go(
    wire: Wire, space: str, registry: kopf.OperatorRegistry
) -> None:
    seen: list[tuple[str | None, int]] = []

    @kopf.on.event(*GROUP_VERSION.split("/"), "widgets", registry=registry)
    def noticed(event: Any, spec: Any, **_: Any) -> None:
        seen.append((event["type"], spec.get("size", 0)))

    path = WIDGETS.format(space)
    with operator(registry, space):
        wire.make(path, widget("one"))
        # None is what kopf calls the type of what it finds when it starts to look.
        eventually(
            lambda: {(None, 10), ("ADDED", 10)} & set(seen) != set(), "kopf has seen it come"
        )
        wire.change(f"{path}/one", {"spec": {"size": 20}})
        eventually(lambda: ("MODIFIED", 20) in seen, "kopf has seen it change")
        wire("DELETE", f"{path}/one")
        eventually(lambda: ("DELETED", 20) in seen, "kopf has seen it go")


def test_kopf_handles_each_change_once_and_lets_go(
    wire: Wire, space: str, registry: kopf.OperatorRegistry
) -> None:
    """Its finalizer, annotations and status patches come out as on a real server."""
    calls: list[str] = []
    where = (*GROUP_VERSION.split("/"), "widgets")

    @kopf.on.create(*where, registry=registry)
    def created(patch: Any, **_: Any) -> None:
        calls.append("create")
        patch.status["phase"] = "Made"

    @kopf.on.update(*where, registry=registry)
    def updated(**_: Any) -> None:
        calls.append("update")

    @kopf.on.delete(*where, registry=registry)
    def deleted(**_: Any) -> None:
        calls.append("delete")

    path = f"{WIDGETS.format(space)}/one"
    with operator(registry, space):
        wire.make(WIDGETS.format(space), widget("one"))
        status = {"phase": "Made"}
        eventually(lambda: wire.found(path).get("status") == status, "kopf has written the status")
        wire.change(path, {"spec": {"size": 20}})
        eventually(lambda: "update" in calls, "kopf has handled the change")
        wire("DELETE", path)
        eventually(lambda: wire.gone(path), "kopf has let go of it")
    assert calls == ["create", "update", "delete"]
