"""Events are few, whatever happens."""

import pytest

from primo_operator import notices
from primo_operator.cluster import Notice
from primo_operator.notices import BURST, ONE_EVERY_S, Throttle, one_line


def notice(reason: str = "TrialCompleted", uid: str = "u") -> Notice:
    return Notice({"metadata": {"uid": uid}}, reason, "words")


def shown(throttle: Throttle, count: int, now: float, given: Notice) -> list[str]:
    admitted = (throttle.admit(given, now) for _ in range(count))
    return [found.message for found in admitted if found]


def test_the_first_are_shown_then_one_now_and_then_with_the_count_of_the_others() -> None:
    throttle = Throttle()
    assert shown(throttle, 100, 0.0, notice()) == ["words"] * BURST
    assert shown(throttle, 5, ONE_EVERY_S, notice()) == [f"words (and {100 - BURST} more)"]
    assert shown(throttle, 1, ONE_EVERY_S, notice()) == []
    assert shown(throttle, 2, 2 * ONE_EVERY_S, notice()) == ["words (and 5 more)"]


def test_after_a_quiet_time_all_is_as_at_first() -> None:
    throttle = Throttle()
    shown(throttle, BURST, 0.0, notice())
    assert len(shown(throttle, 100, 1000 * ONE_EVERY_S, notice())) == BURST


def test_the_many_do_not_drown_the_end_of_a_study_or_another_study() -> None:
    throttle = Throttle()
    shown(throttle, 1000, 0.0, notice())
    assert shown(throttle, 1, 0.0, notice("Completed")) == ["words"]
    assert shown(throttle, 1, 0.0, notice(uid="another")) == ["words"]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "REMEMBERED", 3)
    throttle = Throttle()
    for k in range(10):
        throttle.admit(notice(uid=str(k)), 0.0)
    assert len(throttle._buckets) == 3


TRACEBACK = """exit code 1 (Error): Traceback (most recent call last):
  File "train.py", line 14, in <module>
    raise ValueError("bad: mode")
ValueError: bad: mode
"""


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (TRACEBACK, "exit code 1 (Error): ValueError: bad: mode"),
        ("exit code 137 (OOMKilled)", "exit code 137 (OOMKilled)"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_event_is_one_line(message: str | None, line: str) -> None:
    assert one_line(message) == line
