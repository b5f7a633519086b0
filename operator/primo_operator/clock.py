"""The `Clock` of a real operator."""

import time
from email.utils import parsedate_to_datetime

# An answer tells its second, and was under way.
DATE_WITHIN_S = 1.0


class SystemClock:
    """The API server's clock, as its answers tell it, and one that never goes back.

    What is read in objects are the API server's times: compared with a clock of our own that is an
    hour off, a run that waits would have waited for too long.
    """

    def __init__(self) -> None:
        self._start = time.time() - time.monotonic()  # noqa: TID251  # this is the Clock

    def tell(self, date: str | None) -> None:
        """What an answer's header says, in whole seconds; one that cannot be read says nothing."""
        try:
            told = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return
        start = told + 0.5 - time.monotonic()
        if abs(start - self._start) > DATE_WITHIN_S:
            self._start = start

    def now(self) -> float:
        return self._start + time.monotonic()

    def monotonic(self) -> float:
        return time.monotonic()
