import json
import math
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_report.wire import (
    MAX_LINE_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_METRICS,
    MAX_STEP,
    MIN_MESSAGE_BYTES,
    BadReportError,
    BadSummaryError,
    Reduced,
    Rejection,
    Report,
    Source,
    Summary,
    format_report,
    format_summary,
    newest,
    parse_report,
    parse_summary,
)

LONGEST = -1.7976931348623157e308  # no float has a longer text

numbers = st.floats(allow_nan=False)
names = st.text(min_size=1, max_size=128).filter(str.isprintable)
reports = st.builds(
    Report,
    metrics=st.dictionaries(names, numbers, min_size=1, max_size=8),
    step=st.none() | st.integers(-MAX_STEP, MAX_STEP),
    fidelity=st.none() | st.floats(0, allow_infinity=False),
)
reduced = st.builds(Reduced, numbers, numbers, numbers, numbers)
counts = st.integers(0, MAX_STEP)
plain_texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100)
summaries = st.builds(
    Summary,
    seq=counts,
    metrics=st.dictionaries(names, reduced, max_size=4),
    step=st.none() | st.integers(-MAX_STEP, MAX_STEP),
    fidelity=st.none() | st.floats(0, allow_infinity=False),
    rejected=counts,
    rejection=st.none() | st.builds(Rejection, counts, plain_texts),
    truncated=st.integers(0, 1000),
    partial=st.booleans(),
    source=st.sampled_from(["sidecar", "client"]),
    note=plain_texts,
)


@pytest.mark.parametrize(
    ("line", "report"),
    [
        pytest.param(b'{"metrics": {"a": 1}}', Report({"a": 1.0}), id="no more than a metric"),
        pytest.param(
            b'{"step": 3, "fidelity": 9, "metrics": {"a": 0.5, "b": -2}}',
            Report({"a": 0.5, "b": -2.0}, step=3, fidelity=9),
            id="step and fidelity",
        ),
        pytest.param(b'{"metrics": {"a": 1}}\r\n', Report({"a": 1.0}), id="a Windows line end"),
        pytest.param(
            b'{"step": 3.0, "metrics": {"a": 1}}', Report({"a": 1.0}, step=3), id="a float as step"
        ),
        pytest.param(
            b'{"time": "now", "metrics": {"a": 1}}', Report({"a": 1.0}), id="unknown keys are free"
        ),
        pytest.param(
            b'{"step": null, "metrics": {"a": 1}}', Report({"a": 1.0}), id="null is not given"
        ),
        pytest.param(
            b'{"metrics": {"a": 1e999}}', Report({"a": math.inf}), id="too large is infinite"
        ),
        pytest.param(
            b'{"metrics": {"a": -' + b"9" * 5000 + b"}}",
            Report({"a": -math.inf}),
            id="more digits than int takes",
        ),
        pytest.param(
            b'{"metrics": {"a": -Infinity}}', Report({"a": -math.inf}), id="infinities are legal"
        ),
        pytest.param(
            '{"metrics": {"précision/✓": 1}}'.encode(),
            Report({"précision/✓": 1.0}),
            id="a name in any script",
        ),
    ],
)
def test_a_report_is_read(line: bytes, report: Report) -> None:
    assert parse_report(line) == report


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NaN", math.nan),
        ("nan", math.nan),
        ("-nan", math.nan),
        ('"NaN"', math.nan),
        ("inf", math.inf),
        ("-inf", -math.inf),
        ("-INFINITY", -math.inf),
        ('"Inf"', math.inf),
        ('"-Infinity"', -math.inf),
    ],
)
def test_what_is_not_finite_is_a_value_in_the_words_of_any_language(
    text: str, value: float
) -> None:
    for line in (f'{{"metrics": {{"a":{text}, "b": 1}}}}', f'{{"metrics":{{"a": {text}}}}}'):
        assert repr(parse_report(line.encode()).metrics["a"]) == repr(value)


@pytest.mark.parametrize("text", ["nano", '"not a nan"', '"--inf"', "+1", "nan nan"])
def test_other_words_are_no_values(text: str) -> None:
    with pytest.raises(BadReportError):
        parse_report(f'{{"metrics": {{"a": {text}}}}}'.encode())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(b'{"metrics": {"a": 1', "not JSON", id="half a line"),
        pytest.param(b"epoch 3: loss 0.1", "not JSON", id="a log line"),
        pytest.param(b'\xef\xbb\xbf{"metrics": {"a": 1}}', "not JSON", id="a byte order mark"),
        pytest.param(b'{"metrics": {"a": 1}}\x00', "not JSON", id="NUL"),
        pytest.param(b'{"metrics": {"\xff": 1}}', "not UTF-8", id="not UTF-8"),
        pytest.param(b"[" * 60_000, "nested too deeply", id="nesting"),
        pytest.param(b'{"a":' * 10_000, "nested too deeply", id="nesting of objects"),
        pytest.param(b" " * (MAX_LINE_BYTES + 1), "longer than 65536", id="a long line"),
        pytest.param(b"[1]", "not an object", id="a list"),
        pytest.param(b'{"a": 0.1}', "metrics: is missing (there are: 'a')", id="no metrics"),
        pytest.param(b'{"metrics": null}', "metrics: null is not an object", id="null metrics"),
        pytest.param(b'{"metrics": {}}', "metrics: {} is not an object", id="empty metrics"),
        pytest.param(b'{"metrics": [["a", 1]]}', "metrics: a list is not", id="metrics as list"),
        pytest.param(b'{"metrics": {"a": "0.1"}}', "metrics.'a': '0.1' is not", id="a string"),
        pytest.param(b'{"metrics": {"a": true}}', "metrics.'a': true is not", id="a boolean"),
        pytest.param(b'{"metrics": {"a": null}}', "metrics.'a': null is not", id="null"),
        pytest.param(b'{"metrics": {"a": [1]}}', "metrics.'a': a list is not", id="a list"),
        pytest.param(b'{"metrics": {"a": 1, "a": 2}}', "a key is repeated", id="a name twice"),
        pytest.param(b'{"metrics": {"": 1}}', "metrics: '' is not a name", id="an empty name"),
        pytest.param(b'{"metrics": {"a\\nb": 1}}', r"'a\nb' is not a name", id="a line end inside"),
        pytest.param(b'{"metrics": {"\\ud800": 1}}', "is not a name", id="half a surrogate pair"),
        pytest.param(
            b'{"metrics": {"' + b"x" * 129 + b'": 1}}', "is not a name of 1 to 128", id="long name"
        ),
        pytest.param(
            json.dumps({"metrics": {str(i): i for i in range(65)}}).encode(),
            "65 names are more than 64",
            id="many names",
        ),
        pytest.param(b'{"step": 1.5, "metrics": {"a": 1}}', "step: 1.5 is not", id="half a step"),
        pytest.param(b'{"step": "1", "metrics": {"a": 1}}', "step: '1' is not", id="step as text"),
        pytest.param(b'{"step": true, "metrics": {"a": 1}}', "step: true is not", id="step true"),
        pytest.param(b'{"step": NaN, "metrics": {"a": 1}}', "step: nan is not", id="step NaN"),
        pytest.param(
            b'{"step": 9223372036854775808, "metrics": {"a": 1}}', "64 bits", id="step of 2^63"
        ),
        pytest.param(
            b'{"fidelity": -1, "metrics": {"a": 1}}', "fidelity: -1 is not", id="negative fidelity"
        ),
        pytest.param(
            b'{"fidelity": NaN, "metrics": {"a": 1}}', "fidelity: nan is not", id="fidelity NaN"
        ),
        pytest.param(
            b'{"fidelity": 1e999, "metrics": {"a": 1}}', "fidelity: inf is not", id="no end"
        ),
    ],
)
def test_what_is_no_report_is_refused_with_its_reason(line: bytes, reason: str) -> None:
    with pytest.raises(BadReportError) as refusal:
        parse_report(line)
    assert reason in refusal.value.reason
    assert len(refusal.value.reason) <= 120
    assert refusal.value.reason.isascii()


@given(reports)
def test_a_report_comes_back_as_it_was_written(report: Report) -> None:
    text = format_report(report.metrics, step=report.step, fidelity=report.fidelity)
    assert "\n" not in text
    assert parse_report(text.encode()) == report


def test_what_cannot_be_read_is_not_written() -> None:
    with pytest.raises(BadReportError, match="fidelity: nan"):
        format_report({"a": 1.0}, fidelity=math.nan)


json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["metrics", "step", "fidelity", "a", "seq", "note"])
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
).map(json.dumps)


@given(st.binary(max_size=200) | json_texts.map(str.encode))
def test_parsing_a_line_gives_a_bounded_report_or_the_one_error(line: bytes) -> None:
    try:
        report = parse_report(line)
    except BadReportError:
        return
    assert 1 <= len(report.metrics) <= MAX_METRICS
    assert all(type(value) is float for value in report.metrics.values())


@given(summaries)
def test_a_summary_comes_back_as_it_was_written(summary: Summary) -> None:
    message = format_summary(summary, MAX_MESSAGE_BYTES * 4)
    if len(message) <= MAX_MESSAGE_BYTES:
        assert parse_summary(message.decode("ascii") + "   \n") == summary


@given(summaries, st.integers(MIN_MESSAGE_BYTES, MAX_MESSAGE_BYTES))
def test_a_message_keeps_its_limit_and_can_be_read(summary: Summary, limit: int) -> None:
    message = format_summary(summary, limit)
    assert len(message) <= limit
    read = parse_summary(message.decode("ascii"))
    assert read.seq == summary.seq
    assert len(read.metrics) + read.truncated == len(summary.metrics) + summary.truncated


@pytest.mark.parametrize(
    ("value", "text"), [(math.inf, "Infinity"), (-math.inf, "-Infinity"), (math.nan, "NaN")]
)
def test_in_a_message_what_is_not_finite_travels_as_a_word(value: float, text: str) -> None:
    message = format_summary(Summary(seq=1, metrics={"a": Reduced(value, value, value, value)}))
    assert f'"a":["{text}"' in message.decode()
    assert repr(parse_summary(message.decode()).metrics["a"].last) == repr(value)


def widest(names: Sequence[str], *, texts: bool = True) -> Summary:
    """Nothing in it can be longer."""
    return Summary(
        seq=MAX_STEP,
        metrics={name: Reduced(LONGEST, LONGEST, LONGEST, LONGEST) for name in names},
        step=-MAX_STEP,
        fidelity=-LONGEST,
        rejected=MAX_STEP,
        rejection=Rejection(MAX_STEP, '"' * 120) if texts else None,
        partial=True,
        source="sidecar",
        note='"' * 160 if texts else "",
    )


NEEDED = [f"{'metric':x<61}{number:02}" for number in range(16)]
OBJECTIVES = NEEDED[:8]


@pytest.mark.parametrize(
    ("needed", "containers"), [(OBJECTIVES, 3), (OBJECTIVES, 9), (NEEDED, 3), (NEEDED, 5)]
)
def test_what_the_study_needs_fits_with_the_longest_names_in_a_share_of(
    needed: list[str], containers: int
) -> None:
    others = [f"other{number}" for number in range(64)]
    limit = min(MAX_MESSAGE_BYTES, 12 * 1024 // containers)
    message = format_summary(widest([*others, *needed]), limit, needed)
    assert len(message) <= limit
    assert set(needed) <= parse_summary(message.decode()).metrics.keys()


def test_what_nobody_needs_leaves_room_for_containers_that_others_add() -> None:
    """The kubelet keeps the first bytes of 12 KiB by all containers, a mesh's included."""
    usual = Reduced(1 / 3, 1 / 3, 1 / 3, 1 / 3)
    needed = ["val_error", "kmacs"]
    metrics = dict.fromkeys([*needed, *(f"other{number}" for number in range(62))], usual)
    message = format_summary(Summary(seq=1, metrics=metrics), MAX_MESSAGE_BYTES, needed)
    assert len(message) <= 12 * 1024 // 12
    read = parse_summary(message.decode())
    assert set(needed) < read.metrics.keys()
    assert len(read.metrics) + read.truncated == 64


def test_values_are_exact_as_long_as_there_is_room_and_rounded_before_they_are_left_out() -> None:
    third = Reduced(1 / 3, -1 / 3, 2 / 3, 1e-300 / 3)
    summary = Summary(seq=1, metrics=dict.fromkeys(OBJECTIVES, third))
    exact, rounded = (
        parse_summary(format_summary(summary, limit, OBJECTIVES).decode()).metrics[OBJECTIVES[7]]
        for limit in (4096, 1150)
    )
    assert exact == third
    assert rounded == Reduced(0.333333333, -0.333333333, 0.666666667, 3.33333333e-301)


def test_texts_give_way_to_objectives_before_objectives_are_left_out() -> None:
    summary = widest(OBJECTIVES)
    roomy, tight, tiny = (format_summary(summary, limit, OBJECTIVES) for limit in (4096, 1600, 600))
    assert parse_summary(roomy.decode()).note
    read = parse_summary(tight.decode())
    assert (read.note, read.rejection, read.truncated) == ("", None, 0)
    read = parse_summary(tiny.decode())
    assert list(read.metrics) == OBJECTIVES[: len(read.metrics)]
    assert read.truncated == 8 - len(read.metrics) > 0


def test_a_limit_that_holds_no_record_is_refused() -> None:
    with pytest.raises(ValueError, match="limit: 511 is not at least 512"):
        format_summary(Summary(seq=0, metrics={}), 511)


def test_the_smallest_limit_holds_a_record_without_metrics() -> None:
    assert len(format_summary(widest([]), MIN_MESSAGE_BYTES)) <= MIN_MESSAGE_BYTES


def sealed(rest: str) -> str:
    """A forged message with a checksum that is right."""
    return f'{{"primo":1,"crc":"{zlib.crc32(rest.encode()):08x}",{rest}'


GOOD = '"source":"sidecar","seq":1,"metrics":{}}'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "does not start", id="nothing"),
        pytest.param("Error: no such command", "does not start", id="the kubelet's text"),
        pytest.param("{}", "does not start", id="some object"),
        pytest.param(sealed(GOOD)[:-3], "cut or changed", id="cut at the end"),
        pytest.param(sealed(GOOD)[3:], "does not start", id="cut at the start"),
        pytest.param(sealed(GOOD).replace('"seq":1', '"seq":2'), "changed", id="one digit changed"),
        pytest.param(sealed(GOOD).replace("mo", "m\ufffd"), "not ASCII", id="a replaced byte"),
        pytest.param(sealed(GOOD).replace(":1,", ":2,", 1), "version 2 is not 1", id="version 2"),
        pytest.param("x" * 5000, "at most 4096", id="longer than the kubelet lets it be"),
        pytest.param(sealed("[" * 4000), "not start|property|deep|Expecting", id="nesting"),
        pytest.param(sealed(GOOD + "{}"), "Extra data", id="more after the end"),
        pytest.param(sealed('"source":"me","metrics":{}}'), "source: 'me'", id="a source unknown"),
        pytest.param(sealed('"source":["client"],"metrics":{}}'), "source: a list", id="a list"),
        pytest.param(sealed('"source":"client"}'), "metrics: null", id="no metrics"),
        pytest.param(
            sealed('"source":"client","seq":-1,"metrics":{}}'), "seq: -1", id="a negative count"
        ),
        pytest.param(
            sealed('"source":"client","seq":true,"metrics":{}}'), "seq: true", id="true as count"
        ),
        pytest.param(
            sealed('"source":"client","metrics":{"a":[1,2,3]}}'), "four numbers", id="three numbers"
        ),
        pytest.param(
            sealed('"source":"client","metrics":{"a":[1,2,3,"4"]}}'), "four numbers", id="a text"
        ),
        pytest.param(
            sealed('"source":"client","metrics":{"a":[1,2,3,[]]}}'), "four numbers", id="a list"
        ),
        pytest.param(sealed('"source":"client","metrics":{"":[1,1,1,1]}}'), "name", id="no name"),
        pytest.param(
            sealed('"source":"client","rejection":3,"metrics":{}}'), "rejection: 3", id="rejection"
        ),
        pytest.param(
            sealed('"source":"client","step":"x","metrics":{}}'), "step: 'x'", id="step as text"
        ),
        pytest.param(
            sealed('"source":"client","partial":1,"metrics":{}}'), "partial: 1", id="partial"
        ),
        pytest.param(sealed('"source":"client","note":1,"metrics":{}}'), "note: 1", id="note"),
    ],
)
def test_what_is_no_summary_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(BadSummaryError, match=reason):
        parse_summary(text)


@given(st.text(max_size=200) | json_texts | json_texts.map(lambda text: sealed(text[1:])))
def test_parsing_a_message_gives_a_summary_or_the_one_error(text: str) -> None:
    try:
        parse_summary(text)
    except BadSummaryError:
        return


def test_a_forged_note_comes_back_as_one_short_line_of_ascii() -> None:
    note = json.dumps("é\n" + "x" * 500)
    read = parse_summary(sealed(f'"source":"client","note":{note},"metrics":{{}}}}'))
    assert read.note.startswith("??xxx")
    assert len(read.note) == 160


def message(seq: int, source: Source = "sidecar", note: str = "", partial: bool = False) -> str:
    summary = Summary(seq=seq, metrics={}, source=source, note=note, partial=partial)
    return format_summary(summary).decode()


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        pytest.param([], None, id="none"),
        pytest.param(["", "ContainerStatusUnknown"], None, id="only the kubelet's"),
        pytest.param([message(3), message(5), message(4)], (5, "sidecar"), id="the highest seq"),
        pytest.param([message(3)[:-1], message(2)], (2, "sidecar"), id="whole before newer"),
        pytest.param(
            [message(3), message(7, "client")], (7, "client"), id="the client's, if it knows more"
        ),
        pytest.param(
            [message(3), message(3, "client")], (3, "sidecar"), id="else the sidecar's, named first"
        ),
        pytest.param(
            [message(3, "client"), message(3)], (3, "sidecar"), id="else the sidecar's, named last"
        ),
        pytest.param(
            [message(3, partial=True), message(3, "client")],
            (3, "client"),
            id="unless the sidecar was killed before its end",
        ),
    ],
)
def test_of_several_messages_the_newest_counts(
    texts: list[str], found: tuple[int, str] | None
) -> None:
    summary = newest(texts)
    assert (summary and (summary.seq, summary.source)) == found


def test_of_equal_messages_the_later_counts() -> None:
    summary = newest([message(1, note="one"), message(1, note="two")])
    assert summary is not None
    assert summary.note == "two"
