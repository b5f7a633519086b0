"""Gives each PersistentVolumeClaim a directory, and takes it away with the claim.

There are no PersistentVolume objects: the claim itself is Bound, with the capacity it asked for,
which nothing enforces. As with the usual storage classes the data goes when the claim is deleted,
but not while an unfinished pod uses it.
"""

import asyncio
import logging
import shutil
from pathlib import Path

from primo_local.client import CLAIMS, Client, Key, NotFoundError, Obj, key_of
from primo_local.controllers.informer import Informer
from primo_local.controllers.queue import WorkQueue
from primo_local.controllers.resources import occupies

log = logging.getLogger(__name__)

PROTECTION = "kubernetes.io/pvc-protection"


def directory_of(root: Path, claim: Key) -> Path:
    """By name, not by uid: a cluster that starts anew finds the data of a claim made anew."""
    namespace, name = claim
    return root / namespace / name


def users_of(claim: Key, pods: list[Obj]) -> list[Obj]:
    """The unfinished pods that mount a claim."""
    namespace, name = claim
    return [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == namespace
        and occupies(pod)
        and any(
            (volume.get("persistentVolumeClaim") or {}).get("claimName") == name
            for volume in pod["spec"].get("volumes") or []
        )
    ]


class Volumes:
    """Binds claims and cleans up after them."""

    def __init__(self, client: Client, claims: Informer, pods: Informer, root: Path) -> None:
        self._client = client
        self._claims = claims
        self._pods = pods
        self._root = root
        self._queue: WorkQueue[Key] = WorkQueue()
        claims.on_change(lambda before, after: self._queue.add(key_of(after or before or {})))
        pods.on_change(self._pod_changed)

    async def run(self) -> None:
        await self._claims.synced.wait()
        await self._pods.synced.wait()
        await self._queue.run(self._look)

    def _pod_changed(self, before: Obj | None, after: Obj | None) -> None:
        pod = after or before
        assert pod is not None
        if after is not None and occupies(after):
            return
        for volume in pod["spec"].get("volumes") or []:
            if source := volume.get("persistentVolumeClaim"):
                self._queue.add((pod["metadata"]["namespace"], source["claimName"]))

    async def _look(self, key: Key) -> None:
        claim = self._claims.get(key)
        if claim is None:
            return
        finalizers = claim["metadata"].get("finalizers") or []
        if claim["metadata"].get("deletionTimestamp"):
            if PROTECTION in finalizers and not users_of(key, list(self._pods)):
                await self._release(key, claim)
        elif PROTECTION not in finalizers:
            # Before it is Bound, for from then on there may be data.
            await self._set_finalizers(key, claim, [*finalizers, PROTECTION])
        elif (claim.get("status") or {}).get("phase") != "Bound":
            await self._bind(key, claim)

    async def _bind(self, key: Key, claim: Obj) -> None:
        directory = directory_of(self._root, key)
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True, mode=0o700)
        spec = claim["spec"]
        status = {
            "phase": "Bound",
            "accessModes": spec.get("accessModes") or [],
            "capacity": dict((spec.get("resources") or {}).get("requests") or {}),
        }
        await self._client.patch(CLAIMS, key, {"status": status}, "status")
        log.info("claim bound", extra={"claim": key, "directory": str(directory)})

    async def _release(self, key: Key, claim: Obj) -> None:
        await asyncio.to_thread(shutil.rmtree, directory_of(self._root, key), ignore_errors=True)
        finalizers = [name for name in claim["metadata"]["finalizers"] if name != PROTECTION]
        await self._set_finalizers(key, claim, finalizers)

    async def _set_finalizers(self, key: Key, claim: Obj, finalizers: list[str]) -> None:
        meta = {
            "resourceVersion": claim["metadata"]["resourceVersion"],
            "finalizers": finalizers or None,
        }
        try:
            await self._client.patch(CLAIMS, key, {"metadata": meta})
        except NotFoundError:
            return
