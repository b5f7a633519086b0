"""docs/moving-from-katib.md: its commands run, and print what it says."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from primo_cli.__main__ import app
from primo_optimizer.optimizer import ALGORITHMS
from support.examples import ROOT

PAGE = (ROOT / "docs" / "moving-from-katib.md").read_text(encoding="utf-8")
# A block that its paragraph calls by a file's name.
FILES = dict(re.findall(r"^`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ primo ")
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("experiment.yaml", "train.py"):
        (tmp_path / name).write_text(FILES[name])
    return tmp_path


def primo(words: list[str]) -> str:
    """What a command prints; what it redirects goes to the file."""
    words, target = (words[:-2], words[-1]) if ">" in words else (words, "")
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.output
    if target:
        Path(target).write_text(done.stdout)
    return done.stdout


def test_every_command_but_run_does_what_it_should(folder: Path) -> None:
    assert [words[1] for words in COMMANDS].count("convert") == 4
    for words in COMMANDS:
        if words[1] != "run":
            primo(words)


def test_the_report_is_the_one_that_is_shown(folder: Path) -> None:
    printed = primo(next(words for words in COMMANDS if "--wrap-command" in words))
    head = "".join(line for line in printed.splitlines(True) if line.startswith("#"))
    assert FILES["study.yaml"] == head


def test_the_algorithms_of_the_table_are_there() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith(("| `random` ", "| `sobol` "))]
    assert len(rows) == 2
    for row in rows:
        assert re.findall(r"`([\w-]+)`", row)[1] in ALGORITHMS
