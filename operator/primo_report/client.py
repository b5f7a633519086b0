"""What a training script calls: the trial's settings on the way in, report() on the way out.

Outside a trial the same script runs unchanged: there are no parameters, and reports are printed.
"""

import contextlib
import operator
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, SupportsFloat, SupportsIndex

from primo_report import environment
from primo_report.aggregate import Aggregate
from primo_report.termination import write_message
from primo_report.wire import format_report, format_summary

_EXIT_SIGTERM: Final = 128 + signal.SIGTERM


def params() -> dict[str, Any]:
    """The trial's configuration, parameter name to value; empty outside a trial."""
    return environment.params()


def fidelity() -> int | float | None:
    """How far to train, in the study's unit; None outside a trial or without a fidelity."""
    return environment.number(environment.FIDELITY)


def resume_from() -> int | float | None:
    """The fidelity that an earlier run of this trial reached; None for the first run.

    A checkpoint may still be missing: then train from zero.
    """
    return environment.number(environment.RESUME_FROM) or None


def checkpoint_dir() -> Path | None:
    """The directory that this trial keeps across its runs, made if need be; None without one."""
    directory = environment.path(environment.CHECKPOINT_DIR)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    return directory


def report(
    step: SupportsIndex | None = None,
    fidelity: SupportsFloat | None = None,
    **metrics: SupportsFloat,
) -> None:
    """Report metrics as measured now; NaN and infinities are taken as divergence.

    With several processes, one of them reports. A metric whose name is not an identifier goes as
    `report(**{"val/error": 0.1})`.

    Args:
        step: orders the reports; None counts up.
        fidelity: reached when this was measured, in the study's unit.
        metrics: numbers, or whatever turns into one, such as an array or tensor of one element.

    Raises:
        TypeError: an argument is not a number.
        BadReportError: a name or a number is out of bounds (see `wire.parse_report`).
        OSError: the report file cannot be written.
    """
    line = format_report(
        {name: _float(f"metric {name!r}", value) for name, value in metrics.items()},
        step=None if step is None else _index(step),
        fidelity=None if fidelity is None else _fidelity(fidelity),
    )
    path = environment.path(environment.REPORT_FILE)
    if path is None:
        sys.stdout.write(line + "\n")
        return
    with _lock:
        _append(path, line.encode() + b"\n")
        _own_message.take(line.encode())


def stop_on_sigterm() -> None:
    """End at once with exit code 143 when the pod is told to stop; from the main thread only.

    A Python process that is process 1 of its container ignores SIGTERM otherwise, and holds its
    GPU for the whole grace period.
    """
    signal.signal(signal.SIGTERM, _exit_on_sigterm)


def _exit_on_sigterm(_number: int, _frame: FrameType | None) -> None:
    for stream in (sys.stdout, sys.stderr):
        # The signal may have come in the middle of a write to this very stream.
        with contextlib.suppress(RuntimeError, ValueError, OSError):
            stream.flush()
    # Not sys.exit: it would wait for threads, data loaders and whatever catches SystemExit.
    os._exit(_EXIT_SIGTERM)


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        # Under a umask of 077 the sidecar, which has another uid, could not read it. The volume is
        # this pod's alone.
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, 0o666)
        while line:
            line = line[os.write(descriptor, line) :]
    finally:
        os.close(descriptor)


class _OwnMessage:
    """The summary of this process's reports as its container's own termination message.

    It is there for the case that the sidecar dies, so trouble with it never reaches the training.
    """

    def __init__(self) -> None:
        self._aggregate: Aggregate | None = None

    def take(self, line: bytes) -> None:
        path = environment.path(environment.TERMINATION_LOG)
        if path is None:
            return
        try:
            first, limit = environment.metrics(), environment.message_limit()
        except environment.BadEnvironmentError:
            return
        if self._aggregate is None:
            self._aggregate = Aggregate(always=first)
            _clear_on_error(path)
        self._aggregate.take(line)
        message = format_summary(self._aggregate.summary(source="client"), limit, first)
        with contextlib.suppress(OSError):
            write_message(path, message)


def _clear_on_error(path: Path) -> None:
    """Empty the message when an exception ends the process.

    The kubelet then falls back to the log's end, so that the trial shows the traceback; the
    sidecar's message still has the values.
    """
    before = sys.excepthook

    def clear(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            os.truncate(path, 0)
        before(kind, error, traceback)

    sys.excepthook = clear


def _float(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise TypeError(f"{what}: {value!r} is not a number")
    try:
        return float(value)
    # Arrays of several elements: TypeError from numpy, ValueError or RuntimeError from others.
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{what}: {value!r} is not a number: {error}") from None


def _index(step: object) -> int:
    try:
        return operator.index(step)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"step: {step!r} is not an integer") from None


def _fidelity(value: object) -> int | float:
    exact = _float("fidelity", value)
    return int(exact) if exact.is_integer() else exact


_lock: Final = threading.Lock()
_own_message: Final = _OwnMessage()
