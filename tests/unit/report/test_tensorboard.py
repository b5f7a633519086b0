"""Event files written by hand, and by the real writers where they are installed."""

import base64
import importlib.util
import math
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_report.aggregate import Aggregate
from primo_report.tensorboard import (
    MAX_ENTRIES,
    MAX_FILES,
    MAX_RECORD_BYTES,
    MAX_SCALARS,
    MAX_TAGS,
    BadEventError,
    EventFolder,
    Scalar,
    masked_crc,
    scalars,
)
from primo_report.wire import MAX_METRICS, Reduced, Summary
from support.events import (
    append,
    event,
    message,
    number,
    plugin,
    record,
    scalar,
    simple_value,
    tensor,
    value,
)


def everything(events: EventFolder, aggregate: Aggregate | None = None) -> Summary:
    aggregate = aggregate or Aggregate()
    while events.fold_into(aggregate) is not None:
        pass
    return aggregate.summary()


def last(summary: Summary) -> dict[str, float]:
    return {name: reduced.last for name, reduced in summary.metrics.items()}


def test_the_checksum_is_crc32c() -> None:
    crc = 0xE3069283  # of "123456789", in the catalogue of CRCs
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("given", "found"),
    [
        pytest.param(scalar(3, "loss", 0.5), [Scalar("loss", 3, 0.5)], id="simple value"),
        pytest.param(scalar(0, "loss", 0), [Scalar("loss", 0, 0)], id="zeros"),
        pytest.param(scalar(-1, "loss", 1), [Scalar("loss", -1, 1)], id="a negative step"),
        pytest.param(
            event(1, value("a", tensor(0.5), plugin("scalars"))), [Scalar("a", 1, 0.5)], id="tensor"
        ),
        pytest.param(
            event(1, value("a", plugin("scalars"), tensor(0.1, kind=2))),
            [Scalar("a", 1, 0.1)],
            id="double",
        ),
        pytest.param(
            event(1, value("a", tensor(0.25, content=True))), [Scalar("a", 1, 0.25)], id="content"
        ),
        pytest.param(
            event(2, value("a", simple_value(1)), value("b", simple_value(2))),
            [Scalar("a", 2, 1), Scalar("b", 2, 2)],
            id="several values",
        ),
        pytest.param(event(1, value("a", tensor(1, 2, shape=(2,)))), [], id="a vector"),
        pytest.param(event(1, value("a", tensor(0, shape=(1,)), plugin("hparams"))), [], id="hp"),
        pytest.param(event(1, value("a", tensor(0), plugin("text"))), [], id="another plugin"),
        pytest.param(event(1, value("a", tensor())), [Scalar("a", 1, 0)], id="zero left out"),
        pytest.param(event(1, value("a", message(5, b"histogram"))), [], id="a histogram"),
        pytest.param(record(message(3, b"brain.Event:2")), [], id="the version"),
        pytest.param(record(b""), [], id="an empty record"),
    ],
)
def test_the_scalars_of_an_event_are_found(given: bytes, found: list[Scalar]) -> None:
    assert scalars(given) == found


def test_a_float_that_diverged_is_a_value() -> None:
    (found,) = scalars(scalar(1, "loss", math.nan))
    assert math.isnan(found.value)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


GOOD = scalar(1, "loss", 0.5)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param(flipped(GOOD, -5), "wrong checksum", id="a bit of the value"),
        pytest.param(flipped(GOOD, -1), "wrong checksum", id="a bit of the checksum"),
        pytest.param(record(b"\xff" * 20), "a number without end", id="no protobuf"),
        pytest.param(record(b"\x0b"), "a field of kind 3", id="a group"),
        pytest.param(record(b"\x2a\x7f"), "beyond its end", id="a length too large"),
        pytest.param(record(number(5, 1)), "number in place of bytes", id="no summary"),
        pytest.param(record(message(2, b"x")), "bytes in place of a number", id="no step"),
        pytest.param(event(1, value("a", message(2, b"12"))), "not one number", id="half a number"),
    ],
)
def test_a_damaged_record_has_its_reason(given: bytes, reason: str) -> None:
    with pytest.raises(BadEventError, match=reason):
        scalars(given)


@given(st.binary(max_size=100))
def test_reading_a_record_gives_scalars_or_the_one_error(data: bytes) -> None:
    try:
        scalars(record(data))
    except BadEventError:
        return


@given(st.integers(12, len(GOOD) - 1), st.integers(1, 255))
def test_a_record_with_a_byte_changed_behind_its_head_is_refused(place: int, change: int) -> None:
    with pytest.raises(BadEventError):
        scalars(GOOD[:place] + bytes([GOOD[place] ^ change]) + GOOD[place + 1 :])


def test_records_are_followed_as_they_come(tmp_path: Path) -> None:
    events, aggregate = EventFolder(tmp_path / "tb"), Aggregate()
    assert everything(events, aggregate).seq == 0
    assert (events.ended, events.problem) == (True, "")
    append(tmp_path / "tb", record(message(3, b"brain.Event:2")), scalar(1, "loss", 0.5))
    assert last(everything(events, aggregate)) == {"loss": 0.5}
    half = scalar(2, "loss", 0.25)
    append(tmp_path / "tb", half[:20])
    assert everything(events, aggregate).seq == 1
    append(tmp_path / "tb", half[20:])
    append(tmp_path / "tb" / "deep" / "er", scalar(3, "other", 1))
    summary = everything(events, aggregate)
    assert last(summary) == {"loss": 0.25, "other": 1}
    assert (summary.seq, summary.step, summary.rejected) == (3, 3, 0)


def test_a_new_reader_says_the_same(tmp_path: Path) -> None:
    append(tmp_path, *[scalar(step, "loss", 1 / (step + 1)) for step in range(100)])
    assert everything(EventFolder(tmp_path)) == everything(EventFolder(tmp_path))


@given(st.lists(st.sampled_from([GOOD]) | st.binary(max_size=30), max_size=6))
def test_whatever_a_file_holds_only_whole_records_before_the_first_damage_count(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("events")
    append(folder, *parts)
    summary = everything(EventFolder(folder))
    whole = 0
    while whole < len(parts) and parts[whole] in (GOOD, b""):
        whole += 1
    assert summary.seq == parts[:whole].count(GOOD)
    assert last(summary) in ({}, {"loss": 0.5})


TRAIN, VALID = scalar(1, "loss", 1), scalar(1, "loss", 2)


@pytest.mark.parametrize(
    ("files", "wanted", "found"),
    [
        pytest.param({"version_0": TRAIN}, [], {"loss": 1}, id="below one folder: the tag"),
        pytest.param({"": TRAIN, "hp": VALID}, [], {"loss": 1}, id="the nearest folder counts"),
        pytest.param({"train": TRAIN, "valid": VALID}, [], {}, id="of two near ones none"),
        pytest.param(
            {"train": TRAIN, "valid": VALID},
            ["valid/loss"],
            {"loss": 1, "valid/loss": 2},
            id="as the study asks",
        ),
        pytest.param(
            {"train": TRAIN, "valid": VALID, "a/b": TRAIN},
            ["valid/loss", "train/loss"],
            {"loss": 1, "valid/loss": 2, "train/loss": 1},
            id="both asked for",
        ),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_tag_in_several_folders(
    files: dict[str, bytes],
    wanted: list[str],
    found: dict[str, float],
    backwards: bool,
    tmp_path: Path,
) -> None:
    events, aggregate = EventFolder(tmp_path, tuple(wanted)), Aggregate(wanted)
    for folder, data in sorted(files.items(), reverse=backwards):
        append(tmp_path / folder, data)
        everything(events, aggregate)
    summary = aggregate.summary()
    assert last(summary) == found
    if not found:
        assert summary.rejection is not None
        assert "name the metric folder/tag" in summary.rejection.reason


def test_a_damaged_record_costs_itself_alone(tmp_path: Path) -> None:
    append(tmp_path, scalar(1, "loss", 1), flipped(GOOD, -5), scalar(3, "loss", 3))
    events = EventFolder(tmp_path)
    summary = everything(events)
    assert (summary.metrics["loss"].max, summary.metrics["loss"].min, summary.rejected) == (3, 1, 1)
    assert summary.rejection is not None
    assert summary.rejection.reason.endswith("tfevents.1.host.1.0: a record with a wrong checksum")
    assert events.ended


@pytest.mark.parametrize("garbage", [flipped(GOOD, 0), b"no event file at all, but a text"])
def test_a_file_that_is_damaged_between_records_may_hold_more_than_was_read(
    garbage: bytes, tmp_path: Path
) -> None:
    append(tmp_path, scalar(1, "loss", 1), garbage, scalar(3, "loss", 3))
    append(tmp_path, scalar(1, "other", 1), name="z.tfevents.2")
    events = EventFolder(tmp_path)
    assert last(everything(events)) == {"loss": 1, "other": 1}
    assert not events.ended
    assert "damaged at byte" in events.problem


def test_a_long_record_is_passed_over_once_it_is_whole(tmp_path: Path) -> None:
    image = record(b"\x22" + b"\xff\xff\xff\x00" + bytes(MAX_RECORD_BYTES))
    events, aggregate = EventFolder(tmp_path), Aggregate()
    append(tmp_path, scalar(1, "loss", 1), image[: MAX_RECORD_BYTES // 2])
    assert everything(events, aggregate).seq == 1
    append(tmp_path, image[MAX_RECORD_BYTES // 2 :], scalar(2, "loss", 2))
    tracemalloc.start()
    summary = everything(events, aggregate)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (summary.seq, summary.rejected, summary.metrics["loss"].last) == (2, 0, 2)
    assert peak < MAX_RECORD_BYTES


def test_a_record_longer_than_a_chunk_is_read_whole(tmp_path: Path) -> None:
    long = event(1, value("histogram", message(5, bytes(300_000))), value("a", simple_value(1)))
    append(tmp_path, long, scalar(2, "a", 2))
    assert last(everything(EventFolder(tmp_path))) == {"a": 2}


def test_tags_and_records_have_their_bounds(tmp_path: Path) -> None:
    many = event(1, *[value("a", simple_value(1))] * (MAX_SCALARS + 1))
    append(tmp_path, scalar(1, "x" * 129, 1), many, scalar(1, "", 1), scalar(2, "a", 2))
    append(
        tmp_path, *[scalar(1, f"tag{count}", 1) for count in range(MAX_TAGS)], name="z.tfevents."
    )
    summary = everything(EventFolder(tmp_path))
    assert summary.metrics["a"].min == 2
    assert len(summary.metrics) == MAX_METRICS
    # The three of them, a tag too many, and names for which there is no room.
    assert summary.rejected == 3 + 1 + MAX_TAGS - MAX_METRICS


def test_what_leads_elsewhere_or_is_no_file_is_not_read(tmp_path: Path) -> None:
    outside = append(tmp_path / "outside", scalar(1, "secret", 1))
    top = tmp_path / "tb"
    top.mkdir()
    (top / "x.tfevents.link").symlink_to(outside)
    (top / "folder").symlink_to(tmp_path / "outside")
    os.mkfifo(top / "x.tfevents.pipe")
    (top / "x.tfevents.folder").mkdir()
    (top / "notes.txt").write_text("x")
    assert everything(EventFolder(top)).seq == 0


def test_too_many_files_are_a_problem_and_the_others_are_read(tmp_path: Path) -> None:
    for count in range(MAX_FILES + 1):
        append(tmp_path, scalar(count, "loss", count), name=f"{count:03}.tfevents.1")
    events = EventFolder(tmp_path)
    assert everything(events).seq == MAX_FILES
    assert f"more than {MAX_FILES} event files" in events.problem
    assert not events.ended


def test_too_many_entries_are_a_problem(tmp_path: Path) -> None:
    for count in range(MAX_ENTRIES + 1):
        (tmp_path / f"checkpoint-{count}").touch()
    events = EventFolder(tmp_path)
    everything(events)
    assert f"more than {MAX_ENTRIES} files" in events.problem


def test_a_file_in_place_of_the_folder_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "tb").write_text("x")
    events = EventFolder(tmp_path / "tb")
    assert everything(events).seq == 0
    assert events.problem.endswith("not a directory")


# Written by the SummaryWriter of torch 2.13.0 and tensorboard 2.21.0: val/error is 1/2 as a simple
# value, 1/4 as a tensor, 1/8 in double precision, at steps 1 to 3; then a histogram.
REAL = """
SAAAAAAAAAD+kkidCfRuYKDLwdpBGg1icmFpbi5FdmVudDoyUi4KLHRlbnNvcmJvYXJkLnN1bW1hcnkud3JpdGVy
LmV2ZW50X2ZpbGVfd3JpdGVyH2ES7R8AAAAAAAAAUUtEGAmhdWCgy8HaQRABKhIKEAoJdmFsL2Vycm9yFQAAAD/I
xuRRMQAAAAAAAACdg4PpCSx2YKDLwdpBEAIqJAoiCgl2YWwvZXJyb3JCCAgBKgQAAIA+SgsKCQoHc2NhbGFycyeN
L4IfAAAAAAAAAFFLRBgJUnZgoMvB2kEQAyoSChAKCXZhbC9lcnJvchUAAAA+QG4jXHUAAAAAAAAA19lBeAnW2GCg
y8HaQRADKmgKZgoBdyphCQAAAAAAAPA/EQAAAAAAAABAGQAAAAAAAABAIQAAAAAAAAhAKQAAAAAAABRAMhgAAAAA
AADwPwAAAAAAAABAAAAAAAAACEA6GAAAAAAAAAAAAAAAAAAA8D8AAAAAAADwP0nTPIU=
"""


def test_a_file_of_the_real_writer_is_read(tmp_path: Path) -> None:
    append(tmp_path, base64.b64decode(REAL))
    events = EventFolder(tmp_path)
    summary = everything(events)
    assert summary.metrics == {"val/error": Reduced(0.125, 0.125, 0.5, pytest.approx(0.875 / 3))}
    assert (summary.seq, summary.step, summary.rejected, events.ended) == (3, 3, 0, True)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
def test_what_torchs_writer_writes_is_read(tmp_path: Path) -> None:
    import torch
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    for step in range(1, 4):
        writer.add_scalar("val/error", 1 / step, step, new_style=step == 2)
        writer.add_histogram("weights", torch.randn(100), step)
    writer.add_text("note", "hello", 1)
    writer.add_scalars("many", {"a": 1, "b": 2}, 3)
    writer.add_hparams({"lr": 0.1}, {"hp/accuracy": 0.5})
    writer.close()
    events = EventFolder(tmp_path, ("many_b/many",))
    summary = everything(events, Aggregate(["many_b/many"]))
    assert last(summary) == {
        "val/error": pytest.approx(1 / 3),
        "many": 1,
        "many_b/many": 2,
        "hp/accuracy": 0.5,
    }
    assert summary.metrics["val/error"].mean == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert (summary.seq, summary.rejected, events.ended) == (6, 0, True)
