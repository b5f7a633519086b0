"""Reads a file that someone else appends to, line by line, whatever else they do to it."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from primo_report.wire import MAX_LINE_BYTES

_CHUNK_BYTES: Final = 256 * 1024
_TAIL_BYTES: Final = 1024
# Never through a link to elsewhere, and never waiting for the other end of a pipe.
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Follower:
    """Follows one path.

    The file may be missing, appear late, be cut, rewritten or replaced. As long as it still holds,
    just before the place where reading stopped, what was read there last, reading goes on from
    that place; else the whole file is read from its start, as if it had been appended. Memory
    stays within a chunk and a line, however long the lines are.

    Attributes:
        problem: why the file cannot be read now; empty when it can.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._tail = b""  # what was read last, before the offset
        self._lines = _Splitter()
        self.problem = ""

    def read(self) -> list[bytes] | None:
        """The whole lines of the next chunk, possibly none; None at the end of the file.

        Lines come without their newline; of one longer than MAX_LINE_BYTES the first
        MAX_LINE_BYTES + 1 bytes come, which is enough to refuse it.
        """
        try:
            descriptor = os.open(self._path, _FLAGS)
            try:
                chunk = self._next_chunk(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.problem = _told(error)
            return None
        return self._lines.feed(chunk) if chunk else None

    def rest(self) -> list[bytes]:
        """The line at the end that has no newline, if there is one; for when no more will come."""
        return self._lines.rest()

    def _next_chunk(self, descriptor: int) -> bytes:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            self.problem = "the report file is not a regular file"
            return b""
        self.problem = ""
        if not self._goes_on(descriptor, state.st_size):
            self._offset, self._tail, self._lines = 0, b"", _Splitter()
        chunk = os.pread(descriptor, _CHUNK_BYTES, self._offset)
        self._offset += len(chunk)
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        return chunk

    def _goes_on(self, descriptor: int, size: int) -> bool:
        if size < self._offset:
            return False
        start = self._offset - len(self._tail)
        return os.pread(descriptor, len(self._tail), start) == self._tail


class _Splitter:
    """Cuts chunks into lines and keeps the unfinished one."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        *ended, unfinished = chunk.split(b"\n")
        lines = []
        for piece in ended:
            self._keep(piece)
            lines.append(bytes(self._kept))
            self._kept.clear()
        self._keep(unfinished)
        return lines

    def rest(self) -> list[bytes]:
        lines = [bytes(self._kept)] if self._kept else []
        self._kept.clear()
        return lines

    def _keep(self, piece: bytes) -> None:
        self._kept += piece[: MAX_LINE_BYTES + 1 - len(self._kept)]


def _told(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "there is no report file"
    if error.errno == errno.ELOOP:
        return "the report file is a symbolic link, which is not followed"
    return f"cannot read the report file: {(error.strerror or str(error)).lower()}"
