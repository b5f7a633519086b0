"""The parent of one process tree: starts it, keeps its log, and lets no process outlive it.

Run as `python -I -S shim.py` with pipes for stdin and stdout, and nothing but the standard library,
since one runs beside every container. The first line of stdin is the order (JSON: `argv`, `env`,
`cwd`, `log`, `format`); later bytes are commands, `T` for SIGTERM to the group, `K` for SIGKILL to
every descendant. End of file on stdin means that whoever started us is dead, and acts like `K`.
Stdout carries one JSON line when the process runs or could not be started, and one when it ended.

A separate parent is needed because killing a process never reaches its daemonised grandchildren.
As a child subreaper the shim inherits those, so its own end means that the whole tree is gone.
Without Linux there is no subreaper: then only the process group is killed.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Final

CONTROL: Final = 0
REPORT: Final = 1
ROTATE_AT_BYTES: Final = 10 * 1024 * 1024
LONGEST_LINE_BYTES: Final = 16 * 1024  # as containerd: a longer line is written in parts
LOOK_FOR_PARENT_S: Final = 1.0

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


class Log:
    """Appends what a container prints, rotating once the file is large.

    `cri` is the kubelet's format, a time, a stream and a tag before each line; `raw` is the text.
    """

    def __init__(self, path: str, log_format: str) -> None:
        self._path = path
        self._cri = log_format == "cri"
        self._partial = {"stdout": b"", "stderr": b""}
        self._file = self._open()

    def _open(self) -> IO[bytes]:
        return Path(self._path).open("ab", buffering=0)

    def write(self, stream: str, text: bytes) -> None:
        if not self._cri:
            self._append(text)
            return
        *lines, rest = (self._partial[stream] + text).split(b"\n")
        stamp = _timestamp()
        written = [_cri_lines(stamp, stream, line, last=b"F") for line in lines]
        while len(rest) > LONGEST_LINE_BYTES:
            piece, rest = rest[:LONGEST_LINE_BYTES], rest[LONGEST_LINE_BYTES:]
            written.append(_cri_lines(stamp, stream, piece, last=b"P"))
        self._partial[stream] = rest
        self._append(b"".join(written))

    def close(self) -> None:
        for stream, rest in self._partial.items():
            if rest:
                self._append(_cri_lines(_timestamp(), stream, rest, last=b"P"))
        self._file.close()

    def _append(self, text: bytes) -> None:
        if not text:
            return
        if self._file.tell() > ROTATE_AT_BYTES:
            self._file.close()
            Path(self._path).replace(self._path + ".1")
            self._file = self._open()
        try:
            self._file.write(text)
        except OSError:
            return  # a full disk must not end a training that could go on without its log


def _cri_lines(stamp: bytes, stream: str, line: bytes, *, last: bytes) -> bytes:
    pieces = [
        line[start : start + LONGEST_LINE_BYTES]
        for start in range(0, max(len(line), 1), LONGEST_LINE_BYTES)
    ]
    tags = [b"P"] * (len(pieces) - 1) + [last]
    name = stream.encode()
    return b"".join(
        b"%s %s %s %s\n" % (stamp, name, tag, piece)
        for tag, piece in zip(tags, pieces, strict=True)
    )


def _timestamp() -> bytes:
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanos:09d}Z".encode()


class Tree:
    """The process that was asked for, and everything it leaves to us."""

    def __init__(self, order: dict[str, Any]) -> None:
        libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        if libc is not None:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

        def follow_us() -> None:
            # Should someone SIGKILL the shim itself, at least the main process goes with it.
            if libc is not None:
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

        self._main = subprocess.Popen(
            order["argv"],
            env=order["env"],
            cwd=order["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=follow_us,
        )
        self.pid = self._main.pid
        self.exit: int | None = None  # as in Popen.returncode: negative for a signal
        self.gone = False

    @property
    def streams(self) -> dict[int, str]:
        assert self._main.stdout is not None
        assert self._main.stderr is not None
        return {self._main.stdout.fileno(): "stdout", self._main.stderr.fileno(): "stderr"}

    def terminate(self) -> None:
        if self.exit is None:
            self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the group and to all our children; call again for those they leave behind."""
        if self.exit is None:
            self._signal_group(signal.SIGKILL)
        for pid in children_of(os.getpid()):
            _kill(pid)

    def reap(self) -> None:
        """Collect who has died; once the main process has, the others have no right to live."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.gone = True
                return
            if pid == 0:
                break
            if pid == self.pid:
                self.exit = self._main.returncode = os.waitstatus_to_exitcode(status)
                self._signal_group(signal.SIGKILL)
        if self.exit is not None:
            self.kill()

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # nobody is left in it (macOS says EPERM for a group of zombies)


def children_of(parent: int) -> list[int]:
    """Direct children, by /proc; empty where there is no /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command, in parentheses, may hold anything; state and parent follow the last one.
            state, owner = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue  # it ended while we looked
        if int(owner) == parent and state != "Z":
            found.append(int(entry.parent.name))
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def report(**facts: object) -> None:
    try:
        os.write(REPORT, json.dumps(facts).encode() + b"\n")
    except BrokenPipeError:
        return  # nobody listens any more; stdin will say so


def read_order() -> tuple[dict[str, Any], bytes]:
    """The order, and the commands that came along with it."""
    received = b""
    while b"\n" not in received:
        piece = os.read(CONTROL, 65536)
        if not piece:
            raise SystemExit(0)  # whoever wanted us is gone
        received += piece
    line, _, commands = received.partition(b"\n")
    order: dict[str, Any] = json.loads(line)
    return order, commands


def start_error(order: dict[str, Any], error: OSError) -> str:
    """What a container runtime says of a program it cannot run."""
    program = order["argv"][0]
    if not Path(order["cwd"]).is_dir():
        return f"chdir to cwd ({json.dumps(order['cwd'])}): {error.strerror}"
    if isinstance(error, FileNotFoundError) and "/" not in program:
        return f"exec: {json.dumps(program)}: executable file not found in $PATH"
    return f"exec: {json.dumps(program)}: {(error.strerror or str(error)).lower()}"


def obey(commands: bytes, tree: Tree) -> None:
    if b"T" in commands:
        tree.terminate()
    if b"K" in commands:
        tree.kill()


def follow(tree: Tree, log: Log, wakeup: int) -> None:
    """Move output to the log and obey commands until no process of the tree is left."""
    streams = tree.streams
    poll = select.poll()
    for descriptor in (CONTROL, wakeup, *streams):
        poll.register(descriptor, select.POLLIN)
    parent = os.getppid()
    while not tree.gone:
        for descriptor, _ in poll.poll(LOOK_FOR_PARENT_S * 1000):
            if descriptor == CONTROL:
                commands = os.read(CONTROL, 4096)
                obey(commands or b"K", tree)
                if not commands:
                    poll.unregister(CONTROL)
            elif descriptor == wakeup:
                os.read(wakeup, 4096)
            elif not _copy(descriptor, streams[descriptor], log):
                poll.unregister(descriptor)
        if os.getppid() != parent:
            tree.kill()  # the pipe is still open if a fork of theirs holds its other end
        tree.reap()
    for descriptor, stream in streams.items():
        os.set_blocking(descriptor, False)
        while _copy(descriptor, stream, log):
            pass


def _copy(descriptor: int, stream: str, log: Log) -> bool:
    try:
        text = os.read(descriptor, 65536)
    except OSError:
        return False
    log.write(stream, text)
    return bool(text)


def main() -> None:
    order, commands = read_order()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Handlers, since SIG_IGN would be inherited by the container.
        signal.signal(number, lambda *_: None)
    log = Log(order["log"], order["format"])
    try:
        tree = Tree(order)
    except OSError as error:
        report(error=start_error(order, error))
        return
    except ValueError as error:  # a NUL byte in an argument
        report(error=str(error))
        return
    report(pid=tree.pid)
    obey(commands, tree)
    follow(tree, log, read_end)
    log.close()
    report(exit=tree.exit)


if __name__ == "__main__":
    main()
