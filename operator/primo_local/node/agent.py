"""Keeps one `Pod` running for each pod object that is bound to this node."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from primo_local.client import Key, Obj, key_of
from primo_local.controllers.informer import Informer
from primo_local.node import volumes
from primo_local.node.pod import Pod, find_log
from primo_local.node.quarters import Host

log = logging.getLogger(__name__)

FINISHED: Final = ("Succeeded", "Failed")


class Agent:
    """Follows the pods of this node, an informer's view of them being the only input."""

    def __init__(self, host: Host, pods: Informer) -> None:
        self._host = host
        self._informer = pods
        self._pods: dict[str, Pod] = {}  # by uid
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        pods.on_change(self._changed)

    async def run(self) -> None:
        await self._informer.synced.wait()
        await asyncio.to_thread(self._sweep)
        await asyncio.Event().wait()

    async def shut_down(self) -> None:
        """End all containers, and say so in the status of their pods."""
        self._closing = True
        await asyncio.gather(*(pod.shut_down() for pod in self._pods.values()))

    def find(self, key: Key) -> Obj | None:
        return self._informer.get(key)

    def running(self, pod: Obj) -> Pod | None:
        return self._pods.get(pod["metadata"]["uid"])

    def log_of(self, pod: Obj, container: str, *, previous: bool) -> Path | None:
        return find_log(self._host.pods / pod["metadata"]["uid"], container, previous=previous)

    def _changed(self, before: Obj | None, after: Obj | None) -> None:
        if after is None:
            assert before is not None
            pod = self._pods.pop(before["metadata"]["uid"], None)
            if pod is not None:
                pod.removed()
            return
        known = self._pods.get(after["metadata"]["uid"])
        if known is not None:
            known.update(after)
        elif not self._closing:
            self._adopt(after)

    def _adopt(self, obj: Obj) -> None:
        pod = self._pods[obj["metadata"]["uid"]] = Pod(self._host, obj)
        status = obj.get("status") or {}
        if status.get("phase") in FINISHED:
            life = pod.run_finished()
        elif status.get("startTime"):
            # Somebody ran it on this node before; it was not this process.
            life = pod.run_lost()
        else:
            life = pod.run()
        task = asyncio.create_task(life, name=f"pod {'/'.join(key_of(obj))}")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a bug of ours ended %s", task.get_name(), exc_info=error)

    def _sweep(self) -> None:
        """Remove what pods of an earlier life of this node left on disk."""
        for directory in self._host.pods.iterdir():
            if directory.name not in self._pods:
                volumes.remove(directory)
