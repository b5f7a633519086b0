import json
import math
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import primo_report
from primo_report import client
from primo_report.environment import RANKS, BadEnvironmentError
from primo_report.wire import BadReportError, parse_report, parse_summary
from support.reports import DEADLINE_S, REPOSITORY, folded
from support.waiting import eventually


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of a trial, whatever the tests run in."""
    for name in [name for name in os.environ if name.startswith("PRIMO_") or name in RANKS]:
        monkeypatch.delenv(name)


@pytest.fixture
def report_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "reports.jsonl"
    monkeypatch.setenv("PRIMO_REPORT_FILE", str(path))
    return path


def test_outside_a_trial_a_script_has_no_settings_and_prints_its_reports(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert primo_report.params() == {}
    assert primo_report.fidelity() is None
    assert primo_report.resume_from() is None
    assert primo_report.checkpoint_dir() is None
    primo_report.report(step=1, val_error=0.5)
    assert capsys.readouterr().out == '{"step": 1, "metrics": {"val_error": 0.5}}\n'


def test_outside_a_trial_there_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert primo_report.params(lr=0.01, layers=2) == {"lr": 0.01, "layers": 2}
    assert primo_report.fidelity(27) == 27
    monkeypatch.setenv("PRIMO_PARAMS", '{"lr": 0.001}')
    monkeypatch.setenv("PRIMO_FIDELITY", "9")
    assert primo_report.params(lr=0.01, layers=2) == {"lr": 0.001, "layers": 2}
    assert primo_report.fidelity(27) == 9


def test_in_a_trial_a_script_has_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIMO_PARAMS", '{"lr": 0.001, "layers": 2, "activation": "relu"}')
    monkeypatch.setenv("PRIMO_FIDELITY", "9")
    monkeypatch.setenv("PRIMO_RESUME_FROM", "0.5")
    monkeypatch.setenv("PRIMO_CHECKPOINT_DIR", str(tmp_path / "study" / "trial-3"))
    assert primo_report.params() == {"lr": 0.001, "layers": 2, "activation": "relu"}
    assert primo_report.fidelity() == 9
    assert type(primo_report.fidelity()) is int
    assert primo_report.resume_from() == 0.5
    directory = primo_report.checkpoint_dir()
    assert directory == primo_report.checkpoint_dir() == tmp_path / "study" / "trial-3"
    assert directory.is_dir()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PRIMO_FIDELITY", "many", "PRIMO_FIDELITY: 'many' is not a number"),
        ("PRIMO_PARAMS", "[1]", "PRIMO_PARAMS: a list is not an object"),
        ("PRIMO_PARAMS", "{", "PRIMO_PARAMS: not JSON"),
    ],
)
def test_a_broken_setting_is_named(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadEnvironmentError, match=message):
        (primo_report.fidelity(), primo_report.params())


def test_reports_are_appended_line_by_line(report_file: Path) -> None:
    primo_report.report(step=1, fidelity=3, val_error=0.5)
    primo_report.report(**{"val/error": 0.25})
    assert report_file.read_text().splitlines() == [
        '{"step": 1, "fidelity": 3, "metrics": {"val_error": 0.5}}',
        '{"metrics": {"val/error": 0.25}}',
    ]


@pytest.mark.parametrize("variable", ["RANK", "OMPI_COMM_WORLD_RANK", "LOCAL_RANK"])
def test_of_processes_that_train_together_the_first_one_reports(
    variable: str,
    report_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(client, "_said", set())
    for rank in ("3", "3", "0", "x"):
        monkeypatch.setenv(variable, rank)
        primo_report.report(a=float(rank == "0"))
    assert report_file.read_text().count("\n") == 2
    assert capsys.readouterr().err == "primo_report: process 3 leaves the reports to process 0\n"


def test_a_rank_among_all_counts_before_a_rank_on_the_host(
    report_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "8")
    monkeypatch.setenv("LOCAL_RANK", "0")
    primo_report.report(a=1)
    assert not report_file.exists()


def test_half_a_line_is_ended_before_the_next_one(report_file: Path) -> None:
    report_file.write_bytes(b'{"metrics": {"a"')
    primo_report.report(a=1)
    assert folded(report_file.read_bytes().splitlines()).metrics["a"].last == 1


def test_threads_report_whole_lines(report_file: Path) -> None:
    def some(number: int) -> None:
        for step in range(100):
            primo_report.report(step=step, **{f"thread{number}": step})

    threads = [threading.Thread(target=some, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    summary = folded(report_file.read_bytes().splitlines())
    assert (summary.seq, summary.rejected) == (400, 0)


def test_the_report_file_can_be_read_by_the_sidecar_whatever_the_umask(report_file: Path) -> None:
    before = os.umask(0o077)
    try:
        primo_report.report(a=1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(report_file.stat().st_mode) == 0o666


@pytest.mark.parametrize(
    "value",
    [
        1,
        np.float32(1),
        np.int64(1),
        np.array(1.0),
        torch.tensor(1.0),
        torch.tensor([1.0], requires_grad=True),
    ],
    ids=repr,
)
def test_whatever_turns_into_a_number_can_be_reported(
    value: client.SupportsFloat, report_file: Path
) -> None:
    primo_report.report(step=np.int32(2), fidelity=np.float64(3), a=value)
    assert parse_report(report_file.read_bytes()).metrics == {"a": 1.0}
    assert json.loads(report_file.read_text())["fidelity"] == 3


def test_divergence_can_be_reported(report_file: Path) -> None:
    primo_report.report(loss=torch.tensor(math.inf), val_error=math.nan)
    metrics = parse_report(report_file.read_bytes()).metrics
    assert metrics["loss"] == math.inf
    assert math.isnan(metrics["val_error"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_error": "0.1"}, "metric 'val_error': '0.1' is not a number"),
        ({"val_error": None}, "metric 'val_error': None is not a number"),
        ({"val_error": True}, "metric 'val_error': True is not a number"),
        ({"val_error": torch.zeros(2)}, "metric 'val_error': tensor.* is not a number"),
        ({"val_error": np.zeros(2)}, "metric 'val_error': array.* is not a number"),
        ({"val_error": 10**400}, "metric 'val_error': 1000.* is not a number"),
        ({"step": 1.5, "val_error": 1}, "step: 1.5 is not an integer"),
        ({"step": "1", "val_error": 1}, "step: '1' is not an integer"),
        ({"fidelity": "3", "val_error": 1}, "fidelity: '3' is not a number"),
    ],
)
def test_an_argument_that_is_no_number_is_named(
    arguments: dict[str, object], message: str, report_file: Path
) -> None:
    with pytest.raises(TypeError, match=message):
        primo_report.report(**arguments)  # type: ignore[arg-type]
    assert not report_file.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "metrics: {} is not an object"),
        ({"fidelity": math.nan, "a": 1}, "fidelity: nan is not"),
        ({"step": 2**63, "a": 1}, "step: .* is not an integer of 64 bits"),
    ],
)
def test_an_argument_out_of_bounds_is_named(
    arguments: dict[str, float], message: str, report_file: Path
) -> None:
    with pytest.raises(BadReportError, match=message):
        primo_report.report(**arguments)  # type: ignore[arg-type]
    assert not report_file.exists()


def run_script(folder: Path, script: str, **settings: str) -> subprocess.Popen[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY / "operator"),
        "PRIMO_REPORT_FILE": str(folder / "reports.jsonl"),
        "PRIMO_TERMINATION_LOG": str(folder / "message"),
        "PRIMO_METRICS": '["loss"]',
        "PRIMO_MESSAGE_LIMIT": "1000",
        **settings,
    }
    return subprocess.Popen(
        [sys.executable, "-c", "from primo_report import *\n" + script],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_containers_own_message_says_what_was_reported(tmp_path: Path) -> None:
    script = 'report(1, 3, a=1, loss=2)\nreport(2, 9, a=3, loss=0.5)\nprint("done")'
    process = run_script(tmp_path, script)
    assert process.communicate(timeout=DEADLINE_S) == ("done\n", "")
    summary = parse_summary((tmp_path / "message").read_text())
    assert (summary.source, summary.seq, summary.step, summary.fidelity) == ("client", 2, 2, 9)
    assert list(summary.metrics) == ["loss", "a"]
    assert summary.metrics["loss"].last == 0.5


def test_processes_report_whole_lines_and_the_last_message_has_them_all(tmp_path: Path) -> None:
    script = "for step in range(100): report(step=step, loss=step, **{'x' * 100: step})"
    processes = [run_script(tmp_path, script) for _ in range(4)]
    for process in processes:
        assert process.communicate(timeout=DEADLINE_S) == ("", "")
    reports = folded((tmp_path / "reports.jsonl").read_bytes().splitlines())
    assert (reports.seq, reports.rejected) == (400, 0)
    summary = parse_summary((tmp_path / "message").read_text())
    assert (summary.seq, summary.partial) == (400, False)


def test_a_process_forked_in_the_middle_of_a_report_can_report(tmp_path: Path) -> None:
    script = """
import os
from primo_report import client
import threading
held = threading.Thread(target=client._lock.acquire)
held.start()
held.join()
if os.fork() == 0:
    report(fidelity=1, loss=1)
    os._exit(0)
os.wait()
"""
    process = run_script(tmp_path, script, PRIMO_FIDELITY="1")
    assert process.communicate(timeout=DEADLINE_S) == ("", "")
    assert parse_summary((tmp_path / "message").read_text()).seq == 1


def test_a_signal_handler_may_report_in_the_middle_of_a_report(tmp_path: Path) -> None:
    script = """
import os, signal
from primo_report import client
append = client._append
def interrupted(descriptor, line):
    client._append = append
    os.kill(os.getpid(), signal.SIGTERM)
    append(descriptor, line)
client._append = interrupted
signal.signal(signal.SIGTERM, lambda *_: report(2, loss=2))
report(1, loss=1)
"""
    process = run_script(tmp_path, script)
    assert process.communicate(timeout=DEADLINE_S) == ("", "")
    summary = parse_summary((tmp_path / "message").read_text())
    assert (summary.seq, summary.metrics["loss"].last) == (2, 2)


def test_a_message_that_cannot_be_written_does_not_harm_the_training(tmp_path: Path) -> None:
    script = 'report(a=1)\nprint("done")'
    process = run_script(tmp_path, script, PRIMO_TERMINATION_LOG=str(tmp_path / "no" / "message"))
    assert process.communicate(timeout=DEADLINE_S) == ("done\n", "")
    assert (tmp_path / "reports.jsonl").exists()


@pytest.mark.parametrize(
    "end",
    [
        "raise RuntimeError('bad lr')",
        "sys.exit('bad lr')",
        "print('bad lr', file=sys.stderr, flush=True); sys.exit(3)",
        "print('bad lr', file=sys.stderr, flush=True); os.abort()",
        "print('bad lr', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)",
    ],
)
@pytest.mark.parametrize("asked", ["", "9"])
def test_a_training_that_fails_leaves_the_message_to_its_last_words(
    end: str, asked: str, tmp_path: Path
) -> None:
    script = f"import os, sys\nreport(fidelity=3, a=1)\n{end}"
    process = run_script(tmp_path, script, **({"PRIMO_FIDELITY": asked} if asked else {}))
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode not in (0, None)
    assert "bad lr" in errors
    message = tmp_path / "message"
    assert not message.exists() or message.read_bytes() == b""


@pytest.mark.parametrize("end", ["raise RuntimeError('bad lr')", "sys.exit('bad lr')"])
def test_what_fails_after_the_asked_fidelity_takes_the_message_back(
    end: str, tmp_path: Path
) -> None:
    script = f"import sys\nreport(fidelity=9, a=1)\n{end}"
    process = run_script(tmp_path, script, PRIMO_FIDELITY="9")
    process.communicate(timeout=DEADLINE_S)
    assert (tmp_path / "message").read_bytes() == b""


def test_an_exit_that_was_caught_is_no_failure(tmp_path: Path) -> None:
    script = """
import sys
report(1, a=1)
try:
    sys.exit("not yet")
except SystemExit:
    report(2, a=2)
"""
    process = run_script(tmp_path, script)
    assert process.communicate(timeout=DEADLINE_S) == ("", "")
    assert parse_summary((tmp_path / "message").read_text()).seq == 2


def test_a_process_that_ends_unseen_has_left_its_message_at_the_asked_fidelity(
    tmp_path: Path,
) -> None:
    script = "import os\nreport(fidelity=3, a=1)\nreport(fidelity=9, a=2)\nos._exit(0)"
    process = run_script(tmp_path, script, PRIMO_FIDELITY="9")
    assert process.communicate(timeout=DEADLINE_S) == ("", "")
    summary = parse_summary((tmp_path / "message").read_text())
    assert (summary.seq, summary.fidelity) == (2, 9)


def test_a_worker_that_fails_takes_no_message_back(tmp_path: Path) -> None:
    script = """
import os, sys
report(fidelity=9, a=1)
if os.fork() == 0:
    sys.exit(3)
os.wait()
os._exit(0)
"""
    process = run_script(tmp_path, script, PRIMO_FIDELITY="9")
    assert process.communicate(timeout=DEADLINE_S) == ("", "")
    assert parse_summary((tmp_path / "message").read_text()).seq == 1


def test_a_worker_that_ends_well_leaves_no_message_of_a_training_that_fails(
    tmp_path: Path,
) -> None:
    script = """
import os, sys
report(a=1)
if os.fork() == 0:
    sys.exit(0)
os.wait()
os.abort()
"""
    process = run_script(tmp_path, script)
    process.communicate(timeout=DEADLINE_S)
    assert not (tmp_path / "message").exists()


def test_a_forked_process_that_reports_leaves_its_message(tmp_path: Path) -> None:
    script = """
import os, sys
report(a=1)
if os.fork() == 0:
    report(a=2)
    sys.exit(0)
os.wait()
os._exit(0)
"""
    process = run_script(tmp_path, script)
    assert process.communicate(timeout=DEADLINE_S) == ("", "")
    assert parse_summary((tmp_path / "message").read_text()).seq == 2


def test_a_process_forked_in_the_middle_of_a_report_holds_up_no_other(tmp_path: Path) -> None:
    """It has the report file open, and with it the lock."""
    script = """
import os, signal
from primo_report import client
append, workers = client._append, []
def forked(descriptor, line):
    client._append = append
    if (worker := os.fork()) == 0:
        signal.alarm(60)
        signal.pause()
    workers.append(worker)
    append(descriptor, line)
client._append = forked
report(1, a=1)
signal.alarm(20)
report(2, a=2)
signal.alarm(0)
os.kill(workers[0], 9)
"""
    process = run_script(tmp_path, script)
    assert process.communicate(timeout=DEADLINE_S) == ("", "")
    assert process.returncode == 0


def test_a_training_that_stops_on_sigterm_ends_at_once_with_what_it_printed(
    tmp_path: Path,
) -> None:
    script = """
import threading, time
stop_on_sigterm()
threading.Thread(target=time.sleep, args=[1000]).start()
print("printed", end="")
report(a=1)
try:
    time.sleep(1000)
except BaseException:
    print("caught")
"""
    process = run_script(tmp_path, script)
    eventually(lambda: (tmp_path / "reports.jsonl").exists(), "the script has reported")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=DEADLINE_S) == ("printed", "")
    assert process.returncode == 143
