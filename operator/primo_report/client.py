"""What a training script calls: the trial's settings on the way in, report() on the way out.

Outside a trial the same script runs unchanged: there are no parameters, and reports are printed.
"""

import atexit
import contextlib
import operator
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, SupportsFloat, SupportsIndex, overload

from primo_report import environment
from primo_report.aggregate import Aggregate
from primo_report.termination import write_message
from primo_report.wire import Summary, format_report, format_summary

if TYPE_CHECKING:
    from primo_report.follow import Follower

_EXIT_SIGTERM: Final = 128 + signal.SIGTERM
_MAX_READS: Final = 8  # chunks that a report reads of what others have reported
_LAST_WAIT_S: Final = 1.0


def params(**defaults: Any) -> dict[str, Any]:
    """The trial's configuration, parameter name to value, over the given defaults.

    Outside a trial there are the defaults alone: `params(lr=0.01)`.
    """
    return defaults | environment.params()


@overload
def fidelity(default: None = None) -> int | float | None: ...


@overload
def fidelity(default: float) -> int | float: ...


def fidelity(default: float | None = None) -> int | float | None:
    """How far to train, in the study's unit; the default outside a trial or without a fidelity."""
    given = environment.number(environment.FIDELITY)
    return default if given is None else given


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

    Threads and processes may report at once. Of processes that train together (`RANK` and the
    like in their environment) only the first one's reports count, the others' are dropped. A
    metric whose name is not an identifier goes as `report(**{"val/error": 0.1})`.

    Args:
        step: orders the reports; None counts up.
        fidelity: reached when this was measured, in the study's unit.
        metrics: numbers, or whatever turns into one, such as an array or tensor of one element.

    Raises:
        TypeError: an argument is not a number.
        BadReportError: a name or a number is out of bounds (see `wire.parse_report`).
        OSError: the report file cannot be written.
    """
    reached = None if fidelity is None else _fidelity(fidelity)
    line = format_report(
        {name: as_number(f"metric {name!r}", value) for name, value in metrics.items()},
        step=None if step is None else _index(step),
        fidelity=reached,
    )
    if rank := environment.rank():
        _say_once(f"primo_report: process {rank} leaves the reports to process 0")
        return
    path = environment.path(environment.REPORT_FILE)
    if path is None:
        sys.stdout.write(line + "\n")
        return
    asked = environment.number(environment.FIDELITY)
    done = reached is not None and asked is not None and reached >= asked
    _write(path, line.encode() + b"\n", done)


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


def _write(path: Path, line: bytes, done: bool) -> None:
    global _writing
    with _lock:
        # A signal handler that reports may have come in the middle of a report.
        nested, _writing = _writing, True
        try:
            with _report_file(path, locked=nested) as descriptor:
                _append(descriptor, line)
                if not nested:
                    _own_message.follow(path, done)
        finally:
            _writing = nested


@contextlib.contextmanager
def _report_file(path: Path, locked: bool) -> Iterator[int]:
    """The report file, ours alone among the processes that use this function.

    Args:
        locked: it is already.
    """
    import fcntl  # not on Windows, where this module is used outside trials

    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        # Under a umask of 077 the sidecar, which has another uid, could not read it. The volume is
        # this pod's alone.
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, 0o666)
        # Some file systems have no locks; appending in one write is safe enough without.
        with contextlib.suppress(OSError):
            if not locked:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        # A process that was forked meanwhile has the file open too, and closing it is not enough.
        with contextlib.suppress(OSError):
            if not locked:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _append(descriptor: int, line: bytes) -> None:
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line  # half a line, of a process that was killed or met a full disk
    while line:
        line = line[os.write(descriptor, line) :]


class _OwnMessage:
    """The summary of the report file as this process's container's own termination message.

    It is there for the case that the sidecar dies, so trouble with it never reaches the training.
    Where the training fails there must be none: the kubelet then shows the log's end instead, a
    traceback or what the library that aborted has said. So it is left when the process ends, and
    by the report of the asked fidelity, for processes whose end Python does not see.
    """

    def __init__(self) -> None:
        self._reader: tuple[Follower, Aggregate] | None = None
        self._failing = False

    def follow(self, report_file: Path, done: bool) -> None:
        """Read what has been reported; `done` leaves the message now."""
        path = environment.path(environment.TERMINATION_LOG)
        if path is None:
            return
        with contextlib.suppress(OSError, environment.BadEnvironmentError):
            if self._reader is None:
                self._begin(report_file, path)
            self._failing = False  # whoever meant to end has been kept from it
            summary = self._read()
            if done:
                self._leave(path, summary)

    def _begin(self, report_file: Path, path: Path) -> None:
        from primo_report.follow import Follower  # what it needs is not there on Windows

        self._reader = Follower(report_file), Aggregate(always=environment.metrics())

        process = os.getpid()  # what it forks inherits all this, and its end is not the training's

        def at_exit() -> None:
            if self._failing or os.getpid() != process:
                return
            # Another thread may be in the middle of a report, and wait for a lock.
            if not _lock.acquire(timeout=_LAST_WAIT_S):
                return
            try:
                with (
                    contextlib.suppress(OSError, environment.BadEnvironmentError),
                    _report_file(report_file, locked=False),
                ):
                    self._leave(path, self._read())
            finally:
                _lock.release()

        def failing() -> None:
            if os.getpid() != process:
                return
            self._failing = True
            with contextlib.suppress(OSError):
                os.truncate(path, 0)

        atexit.register(at_exit)
        _when_failing(failing)

    def _read(self) -> Summary:
        """Go on reading: other processes may have reported too."""
        assert self._reader
        file, aggregate = self._reader
        for _ in range(_MAX_READS):
            lines = file.read()
            for line in lines or ():
                aggregate.take(line)
            if lines is None:
                break
        return aggregate.summary("client", note=file.problem, partial=not file.ended)

    def _leave(self, path: Path, summary: Summary) -> None:
        limit = environment.message_limit()
        write_message(path, format_summary(summary, limit, environment.metrics()))


def _when_failing(tell: Callable[[], None]) -> None:
    """Be told when an uncaught exception ends the process, or an exit with another code than 0."""
    excepthook, exit_ = sys.excepthook, sys.exit

    def on_exception(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        tell()
        excepthook(kind, error, traceback)

    def on_exit(status: Any = None, /) -> NoReturn:
        if status not in (None, 0):
            tell()
        exit_(status)

    sys.excepthook, sys.exit = on_exception, on_exit


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        sys.stderr.write(text + "\n")


def as_number(what: str, value: object) -> float:
    """A number, or whatever turns into one.

    Raises:
        TypeError: it does not.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise TypeError(f"{what}: {value!r} is not a number")
    try:
        # Tensors warn when float() takes them out of their graph, and item() does not.
        item = getattr(value, "item", None)
        return float(item() if callable(item) else value)
    # Arrays of several elements: TypeError or ValueError from numpy, RuntimeError from torch.
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{what}: {value!r} is not a number: {error}") from None


def _index(step: object) -> int:
    try:
        return operator.index(step)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"step: {step!r} is not an integer") from None


def _fidelity(value: object) -> int | float:
    exact = as_number("fidelity", value)
    return int(exact) if exact.is_integer() else exact


def _after_fork() -> None:
    """Another thread of the parent may have held the lock, and is not there to let it go.

    A child that reports is a training of its own.
    """
    global _lock, _writing, _own_message
    _lock, _writing, _own_message = threading.RLock(), False, _OwnMessage()


_lock = threading.RLock()
_writing = False
_own_message = _OwnMessage()
_said: Final[set[str]] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
