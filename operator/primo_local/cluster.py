"""Starts and ends a whole local cluster: an API server, and a node with the controllers."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from primo_local.node import shim

API_SERVER_ENDS_WITHIN_S: Final = 3.0
NODE_ENDS_WITHIN_S: Final = 12.0  # its containers have two seconds each to end in peace
LOOK_AGAIN_S: Final = 0.05
LAST_LINES: Final = 20


class ClusterStartError(Exception):
    """The cluster did not come up; the message ends with what its log said last."""


class Program:
    """One of the cluster's processes, or another beside them, with a shim for a parent.

    The shim ends with us, however we end, and takes the program and all its children along. In a
    session of its own, so that Ctrl-C in a terminal reaches us only.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Raises:
        ClusterStartError: it cannot be run.
        """
        self.name = name
        self.log = log
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", shim.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
        order = {
            "argv": arguments,
            "env": dict(os.environ if environment is None else environment),
            "cwd": str(Path.cwd()),
            "log": str(log),
            "format": "raw",
        }
        self._send(json.dumps(order).encode() + b"\n")
        started: dict[str, Any] = json.loads(self._out.readline() or b"{}")
        if "pid" not in started:
            raise ClusterStartError(f"{name}: {started.get('error', 'did not start')}")
        self.pid: int = started["pid"]

    @property
    def has_ended(self) -> bool:
        # Not by Popen.poll: after a KeyboardInterrupt in its midst its lock stays taken for ever.
        if self._keeper.returncode is None:
            try:
                pid, status = os.waitpid(self._keeper.pid, os.WNOHANG)
            except ChildProcessError:  # another thread has seen it, or an interrupt came between
                pid, status = self._keeper.pid, 0
            if pid:
                self._keeper.returncode = os.waitstatus_to_exitcode(status)
        return self._keeper.returncode is not None

    def stop(self, limit_s: float) -> None:
        """SIGTERM, and SIGKILL after a limit; idempotent."""
        self._send(b"T")
        kill_at = time.monotonic() + limit_s
        while not self.has_ended:
            if time.monotonic() > kill_at:
                self._send(b"K")
            time.sleep(LOOK_AGAIN_S)
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        self._out.close()

    def last_lines(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-LAST_LINES:])

    @property
    def _in(self) -> IO[bytes]:
        assert self._keeper.stdin is not None
        return self._keeper.stdin

    @property
    def _out(self) -> IO[bytes]:
        assert self._keeper.stdout is not None
        return self._keeper.stdout

    def _send(self, text: bytes) -> None:
        if self._in.closed:
            return
        with contextlib.suppress(BrokenPipeError):
            self._in.write(text)
            self._in.flush()


class LocalCluster:
    """A running cluster; use it as a context manager, or call `stop`.

    Attributes:
        kubeconfig: for kubectl and every other client, good until `stop`.
        state_dir: logs are in `logs/`, the data of claims in `volumes/`.
    """

    def __init__(self, state_dir: Path, programs: list[Program], *, keep: bool = False) -> None:
        self.state_dir = state_dir
        self.kubeconfig = state_dir / "kubeconfig"
        self._programs = programs
        self._keep = keep
        self._stopping = threading.Lock()

    @classmethod
    def start(
        cls,
        state_dir: Path,
        *,
        gpus: int = 2,
        workdir: Path | None = None,
        timeout_s: float = 30,
        job_backoff_s: float = 10,
        keep: bool = False,
    ) -> Self:
        """Block until the API server answers and the node is Ready.

        Args:
            gpus: how many the node has; pretended, if the machine has fewer.
            workdir: where containers run that name no directory; the current one by default.
            job_backoff_s: how long a Job waits after its first failed pod, doubled each time.
            keep: objects outlive the API server, in `data/`.

        Raises:
            ClusterStartError: a process ended, or not all was ready in time.
        """
        state_dir = state_dir.resolve()
        (state_dir / "logs").mkdir(parents=True, exist_ok=True, mode=0o700)
        state_dir.chmod(0o700)  # it holds keys, and the API server runs what it is told
        cluster = cls(state_dir, [], keep=keep)
        deadline = time.monotonic() + timeout_s
        try:
            cluster._start_api_server(deadline)
            cluster._start_node(gpus, (workdir or Path.cwd()).resolve(), job_backoff_s, deadline)
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def stop(self) -> None:
        """End the node with all containers, then the API server; idempotent."""
        with self._stopping:
            for program in reversed(self._programs):
                is_node = program.name == "node"
                program.stop(NODE_ENDS_WITHIN_S if is_node else API_SERVER_ENDS_WITHIN_S)
            self._programs.clear()

    def restart_api_server(self, timeout_s: float = 30) -> None:
        """After its end; blocks until it answers, on the same port if nobody has taken it.

        Raises:
            ClusterStartError: as `start`.
        """
        for program in [p for p in self._programs if p.name == "apiserver"]:
            program.stop(API_SERVER_ENDS_WITHIN_S)
            self._programs.remove(program)
        self._start_api_server(time.monotonic() + timeout_s)
        # It is the last to be stopped.
        self._programs.insert(0, self._programs.pop())

    def check(self) -> None:
        """Raises ClusterStartError if one of the processes has ended."""
        for program in self._programs:
            if program.has_ended:
                raise ClusterStartError(
                    f"the cluster's {program.name} has ended; its log says:\n{program.last_lines()}"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start_api_server(self, deadline: float) -> None:
        # The kubeconfig of an earlier run stays: the server finds its port there, and if one still
        # runs here, it is that one's. It is written anew once the new server serves.
        earlier = _written_at(self.kubeconfig)
        arguments = ["primo_local.apiserver", "--state-dir", str(self.state_dir)]
        if self._keep:
            arguments += ["--data-dir", str(self.state_dir / "data")]
        self._run("apiserver", arguments)
        self._wait(lambda: _written_at(self.kubeconfig) != earlier, deadline)

    def _start_node(self, gpus: int, workdir: Path, job_backoff_s: float, deadline: float) -> None:
        ready = self.state_dir / "node" / "ready"
        ready.unlink(missing_ok=True)
        arguments = ["primo_local.node", "--controllers", "--state-dir", str(self.state_dir)]
        arguments += ["--gpus", str(gpus), "--workdir", str(workdir)]
        arguments += ["--job-backoff-s", str(job_backoff_s)]
        self._run("node", arguments)
        self._wait(ready.exists, deadline)

    def _run(self, name: str, arguments: list[str]) -> None:
        log = self.state_dir / "logs" / f"{name}.log"
        self._programs.append(Program(name, [sys.executable, "-m", *arguments], log))

    def _wait(self, serves: Callable[[], bool], deadline: float) -> None:
        """Until the newest program shows that it serves."""
        program = self._programs[-1]
        while not serves():
            self.check()
            if time.monotonic() > deadline:
                raise ClusterStartError(
                    f"the cluster's {program.name} was not ready in time; its log says:\n"
                    f"{program.last_lines()}"
                )
            time.sleep(LOOK_AGAIN_S)


def _written_at(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None
