"""What a trial's pod and the operator say to each other: report lines and their summary.

A *report* is one line of JSON that the training appends to its report file:

    {"step": 3, "fidelity": 9, "metrics": {"val_error": 0.12}}

A *summary* is what the reports of a run come to. It leaves the pod as the termination message of a
container: ASCII JSON, a few kilobytes at most, with a checksum, because the kubelet may cut it or
put a text of its own in its place.

Whatever is parsed here was written by the user's code. It is bounded, and nothing but the two
errors below leaves the parsers.
"""

import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Literal, cast, get_args

from primo_report.untrusted import is_number, loads, shortened, shown

MAX_LINE_BYTES: Final = 64 * 1024
MAX_METRICS: Final = 64
MAX_NAME_LENGTH: Final = 128
MAX_SHOWN: Final = 5
EXAMPLE: Final = '{"metrics": {"loss": 0.1}}'
MAX_STEP: Final = 2**63 - 1
MAX_MESSAGE_BYTES: Final = 4096  # what the kubelet reads of a termination message
# What metrics that nobody needs may fill: whoever adds containers to the pod, as meshes do, takes
# of the 12 KiB that they share, and a message that is cut is worth nothing. Twelve have this each.
MODEST_BYTES: Final = 1024
MIN_MESSAGE_BYTES: Final = 512  # 12 KiB a pod, shared by 24 containers

Source = Literal["sidecar", "client"]

_VERSION: Final = 1
MAX_REASON_LENGTH: Final = 120
_MAX_NOTE_LENGTH: Final = 160
_NON_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# As printf writes them in C, and with it awk, C++ and many more; they are no JSON.
_PRINTED: Final = re.compile(r"(?<=[:\s])([-+]?)(nan|inf)(?:inity)?(?=\s*[,}])", re.IGNORECASE)
_WORD: Final = re.compile(r"[-+]?(nan|inf|infinity)", re.IGNORECASE)
_HEAD: Final = re.compile(r'\{"primo":(\d{1,6}),"crc":"([0-9a-f]{8})",')


class BadReportError(ValueError):
    """A line is no report; `reason` is one short line of ASCII."""

    def __init__(self, reason: str) -> None:
        self.reason = shortened(reason, MAX_REASON_LENGTH)
        super().__init__(self.reason)


class BadSummaryError(ValueError):
    """A termination message is no summary of ours, or not all of it."""


class CutSummaryError(BadSummaryError):
    """It begins as a summary, and is not whole."""


@dataclass(frozen=True, slots=True)
class Report:
    """One line of the report file.

    Attributes:
        metrics: at least one; NaN and infinities are legal and mean divergence.
        step: orders the reports of a run; None is one more than the highest so far.
        fidelity: reached when this was measured, in the user's unit.
    """

    metrics: Mapping[str, float]
    step: int | None = None
    fidelity: float | None = None


@dataclass(frozen=True, slots=True)
class Reduced:
    """A metric over a run.

    A NaN once reported makes min, max and mean NaN: a run that diverged on its way has no best
    value. `last` is the value at the highest step; of equal steps the later line counts.
    """

    last: float
    min: float
    max: float
    mean: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """What was ignored, wholly or in part: a line of the report file, counted from 1.

    Line 0 is something that was not in the report file.
    """

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What the reports of a run come to.

    Attributes:
        seq: good reports so far. Of several summaries of a run the highest is the newest.
        step: the highest seen.
        fidelity: the highest seen.
        rejected: ignored lines.
        rejection: the first of them; None also where there was no room for it.
        truncated: metrics that were reported and are left out for lack of room.
        partial: more may have been reported than was read. The sidecar says so until it has read
            all of the report file after the training's end.
        source: who read the reports: the sidecar, or the client as it wrote them.
        note: why something may be missing, such as a report file that cannot be read.
    """

    seq: int
    metrics: Mapping[str, Reduced]
    step: int | None = None
    fidelity: float | None = None
    rejected: int = 0
    rejection: Rejection | None = None
    truncated: int = 0
    partial: bool = False
    source: Source = "sidecar"
    note: str = ""


def format_report(
    metrics: Mapping[str, float], *, step: int | None = None, fidelity: float | None = None
) -> str:
    """The line, without its newline.

    Raises:
        BadReportError: parse_report would refuse the line.
    """
    record: dict[str, Any] = {} if step is None else {"step": step}
    if fidelity is not None:
        record["fidelity"] = fidelity
    line = json.dumps(record | {"metrics": dict(metrics)})
    parse_report(line.encode())
    return line


def parse_report(line: bytes) -> Report:
    """Read one line, its line end included or not.

    Keys other than step, fidelity and metrics are ignored. What is not finite may be written as
    Python writes it (NaN, Infinity), as printf does (nan, -nan, inf), or as a string of these.

    Raises:
        BadReportError: the line is no report. Nothing else is raised, whatever the bytes.
    """
    if len(line) > MAX_LINE_BYTES:
        raise BadReportError(f"the line is longer than {MAX_LINE_BYTES} bytes")
    try:
        record = _loads(line.decode())
    except RecursionError:
        raise BadReportError("the line is nested too deeply") from None
    except UnicodeDecodeError:
        raise BadReportError("the line is not UTF-8") from None
    except ValueError as error:
        raise BadReportError(f"the line is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise BadReportError(f"the line is not an object like {EXAMPLE}")
    if "metrics" not in record:
        there = ", ".join(shown(name) for name in list(record)[:MAX_SHOWN])
        raise BadReportError(f"metrics: is missing (there are: {there}), expected {EXAMPLE}")
    return checked_report(record["metrics"], record.get("step"), record.get("fidelity"))


def _loads(text: str) -> Any:
    try:
        return loads(text)
    except ValueError:
        if not _PRINTED.search(text):
            raise
        # A divergence that went unread would leave an earlier value as the last.
        return loads(_PRINTED.sub(_as_json, text))


def _as_json(match: re.Match[str]) -> str:
    sign = "-" if match[1] == "-" else ""
    return "NaN" if match[2].lower() == "nan" else f"{sign}Infinity"


def checked_report(metrics: object, step: object = None, fidelity: object = None) -> Report:
    """A report of values from outside.

    Raises:
        BadReportError: one of them is out of bounds. Nothing else is raised, whatever the values.
    """
    return Report(_metrics(metrics), _step(step), _fidelity(fidelity))


def _metrics(given: object) -> dict[str, float]:
    if not isinstance(given, dict) or not given:
        raise BadReportError(f"metrics: {shown(given)} is not an object of names and numbers")
    if len(given) > MAX_METRICS:
        raise BadReportError(f"metrics: {len(given)} names are more than {MAX_METRICS}")
    return {_name(name): _value(name, value) for name, value in given.items()}


def _value(name: str, given: object) -> float:
    if isinstance(given, str) and _WORD.fullmatch(given):
        return float(given)
    if not is_number(given):
        raise BadReportError(f"metrics.{shown(name)}: {shown(given)} is not a number")
    return float(given)


def _step(given: object) -> int | None:
    if given is None:
        return None
    # 3.0 is what a number becomes on its way through a float array.
    if not is_number(given) or not float(given).is_integer() or abs(int(given)) > MAX_STEP:
        raise BadReportError(f"step: {shown(given)} is not an integer of 64 bits")
    return int(given)


def _fidelity(given: object) -> float | None:
    if given is None:
        return None
    if not is_number(given) or not 0 <= given < math.inf:
        raise BadReportError(f"fidelity: {shown(given)} is not a finite number of at least 0")
    return given


def format_summary(
    summary: Summary, limit: int = MAX_MESSAGE_BYTES, first: Sequence[str] = ()
) -> bytes:
    """The termination message, at most `limit` bytes of ASCII.

    Room goes to the metrics in `first`, then to note and rejection, then to the other metrics in
    their order, up to MODEST_BYTES in all. Where `first` has no room otherwise, values are rounded
    to nine digits: sixteen metrics with plain names of 63 characters then need at most 2,400 bytes,
    the share of five containers in a pod's 12 KiB; eight need 1,300, the share of nine. What has no
    room is left out and counted as truncated, metrics in `first` included if it comes to that.

    Raises:
        ValueError: the limit is under MIN_MESSAGE_BYTES.
    """
    if limit < MIN_MESSAGE_BYTES:
        raise ValueError(f"limit: {limit} is not at least {MIN_MESSAGE_BYTES} bytes")
    chosen = [name for name in dict.fromkeys(first) if name in summary.metrics]
    order = dict.fromkeys([*chosen, *summary.metrics])
    numbers = _number_fields(summary)
    for fields, digits in ((numbers | _text_fields(summary), 17), (numbers, 17), (numbers, 9)):
        items = [_metric_item(name, summary.metrics[name], digits) for name in order]
        fitting = _fitting(fields, items, limit)
        if fitting >= len(chosen):
            break
    fitting = min(fitting, max(len(chosen), _fitting(fields, items, MODEST_BYTES)))
    truncated = summary.truncated + len(items) - fitting
    return _sealed(fields, items[:fitting], truncated)


def _number_fields(summary: Summary) -> dict[str, Any]:
    fields = {
        "source": summary.source,
        "seq": summary.seq,
        "step": summary.step,
        "fidelity": summary.fidelity,
        "rejected": summary.rejected or None,
        "partial": summary.partial or None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _text_fields(summary: Summary) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if summary.note:
        fields["note"] = shortened(summary.note, _MAX_NOTE_LENGTH)
    if summary.rejection:
        reason = shortened(summary.rejection.reason, MAX_REASON_LENGTH)
        fields["rejection"] = [summary.rejection.line, reason]
    return fields


def _metric_item(name: str, reduced: Reduced, digits: int) -> str:
    values = (reduced.last, reduced.min, reduced.max, reduced.mean)
    return f"{_dumps(name)}:{_dumps([_finite_or_word(value, digits) for value in values])}"


def _finite_or_word(value: float, digits: int) -> float | str:
    if math.isfinite(value):
        return float(f"{value:.{digits}g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _fitting(fields: Mapping[str, Any], items: Sequence[str], limit: int) -> int:
    """How many items fit, in their order; -1 where the fields alone are too long."""
    room = limit - len(_sealed(fields, (), MAX_STEP))  # any count of truncated ones fits there
    if room < 0:
        return -1
    return sum(length - 1 <= room for length in accumulate(len(item) + 1 for item in items))


def _sealed(fields: Mapping[str, Any], items: Sequence[str], truncated: int) -> bytes:
    """Put version and checksum before the record; the checksum is of the text after itself."""
    record = dict(fields) | ({"truncated": truncated} if truncated else {})
    rest = f'{_dumps(record)[1:-1]},"metrics":{{{",".join(items)}}}}}'.encode("ascii")
    return b'{"primo":%d,"crc":"%08x",%b' % (_VERSION, zlib.crc32(rest), rest)


def parse_summary(text: str) -> Summary:
    """Read a termination message; spaces after it are our own padding.

    Raises:
        BadSummaryError: the text is not a whole summary, and so the kubelet's or the user's; a
            CutSummaryError where it begins as one. Nothing else is raised, whatever the text.
    """
    text = text.strip()
    if len(text) > MAX_MESSAGE_BYTES or not text.isascii():
        raise BadSummaryError(f"the message is not ASCII of at most {MAX_MESSAGE_BYTES} bytes")
    head = _HEAD.match(text)
    if head is None:
        raise BadSummaryError("the message does not start as a summary does")
    version, checksum = int(head[1]), int(head[2], 16)
    if version != _VERSION:
        raise BadSummaryError(f"primo: version {version} is not {_VERSION}")
    rest = text[head.end() :]
    if zlib.crc32(rest.encode("ascii")) != checksum:
        raise CutSummaryError("crc: the message is cut or changed")
    try:
        return _summary(loads("{" + rest))
    except (ValueError, RecursionError) as error:
        raise BadSummaryError(str(error)) from None


def newest(texts: Iterable[str]) -> Summary | None:
    """The summary with the highest seq; of equals one of all, the sidecar's, the later one."""
    best: Summary | None = None
    for text in texts:
        try:
            summary = parse_summary(text)
        except BadSummaryError:
            continue
        if best is None or _rank(summary) >= _rank(best):
            best = summary
    return best


def _rank(summary: Summary) -> tuple[int, bool, bool]:
    return summary.seq, not summary.partial, summary.source == "sidecar"


def _summary(record: Mapping[str, Any]) -> Summary:
    """Check the schema too: a checksum keeps no one from writing nonsense.

    Raises:
        ValueError: the record is no summary.
    """
    metrics = record.get("metrics")
    if not isinstance(metrics, dict):
        raise ValueError(f"metrics: {shown(metrics)} is not an object")
    return Summary(
        seq=_count(record, "seq"),
        metrics={_name(name): _reduced(name, values) for name, values in metrics.items()},
        step=_step(record.get("step")),
        fidelity=_fidelity(record.get("fidelity")),
        rejected=_count(record, "rejected"),
        rejection=_rejection(record.get("rejection")),
        truncated=_count(record, "truncated"),
        partial=_flag(record, "partial"),
        source=_source(record.get("source")),
        note=_text("note", record.get("note", "")),
    )


def _count(record: Mapping[str, Any], key: str) -> int:
    given = record.get(key, 0)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= MAX_STEP:
        raise ValueError(f"{key}: {shown(given)} is not a count")
    return given


def _flag(record: Mapping[str, Any], key: str) -> bool:
    given = record.get(key, False)
    if not isinstance(given, bool):
        raise ValueError(f"{key}: {shown(given)} is not true or false")
    return given


def _source(given: object) -> Source:
    for source in get_args(Source):
        if given == source:
            return cast(Source, source)
    raise ValueError(f"source: {shown(given)} is not one of {', '.join(get_args(Source))}")


def _reduced(name: str, given: object) -> Reduced:
    values = [
        _NON_FINITE.get(value, value) if isinstance(value, str) else value
        for value in (given if isinstance(given, list) else ())
    ]
    if len(values) != 4 or not all(is_number(value) for value in values):
        raise ValueError(f"metrics.{shown(name)}: {shown(given)} is not four numbers")
    return Reduced(*(float(value) for value in values))


def _rejection(given: object) -> Rejection | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 2:
        raise ValueError(f"rejection: {shown(given)} is not a line number and a reason")
    line, reason = given
    return Rejection(_count({"rejection": line}, "rejection"), _text("rejection", reason))


def _text(key: str, given: object) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{key}: {shown(given)} is not a text")
    return shortened(given, _MAX_NOTE_LENGTH)


def _name(given: str) -> str:
    if not 1 <= len(given) <= MAX_NAME_LENGTH or not given.isprintable():
        raise BadReportError(
            f"metrics: {shown(given)} is not a name of 1 to {MAX_NAME_LENGTH} printable characters"
        )
    return given


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
