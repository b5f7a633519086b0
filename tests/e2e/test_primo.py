"""`primo` as a user types it: to the end, interrupted, and with a mistake in the manifest."""

import json
import signal
from pathlib import Path

import pytest

from support.cluster import study
from support.kubectl import kubectl
from support.primo import primo, processes
from support.waiting import eventually

pytestmark = pytest.mark.cluster
TRIALS = Path(__file__).parents[1] / "integration"


def manifest(folder: Path, **fields: object) -> Path:
    path = folder / "study.json"
    path.write_text(json.dumps(study("small", **fields)))
    return path


def test_a_study_runs_to_its_front_and_its_picture(tmp_path: Path) -> None:
    """In a namespace that nobody has made."""
    given = manifest(tmp_path)
    small = json.loads(given.read_text())
    small["metadata"]["namespace"] = "team"
    given.write_text(json.dumps(small))
    running = primo(tmp_path, "run", "-f", str(given), "--workdir", str(TRIALS))
    output, _ = running.communicate(timeout=240)
    assert running.returncode == 0, output
    assert "Pareto front" in output
    assert "Completed: BudgetExhausted" in output
    assert (tmp_path / "small.front.png").read_bytes().startswith(b"\x89PNG")
    eventually(lambda: not processes(tmp_path / "state"), "no process is left")


def test_failures_are_told_with_the_place_of_their_logs(tmp_path: Path) -> None:
    """The folder of the manifest has no script."""
    running = primo(tmp_path, "run", "-f", str(manifest(tmp_path, budget={"trials": 2})))
    output, _ = running.communicate(timeout=240)
    assert running.returncode == 1, output
    words = " ".join(output.split())
    assert "no trial was observed; the latest failure: trial 1 Failed: exit code 2" in words
    logs = tmp_path / "state" / "node" / "pods"
    assert f"logs: {logs}\n" in output
    log, *_ = logs.glob("*/logs/train/*.log")
    assert "can't open file" in log.read_text()


def test_an_interrupt_leaves_nothing_running(tmp_path: Path) -> None:
    endless = [{"name": "mode", "categorical": {"choices": ["slow", "sloth"]}}]
    given = manifest(tmp_path, parameters=endless)
    running = primo(tmp_path, "run", "-f", str(given), "--workdir", str(TRIALS))
    kubeconfig = tmp_path / "state" / "kubeconfig"
    eventually(lambda: kubeconfig.exists(), "the cluster is up")

    def a_pod_runs() -> bool:
        pods = kubectl(
            kubeconfig,
            "get",
            "pods",
            "--field-selector=status.phase=Running",
            "-o",
            "name",
            check=False,
        )
        return bool(pods.strip())

    eventually(a_pod_runs, "a trial runs")
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 130, output
    assert output.endswith("\nstopped; nothing is left running\n")
    eventually(lambda: not processes(tmp_path / "state"), "no process is left")


def test_up_says_how_to_use_it_and_ends_when_told(tmp_path: Path) -> None:
    running = primo(tmp_path, "up")
    assert running.stdout
    line = next(line for line in running.stdout if line.startswith("export KUBECONFIG="))
    kubeconfig = Path(line.strip().partition("=")[2])
    assert kubeconfig.stat().st_mode & 0o077 == 0
    assert "primostudies" in kubectl(kubeconfig, "api-resources")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 0
    eventually(lambda: not processes(tmp_path / "state"), "no process is left")


def test_kill_9_leaves_nothing_running(tmp_path: Path) -> None:
    running = primo(tmp_path, "up")
    assert running.stdout
    next(line for line in running.stdout if line.startswith("export KUBECONFIG="))
    assert any("primo_operator" in each for each in processes(tmp_path / "state"))
    running.kill()
    running.communicate(timeout=60)
    eventually(lambda: not processes(tmp_path / "state"), "no process is left")


def test_a_mistake_is_told_before_anything_starts(tmp_path: Path) -> None:
    given = manifest(tmp_path, parameters=[{"name": "x", "float": {"min": 2, "max": 1}}])
    running = primo(tmp_path, "run", "-f", str(given))
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 2
    assert "spec.parameters[0].float.min: 2.0 is not below max, 1.0" in output
    assert not (tmp_path / "state").exists()
