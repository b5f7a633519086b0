"""The container beside the training: follows its report file and keeps the termination message.

The message is current after each batch of reports, so that it survives a kill; it is marked as
partial until the training has ended and all of the file was read. Nothing that goes wrong ends the
sidecar; what the operator should know of it is a note in the message. A restarted sidecar reads
the file from its start and says the same as before.
"""

import logging
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, TypeVar

from primo_report import environment
from primo_report.aggregate import Aggregate
from primo_report.follow import MISSING, Follower
from primo_report.termination import write_message
from primo_report.wire import MAX_MESSAGE_BYTES, Rejection, Summary, format_summary

if TYPE_CHECKING:
    from primo_report.tensorboard import EventFolder

_TERMINATION_LOG: Final = Path("/dev/termination-log")
_ADDRESS: Final = "0.0.0.0"  # noqa: S104  Prometheus scrapes the pod's own address
_PORT: Final = 9400
_MIN_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 1.0
_DRAIN_S: Final = 2.0  # unless we are told how long the pod's end may take
_UNHEALTHY_S: Final = 30.0  # without a look at the file
_MAX_LOGGED: Final = 20  # ignored reports, and other troubles

_T = TypeVar("_T")

log = logging.getLogger("primo_report")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator asks of the sidecar.

    Attributes:
        report_file: None where the operator names none, which is a problem.
        tensorboard: where event files are followed too; None is nowhere.
        first: metrics that get room in the message before all others.
        limit: of the message, in bytes.
        drain_s: how long to read after the end of the training; what is left then is not read.
        problem: what was wrong with the environment; defaults stand in its place.
    """

    report_file: Path | None
    tensorboard: Path | None
    termination_log: Path
    first: tuple[str, ...]
    limit: int
    drain_s: float
    address: str
    port: int
    problem: str

    @classmethod
    def from_environment(cls) -> "Settings":
        """Never fails: while the sidecar does not start, the training does not start either."""
        problems: list[str] = []

        def read(kind: Callable[[], _T], default: _T) -> _T:
            try:
                return kind()
            except environment.BadEnvironmentError as error:
                problems.append(str(error))
                return default

        report_file = environment.path(environment.REPORT_FILE)
        if report_file is None:
            problems.append(f"{environment.REPORT_FILE} is not set")
        return cls(
            report_file=report_file,
            tensorboard=environment.path(environment.TENSORBOARD_DIR),
            termination_log=environment.path(environment.TERMINATION_LOG) or _TERMINATION_LOG,
            first=tuple(read(environment.metrics, [])),
            limit=read(environment.message_limit, MAX_MESSAGE_BYTES),
            drain_s=read(lambda: environment.number(environment.DRAIN_S), None) or _DRAIN_S,
            address=os.environ.get(environment.METRICS_ADDRESS) or _ADDRESS,
            port=read(lambda: environment.metrics_port(_PORT), _PORT),
            problem="; ".join(problems),
        )


class StopSignal:
    """SIGTERM or SIGINT, as something that can be waited for."""

    def __init__(self) -> None:
        self.received = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)
        # A signal that comes between a look at `received` and the wait must end the wait.
        signal.set_wakeup_fd(self._writer)

    def wait(self, timeout_s: float) -> bool:
        select.select([self._reader], [], [], timeout_s)
        return self.received

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True


class Sidecar:
    """Report file in, termination message and metrics page out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = Follower(settings.report_file) if settings.report_file else None
        self._events = _events(settings)
        self._aggregate = Aggregate(always=settings.first)
        self._problem = settings.problem
        self._partial = True
        self._ignored = 0
        self._said: set[str] = set()
        self._message = b""
        self._summary = Summary(seq=0, metrics={})
        self._looked_at = time.monotonic()

    def run(self, stop: StopSignal) -> None:
        """Follow until told to stop, then read what is left and return."""
        self._follow(lambda: not stop.received)
        self._serve()
        self._follow(lambda: not stop.received)
        pause_s = _MIN_PAUSE_S
        while not stop.wait(pause_s):
            news = self._follow(lambda: not stop.received)
            pause_s = _MIN_PAUSE_S if news else min(pause_s * 1.5, _MAX_PAUSE_S)
        self._finish()

    def _serve(self) -> None:
        address, port = self._settings.address, self._settings.port
        try:
            # Not at the head: the first look at the file need not wait for an HTTP server.
            from primo_report.exposition import render, serve

            bound = serve(address, port, lambda: render(self._summary), self._healthy)
        except Exception as error:
            # Several pods share the ports of a laptop, and of a node with hostNetwork; threads may
            # be counted. Reports go on without.
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            self._problem = self._problem or f"cannot serve metrics on port {port}: {reason}"
        else:
            log.info("serving metrics on %s, port %d", address, bound)

    def _healthy(self) -> bool:
        return time.monotonic() < self._looked_at + _UNHEALTHY_S

    def _follow(self, go_on: Callable[[], bool]) -> bool:
        """Read to the end of the file; whether there was anything new."""
        news = False
        try:
            while go_on() and self._file and (lines := self._file.read()) is not None:
                news = True
                self._take(lines)
            while go_on() and (ignored := self._fold_events()) is not None:
                news = True
                for rejection in ignored:
                    self._tell(rejection)
                self._publish()
            self._publish()
        except Exception as error:
            # Rather a message that is out of date than a sidecar that restarts in a loop.
            self._say(f"could not follow the reports: {error!r}")
        return news

    def _fold_events(self) -> list[Rejection] | None:
        return self._events.fold_into(self._aggregate) if self._events else None

    def _finish(self) -> None:
        sources = [source for source in (self._file, self._events) if source]
        for source in sources:
            source.ended = False  # what it was before the training ended
        deadline = time.monotonic() + self._settings.drain_s
        self._follow(lambda: time.monotonic() < deadline)
        if self._file and self._file.ended:
            self._take(self._file.rest())
        elif self._file:
            self._problem = f"the report file was not read to its end: {self._file.unread()} bytes"
        if self._events and not self._events.ended:
            self._problem = self._problem or "the event files were not read to their end"
        self._partial = not all(source.ended for source in sources)
        self._publish()

    def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            if rejection := self._aggregate.take(line):
                self._tell(rejection)
        if lines:
            self._publish()

    def _publish(self) -> None:
        self._looked_at = time.monotonic()
        note = self._note()
        if note:
            self._say(note)
        self._summary = self._aggregate.summary(note=note, partial=self._partial)
        message = format_summary(self._summary, self._settings.limit, self._settings.first)
        if message == self._message:
            return
        try:
            write_message(self._settings.termination_log, message)
        except OSError as error:
            self._say(f"cannot write the termination message: {error}")
        else:
            self._message = message

    def _note(self) -> str:
        """What to say of the sources, the report file first; it may be missing for event files."""
        event_files = self._events.problem if self._events else ""
        report_file = self._file.problem if self._file else ""
        if self._events and report_file == MISSING:
            report_file = ""
        return report_file or event_files or self._problem

    def _tell(self, rejection: Rejection) -> None:
        """Log the first of what is ignored: there may be millions."""
        self._ignored += 1
        if self._ignored <= _MAX_LOGGED:
            place = f"line {rejection.line} of the report file" if rejection.line else "an event"
            log.warning("%s is ignored: %s", place, rejection.reason)
        if self._ignored == _MAX_LOGGED:
            log.warning("from here on ignored reports are only counted")

    def _say(self, text: str) -> None:
        """Log once: the same trouble is met at each poll."""
        if text not in self._said and len(self._said) < _MAX_LOGGED:
            self._said.add(text)
            log.info("%s", text)


def _events(settings: Settings) -> "EventFolder | None":
    if settings.tensorboard is None:
        return None
    from primo_report.tensorboard import EventFolder  # few trials need it

    return EventFolder(settings.tensorboard, settings.first)


def main() -> int:
    stop = StopSignal()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    Sidecar(Settings.from_environment()).run(stop)
    return 0
