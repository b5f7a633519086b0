"""Logs in the kubelet's format, read as `kubectl logs` asks."""

import asyncio
import datetime
from pathlib import Path

import pytest

from primo_local.node import logs
from primo_local.node.logs import Options
from primo_local.node.messages import limit_of, read_message

FIVE = [f"2026-01-01T00:00:0{n}.000000000Z stdout F line {n}" for n in range(5)]
SPLIT = [
    "2026-01-01T00:00:05.000000000Z stdout P long ",
    "2026-01-01T00:00:05.000000000Z stdout F line",
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_text("\n".join([*FIVE, *SPLIT]) + "\n")
    return path


def shown(path: Path, options: Options) -> str:
    async def run() -> bytes:
        pieces = logs.stream(path, options, follow=False, has_ended=lambda: True)
        return b"".join([piece async for piece in pieces])

    return asyncio.run(run()).decode()


def at(second: int) -> datetime.datetime:
    return datetime.datetime(2026, 1, 1, 0, 0, second, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        pytest.param(Options(tail_lines=0), "", id="no lines"),
        pytest.param(Options(tail_lines=1), "long line\n", id="the parts of a line are one"),
        pytest.param(Options(tail_lines=2), "line 4\nlong line\n", id="two lines"),
        pytest.param(Options(since=at(4)), "line 4\nlong line\n", id="since a time"),
        pytest.param(Options(limit_bytes=9), "line 0\nli", id="no more than so many bytes"),
        pytest.param(
            Options(tail_lines=2, timestamps=True, limit_bytes=37),
            "2026-01-01T00:00:04.000000000Z line 4",
            id="with times",
        ),
    ],
)
def test_what_is_asked_for_is_shown(log: Path, options: Options, text: str) -> None:
    assert shown(log, options) == text


def test_more_lines_than_there_are_is_all_of_them(log: Path) -> None:
    assert shown(log, Options(tail_lines=99)) == shown(log, Options())


def test_a_progress_bar_hides_nothing(log: Path) -> None:
    bar = "0%|\r50%|####\rValueError: lr is too large"
    log.write_bytes(f"2026-01-01T00:00:00.000000000Z stderr F {bar}\n".encode())
    assert shown(log, Options()) == f"{bar}\n"
    assert logs.tail_for_message(log) == f"{bar}\n"


def test_what_was_rotated_away_comes_first(log: Path) -> None:
    logs.rotated(log).write_text("2025-12-31T00:00:00.000000000Z stdout F before\n")
    assert shown(log, Options()).startswith("before\nline 0\n")


def test_following_goes_on_over_a_rotation_and_ends_with_the_container(log: Path) -> None:
    ended = asyncio.Event()

    async def follow() -> list[bytes]:
        stream = logs.stream(log, Options(), follow=True, has_ended=ended.is_set)
        return [piece async for piece in stream]

    async def run() -> bytes:
        reader = asyncio.create_task(follow())
        await asyncio.sleep(0)
        with log.open("a") as file:
            file.write("2026-01-01T00:00:06.000000000Z stdout F last of the old\n")
        log.rename(logs.rotated(log))
        log.write_text("2026-01-01T00:00:07.000000000Z stdout F first of the new\n")
        ended.set()
        return b"".join(await asyncio.wait_for(reader, 20))

    assert asyncio.run(run()).decode().endswith("long line\nlast of the old\nfirst of the new\n")


def message(file: Path, log: Path, policy: str = "File", code: int = 1, containers: int = 1) -> str:
    return read_message(file, log, policy=policy, exit_code=code, containers=containers)


@pytest.mark.parametrize(
    ("containers", "limit"),
    [(1, 4096), (3, 4096), (4, 3072), (5, 2457), (12, 1024)],
)
def test_containers_share_twelve_kibibytes(containers: int, limit: int) -> None:
    assert limit_of(containers) == limit


def test_a_long_message_is_the_beginning_of_its_last_4096_bytes(tmp_path: Path) -> None:
    file = tmp_path / "message"
    file.write_text("a" * 1000 + "b" * 2000 + "c" * 3000)
    said = message(file, tmp_path / "none", containers=5)
    assert said == ("b" * 1096 + "c" * 3000)[:2457]


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    file = tmp_path / "message"
    file.write_bytes(b"ok \xff")
    assert message(file, tmp_path / "none") == "ok �"


@pytest.mark.parametrize(
    ("policy", "code", "written", "said"),
    [
        pytest.param("File", 1, "", "", id="only the file counts by default"),
        pytest.param("FallbackToLogsOnError", 0, "", "", id="success needs no explanation"),
        pytest.param(
            "FallbackToLogsOnError", 1, "own words", "own words", id="the file goes first"
        ),
        pytest.param(
            "FallbackToLogsOnError",
            1,
            "",
            "line 0\nline 1\nline 2\nline 3\nline 4\nlong line\n",
            id="else the end of the log",
        ),
    ],
)
def test_the_log_stands_in_for_a_message(
    log: Path, tmp_path: Path, policy: str, code: int, written: str, said: str
) -> None:
    file = tmp_path / "message"
    file.write_text(written)
    assert message(file, log, policy, code) == said


def test_a_fallback_is_at_most_80_lines_and_2048_bytes(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text("".join(f"2026-01-01T00:00:00Z stderr F {n:04}\n" for n in range(200)))
    said = message(tmp_path / "none", log, "FallbackToLogsOnError")
    assert said.splitlines() == [f"{n:04}" for n in range(120, 200)]
    log.write_text("".join(f"2026-01-01T00:00:00Z stderr F {'x' * 99}\n" for _ in range(50)))
    assert len(message(tmp_path / "none", log, "FallbackToLogsOnError")) == 2048
