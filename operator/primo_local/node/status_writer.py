"""Keeps a pod's status at the API server like the one that is worked out here."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from primo_local.client import PODS, STRATEGIC_PATCH, ApiError, Client, ClientError, Key, Obj
from primo_local.node.container import first_of

log = logging.getLogger(__name__)

MERGE_CHANGES_S: Final = 0.03
RETRY_S: Final = 0.5


class StatusWriter:
    """One patch per change, changes that come close together merged into one.

    By strategic merge, so that conditions which others write are kept.
    """

    def __init__(self, client: Client, key: Key, uid: str, compose: Callable[[], Obj]) -> None:
        self._client = client
        self._key = key
        self._uid = uid
        self._compose = compose
        self._dirty = asyncio.Event()
        self._written: Obj = {}
        self._object_gone = asyncio.Event()

    def changed(self) -> None:
        self._dirty.set()

    def stop(self) -> None:
        """The object is gone; there is nothing left to write to."""
        self._object_gone.set()

    async def run(self) -> None:
        self._dirty.set()
        while True:
            await self._dirty.wait()
            await asyncio.sleep(MERGE_CHANGES_S)
            self._dirty.clear()
            try:
                await self._write()
            except ClientError as error:
                log.warning("status not written", extra={"pod": self._key, "error": str(error)})
                await asyncio.sleep(RETRY_S)
                self._dirty.set()

    async def write_last(self) -> None:
        """Write until it has succeeded, or the object is gone; `run` must have been cancelled."""
        while not self._object_gone.is_set():
            try:
                await self._write()
            except ClientError as error:
                log.warning(
                    "last status not written", extra={"pod": self._key, "error": str(error)}
                )
                await first_of(self._object_gone.wait(), asyncio.sleep(RETRY_S))
            else:
                return

    async def _write(self) -> None:
        status = self._compose()
        if status == self._written or self._object_gone.is_set():
            return
        body = {"metadata": {"uid": self._uid}, "status": status}
        try:
            await self._client.patch(PODS, self._key, body, "status", STRATEGIC_PATCH)
        except ApiError as error:
            if error.status not in (404, 409):  # gone, or another pod has that name now
                raise
        self._written = status
