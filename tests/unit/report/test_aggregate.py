import math
import sys
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primo_report.aggregate import Aggregate
from primo_report.wire import MAX_METRICS, MAX_STEP, Reduced, Rejection
from support.reports import folded, line


def test_nothing_reported_is_a_summary_too() -> None:
    summary = Aggregate().summary()
    assert (summary.seq, summary.step, summary.fidelity, summary.metrics) == (0, None, None, {})


@pytest.mark.parametrize(
    ("lines", "reduced"),
    [
        pytest.param([line(a=2)], Reduced(2, 2, 2, 2), id="one report"),
        pytest.param([line(a=3), line(a=1), line(a=2)], Reduced(2, 1, 3, 2), id="without steps"),
        pytest.param(
            [line(2, a=5), line(1, a=1)], Reduced(5, 1, 5, 3), id="out of order: the highest step"
        ),
        pytest.param([line(1, a=5), line(1, a=1)], Reduced(1, 1, 5, 3), id="a tie: the later line"),
        pytest.param(
            [line(5, a=5), line(a=1)], Reduced(1, 1, 5, 3), id="without step: after the highest"
        ),
        pytest.param([line(-2, a=5), line(-3, a=1)], Reduced(5, 1, 5, 3), id="negative steps"),
        pytest.param(
            [line(1, a=5), line(9, b=0), line(2, a=1)],
            Reduced(1, 1, 5, 3),
            id="by the metric's own steps",
        ),
        pytest.param(
            [line(MAX_STEP, a=5), line(a=1)], Reduced(1, 1, 5, 3), id="counting ends at the highest"
        ),
        pytest.param([line(a=math.inf), line(a=1)], Reduced(1, 1, math.inf, math.inf), id="inf"),
    ],
)
def test_a_metric_is_reduced_over_the_run(lines: list[bytes], reduced: Reduced) -> None:
    assert folded(lines).metrics["a"] == reduced


@pytest.mark.parametrize("values", [(math.nan, 1.0), (1.0, math.nan), (2.0, math.nan, 1.0)])
def test_a_nan_on_the_way_leaves_no_best_value(values: tuple[float, ...]) -> None:
    reduced = folded([line(a=value) for value in values]).metrics["a"]
    assert all(map(math.isnan, (reduced.min, reduced.max, reduced.mean)))
    assert repr(reduced.last) == repr(values[-1])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
@example([sys.float_info.max] * 3)
def test_the_mean_lies_between_the_extremes_whatever_the_values(values: list[float]) -> None:
    reduced = folded([line(a=value) for value in values]).metrics["a"]
    assert (reduced.last, reduced.min, reduced.max) == (values[-1], min(values), max(values))
    assert reduced.min <= reduced.mean <= reduced.max
    exact = float(sum(map(Fraction, values)) / len(values))
    assert reduced.mean == pytest.approx(exact, rel=1e-9, abs=1e-9 * max(map(abs, values)))


def test_fidelity_and_step_are_the_highest_seen() -> None:
    summary = folded([line(3, 9, a=1), line(2, 27, a=1), line(1, a=1)])
    assert (summary.seq, summary.step, summary.fidelity) == (3, 3, 27)


def test_bad_lines_are_counted_and_the_first_is_named_by_its_place() -> None:
    summary = folded([line(a=1), b"\n", b"oops\n", line(a="x"), line(a=2)])
    assert (summary.seq, summary.rejected) == (2, 2)
    assert summary.metrics["a"].last == 2
    assert summary.rejection is not None
    assert summary.rejection.line == 3
    assert "not JSON" in summary.rejection.reason


def test_names_beyond_the_bound_are_ignored_but_for_those_that_the_study_needs() -> None:
    many = [line(**{f"m{number}": number}) for number in range(MAX_METRICS + 1)]
    summary = folded([*many, line(needed=1, m0=7)], always=["needed"])
    assert len(summary.metrics) == MAX_METRICS + 1
    assert summary.metrics["needed"].last == 1
    assert summary.metrics["m0"].last == 7
    assert summary.rejected == 1
    assert summary.rejection == Rejection(65, "metrics: 'm64' is one name more than 64")


def test_a_line_with_a_name_too_many_keeps_its_other_values() -> None:
    full = line(**{f"m{number}": 0 for number in range(MAX_METRICS)})
    summary = folded([full, line(extra=1, m3=5)])
    assert summary.seq == 2
    assert summary.metrics["m3"].last == 5
