"""The termination message of a container, with the kubelet's limits."""

from pathlib import Path
from typing import Final

from primo_local.node.logs import tail_for_message

READ_AT_MOST: Final = 4096
TOGETHER_AT_MOST: Final = 12288  # of all containers of a pod, shared evenly


def limit_of(containers: int) -> int:
    """Bytes that one of so many containers may say, init containers counted."""
    return min(READ_AT_MOST, TOGETHER_AT_MOST // max(containers, 1))


def read_message(file: Path, log: Path, *, policy: str, exit_code: int, containers: int) -> str:
    """What a container left to say.

    A kubelet reads the *last* 4096 bytes of the file and keeps the *first* of its share of them.
    """
    try:
        with file.open("rb") as opened:
            size = file.stat().st_size
            opened.seek(max(size - READ_AT_MOST, 0))
            text = opened.read(READ_AT_MOST)
    except OSError:
        text = b""  # removed, made a directory or unreadable: there is no message then
    if not text and policy == "FallbackToLogsOnError" and exit_code != 0:
        text = tail_for_message(log).encode()
    return text[: limit_of(containers)].decode(errors="replace")
