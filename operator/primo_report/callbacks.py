"""What the callbacks for training frameworks share."""

from collections.abc import Collection, Mapping

from primo_report import environment
from primo_report.client import as_number
from primo_report.wire import MAX_METRICS, BadReportError, checked_report


def reportable(values: Mapping[str, object], wanted: Collection[str] | None) -> dict[str, float]:
    """What a report has room for: single numbers, those that the study needs first.

    Values named step and fidelity are left out: a report has its own.

    Args:
        values: whatever the framework has collected.
        wanted: the names to choose from; None is all of them.
    """
    needed = environment.metrics()
    order = sorted(values, key=lambda name: name not in needed)
    found = {
        name: number
        for name in order
        if name not in ("step", "fidelity")
        and (wanted is None or name in wanted)
        and (number := _number(name, values[name])) is not None
    }
    return dict(list(found.items())[:MAX_METRICS])


def _number(name: str, value: object) -> float | None:
    try:
        number = as_number(name, value)
        checked_report({name: number})
    except (TypeError, BadReportError):
        return None
    return number
