"""docs/writing-a-study.md: its script and its study fit together, and its commands run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from primo_cli.__main__ import app
from primo_operator.manifest_files import load_all
from primo_study.spec import StudySpec, parse
from support.examples import ROOT
from support.reports import folded

PAGE = (ROOT / "docs" / "writing-a-study.md").read_text(encoding="utf-8")
CONSOLES = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)


def block(language: str, words: str) -> str:
    (found,) = (
        part
        for part in re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        if words in part
    )
    return str(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(block("python", "argparse"))
    (tmp_path / "study.yaml").write_text(block("yaml", "name: first"))
    return tmp_path


@pytest.fixture
def spec() -> StudySpec:
    (manifest,) = load_all(block("yaml", "name: first"))
    return parse(manifest["spec"])


def test_the_command_trains_and_reports_what_the_study_measures(
    folder: Path, spec: StudySpec
) -> None:
    values = {"lr": "0.01", "width": "16", "activation": "tanh"}
    assert values.keys() == {parameter.name for parameter in spec.parameters}
    (container,) = spec.trial_template.spec["template"]["spec"]["containers"]
    command = [
        re.sub(r"\$\(PRIMO_PARAM_(\w+)\)", lambda found: values[found[1].lower()], word)
        for word in container["command"]
    ]
    reports = folder / "reports.jsonl"
    environment = {**os.environ, "PRIMO_REPORT_FILE": str(reports)}
    subprocess.run([sys.executable, *command[1:], "--epochs=1"], env=environment, check=True)
    summary = folded(reports.read_bytes().splitlines())
    assert summary.metrics.keys() == {measured.metric for measured in spec.objectives}
    assert summary.metrics["weights"].last == (64 + 10) * 16


def test_by_hand_it_prints_what_the_page_shows(folder: Path) -> None:
    (shown,) = (text for text in CONSOLES if "train.py" in text)
    command, *lines = shown.splitlines()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PRIMO_")}
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[2:]], env=environment, capture_output=True, text=True
    )
    printed = [re.findall(r'"(\w+)"', line) for line in done.stdout.splitlines()]
    assert printed == [re.findall(r'"(\w+)"', line) for line in lines] != []


def test_the_study_is_valid_in_the_words_of_the_page(folder: Path) -> None:
    (shown,) = (text for text in CONSOLES if "primo validate" in text)
    command, *lines = shown.splitlines()
    done = CliRunner().invoke(app, shlex.split(command)[2:])
    assert (done.exit_code, done.stdout.splitlines()) == (0, lines)
