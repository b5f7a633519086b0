import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primo_report.follow import MISSING, Follower, _Splitter
from primo_report.wire import MAX_LINE_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reports.jsonl"


def everything(follower: Follower) -> list[bytes]:
    lines: list[bytes] = []
    while (some := follower.read()) is not None:
        lines += some
    return lines


def test_each_line_is_read_once_as_it_comes(path: Path) -> None:
    follower = Follower(path)
    assert follower.read() is None
    assert follower.problem == MISSING
    path.write_bytes(b"one\ntwo\nthr")
    assert everything(follower) == [b"one", b"two"]
    assert follower.problem == ""
    assert everything(follower) == []
    with path.open("ab") as file:
        file.write(b"ee\nfo")
    assert everything(follower) == [b"three"]
    assert follower.rest() == [b"fo"]
    assert follower.rest() == []


@pytest.mark.parametrize(
    ("before", "after", "read"),
    [
        pytest.param(b"one\ntwo\n", b"", [], id="emptied"),
        pytest.param(b"one\ntwo\n", b"six\n", [b"six"], id="shorter"),
        pytest.param(b"one\ntwo\n", b"six\nten\n", [b"six", b"ten"], id="of the same length"),
        pytest.param(b"one\n", b"six\nten\n", [b"six", b"ten"], id="longer"),
        pytest.param(b"one\n", b"one\ntwo\n", [b"two"], id="the same and more"),
        pytest.param(
            b"one\nha", b"six\nten\n", [b"ha", b"six", b"ten"], id="in the middle of a line"
        ),
        pytest.param(b"one\n", b"one\n", [], id="the same"),
    ],
)
@pytest.mark.parametrize("how", ["rewritten in place", "replaced", "removed and made again"])
def test_a_file_with_other_contents_is_read_from_its_start(
    how: str, before: bytes, after: bytes, read: list[bytes], path: Path
) -> None:
    follower = Follower(path)
    path.write_bytes(before)
    everything(follower)
    if how == "replaced":
        other = path.with_suffix(".new")
        other.write_bytes(after)
        other.replace(path)
    elif how == "rewritten in place":
        path.write_bytes(after)
    else:
        path.unlink()
        assert follower.read() is None
        path.write_bytes(after)
    assert everything(follower) == read


@pytest.mark.parametrize("last", [b"two\nthree\n", b"two\nthree"])
def test_what_was_appended_before_a_rotation_is_read_before_what_came_after(
    last: bytes, path: Path
) -> None:
    follower = Follower(path)
    path.write_bytes(b"one\n")
    everything(follower)
    with path.open("ab") as file:
        file.write(last)
    path.rename(path.with_suffix(".1"))
    path.write_bytes(b"four\n")
    assert everything(follower) == [b"two", b"three", b"four"]


def test_a_removed_file_is_read_to_its_end(path: Path) -> None:
    follower = Follower(path)
    with path.open("ab", buffering=0) as file:
        file.write(b"one\n")
        everything(follower)
        path.unlink()
        file.write(b"two\n")
        assert everything(follower) == [b"two"]
    assert follower.problem == MISSING


def test_what_is_left_to_read_is_known(path: Path) -> None:
    follower = Follower(path)
    assert follower.unread() == 0
    path.write_bytes(b"one\n")
    everything(follower)
    with path.open("ab") as file:
        file.write(b"two\n")
    assert follower.unread() == 4
    everything(follower)
    assert follower.unread() == 0


def make_link(path: Path) -> None:
    target = path.with_suffix(".secret")
    target.write_text("secret\n")
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(make_link, "the report file is a symbolic link", id="a link"),
        pytest.param(os.mkfifo, "the report file is not a regular file", id="a FIFO"),
        pytest.param(os.mkdir, "the report file is not a regular file", id="a directory"),
    ],
)
def test_only_a_regular_file_is_read_and_then_nothing_hinders_it(
    make: Callable[[Path], None], problem: str, path: Path
) -> None:
    make(path)
    follower = Follower(path)
    assert follower.read() is None
    assert follower.problem.startswith(problem)
    path.rename(path.with_suffix(".away"))
    path.write_bytes(b"one\n")
    assert everything(follower) == [b"one"]
    assert follower.problem == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is denied to root")
def test_a_file_that_may_not_be_read_is_a_problem_until_it_may(path: Path) -> None:
    path.write_bytes(b"one\n")
    path.chmod(0)
    follower = Follower(path)
    assert follower.read() is None
    assert follower.problem == "cannot read the report file: permission denied"
    path.chmod(0o644)
    assert everything(follower) == [b"one"]


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(b"\0" * 1000, id="no line end at all"),
        pytest.param(b"\n" * 1000, id="line ends alone"),
        pytest.param(b"xy\n" * 1000, id="short lines"),
        pytest.param(b"x" * 70_000 + b"\n", id="lines that are too long"),
    ],
)
def test_reading_takes_little_memory_whatever_the_lines(pattern: bytes, path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(300_000 // len(pattern)):
            file.write(pattern)
    follower = Follower(path)
    tracemalloc.start()
    while (lines := follower.read()) is not None:
        assert all(len(line) <= MAX_LINE_BYTES + 1 for line in lines)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


def test_a_hole_of_a_quarter_gigabyte_is_passed_over(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(256 * 1024**2)  # all NUL
        file.seek(0, os.SEEK_END)
        file.write(b"\nnext\n")
    follower = Follower(path)
    lengths = []
    while (lines := follower.read()) is not None:
        lengths += [len(line) for line in lines]
    assert lengths == [MAX_LINE_BYTES + 1, 4]


@given(st.lists(st.binary(max_size=8).map(lambda raw: raw.replace(b"x", b"\n")), max_size=12))
def test_lines_do_not_depend_on_how_they_arrive(chunks: list[bytes]) -> None:
    splitter = _Splitter()
    lines = [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.rest()
    *ended, unfinished = b"".join(chunks).split(b"\n")
    assert lines == ended + ([unfinished] if unfinished else [])
