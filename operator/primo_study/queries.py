"""Objectives that only Prometheus knows: the query of a run, and what may be wrong with an answer.

A query may hold placeholders, `$(pod)` and the like. What stands for them is a name that Kubernetes
has checked, or a number: nothing in it can end a string of PromQL.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

PLACEHOLDERS = ("pod", "namespace", "trial", "window", "start", "end")
_PLACEHOLDER = re.compile(r"\$\(([^)]*)\)?")
_HARMLESS = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class Gap(StrEnum):
    """Why an objective has no value, in one word that stays the same from release to release."""

    AWAITING = "AwaitingMetrics"  # it has not been asked for yet
    NOT_ENABLED = "PrometheusNotEnabled"
    NOT_ALLOWED = "NamespaceNotAllowed"
    NO_SERIES = "NoSeries"
    SEVERAL_SERIES = "SeveralSeries"
    NOT_FINITE = "NotFinite"
    WRONG_TYPE = "WrongType"
    BAD_QUERY = "BadQuery"
    REFUSED = "PrometheusRefused"  # an HTTP status that no answer of a query has
    FAILED = "PrometheusFailed"  # 5xx
    UNREACHABLE = "PrometheusUnreachable"
    TIMED_OUT = "PrometheusTimedOut"
    BAD_ANSWER = "BadAnswer"
    INCOMPLETE = "IncompleteAnswer"  # it came with warnings

    @property
    def final(self) -> bool:
        """The same question has no other answer later."""
        return self in (Gap.SEVERAL_SERIES, Gap.WRONG_TYPE, Gap.BAD_QUERY)


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of one question: a finite value, or a gap and what is known about it."""

    value: float | None = None
    gap: Gap | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """An instant query.

    Attributes:
        time: at which it is evaluated, in seconds since the epoch.
    """

    objective: str
    query: str
    time: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What Prometheus has said of a run so far.

    Attributes:
        values: objective -> value, finite.
        gap: why another one is missing; None if nothing is known to be.
        retry_at: when it may be asked again, in seconds since the epoch.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    gap: Gap | None = None
    message: str = ""
    retry_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Access:
    """Whether and when a study may ask Prometheus, as its administrator has set it.

    Attributes:
        refused: why it may not; None if it may.
        settle_s: so long after a run's end its last samples have arrived.
        patience_s: so long after a run's end a missing value is given up.
    """

    refused: Gap | None = None
    message: str = ""
    settle_s: float = 30.0
    patience_s: float = 900.0


def unknown_placeholder(query: str) -> str | None:
    """The first `$(x)` that stands for nothing, as written; None if there is none."""
    for found in _PLACEHOLDER.finditer(query):
        if not found[0].endswith(")") or found[1] not in PLACEHOLDERS:
            return found[0]
    return None


def fill(query: str, *, pod: str, namespace: str, trial: str, start: float, end: float) -> str:
    """The query of one run; its window is at least a second.

    Raises:
        ValueError: a name is none that Kubernetes would take.
    """
    window_s = max(round(end - start), 1)
    names = {"pod": pod, "namespace": namespace, "trial": trial}
    for placeholder, name in names.items():
        if not _HARMLESS.fullmatch(name):
            raise ValueError(f"$({placeholder}): {name!r:.80} is not a Kubernetes name")
    values = {
        **names,
        "window": f"{window_s}s",
        "start": f"{end - window_s:.0f}",
        "end": f"{end:.0f}",
    }
    return _PLACEHOLDER.sub(lambda found: values[found[1]], query)
