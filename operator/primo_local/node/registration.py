"""Makes this node known, and keeps saying that it is alive."""

import asyncio
import logging
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from primo_local.apiserver.clock import micro_timestamp, timestamp, utc_now
from primo_local.client import (
    LEASES,
    NAMESPACES,
    NODES,
    ApiError,
    Client,
    ClientError,
    ConflictError,
    NotFoundError,
    Obj,
)
from primo_local.node.devices import GPU
from primo_local.node.states import ADDRESS

log = logging.getLogger(__name__)

LEASE_NAMESPACE: Final = "kube-node-lease"
LEASE_S: Final = 40
RENEW_S: Final = 10.0
RETRY_S: Final = 1.0
MOST_PODS: Final = 110
VERSION: Final = "v1.36.0"  # whose kubelet is imitated; clients compare it with the server's


def capacity_of_machine(gpus: int, disk: Path) -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    capacity = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory // 1024}Ki",
        "ephemeral-storage": f"{shutil.disk_usage(disk).total // 1024}Ki",
        "pods": str(MOST_PODS),
    }
    return capacity | ({GPU: str(gpus)} if gpus else {})


def node_object(name: str) -> Obj:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": sys.platform,
        "kubernetes.io/arch": machine,
    }
    return {"metadata": {"name": name, "labels": labels}, "spec": {}}


def node_status(capacity: Mapping[str, str], port: int, since: str) -> Obj:
    """Ready. Of addresses only an IP: the API server would look a host name up in DNS."""
    healthy = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID"),
        ("Ready", "True", "KubeletReady"),
    ]
    return {
        "capacity": dict(capacity),
        "allocatable": dict(capacity),
        "addresses": [{"type": "InternalIP", "address": ADDRESS}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [
            {
                "type": kind,
                "status": value,
                "reason": reason,
                "message": "containers run as processes of this machine",
                "lastHeartbeatTime": since,
                "lastTransitionTime": since,
            }
            for kind, value, reason in healthy
        ],
        "nodeInfo": {
            "architecture": node_object("")["metadata"]["labels"]["kubernetes.io/arch"],
            "bootID": "",
            "containerRuntimeVersion": f"process://{platform.python_version()}",
            "kernelVersion": platform.release(),
            "kubeProxyVersion": "",
            "kubeletVersion": VERSION,
            "machineID": "",
            "operatingSystem": sys.platform,
            "osImage": platform.platform(terse=True),
            "systemUUID": "",
        },
    }


class Registration:
    """The Node object and its Lease, made again whenever the server has lost them."""

    def __init__(self, client: Client, name: str, capacity: Mapping[str, str], port: int) -> None:
        self.registered = asyncio.Event()
        self._client = client
        self._name = name
        self._capacity = capacity
        self._port = port

    async def run(self) -> None:
        registered = False
        while True:
            try:
                if not registered:
                    await self._register()
                    registered = True
                await self._renew()
                await asyncio.sleep(RENEW_S)
            except NotFoundError:
                registered = False
                await asyncio.sleep(RETRY_S)
            except ClientError as error:
                log.warning("not registered", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _register(self) -> None:
        try:
            await self._client.create(NODES, "", node_object(self._name))
        except ConflictError:
            log.info("node known already", extra={"node": self._name})
        body = {"status": node_status(self._capacity, self._port, timestamp(utc_now()))}
        await self._client.patch(NODES, ("", self._name), body, "status")
        await self._make_lease()
        self.registered.set()
        log.info("node ready", extra={"node": self._name, "port": self._port})

    async def _make_lease(self) -> None:
        try:
            await self._client.create(NAMESPACES, "", {"metadata": {"name": LEASE_NAMESPACE}})
        except ApiError as error:
            if error.status not in (403, 409):  # there, or made by others only
                raise
        try:
            await self._client.create(LEASES, LEASE_NAMESPACE, self._lease())
        except ConflictError:
            return

    async def _renew(self) -> None:
        await self._client.get(NODES, "", self._name)  # NotFoundError: the server lost its memory
        await self._client.patch(LEASES, (LEASE_NAMESPACE, self._name), self._lease())

    def _lease(self) -> Obj:
        return {
            "metadata": {"name": self._name},
            "spec": {
                "holderIdentity": self._name,
                "leaseDurationSeconds": LEASE_S,
                "renewTime": micro_timestamp(utc_now()),
            },
        }
