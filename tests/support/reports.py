"""Report lines, summaries and a running sidecar, for tests."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from primo_report.aggregate import Aggregate
from primo_report.wire import Summary, parse_summary
from support.waiting import eventually

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 30.0  # far above what anything here takes, so that no machine is too slow


def line(step: int | None = None, fidelity: float | None = None, **metrics: object) -> bytes:
    """A report line with its newline, checked by nobody."""
    record: dict[str, object] = {} if step is None else {"step": step}
    if fidelity is not None:
        record["fidelity"] = fidelity
    return json.dumps(record | {"metrics": metrics}).encode() + b"\n"


def folded(lines: Iterable[bytes], always: Iterable[str] = ()) -> Summary:
    aggregate = Aggregate(always)
    for each in lines:
        aggregate.take(each)
    return aggregate.summary()


@dataclass
class RunningSidecar:
    """A real sidecar process over a report file and a message file in one folder."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    @property
    def report_file(self) -> Path:
        return self.folder / "reports.jsonl"

    @property
    def message_file(self) -> Path:
        return self.folder / "message"

    @property
    def log_file(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY / "operator"),
            "PRIMO_REPORT_FILE": str(self.report_file),
            "PRIMO_TERMINATION_LOG": str(self.message_file),
            "PRIMO_METRICS_ADDRESS": "127.0.0.1",
            "PRIMO_METRICS_PORT": "0",
            **self.settings,
        }
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self._program()], env=environment, stderr=log
            )

    def _program(self) -> list[str]:
        if self.user is None:
            return ["-m", "primo_report"]
        # Changes its user once it is loaded: another user may have no access to the interpreter.
        change = f"import os, sys; from primo_report.sidecar import main; os.setuid({self.user}); "
        return ["-c", change + "sys.exit(main())"]

    def append(self, *lines: bytes) -> None:
        with self.report_file.open("ab") as file:
            file.writelines(lines)

    def message(self) -> Summary | None:
        """None while there is none; a torn one fails the test."""
        try:
            with self.paused():
                text = self.message_file.read_text()
        except FileNotFoundError:
            return None
        return parse_summary(text) if text else None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Between two of its instructions, as a kill would find it.

        A file that is read while it is written may give the start of one message and the end of
        the next, however it is written.
        """
        if self.process.poll() is not None:
            yield
            return
        self.process.send_signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def says(self, condition: Callable[[Summary], bool], what: str) -> Summary:
        """Wait for a message that the condition holds for."""

        def found() -> Summary | None:
            summary = self.message()
            return summary if summary and condition(summary) else None

        return eventually(found, what)

    def port(self) -> int:
        """Where it serves metrics, as it logged."""
        eventually(lambda: "serving metrics" in self.log_file.read_text(), "metrics are served")
        served = [row for row in self.log_file.read_text().splitlines() if "serving" in row]
        return int(served[-1].rpartition(" ")[2])

    def end(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)


@contextmanager
def running_sidecar(
    folder: Path, user: int | None = None, **settings: str
) -> Iterator[RunningSidecar]:
    sidecar = RunningSidecar(folder, settings, user)
    try:
        yield sidecar
    finally:
        sidecar.kill()
