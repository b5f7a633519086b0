"""What `primo convert` prints, where, and with which exit code."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from primo_cli.convert import CONVERTED, IMPOSSIBLE, UNREADABLE, convert, wishes
from primo_cli.katib.study import Wishes
from primo_cli.validate import FINE, validate
from primo_operator.manifest_files import load_all
from primo_optimizer import InvalidSpecError

EXPERIMENT = """\
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {name: plain}
spec:
  objective: {type: maximize, objectiveMetricName: score}
  algorithm: {algorithmName: tpe}
  maxTrialCount: 8
  parameters:
  - {name: rate, parameterType: double, feasibleSpace: {min: "1e-4", max: "0.1"}}
  trialTemplate:
    trialParameters:
    - {name: rate, reference: rate}
    trialSpec:
      apiVersion: batch/v1
      kind: Job
      spec:
        template:
          spec:
            containers:
            - name: train
              image: registry.example/train:1
              command: [python, train.py, "--rate=${trialParameters.rate}", --decay, "1e-5"]
            restartPolicy: Never
"""
NONE = Wishes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT)
    return path


def test_the_study_goes_out_with_its_report_and_a_line_beside_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert([str(file)], NONE) == CONVERTED
    printed = capsys.readouterr()
    assert printed.out.startswith("# From Katib's Experiment plain, by primo convert.\n#\n# To do")
    assert printed.err == (
        f"{file}: Experiment plain: converted; 1 to do before it runs, 1 approximated:"
        " see its head\n"
    )
    path = tmp_path / "study.yaml"
    path.write_text(printed.out)
    assert validate([str(path)], as_json=False) == FINE
    (study,) = load_all(printed.out)
    command = study["spec"]["trialTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[-1] == "1e-5"  # a word, as it was


def test_several_go_out_as_documents_and_what_cannot_is_told(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(EXPERIMENT.replace("kind: Job", "kind: MPIJob"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(EXPERIMENT.replace("plain", "other")))
    assert convert([str(file), str(bad), "-"], NONE) == IMPOSSIBLE
    printed = capsys.readouterr()
    assert [each["metadata"]["name"] for each in load_all(printed.out)] == ["plain", "other"]
    assert printed.err.splitlines()[1].startswith(
        f"{bad}: Experiment plain: cannot be converted: trialTemplate.trialSpec.kind: MPIJob: "
    )


def test_a_study_that_would_be_refused_is_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT.replace("image: ", "imagee: "))
    assert convert([str(path)], NONE) == IMPOSSIBLE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "containers[0].image: Required value" in printed.err


@pytest.mark.parametrize(
    ("text", "problem"),
    [("a: [", "line 1: "), ("kind: Deployment\n", "there is no Experiment in it")],
)
def test_what_cannot_be_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert convert([str(path)], NONE) == UNREADABLE
    assert capsys.readouterr().err.startswith(f"{path}: {problem}")


def test_a_missing_file_does_not_stop_the_others(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(["/no/such/file", str(file)], NONE) == UNREADABLE
    printed = capsys.readouterr()
    assert printed.err.startswith("/no/such/file: No such file or directory\n")
    assert len(load_all(printed.out)) == 1


def test_the_options_are_read() -> None:
    assert wishes(["a=b=Minimize", "c=Maximize"], "epochs", True) == Wishes(
        {"a=b": "Minimize", "c": "Maximize"}, "epochs", True
    )


@pytest.mark.parametrize("text", ["latency", "latency=", "latency=minimize", "=Minimize"])
def test_an_objective_needs_a_goal(text: str) -> None:
    with pytest.raises(InvalidSpecError, match="is not METRIC=Minimize or METRIC=Maximize"):
        wishes([text], None, False)


def test_the_command_answers(file: Path) -> None:
    command: list[Any] = [sys.executable, "-m", "primo_cli", "convert", file, "--wrap-command"]
    command += ["--objective", "latency=Minimize"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (study,) = load_all(done.stdout)
    assert [o["name"] for o in study["spec"]["objectives"]] == ["score", "latency"]
