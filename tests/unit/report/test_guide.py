"""docs/reporting.md: each of its snippets runs, and what it reports arrives."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from primo_report.wire import Summary
from primo_study.spec import parse
from support.builders import spec_dict
from support.reports import REPOSITORY, folded

GUIDE = (REPOSITORY / "docs" / "reporting.md").read_text()
PROJECT = """
import torch
from torch import nn

inputs = torch.rand(16, 2)
train_data = valid_data = [
    {"x": row, "labels": row.sum()} for row in inputs
]

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x, labels):
        out = self.layer(x).squeeze(-1)
        return {"loss": (out - labels).square().mean(), "logits": out}
"""
LIGHTNING = """
from lightning.pytorch import LightningModule

train_data = valid_data = torch.utils.data.DataLoader(train_data, batch_size=4)

class LitModel(LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.lr, self.model = lr, Model()

    def training_step(self, batch, index):
        return self.model(**batch)["loss"]

    def validation_step(self, batch, index):
        self.log("val_error", self.model(**batch)["loss"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)
"""


def snippets(language: str, *needed: str) -> list[str]:
    """The guide's, that hold all of these words."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return [snippet for snippet in found if all(word in snippet for word in needed)]


def run(folder: Path, *command: str, **settings: str) -> Summary:
    """In a trial; what it has reported."""
    (folder / "my_project.py").write_text(
        PROJECT + LIGHTNING * any("lightning" in word for word in command)
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "operator"), str(folder)]),
        "PRIMO_REPORT_FILE": str(folder / "reports.jsonl"),
        "PRIMO_PARAMS": '{"lr": 0.002}',
        "PRIMO_FIDELITY": "3",
        "PRIMO_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "CUDA_VISIBLE_DEVICES": "",
        **settings,
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path = folder / "reports.jsonl"
    summary = folded(path.read_bytes().splitlines() if path.exists() else [])
    assert summary.rejected == 0
    return summary


def needs(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def test_the_first_script(tmp_path: Path) -> None:
    (script,) = snippets("python", "width=32")
    summary = run(tmp_path, sys.executable, "-c", script)
    assert (summary.seq, summary.fidelity) == (3, 3)
    assert summary.metrics["val_error"].last == pytest.approx(1 / 3.002)


def test_the_first_script_on_a_laptop(tmp_path: Path) -> None:
    (script,) = snippets("python", "width=32")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "operator")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=True
    )
    assert folded(done.stdout.splitlines()).seq == 10


def test_checkpoints_are_resumed_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = snippets("python", "weights_only")
    before = signal.getsignal(signal.SIGTERM)

    def run_here(folder: Path, fidelity: int, resume_from: int) -> Summary:
        """In this process: loading torch takes longer than all else."""
        folder.mkdir(exist_ok=True)
        monkeypatch.setenv("PRIMO_REPORT_FILE", str(folder / "reports.jsonl"))
        monkeypatch.setenv("PRIMO_CHECKPOINT_DIR", str(folder / "checkpoints"))
        monkeypatch.setenv("PRIMO_FIDELITY", str(fidelity))
        monkeypatch.setenv("PRIMO_RESUME_FROM", str(resume_from))
        exec(compile(script, "guide", "exec"), {})
        return folded((folder / "reports.jsonl").read_bytes().splitlines())

    try:
        first = run_here(tmp_path / "trial", 3, 0)
        further = run_here(tmp_path / "trial", 5, 3)
        again = run_here(tmp_path / "trial", 5, 5)
        straight = run_here(tmp_path / "other", 5, 0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (first.seq, further.seq, again.seq) == (3, 3 + 2, 3 + 2 + 1)
    assert again.fidelity == 5
    lasts = [summary.metrics["val_error"].last for summary in (further, again, straight)]
    assert lasts == [lasts[0]] * 3


def test_energy_without_a_gpu_is_no_value(tmp_path: Path) -> None:
    (script,) = snippets("python", "gpu_energy")
    assert run(tmp_path, sys.executable, "-c", script).seq == 0


def test_lightning(tmp_path: Path) -> None:
    needs("lightning")
    (script,) = snippets("python", "primo_report.lightning")
    first = run(tmp_path, sys.executable, "-c", script)
    assert (first.seq, first.fidelity) == (3, 3)
    assert "val_error" in first.metrics
    further = {"PRIMO_FIDELITY": "5", "PRIMO_RESUME_FROM": "3"}
    assert run(tmp_path, sys.executable, "-c", script, **further).seq == 3 + 2
    again = run(tmp_path, sys.executable, "-c", script, **further)
    assert again.seq == 3 + 2 + 1, "it finds the work done"


def test_transformers(tmp_path: Path) -> None:
    needs("transformers", "accelerate")
    (script,) = snippets("python", "primo_report.transformers")
    first = run(tmp_path, sys.executable, "-c", script)
    assert first.fidelity == 3
    assert "eval_loss" in first.metrics
    further = {"PRIMO_FIDELITY": "5", "PRIMO_RESUME_FROM": "3"}
    resumed = run(tmp_path, sys.executable, "-c", script, **further)
    assert (resumed.seq, resumed.fidelity) == (first.seq + 2, 5)
    again = run(tmp_path, sys.executable, "-c", script, **further)
    assert (again.seq, again.fidelity) == (resumed.seq + 1, 5), "it finds the work done"


def test_all_python_snippets_are_run_here() -> None:
    assert len(snippets("python")) == 5


@pytest.mark.parametrize(
    ("language", "program", "words"),
    [
        ("sh", "sh", "PRIMO_REPORT_FILE"),
        ("r", "Rscript", "cat"),
        ("cpp", "g++", "main"),
        ("js", "node", "JSON"),
    ],
)
def test_other_languages(language: str, program: str, words: str, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    (snippet,) = snippets(language, words)
    source = tmp_path / f"script.{language}"
    source.write_text(snippet)
    command = [program, str(source)]
    if language == "cpp":
        binary = str(tmp_path / "script")
        subprocess.run([program, "-o", binary, str(source)], check=True)
        command = [binary]
    summary = run(tmp_path, *command)
    assert summary.seq == (3 if language == "sh" else 1)
    assert summary.metrics["val_error"].last == (0.6 if language == "sh" else 0.25)


@pytest.mark.parametrize(("language", "program"), [("sh", "sh"), ("r", "Rscript"), ("js", "node")])
def test_other_languages_print_outside_a_trial(language: str, program: str, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    (snippet,) = snippets(language, "PRIMO_REPORT_FILE")
    source = tmp_path / f"script.{language}"
    source.write_text(snippet)
    environment = {name: v for name, v in os.environ.items() if name != "PRIMO_REPORT_FILE"}
    printed = subprocess.run(
        [program, str(source)], env=environment, capture_output=True, check=True
    ).stdout
    assert "val_error" in folded(printed.splitlines()).metrics


def test_the_study_that_reads_event_files_is_valid() -> None:
    (fragment,) = snippets("yaml")
    given = yaml.safe_load(fragment)
    parsed = parse(spec_dict(**given))
    assert parsed.reports
    assert parsed.objectives[0].metric == "valid/error"
