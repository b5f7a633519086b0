"""A container's termination message, rewritten in place."""

import errno
import os
from pathlib import Path

from primo_report.wire import MAX_MESSAGE_BYTES


def write_message(path: Path, message: bytes) -> None:
    """Put a message in the place of the one before, in one write.

    The file is a bind mount: it can be neither replaced nor removed. Readers, and a kill between
    any two instructions, find the old message or the new one and never an empty file; hence
    spaces over what an older and longer message left, and no truncation first.

    Raises:
        OSError: the file cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        padded = message.ljust(min(size, MAX_MESSAGE_BYTES))
        if os.pwrite(descriptor, padded, 0) < len(padded):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if size > MAX_MESSAGE_BYTES:
            # Somebody else's text; the kubelet reads the end of the file, where ours is not.
            os.ftruncate(descriptor, MAX_MESSAGE_BYTES)
    finally:
        os.close(descriptor)
