"""The real sidecar process, over real files."""

import os
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from primo_report.wire import Reduced
from support.events import append, scalar
from support.reports import DEADLINE_S, RunningSidecar, line, running_sidecar
from support.waiting import eventually


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[RunningSidecar]:
    with running_sidecar(tmp_path) as sidecar:
        yield sidecar


def get(sidecar: RunningSidecar, path: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    url = f"http://127.0.0.1:{sidecar.port()}{path}"
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_the_message_follows_the_report_file(sidecar: RunningSidecar) -> None:
    summary = sidecar.says(lambda said: said.seq == 0, "an empty message")
    assert summary.note.startswith("there is no report file")
    sidecar.append(line(1, 3, loss=0.5), line(2, 9, loss=0.25)[:10])
    summary = sidecar.says(lambda said: said.seq == 1, "the first report")
    assert (summary.note, summary.step, summary.fidelity) == ("", 1, 3)
    sidecar.append(line(2, 9, loss=0.25)[10:])
    summary = sidecar.says(lambda said: said.seq == 2, "the second report")
    assert summary.metrics == {"loss": Reduced(0.25, 0.25, 0.5, 0.375)}
    assert summary.source == "sidecar"


def test_bad_lines_are_counted_and_do_no_harm(sidecar: RunningSidecar) -> None:
    sidecar.append(line(loss=1), b"Epoch 1\n", b"\xff\n", b"[" * 100_000 + b"\n", line(loss=2))
    summary = sidecar.says(lambda said: said.seq == 2, "the report after the bad lines")
    assert summary.metrics["loss"].last == 2
    assert summary.rejected == 3
    assert summary.rejection is not None
    assert summary.rejection.line == 2


def test_ignored_lines_are_told_in_the_log_with_place_and_reason_and_without_a_flood(
    sidecar: RunningSidecar,
) -> None:
    sidecar.append(line(loss=1), b'{"metrics": {"loss": "low"}}\n', *[b"noise\n"] * 5000)
    sidecar.says(lambda said: said.rejected == 5001, "all lines were read")
    log = sidecar.log_file.read_text()
    assert "line 2 of the report file is ignored: metrics.'loss': 'low' is not a number" in log
    assert log.count("of the report file is ignored") == 20
    assert len(log.splitlines()) < 30


def test_a_message_is_partial_until_all_was_read_after_the_end(sidecar: RunningSidecar) -> None:
    sidecar.append(line(loss=1))
    assert sidecar.says(lambda said: said.seq == 1, "the report").partial
    sidecar.append(line(loss=2))
    assert sidecar.end() == 0
    summary = sidecar.message()
    assert summary is not None
    assert (summary.seq, summary.partial) == (2, False)


def test_event_files_are_followed_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "tb"
    with running_sidecar(tmp_path, PRIMO_TENSORBOARD_DIR=str(folder)) as sidecar:
        append(folder / "version_0", scalar(1, "val/error", 0.5))
        summary = sidecar.says(lambda said: said.seq == 1, "the first event")
        assert (summary.note, summary.partial) == ("", True)
        append(folder / "version_0", *[scalar(step, "val/error", 1 / step) for step in (2, 4)])
        sidecar.append(line(4, 4, loss=1))
        assert sidecar.end() == 0
        ended = sidecar.message()
        assert ended is not None
        assert ended.metrics["val/error"].last == 0.25
        assert (ended.seq, ended.fidelity, ended.partial, ended.note) == (4, 4, False, "")


def test_a_damaged_event_file_leaves_the_message_partial_and_says_where(tmp_path: Path) -> None:
    folder = tmp_path / "tb"
    append(folder, scalar(1, "loss", 0.5), b"garbage in the place of a record")
    with running_sidecar(tmp_path, PRIMO_TENSORBOARD_DIR=str(folder)) as sidecar:
        sidecar.says(lambda said: "damaged at byte" in said.note, "the damage")
        assert sidecar.end() == 0
        summary = sidecar.message()
        assert summary is not None
        assert (summary.seq, summary.partial) == (1, True)


def test_a_restart_after_a_kill_says_the_same(sidecar: RunningSidecar) -> None:
    sidecar.append(*[line(step, loss=1 / step) for step in range(1, 100)], b"oops\n")
    before = sidecar.says(lambda said: said.rejected == 1, "all was read")
    sidecar.kill()
    assert sidecar.message() == before
    sidecar.message_file.unlink()  # the kubelet makes a new one
    sidecar.start()
    assert sidecar.says(lambda said: said.rejected == 1, "all was read again") == before


def test_a_message_can_be_read_at_every_moment_and_after_a_kill(sidecar: RunningSidecar) -> None:
    seen = sidecar.says(lambda said: said.seq == 0, "it has started")
    for step in range(1, 1000):
        sidecar.append(line(step, loss=step, **{f"extra{step % 50}": step}))
        message = sidecar.message()
        assert message is not None
        assert message.seq >= seen.seq
        seen = message
    seen = sidecar.says(lambda said: said.seq > 0, "some of it was read")
    sidecar.kill()
    message = sidecar.message()
    assert message is not None
    assert message.seq >= seen.seq


def test_sigterm_reads_the_rest_with_a_last_line_that_has_no_end(
    sidecar: RunningSidecar,
) -> None:
    sidecar.says(lambda said: said.seq == 0, "it has started")
    sidecar.append(*[line(step, loss=step) for step in range(1, 20_001)], line(20_001, loss=0)[:-1])
    assert sidecar.end() == 0
    summary = sidecar.message()
    assert summary is not None
    assert (summary.seq, summary.rejected, summary.metrics["loss"].last) == (20_001, 0, 0)


@pytest.mark.parametrize(("drain_s", "whole"), [("60", True), ("0.01", False)])
def test_what_is_behind_is_read_for_as_long_as_the_pods_end_may_take(
    tmp_path: Path, drain_s: str, whole: bool
) -> None:
    with running_sidecar(tmp_path, PRIMO_DRAIN_S=drain_s) as running:
        running.says(lambda said: said.seq == 0, "it has started")
        with running.paused():
            running.append(line(loss=1) * 50_000)
            running.process.terminate()
        assert running.process.wait(DEADLINE_S) == 0
        summary = running.message()
    assert summary is not None
    assert (summary.partial, summary.seq == 50_000) == (not whole, whole)
    assert ("not read to its end" in summary.note) is not whole


def test_sigterm_ends_it_at_once_where_nothing_was_reported(sidecar: RunningSidecar) -> None:
    sidecar.says(lambda said: said.seq == 0, "it has started")
    assert sidecar.end() == 0


def test_sigterm_ends_it_while_a_flood_goes_on(sidecar: RunningSidecar) -> None:
    sidecar.says(lambda said: said.seq == 0, "it has started")
    ended = threading.Event()

    def flood() -> None:
        lines = line(loss=1) * 5000
        written = 0
        while not ended.is_set() and written < 512 * 1024 * 1024:
            sidecar.append(lines)
            written += len(lines)

    writer = threading.Thread(target=flood)
    writer.start()
    try:
        sidecar.says(lambda said: said.seq > 0, "reading has begun")
        assert sidecar.end() == 0
    finally:
        ended.set()
        writer.join()
    summary = sidecar.message()
    assert summary is not None
    assert summary.metrics["loss"].last == 1
    assert summary.partial == ("not read to its end" in summary.note)


def test_what_was_reported_outlives_the_file(sidecar: RunningSidecar) -> None:
    sidecar.append(line(1, loss=0.5), line(2, loss=0.25))
    sidecar.says(lambda said: said.seq == 2, "both reports")
    sidecar.report_file.write_bytes(line(3, loss=1))
    summary = sidecar.says(lambda said: said.seq == 3, "the rewritten file")
    assert (summary.metrics["loss"].last, summary.metrics["loss"].min) == (1, 0.25)
    sidecar.report_file.unlink()
    summary = sidecar.says(lambda said: said.note != "", "the missing file")
    assert summary.seq == 3


@pytest.mark.parametrize(
    ("make", "note"),
    [
        pytest.param(os.mkdir, "the report file is not a regular file", id="a directory"),
        pytest.param(os.mkfifo, "the report file is not a regular file", id="a FIFO"),
        pytest.param(
            lambda path: path.symlink_to("/etc/passwd"),
            "the report file is a symbolic link, which is not followed",
            id="a link",
        ),
    ],
)
def test_what_is_no_file_is_a_note_until_it_is_one(
    make: Callable[[Path], None], note: str, tmp_path: Path
) -> None:
    make(tmp_path / "reports.jsonl")
    with running_sidecar(tmp_path) as sidecar:
        sidecar.says(lambda said: said.note == note, "the note")
        sidecar.report_file.rename(tmp_path / "away")
        sidecar.append(line(loss=1))
        assert sidecar.says(lambda said: said.seq == 1, "the report").note == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_file_it_may_not_read_is_a_note_until_it_may() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        report_file = folder / "reports.jsonl"
        report_file.write_bytes(line(loss=1))
        report_file.chmod(0o600)
        with running_sidecar(folder, user=65534) as sidecar:
            note = "cannot read the report file: permission denied"
            sidecar.says(lambda said: said.note == note, "the note")
            report_file.chmod(0o666)
            sidecar.says(lambda said: said.seq == 1, "the report")


def test_the_metrics_that_the_study_needs_have_room_in_a_small_message(tmp_path: Path) -> None:
    settings = {"PRIMO_METRICS": '["needed"]', "PRIMO_MESSAGE_LIMIT": "600"}
    with running_sidecar(tmp_path, **settings) as sidecar:
        sidecar.append(line(**{f"metric{number}": number for number in range(60)}, needed=1))
        summary = sidecar.says(lambda said: said.seq == 1, "the report")
        assert "needed" in summary.metrics
        assert len(summary.metrics) + summary.truncated == 61
        assert sidecar.message_file.stat().st_size <= 600


def test_metrics_are_served_for_prometheus(sidecar: RunningSidecar) -> None:
    sidecar.append(line(3, 9, loss=0.5, diverged=float("nan")))
    sidecar.says(lambda said: said.seq == 1, "the report")
    status, kind, page = get(sidecar, "/metrics?x=1")
    assert status == 200
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert 'primo_report_metric{metric="loss"} 0.5\n' in page
    assert 'primo_report_metric{metric="diverged"} NaN\n' in page
    assert get(sidecar, "/healthz")[0] == 200
    assert get(sidecar, "/")[0] == 404


def test_a_client_that_says_nothing_does_not_stop_the_others(sidecar: RunningSidecar) -> None:
    with socket.create_connection(("127.0.0.1", sidecar.port())):
        assert get(sidecar, "/healthz")[0] == 200


def test_a_port_that_is_taken_is_a_note_and_no_more(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running_sidecar(tmp_path, PRIMO_METRICS_PORT=str(port)) as sidecar:
            sidecar.append(line(loss=1))
            note = f"cannot serve metrics on port {port}: address already in use"
            sidecar.says(lambda said: said.seq == 1 and said.note == note, "report and note")
            assert sidecar.end() == 0


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        pytest.param(
            {"PRIMO_MESSAGE_LIMIT": "x", "PRIMO_METRICS": "{"},
            "PRIMO_METRICS: not JSON",
            id="broken",
        ),
        pytest.param({"PRIMO_METRICS_PORT": "70000"}, "PRIMO_METRICS_PORT: 70000", id="no port"),
        pytest.param(
            {"PRIMO_METRICS_ADDRESS": "no.such.host.invalid"}, "cannot serve metrics", id="no host"
        ),
    ],
)
def test_a_broken_environment_is_a_note_and_no_more(
    settings: dict[str, str], note: str, tmp_path: Path
) -> None:
    with running_sidecar(tmp_path, **settings) as sidecar:
        sidecar.append(line(loss=1))
        sidecar.says(lambda said: said.seq == 1 and said.note.startswith(note), "report and note")


def test_without_a_report_file_to_follow_it_waits_for_its_end(tmp_path: Path) -> None:
    with running_sidecar(tmp_path, PRIMO_REPORT_FILE="") as sidecar:
        summary = sidecar.says(lambda said: True, "a message")
        assert summary.note == "PRIMO_REPORT_FILE is not set"
        assert sidecar.end() == 0


def test_a_message_that_cannot_be_written_does_not_end_it(tmp_path: Path) -> None:
    lost = str(tmp_path / "no" / "message")
    with running_sidecar(tmp_path, PRIMO_TERMINATION_LOG=lost) as sidecar:
        eventually(lambda: "cannot write" in sidecar.log_file.read_text(), "the trouble is logged")
        assert get(sidecar, "/healthz")[0] == 200
        assert sidecar.end() == 0
