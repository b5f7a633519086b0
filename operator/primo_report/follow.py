"""Reads a file that someone else appends to, line by line, whatever else they do to it."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from primo_report.wire import MAX_LINE_BYTES

MISSING: Final = (
    "there is no report file: the script calls primo_report.report, or appends lines to the file"
    " named in PRIMO_REPORT_FILE"
)
_CHUNK_BYTES: Final = 64 * 1024
_TAIL_BYTES: Final = 1024
# Never through a link to elsewhere, and never waiting for the other end of a pipe.
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Follower:
    """Follows one path.

    The file may be missing, appear late, be cut, rewritten or replaced. A file that was replaced
    is read to its end before the next one. As long as a file still holds, just before the place
    where reading stopped, what was read there last, reading goes on from that place; else all of
    it is read, as if it had been appended. Memory stays within a chunk and a line, however long
    the lines are.

    Attributes:
        problem: why the file cannot be read now; empty when it can.
        ended: the last read found that all there is has been read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._offset = 0
        self._tail = b""  # what was read last, before the offset
        self._lines = _Splitter()
        self.problem = ""
        self.ended = False

    def read(self) -> list[bytes] | None:
        """The whole lines of the next chunk, possibly none; None at the end of the file.

        Lines come without their newline; of one longer than MAX_LINE_BYTES the first
        MAX_LINE_BYTES + 1 bytes come, which is enough to refuse it. What a file held after its
        last newline is a line once the file has been replaced or rewritten.
        """
        try:
            lines = self._next_lines(self._descriptor)
            if lines is None and self._find():
                lines = self._next_lines(self._descriptor)
        except OSError as error:
            self.problem = _told(error)
            self.ended = error.errno == errno.ENOENT
            self.close()
            return None
        self.ended = lines is None and not self.problem
        return lines

    def rest(self) -> list[bytes]:
        """The line at the end that has no newline, if there is one; for when no more will come."""
        return self._lines.rest()

    def unread(self) -> int:
        """How many bytes there are after those that were read."""
        if self._descriptor is None:
            return 0
        try:
            return max(0, os.fstat(self._descriptor).st_size - self._offset)
        except OSError:
            return 0

    def close(self) -> None:
        """Until the next read."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _find(self) -> bool:
        """Whether there is more: another file is at the path, and will be in hand once this one
        has been read to its end.
        """
        descriptor = os.open(self._path, _FLAGS)
        state = os.fstat(descriptor)
        known = None if self._descriptor is None else os.fstat(self._descriptor)
        regular = stat.S_ISREG(state.st_mode)
        self.problem = "" if regular else "the report file is not a regular file"
        if not regular or (known is not None and os.path.samestat(state, known)):
            os.close(descriptor)
            return False
        if known is not None and known.st_size > self._offset:  # it grew before it was replaced
            os.close(descriptor)
            return True
        self.close()
        self._descriptor = descriptor
        return True

    def _next_lines(self, descriptor: int | None) -> list[bytes] | None:
        if descriptor is None:
            return None
        lines = [] if self._goes_on(descriptor) else self._start_over()
        chunk = os.pread(descriptor, _CHUNK_BYTES, self._offset)
        self._offset += len(chunk)
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        lines += self._lines.feed(chunk)
        return lines if chunk or lines else None

    def _goes_on(self, descriptor: int) -> bool:
        if os.fstat(descriptor).st_size < self._offset:
            return False
        start = self._offset - len(self._tail)
        return os.pread(descriptor, len(self._tail), start) == self._tail

    def _start_over(self) -> list[bytes]:
        self._offset, self._tail = 0, b""
        return self._lines.rest()


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
        return MISSING
    if error.errno == errno.ELOOP:
        return "the report file is a symbolic link, which is not followed"
    return f"cannot read the report file: {(error.strerror or str(error)).lower()}"
