"""Reads container logs in the kubelet's format: a time, a stream and a tag before each line."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

LOOK_AGAIN_S: Final = 0.1
FALLBACK_LINES: Final = 80
FALLBACK_BYTES: Final = 2048


@dataclass(frozen=True, slots=True)
class Options:
    """What of a log is wanted."""

    tail_lines: int | None = None
    since: datetime | None = None
    timestamps: bool = False
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A line, or a part of a long one."""

    at: str  # RFC 3339 with nanoseconds
    text: bytes
    is_whole: bool

    def rendered(self, *, timestamps: bool) -> bytes:
        stamp = f"{self.at} ".encode() if timestamps else b""
        return stamp + self.text + (b"\n" if self.is_whole else b"")


def parse(line: bytes) -> Entry | None:
    """One line of the file, without its newline; None if it is not in the format."""
    fields = line.split(b" ", 3)
    if len(fields) < 4 or fields[2] not in (b"F", b"P"):
        return None
    return Entry(fields[0].decode(errors="replace"), fields[3], fields[2] == b"F")


def select(entries: Sequence[Entry], options: Options) -> list[Entry]:
    chosen = [entry for entry in entries if _is_recent(entry, options.since)]
    if options.tail_lines is None:
        return chosen
    start = len(chosen)
    lines = 0
    while start > 0:
        # A whole entry ends the line before it, whose parts belong to it.
        ends_a_line = chosen[start - 1].is_whole or start == len(chosen)
        if ends_a_line and lines == options.tail_lines:
            break
        lines += ends_a_line
        start -= 1
    return chosen[start:]


def _is_recent(entry: Entry, since: datetime | None) -> bool:
    if since is None:
        return True
    # fromisoformat keeps microseconds and refuses nothing more precise.
    return datetime.fromisoformat(entry.at) >= since


def entries_of(text: bytes) -> Iterator[Entry]:
    for line in text.split(b"\n"):  # not splitlines: progress bars write \r within a line
        if entry := parse(line):
            yield entry


def read(path: Path) -> list[Entry]:
    """The whole log, with the part that was rotated away; empty if there is none yet."""
    found: list[Entry] = []
    for part in (rotated(path), path):
        try:
            found += entries_of(part.read_bytes())
        except FileNotFoundError:
            continue
    return found


def rotated(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def tail_for_message(path: Path) -> str:
    """The end of a log for terminationMessagePolicy FallbackToLogsOnError."""
    chosen = select(read(path), Options(tail_lines=FALLBACK_LINES))
    text = b"".join(entry.rendered(timestamps=False) for entry in chosen)
    return text[-FALLBACK_BYTES:].decode(errors="replace")


async def stream(
    path: Path, options: Options, *, follow: bool, has_ended: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """The selected part and, if followed, what is appended until the container has ended."""
    left = options.limit_bytes if options.limit_bytes is not None else -1
    reader = _Follower(path)
    over = has_ended()
    try:
        pieces = list(entries_of(rotated(path).read_bytes()))
    except FileNotFoundError:
        pieces = []
    pieces = select([*pieces, *reader.appended()], options)
    while True:
        for entry in pieces:
            text = entry.rendered(timestamps=options.timestamps)
            if left >= 0:
                text = text[:left]
                left -= len(text)
            if text:
                yield text
            if left == 0:
                return
        if not follow or over:
            return
        await asyncio.sleep(LOOK_AGAIN_S)
        # Asked before reading: what is written before the end is then always read.
        over = has_ended()
        pieces = reader.appended()


class _Follower:
    """Reads on in a file that grows and may be rotated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._position = 0

    def appended(self) -> list[Entry]:
        return list(entries_of(self._read()))

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                inode = self._path.stat().st_ino
                before = b""
                if self._inode and inode != self._inode:
                    before = self._rest_of_rotated()
                    self._position = 0
                self._inode = inode
                file.seek(self._position)
                text = file.read()
        except FileNotFoundError:
            return b""
        whole = text.rfind(b"\n") + 1  # a line in the middle of being written is read next time
        self._position += whole
        return before + text[:whole]

    def _rest_of_rotated(self) -> bytes:
        try:
            with rotated(self._path).open("rb") as file:
                file.seek(self._position)
                return file.read()
        except FileNotFoundError:
            return b""
