"""Listing in pages: a `continue` token pins the snapshot that the first page was cut from."""

import asyncio
import base64
import binascii
import json
import secrets
from collections import OrderedDict
from dataclasses import dataclass

from primo_local.apiserver.errors import ApiError, bad_request, expired
from primo_local.apiserver.selectors import Selection
from primo_local.apiserver.store import Record, Shelf, Store

_SNAPSHOTS = 64
_SNAPSHOT_LIFE_S = 300.0


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; `token` is "" on the last one."""

    records: list[Record]
    revision: int
    token: str = ""
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class _Snapshot:
    records: list[Record]
    revision: int
    ends: float


class Lister:
    """Cuts lists into pages. Records do not change, so a snapshot is only a list of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._snapshots: OrderedDict[str, _Snapshot] = OrderedDict()

    def page(self, shelf: Shelf, select: Selection, limit: int, token: str) -> Page:
        """Raises a 400 for a token that is none, a 410 for one that has lived too long."""
        if token:
            identity, start = _decode_token(token)
            return self._cut(identity, self._pinned(identity), start, limit)
        records = [record for _, record in shelf.sorted() if select(record.obj)]
        if not limit or len(records) <= limit:
            return Page(records, self._store.revision)
        ends = asyncio.get_running_loop().time() + _SNAPSHOT_LIFE_S
        snapshot = _Snapshot(records, self._store.revision, ends)
        identity = secrets.token_hex(8)
        self._snapshots[identity] = snapshot
        while len(self._snapshots) > _SNAPSHOTS:
            self._snapshots.popitem(last=False)
        return self._cut(identity, snapshot, 0, limit)

    def _pinned(self, identity: str) -> _Snapshot:
        snapshot = self._snapshots.get(identity)
        if snapshot is None or snapshot.ends < asyncio.get_running_loop().time():
            self._snapshots.pop(identity, None)
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. "
                "You can start a new list without the continue parameter."
            )
        return snapshot

    def _cut(self, identity: str, snapshot: _Snapshot, start: int, limit: int) -> Page:
        stop = start + limit if limit else len(snapshot.records)
        remaining = max(len(snapshot.records) - stop, 0)
        token = _encode_token(identity, stop) if remaining else ""
        return Page(snapshot.records[start:stop], snapshot.revision, token, remaining)


def check_list_version(asked: str, match: str, revision: int) -> None:
    """Whether a list at the newest revision answers a request for a certain one."""
    if not asked or asked == "0":
        return
    if not asked.isdigit():
        raise bad_request(f"invalid resource version {asked!r}: must be a number")
    if int(asked) > revision:
        message = f"Too large resource version: {asked}, current: {revision}"
        causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        raise ApiError(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})
    if match == "Exact" and int(asked) != revision:
        raise expired(f"The provided resource version {asked} is too old: only {revision} is kept")


def _encode_token(identity: str, start: int) -> str:
    text = json.dumps({"v": "snapshot/v1", "id": identity, "start": start})
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decode_token(token: str) -> tuple[str, int]:
    try:
        fields = json.loads(base64.urlsafe_b64decode(token))
        return str(fields["id"]), int(fields["start"])
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise bad_request(f"continue key is not valid: {error}") from error
