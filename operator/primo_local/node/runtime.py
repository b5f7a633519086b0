"""Starts and ends containers as process trees, each under a shim of its own."""

import asyncio
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from primo_local.node import shim

log = logging.getLogger(__name__)

SIGNALLED: Final = 128
# LD_LIBRARY_PATH: where a machine may have its GPU's driver, which a container runtime mounts.
INHERITED: Final = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TZ", "VIRTUAL_ENV")
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class StartError(Exception):
    """The program cannot be run; the message is the container runtime's."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to run."""

    argv: list[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path


def base_environment(home: Path, temporary: Path, hostname: str) -> dict[str, str]:
    """What every process gets before its own variables; nothing else of the node's passes on."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    # Not resolved: the python of a virtual environment is a link, and it is its place that counts.
    ours = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", SYSTEM_PATH)
    return inherited | {
        "PATH": f"{ours}:{path}",
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "HOSTNAME": hostname,
    }


def resolve(argv: list[str]) -> list[str]:
    """`python` is the interpreter that runs us, whatever it is called where it lives."""
    if argv and argv[0] in ("python", "python3"):
        return [sys.executable, *argv[1:]]
    return argv


class Process:
    """A running container: its main process and all that this one starts."""

    def __init__(self, keeper: asyncio.subprocess.Process, pid: int) -> None:
        self._keeper = keeper
        self.pid = pid
        self._end = asyncio.create_task(self._await_end())

    @classmethod
    async def start(cls, order: Order) -> "Process":
        """Raises StartError, with nothing left running."""
        order.log.parent.mkdir(parents=True, exist_ok=True)
        keeper = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", shim.__file__),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={},
            cwd="/",
            start_new_session=True,
        )
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        written = {
            "argv": resolve(order.argv),
            # Where execvpe looks for the program is the container's PATH, not ours.
            "env": dict(order.env),
            "cwd": str(order.cwd),
            "log": str(order.log),
            "format": "cri",
        }
        keeper.stdin.write(json.dumps(written).encode() + b"\n")
        line = await keeper.stdout.readline()
        answer: dict[str, Any] = json.loads(line or b'{"error": "its parent process died"}')
        if "pid" not in answer:
            await keeper.wait()
            raise StartError(answer["error"])
        return cls(keeper, answer["pid"])

    def hears_sigterm(self) -> bool:
        """Whether its main process has told what it does at SIGTERM; True where nobody knows."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return True
        masks = re.findall(r"^Sig(?:Cgt|Ign):\s*([0-9a-f]+)$", status, re.MULTILINE)
        return any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for mask in masks)

    def terminate(self) -> None:
        """SIGTERM to the process group."""
        self._command(b"T")

    def kill(self) -> None:
        """SIGKILL to every process of the tree."""
        self._command(b"K")

    async def wait(self) -> int:
        """The exit code, 128 + signal if one ended it, once no process of the tree is left."""
        return await asyncio.shield(self._end)

    def _command(self, letter: bytes) -> None:
        assert self._keeper.stdin is not None
        if not self._keeper.stdin.is_closing():
            self._keeper.stdin.write(letter)

    async def _await_end(self) -> int:
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        line = await self._keeper.stdout.readline()
        await self._keeper.wait()
        self._keeper.stdin.close()
        if not line:
            log.error("the parent of a container was killed", extra={"pid": self.pid})
            end_orphans()
            return SIGNALLED + signal.SIGKILL
        code = int(json.loads(line)["exit"])
        return SIGNALLED - code if code < 0 else code


def end_orphans() -> None:
    """Kill what a killed shim leaves to us, its subreaper, and what those leave in turn."""
    while orphans := [pid for pid in shim.children_of(os.getpid()) if not _is_shim(pid)]:
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _is_shim(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return True  # gone already
    return shim.__file__.encode() in words
