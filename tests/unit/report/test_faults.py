"""What reaches the operator of a report file that went wrong: no value lost, none invented."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_report.aggregate import Aggregate
from primo_report.exposition import render
from primo_report.follow import Follower
from primo_report.wire import (
    MAX_MESSAGE_BYTES,
    MAX_METRICS,
    Summary,
    format_summary,
    parse_summary,
)
from support.reports import line

ONE, TWO, THREE = line(1, a=1), line(2, a=2), line(3, a=3)


def drained(follower: Follower, aggregate: Aggregate) -> None:
    while (lines := follower.read()) is not None:
        for each in lines:
            aggregate.take(each)


def told(path: Path) -> Summary:
    """What the message says of a file, once all of it was read after the training's end."""
    follower, aggregate = Follower(path), Aggregate(always=["a"])
    drained(follower, aggregate)
    for each in follower.rest():
        aggregate.take(each)
    return parse_summary(format_summary(aggregate.summary(), MAX_MESSAGE_BYTES, ["a"]).decode())


def metrics(text: str) -> bytes:
    return b'{"metrics": {"a": ' + text.encode() + b"}}\n"


@pytest.mark.parametrize(
    ("content", "values", "ignored"),
    [
        pytest.param(b"", [], None, id="empty"),
        pytest.param(b"\n\r\n  \n" + ONE, [1], None, id="blank lines"),
        pytest.param(ONE[:-1], [1], None, id="no newline at the end"),
        pytest.param(ONE + TWO[:-9], [1], (2, "not JSON"), id="half a line at the end"),
        pytest.param(ONE[:9] + b"\n" + TWO, [2], (1, "not JSON"), id="half a line before others"),
        pytest.param(ONE[:-1] + TWO + THREE, [3], (1, "Extra data"), id="two records on a line"),
        pytest.param(ONE.replace(b"\n", b"\r\n") + TWO, [1, 2], None, id="Windows line ends"),
        pytest.param(
            ONE.replace(b"\n", b"\r") + TWO, [], (1, "Extra data"), id="old Mac line ends"
        ),
        pytest.param(b"\xef\xbb\xbf" + ONE + TWO, [2], (1, "BOM"), id="a byte order mark"),
        pytest.param((ONE + TWO).decode().encode("utf-16"), [], (1, "UTF-8"), id="UTF-16"),
        pytest.param(
            ONE + bytes(range(256)) * 9 + b"\n" + TWO, [1, 2], (2, "not JSON"), id="binary"
        ),
        pytest.param(ONE + bytes(4096) + b"\n" + TWO, [1, 2], (2, "JSON"), id="a hole of NULs"),
        pytest.param(ONE + b"x" * 70_000 + b"\n" + TWO, [1, 2], (2, "longer"), id="a long line"),
        pytest.param(ONE + b"Epoch 3: a=7\n" + TWO, [1, 2], (2, "not JSON"), id="a log line"),
        pytest.param(ONE + b"[" * 9000 + b"\n" + TWO, [1, 2], (2, "nested"), id="nesting"),
        pytest.param(ONE + b'{"a": 7}\n' + TWO, [1, 2], (2, "metrics"), id="no metrics"),
        pytest.param(ONE + metrics('"7"') + TWO, [1, 2], (2, "'7' is not"), id="a string"),
        pytest.param(ONE + metrics("null") + TWO, [1, 2], (2, "null is not"), id="null"),
        pytest.param(ONE + metrics("[7]") + TWO, [1, 2], (2, "a list is not"), id="a list"),
        pytest.param(ONE + metrics("true") + TWO, [1, 2], (2, "true is not"), id="a boolean"),
        pytest.param(ONE + metrics("7,5") + TWO, [1, 2], (2, "not JSON"), id="a decimal comma"),
        pytest.param(ONE + metrics('7, "a": 8') + TWO, [1, 2], (2, "repeated"), id="a name twice"),
        pytest.param(ONE + line("x", a=7) + TWO, [1, 2], (2, "step"), id="a step that is a word"),  # type: ignore[arg-type]
        pytest.param(ONE + line(2, -1, a=7) + TWO, [1, 2], (2, "fidelity"), id="a bad fidelity"),
        pytest.param(ONE + metrics("7}") + TWO, [1, 2], (2, "Extra data"), id="a brace too many"),
        pytest.param(b"{'metrics': {'a': 7}}\n" + TWO, [2], (1, "not JSON"), id="Python's repr"),
        pytest.param(
            ONE + json.dumps({"metrics": {"a": 7, "b": "x"}}).encode() + b"\n" + TWO,
            [1, 2],
            (2, "metrics.'b'"),
            id="one of two is no number: the line is ignored as a whole",
        ),
        pytest.param(
            line(1, **{f"m{number}": 0 for number in range(MAX_METRICS)}) + TWO + THREE,
            [2, 3],
            None,
            id="more names than there is room for",
        ),
    ],
)
def test_a_report_file_malformed(
    content: bytes, values: list[float], ignored: tuple[int, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "reports.jsonl"
    path.write_bytes(content)
    summary = told(path)
    seen = summary.metrics.get("a")
    if values:
        assert seen
        assert (seen.last, seen.min, seen.max) == (values[-1], min(values), max(values))
        assert seen.mean == pytest.approx(sum(values) / len(values))
    else:
        assert seen is None
    if ignored is None:
        assert summary.rejected == 0
    else:
        assert summary.rejection
        assert summary.rejection.line == ignored[0]
        assert ignored[1] in summary.rejection.reason


operations = st.lists(st.sampled_from(["append", "half", "rotate", "read"]), max_size=40)


@given(operations)
def test_of_a_file_that_is_appended_to_and_rotated_each_line_counts_once(
    tmp_path_factory: pytest.TempPathFactory, done: list[str]
) -> None:
    path = tmp_path_factory.mktemp("follow") / "reports.jsonl"
    follower, aggregate = Follower(path), Aggregate()
    path.touch()
    written, half = 0, b""
    for turn, operation in enumerate(done):
        if operation == "read":
            drained(follower, aggregate)
            continue
        with path.open("ab") as file:
            if operation == "half" and not half:
                new = line(written + 1, a=written + 1)
                file.write(new[:11])
                half = new[11:]
            elif half or operation == "append":
                file.write(half or line(written + 1, a=written + 1))
                written, half = written + 1, b""
        if operation == "rotate":
            # Two files that were replaced between two looks: the one in the middle was never seen.
            drained(follower, aggregate)
            path.rename(path.with_suffix(f".{turn}"))
            path.touch()
    with path.open("ab") as file:
        file.write(half)
    drained(follower, aggregate)
    summary = aggregate.summary()
    total = written + bool(half)
    assert (summary.seq, summary.rejected) == (total, 0)
    if total:
        assert summary.metrics["a"].mean == pytest.approx((total + 1) / 2)


junk = st.binary(max_size=60) | st.builds(
    lambda name, value: json.dumps({"metrics": {name: value}}).encode(),
    st.text(max_size=150),
    st.none() | st.floats() | st.text(max_size=5) | st.integers(),
)


@given(st.lists(junk, max_size=80), st.integers(512, MAX_MESSAGE_BYTES), st.binary(max_size=20))
def test_whatever_a_file_holds_there_is_a_message_within_its_limit_and_a_page(
    lines: list[bytes], limit: int, tail: bytes
) -> None:
    aggregate = Aggregate(always=["a"])
    for each in [*lines, tail]:
        for part in each.split(b"\n"):
            aggregate.take(part)
    summary = aggregate.summary(note="x" * 300, partial=True)
    message = format_summary(summary, limit, ["a"])
    assert len(message) <= limit
    read = parse_summary(message.decode("ascii"))
    assert (read.seq, read.rejected) == (summary.seq, summary.rejected)
    for name, reduced in read.metrics.items():
        assert reduced.last == pytest.approx(summary.metrics[name].last, nan_ok=True)
    assert len(summary.metrics) <= MAX_METRICS + 1
    for row in render(summary).decode().splitlines():
        assert row.startswith("#") or not math.isnan(_sample(row)) or row.endswith("NaN")


def _sample(row: str) -> float:
    return float(row.rpartition(" ")[2])


@given(st.data())
def test_a_message_with_any_byte_changed_is_no_message_or_the_same(data: Any) -> None:
    aggregate = Aggregate()
    aggregate.take(line(3, 9, a=0.125, b=-1))
    message = format_summary(aggregate.summary()).decode()
    place = data.draw(st.integers(0, len(message) - 1))
    other = data.draw(st.characters(codec="utf-8"))
    changed = message[:place] + other + message[place + 1 :]
    try:
        read = parse_summary(changed)
    except ValueError:
        return
    assert read == parse_summary(message)
