"""Writes Events, so that `kubectl describe` tells what happened. Losing one is never an error."""

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from typing import Final, Literal

from primo_local.apiserver.clock import timestamp, utc_now
from primo_local.client import EVENTS, Client, ClientError, ConflictError, NotFoundError, Obj

log = logging.getLogger(__name__)

LONGEST_MESSAGE: Final = 1024  # what the API server takes
QUEUE_AT_MOST: Final = 10_000
REMEMBER_AT_MOST: Final = 10_000

Severity = Literal["Normal", "Warning"]


@dataclass(frozen=True, slots=True)
class _Note:
    name: str
    about: Obj
    severity: Severity
    reason: str
    message: str
    at: str


class Recorder:
    """Records Events in the background. The same words about the same object raise a count."""

    def __init__(self, client: Client, component: str, host: str = "") -> None:
        self._client = client
        self._component = component
        self._host = host
        self._notes: asyncio.Queue[_Note] = asyncio.Queue(QUEUE_AT_MOST)
        self._counts: dict[tuple[str, str], int] = {}

    def record(
        self, about: Obj, severity: Severity, reason: str, message: str, field_path: str = ""
    ) -> None:
        """About an object with kind and apiVersion; `field_path` names one container of a pod."""
        meta = about["metadata"]
        words = "|".join((self._component, meta["uid"], field_path, reason, message))
        digest = hashlib.sha256(words.encode()).hexdigest()[:16]
        reference = {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": meta.get("namespace", ""),
            "name": meta["name"],
            "uid": meta["uid"],
            "resourceVersion": meta.get("resourceVersion", ""),
            "fieldPath": field_path,
        }
        note = _Note(
            f"{meta['name']}.{digest}",
            {name: value for name, value in reference.items() if value},
            severity,
            reason,
            message[:LONGEST_MESSAGE],
            timestamp(utc_now()),
        )
        if self._notes.full():
            log.warning("event dropped", extra={"reason": reason})
            return
        self._notes.put_nowait(note)

    async def run(self) -> None:
        while True:
            note = await self._notes.get()
            try:
                await self._write(note)
            except ClientError as error:
                log.debug("event lost", extra={"reason": note.reason, "error": str(error)})
            finally:
                self._notes.task_done()

    async def flush(self) -> None:
        """Wait until all that was recorded has been written or lost."""
        await self._notes.join()

    async def _write(self, note: _Note) -> None:
        namespace = note.about.get("namespace", "default")
        key = (namespace, note.name)
        if len(self._counts) > REMEMBER_AT_MOST:
            self._counts.clear()
        if key in self._counts:
            try:
                await self._again(key, note, self._counts[key])
            except NotFoundError:
                log.debug("event expired", extra={"event": note.name})
            else:
                return
        body = {
            "metadata": {"name": note.name, "namespace": namespace},
            "involvedObject": note.about,
            "type": note.severity,
            "reason": note.reason,
            "message": note.message,
            "source": {"component": self._component} | ({"host": self._host} if self._host else {}),
            "reportingComponent": self._component,
            "reportingInstance": self._host,
            "firstTimestamp": note.at,
            "lastTimestamp": note.at,
            "count": 1,
        }
        try:
            await self._client.create(EVENTS, namespace, body)
            self._counts[key] = 1
        except ConflictError:  # written before a restart of ours
            written = await self._client.get(EVENTS, *key)
            await self._again(key, note, int(written.get("count") or 1))

    async def _again(self, key: tuple[str, str], note: _Note, count: int) -> None:
        self._counts[key] = count + 1
        await self._client.patch(EVENTS, key, {"count": count + 1, "lastTimestamp": note.at})
