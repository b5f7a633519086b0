"""What the reports of one run come to, folded line by line in constant memory."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from primo_report.untrusted import shortened
from primo_report.wire import (
    MAX_METRICS,
    MAX_REASON_LENGTH,
    MAX_STEP,
    BadReportError,
    Reduced,
    Rejection,
    Report,
    Source,
    Summary,
    parse_report,
)


class Aggregate:
    """Folds the reports of one run, in the order of their lines."""

    def __init__(self, always: Iterable[str] = ()) -> None:
        """Start empty.

        Args:
            always: metrics that are kept even when MAX_METRICS other names came before them.
        """
        self._always = frozenset(always)
        self._metrics: dict[str, _Running] = {}
        self._lines = 0
        self._seq = 0
        self._step: int | None = None
        self._fidelity: float | None = None
        self._rejected = 0
        self._rejection: Rejection | None = None

    def take(self, line: bytes) -> Rejection | None:
        """Fold a line of the report file, good or bad; a blank one only counts as a line."""
        self._lines += 1
        if not line.strip():
            return None
        try:
            return self.fold(parse_report(line), self._lines)
        except BadReportError as error:
            return self.reject(error.reason, self._lines)

    def fold(self, report: Report, line: int = 0) -> Rejection | None:
        """Fold a report; what of it was ignored, if anything."""
        step = self._next_step() if report.step is None else report.step
        self._seq += 1
        self._step = step if self._step is None else max(self._step, step)
        if report.fidelity is not None:
            self._fidelity = max(self._fidelity or 0, report.fidelity)
        surplus = [
            name for name, value in report.metrics.items() if not self._put(name, value, step)
        ]
        if not surplus:
            return None
        return self.reject(f"metrics: {surplus[0]!a} is one name more than {MAX_METRICS}", line)

    def reject(self, reason: str, line: int = 0) -> Rejection:
        """Count something as ignored."""
        rejection = Rejection(line, shortened(reason, MAX_REASON_LENGTH))
        self._rejected += 1
        self._rejection = self._rejection or rejection
        return rejection

    def forget(self, name: str) -> None:
        """Drop what a metric has come to."""
        self._metrics.pop(name, None)

    def summary(self, source: Source = "sidecar", note: str = "", partial: bool = False) -> Summary:
        """All there is; metrics in the order in which they were first reported."""
        return Summary(
            seq=self._seq,
            metrics={name: running.reduced() for name, running in self._metrics.items()},
            step=self._step,
            fidelity=self._fidelity,
            rejected=self._rejected,
            rejection=self._rejection,
            partial=partial,
            source=source,
            note=note,
        )

    def _next_step(self) -> int:
        return 1 if self._step is None else min(self._step + 1, MAX_STEP)

    def _put(self, name: str, value: float, step: int) -> bool:
        """Whether there was room for it."""
        known = self._metrics.get(name)
        if known is None:
            if len(self._metrics) >= MAX_METRICS and name not in self._always:
                return False
            known = self._metrics[name] = _Running()
        known.add(value, step)
        return True


@dataclass(slots=True)
class _Running:
    """One metric's reductions so far."""

    step: int = -MAX_STEP
    count: int = 0
    last: float = math.nan
    min: float = math.inf
    max: float = -math.inf
    mean: float = 0.0

    def add(self, value: float, step: int) -> None:
        if step >= self.step:
            self.step, self.last = step, value
        self.count += 1
        self.min = _or_nan(min, self.min, value)
        self.max = _or_nan(max, self.max, value)
        # Not a running sum, which overflows; kept in bounds, since it rounds at each report.
        mean = self.mean * ((self.count - 1) / self.count) + value / self.count
        self.mean = mean if math.isnan(mean) else max(self.min, min(self.max, mean))

    def reduced(self) -> Reduced:
        return Reduced(self.last, self.min, self.max, self.mean)


def _or_nan(choose: Callable[[float, float], float], one: float, other: float) -> float:
    """Python's min and max keep or drop a NaN by its place among the arguments."""
    return math.nan if math.isnan(one) or math.isnan(other) else choose(one, other)
