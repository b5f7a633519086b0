"""The shipped training, run as the operator runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from primo_study.spec import parse
from support.reports import REPOSITORY

EXAMPLE = REPOSITORY / "images" / "example-trial"
PARAMS = {"lr": 0.01, "width": 16, "layers": 2, "activation": "gelu", "batch": 64}
KMACS = (64 * 16 + 16 * 16 + 16 * 10) / 1000
DEADLINE_S = 240


def train(
    folder: Path, *arguments: str, params: dict[str, object] = PARAMS, **settings: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY / "operator"),
        "OMP_NUM_THREADS": "1",
        "PRIMO_PARAMS": json.dumps(params),
        "PRIMO_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "PRIMO_REPORT_FILE": str(folder / "reports.jsonl"),
        **settings,
    }
    return subprocess.run(
        [sys.executable, "train.py", *arguments],
        cwd=EXAMPLE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def reports(folder: Path) -> list[dict[str, object]]:
    return [json.loads(row) for row in (folder / "reports.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """The reports of two epochs in one run."""
    folder = tmp_path_factory.mktemp("straight")
    done = train(folder, PRIMO_FIDELITY="2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return reports(folder)


def test_each_epoch_is_reported_with_error_and_cost(straight: list[dict[str, object]]) -> None:
    assert [(row["step"], row["fidelity"]) for row in straight] == [(1, 1), (2, 2)]
    for row in straight:
        metrics = row["metrics"]
        assert isinstance(metrics, dict)
        assert metrics["kmacs"] == KMACS
        assert 0 <= metrics["val_error"] <= 1


def test_an_epoch_and_a_resumed_one_are_two_straight_through(
    tmp_path: Path, straight: list[dict[str, object]]
) -> None:
    assert train(tmp_path, PRIMO_FIDELITY="1").returncode == 0
    assert reports(tmp_path) == straight[:1]
    done = train(tmp_path, PRIMO_FIDELITY="2", PRIMO_RESUME_FROM="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert reports(tmp_path) == straight

    again = train(tmp_path, PRIMO_FIDELITY="2", PRIMO_RESUME_FROM="1")
    assert again.returncode == 0
    assert reports(tmp_path) == [*straight, straight[-1]], "a lost result is reported again"


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"garbage", "Weights only load failed", id="garbage"),
        pytest.param(b"", "no usable checkpoint", id="empty"),
    ],
)
def test_without_a_usable_checkpoint_training_starts_from_zero_and_says_so(
    checkpoint: bytes | None, said: str, tmp_path: Path, straight: list[dict[str, object]]
) -> None:
    if checkpoint is not None:
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "checkpoint.pt").write_bytes(checkpoint)
    done = train(tmp_path, PRIMO_FIDELITY="2", PRIMO_RESUME_FROM="1")
    assert done.returncode == 0
    assert said in done.stderr
    assert done.stderr.endswith("training from zero\n")
    assert reports(tmp_path) == straight


def test_a_checkpoint_of_another_configuration_is_not_used(
    tmp_path: Path, straight: list[dict[str, object]]
) -> None:
    other = train(tmp_path, params={**PARAMS, "width": 8}, PRIMO_FIDELITY="1")
    assert other.returncode == 0
    (tmp_path / "reports.jsonl").unlink()
    done = train(tmp_path, PRIMO_FIDELITY="2", PRIMO_RESUME_FROM="1")
    assert "it was made with" in done.stderr
    assert reports(tmp_path) == straight


def test_by_hand_the_command_line_counts_and_reports_are_printed(tmp_path: Path) -> None:
    settings = {"PRIMO_REPORT_FILE": "", "PRIMO_CHECKPOINT_DIR": ""}
    arguments = ("--epochs", "1", "--width", "8", "--layers", "1")
    done = train(tmp_path, *arguments, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    printed = json.loads(done.stdout)
    assert printed["step"] == 1
    assert printed["metrics"]["kmacs"] == (64 * 8 + 8 * 10) / 1000


def test_a_parameter_that_the_training_does_not_know_is_an_error(tmp_path: Path) -> None:
    done = train(tmp_path, params={**PARAMS, "widht": 8})
    assert done.returncode == 2
    assert "parameters that are not arguments: widht" in done.stderr


def test_the_study_varies_what_the_training_knows() -> None:
    _, study = yaml.safe_load_all((EXAMPLE / "study.yaml").read_text())
    spec = parse(study["spec"])
    assert {parameter.name for parameter in spec.parameters} == PARAMS.keys()
    assert [objective.metric for objective in spec.objectives] == ["val_error", "kmacs"]
