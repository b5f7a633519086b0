import math

from primo_report.exposition import render
from primo_report.wire import Reduced, Summary


def last(value: float) -> Reduced:
    return Reduced(value, 0.0, 0.0, 0.0)


def test_a_summary_is_rendered_for_prometheus() -> None:
    metrics = {
        "loss": last(0.125),
        'a"b\\c': last(math.nan),
        "up": last(math.inf),
        "down": last(-math.inf),
    }
    page = render(Summary(seq=7, metrics=metrics, step=3, fidelity=9, rejected=2)).decode()
    assert [row for row in page.splitlines() if not row.startswith("#")] == [
        "primo_report_records_total 7",
        "primo_report_rejected_total 2",
        "primo_report_problem 0",
        "primo_report_step 3",
        "primo_report_fidelity 9",
        'primo_report_metric{metric="loss"} 0.125',
        'primo_report_metric{metric="a\\"b\\\\c"} NaN',
        'primo_report_metric{metric="up"} +Inf',
        'primo_report_metric{metric="down"} -Inf',
    ]
    assert page.endswith("\n")
    assert page.count("# TYPE") == 6


def test_what_was_not_reported_has_no_series() -> None:
    page = render(Summary(seq=0, metrics={}, note="no file")).decode()
    assert [row for row in page.splitlines() if not row.startswith("#")] == [
        "primo_report_records_total 0",
        "primo_report_rejected_total 0",
        "primo_report_problem 1",
    ]
