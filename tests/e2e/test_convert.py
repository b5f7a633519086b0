"""An Experiment runs as a study, its script untouched."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

EXPERIMENT = """\
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {name: small}
spec:
  objective: {type: maximize, objectiveMetricName: score}
  algorithm: {algorithmName: random}
  parallelTrialCount: 2
  maxTrialCount: 2
  maxFailedTrialCount: 1
  parameters:
  - {name: num-layers, parameterType: int, feasibleSpace: {min: "3", max: "5"}}
  trialTemplate:
    trialParameters:
    - {name: layers, reference: num-layers}
    trialSpec:
      apiVersion: batch/v1
      kind: Job
      spec:
        template:
          spec:
            restartPolicy: Never
            containers:
            - name: train
              image: registry.example/train:1
              command: [python, train.py, "--layers=${trialParameters.layers}"]
"""
TRAIN = """\
import sys
for step in range(1, int(sys.argv[1].removeprefix("--layers=")) + 1):
    print(f"step {step} score={step * 10}", flush=True)
"""


def primo(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "primo_cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)


def test_a_converted_experiment_runs_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    (tmp_path / "train.py").write_text(TRAIN)
    converted = primo(tmp_path, "convert", "experiment.yaml", "--wrap-command")
    assert converted.returncode == 0, converted.stderr
    (tmp_path / "study.yaml").write_text(converted.stdout)
    state = str(tmp_path / "state")
    ran = primo(tmp_path, "run", "-f", "study.yaml", "--state-dir", state)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Completed: BudgetExhausted" in ran.stdout
    assert " 30 " in ran.stdout or " 40 " in ran.stdout or " 50 " in ran.stdout
