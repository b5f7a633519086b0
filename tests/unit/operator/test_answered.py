"""What Prometheus has said of a run is put together over several answers."""

from typing import Any

import pytest

from primo_operator.memory import Memory
from primo_operator.mirror import Key, Mirror
from primo_operator.reconcile import Reconciler
from primo_operator.settings import Settings
from primo_study.queries import Gap, Measured, Reading

KEY = Key("team", "digits")
NONE: Any = None
NO_SERIES = Reading(gap=Gap.NO_SERIES, message="none")
SEVERAL = Reading(gap=Gap.SEVERAL_SERIES, message="two")


class At:
    """A clock that stands still."""

    def now(self) -> float:
        return 1000.0

    def monotonic(self) -> float:
        return 0.0


def told(*answers: dict[str, Reading]) -> Measured:
    reconciler = Reconciler(NONE, NONE, NONE, At(), Settings(), Mirror())
    reconciler.memories[KEY] = Memory()
    for answer in answers:
        reconciler.answered(KEY, "job", answer)
    return reconciler.memories[KEY].measured["job"]


def test_values_are_kept_and_gaps_are_what_the_last_answer_left() -> None:
    first = told({"a": Reading(1.0), "b": NO_SERIES})
    assert (first.values, first.gap) == ({"a": 1.0}, Gap.NO_SERIES)
    assert first.message == "objective b: none"
    second = told({"a": Reading(1.0), "b": NO_SERIES}, {"b": Reading(0.0)})
    assert (second.values, second.gap, second.message) == ({"a": 1.0, "b": 0.0}, None, "")


def test_a_gap_that_nothing_can_fill_comes_first() -> None:
    assert told({"a": NO_SERIES, "b": SEVERAL}).gap is Gap.SEVERAL_SERIES
    assert told({"a": SEVERAL, "b": NO_SERIES}).gap is Gap.SEVERAL_SERIES


@pytest.mark.parametrize(("times", "wait_s"), [(1, 5), (2, 10), (4, 40), (5, 60), (2000, 60)])
def test_pauses_grow_up_to_a_minute(times: int, wait_s: float) -> None:
    assert told(*[{"a": NO_SERIES}] * times).retry_at == 1000.0 + wait_s


def test_an_answer_for_a_study_that_is_gone_is_dropped() -> None:
    reconciler = Reconciler(NONE, NONE, NONE, At(), Settings(), Mirror())
    reconciler.answered(KEY, "job", {"a": Reading(1.0)})
    assert reconciler.memories == {}
