"""How tests wait: for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# Far above what anything here takes, so that no machine is too slow.
LIMIT_S = 120.0
POLL_S = 0.02


def eventually(condition: Callable[[], T | None], what: str, limit_s: float = LIMIT_S) -> T:
    """Ask until the answer is true; the answer."""
    deadline = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(POLL_S)
    return answer
