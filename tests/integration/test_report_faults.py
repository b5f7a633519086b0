"""The fault table of a run's reports: real trainings and sidecars, and the operator's verdict.

The kubelet is played by the tests: it ends, kills and restarts, and puts the messages into the
pod's status as a real one was seen to do.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from primo_operator.pods import outcome
from primo_report.wire import parse_summary
from primo_study.study import Outcome, Reason
from support.builders import condition, pod, run, spec
from support.reports import DEADLINE_S, REPOSITORY, RunningSidecar, line, running_sidecar
from support.waiting import eventually

METRICS = '["val_error"]'
OBJECTIVES = [
    {"name": "last", "goal": "Minimize", "metric": "val_error"},
    {"name": "mean", "goal": "Minimize", "metric": "val_error", "reduce": "Mean"},
]
JOB = {
    "metadata": {},
    "spec": {},
    "status": {"conditions": [condition("FailureTarget", "BackoffLimitExceeded")]},
}
PYTHON = """
from primo_report import report
for step in 1, 2, 3:
    report(step=step, {fidelity} val_error=step)
    print(step, flush=True)
    input()
"""
SHELL = r"""
for step in 1 2 3; do
    echo "{\"step\": $step, {fidelity} \"metrics\": {\"val_error\": $step}}" >> $PRIMO_REPORT_FILE
    echo $step
    read go
done
"""


@dataclass
class Training:
    """A script that reports 1, 2 and 3, each after a line on its standard input."""

    folder: Path
    process: subprocess.Popen[str]

    @property
    def message(self) -> str:
        path = self.folder / "main-message"
        return path.read_text() if path.exists() else ""

    def reports(self, step: int) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == f"{step}\n"

    def goes_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def runs_to_its_end(self, step: int) -> None:
        """From the step that it has reported."""
        for after in range(step + 1, 4):
            self.goes_on()
            self.reports(after)
        self.goes_on()
        assert self.process.wait(DEADLINE_S) == 0


def command(language: str, fidelity: bool) -> list[str]:
    if language == "python":
        return [sys.executable, "-c", PYTHON.format(fidelity="fidelity=3 * step," * fidelity)]
    given = '\\"fidelity\\": $((3 * step)),' if fidelity else ""
    return ["sh", "-c", SHELL.replace("{fidelity}", given)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def begin(language: str, fidelity: bool = False, **options: Any) -> Training:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY / "operator"),
            "PRIMO_REPORT_FILE": str(tmp_path / "reports.jsonl"),
            "PRIMO_TERMINATION_LOG": str(tmp_path / "main-message"),
            "PRIMO_METRICS": METRICS,
        }
        process = subprocess.Popen(
            command(language, fidelity),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            **options,
        )
        started.append(process)
        training = Training(tmp_path, process)
        training.reports(1)
        return training

    yield begin
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[RunningSidecar]:
    with running_sidecar(tmp_path, PRIMO_METRICS=METRICS) as sidecar:
        sidecar.says(lambda said: True, "it has started")
        yield sidecar


def knows(sidecar: RunningSidecar, count: int) -> str:
    sidecar.says(lambda said: said.seq >= count, f"{count} reports")
    return sidecar.message_file.read_text()


def ends(sidecar: RunningSidecar) -> str:
    assert sidecar.end() == 0
    return sidecar.message_file.read_text()


def verdict(
    training: Training,
    now: str,
    before: str = "",
    *,
    code: int = 0,
    deleted: str = "",
    gone: bool = False,
    **end: Any,
) -> Outcome:
    """The operator's.

    Args:
        now: the message of the sidecar's last life.
        before: of the life before it.
        code: of the training.
        deleted: when the pod's grace period was to end; it is 30 seconds.
    """
    found = pod(code, message=now, **end)
    states = found["status"]["containerStatuses"][0]["state"]["terminated"]
    states.setdefault("message", training.message)
    if before:
        found["status"]["initContainerStatuses"][0]["lastState"] = {
            "terminated": {"exitCode": 137, "message": before}
        }
    if deleted:
        found["metadata"] |= {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": 30}
    result = outcome(found, gone, JOB, False, run(2), spec(objectives=OBJECTIVES))
    assert result
    return result


ALL = {"last": 3.0, "mean": 2.0}
LOST_TEXT = "The container could not be located when the pod was terminated"


@pytest.mark.parametrize("language", ["python", "shell"])
def test_nothing_goes_wrong(language: str, start: Any, sidecar: RunningSidecar) -> None:
    training = start(language)
    training.runs_to_its_end(1)
    result = verdict(training, ends(sidecar))
    assert (result.reason, result.values) == (Reason.COMPLETED, ALL)


@pytest.mark.parametrize("language", ["python", "shell"])
def test_a_sidecar_that_is_killed_and_started_again_counts_nothing_twice(
    language: str, start: Any, sidecar: RunningSidecar
) -> None:
    training = start(language)
    before = knows(sidecar, 1)
    sidecar.kill()
    sidecar.message_file.unlink()
    training.goes_on()
    training.reports(2)
    sidecar.start()
    knows(sidecar, 2)
    training.runs_to_its_end(2)
    result = verdict(training, ends(sidecar), before)
    assert (result.reason, result.values) == (Reason.COMPLETED, ALL)


@pytest.mark.parametrize(
    ("language", "fidelity", "reason", "values"),
    [
        pytest.param("python", False, Reason.COMPLETED, ALL, id="the client's own message"),
        pytest.param("shell", False, Reason.METRICS_UNAVAILABLE, {}, id="no other witness"),
        pytest.param("shell", True, Reason.METRICS_UNAVAILABLE, {}, id="of a low fidelity"),
    ],
)
def test_a_sidecar_that_dies_for_good_leaves_no_early_value(
    language: str,
    fidelity: bool,
    reason: Reason,
    values: dict[str, float],
    start: Any,
    sidecar: RunningSidecar,
) -> None:
    training = start(language, fidelity)
    before = knows(sidecar, 1)
    sidecar.kill()
    training.runs_to_its_end(1)
    result = verdict(training, LOST_TEXT, before)
    assert (result.reason, dict(result.values)) == (reason, values)


def test_a_sidecar_that_dies_after_the_report_that_counts_leaves_its_value(
    start: Any, sidecar: RunningSidecar
) -> None:
    training = start("shell", fidelity=True)
    training.runs_to_its_end(1)
    before = knows(sidecar, 3)
    sidecar.kill()
    result = verdict(training, LOST_TEXT, before)
    assert (result.reason, result.values) == (Reason.COMPLETED, ALL)


def test_a_training_out_of_memory_is_no_result_and_what_it_reported_is_there(
    start: Any, sidecar: RunningSidecar
) -> None:
    training = start("python")
    training.goes_on()
    training.reports(2)
    os.kill(training.process.pid, signal.SIGKILL)
    training.process.wait(DEADLINE_S)
    now = ends(sidecar)
    assert verdict(training, now, code=137, reason="OOMKilled").reason is Reason.OUT_OF_MEMORY
    assert parse_summary(now).metrics["val_error"].last == 2
    assert training.message == ""  # the kubelet shows the log's end instead


def test_a_pod_deleted_after_the_training_ended_has_its_result(
    start: Any, sidecar: RunningSidecar
) -> None:
    training = start("python")
    training.runs_to_its_end(1)
    late = "2027-01-15T09:00:00Z"  # the training ended at 08:00
    result = verdict(training, ends(sidecar), deleted=late, gone=True)
    assert (result.reason, result.values) == (Reason.COMPLETED, ALL)


def test_a_pod_deleted_after_the_last_report_and_before_the_end_is_run_again(
    start: Any, sidecar: RunningSidecar
) -> None:
    training = start("python")
    for step in (2, 3):
        training.goes_on()
        training.reports(step)
    training.process.terminate()
    training.process.wait(DEADLINE_S)
    at = "2027-01-15T08:00:30Z"
    assert verdict(training, ends(sidecar), code=143, deleted=at, gone=True).reason is Reason.LOST


def test_a_pod_killed_together_with_its_sidecar_is_no_result(
    start: Any, sidecar: RunningSidecar
) -> None:
    training = start("shell")
    now = knows(sidecar, 1)
    training.process.kill()
    training.process.wait(DEADLINE_S)
    sidecar.kill()
    assert sidecar.message_file.read_text() == now
    assert verdict(training, now, code=137).reason is Reason.FAILED


def test_a_report_file_that_is_removed_at_the_end_has_been_read(
    start: Any, sidecar: RunningSidecar
) -> None:
    training = start("shell")
    training.runs_to_its_end(1)
    knows(sidecar, 3)
    sidecar.report_file.unlink()
    result = verdict(training, ends(sidecar))
    assert (result.reason, result.values) == (Reason.COMPLETED, ALL)


def test_a_full_disk_is_the_scripts_error_and_spoils_no_report(
    start: Any, sidecar: RunningSidecar
) -> None:
    full = 70  # the second report does not fit whole
    limit = (full, full)
    training = start("python", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    training.goes_on()
    assert training.process.wait(DEADLINE_S) == 1
    assert sidecar.report_file.stat().st_size == full
    sidecar.append(b"\n", line(3, val_error=3))  # there is room again, for whoever comes next
    summary = parse_summary(ends(sidecar))
    assert (summary.seq, summary.rejected) == (2, 1)
    assert summary.metrics["val_error"].mean == 2
    assert verdict(training, ends(sidecar), code=1).reason is Reason.FAILED


def test_a_sidecar_that_is_killed_over_and_over_says_the_same_in_the_end(
    start: Any, sidecar: RunningSidecar
) -> None:
    training = start("shell")
    for step in (2, 3):
        sidecar.kill()
        sidecar.start()
        eventually(lambda: sidecar.process.poll() is None, "it runs")
        training.goes_on()
        training.reports(step)
    training.goes_on()
    assert training.process.wait(DEADLINE_S) == 0
    knows(sidecar, 3)
    result = verdict(training, ends(sidecar))
    assert (result.reason, result.values) == (Reason.COMPLETED, ALL)
