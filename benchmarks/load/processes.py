"""The processes of a load run, and what they use, read from /proc."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")
STOP_S = 15.0


class Process:
    """One of our Python programs, with a log of its own."""

    def __init__(self, module: str, *arguments: str, log: Path, **environment: str) -> None:
        self.log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def check(self) -> None:
        if self._popen.poll() is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-15:]
            raise RuntimeError(f"{self.log.stem} has ended:\n" + "\n".join(lines))

    def stop(self) -> None:
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._popen.kill()
        self._popen.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def cpu_s(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int, *, peak: bool = False) -> float:
    wanted = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) / 1024
    return 0.0


def children(pid: int) -> list[int]:
    """Of the operator: its worker, if it has one."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def usage(pid: int) -> Mapping[str, float]:
    found = {"cpu_s": cpu_s(pid), "rss_mib": rss_mib(pid), "peak_mib": rss_mib(pid, peak=True)}
    for child in children(pid):
        found |= {"worker_cpu_s": cpu_s(child), "worker_rss_mib": rss_mib(child)}
    return found


def wait_for(condition: object, what: str, limit_s: float) -> float:
    """Until the condition holds; how long that took."""
    begin = time.monotonic()
    while not condition():  # type: ignore[operator]
        if time.monotonic() - begin > limit_s:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - begin
