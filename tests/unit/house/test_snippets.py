"""What the guides show as Python runs, and the commands that they show are understood.

Pages whose blocks make up one program have tests of their own, which do more with it.
"""

import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from primo_cli.__main__ import app
from primo_report import report
from support.examples import CRDS, ROOT
from support.reports import folded

PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
ELSEWHERE = {
    "docs/optimizer.md": "unit/optimizer/test_ask_tell.py",
    "docs/reporting.md": "unit/report/test_guide.py",
    "docs/writing-a-study.md": "unit/cli/test_writing_a_study.py",
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", PAGES[page], re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Reader:
    """What the reader of a page brings, and what the trial has reported in the end."""

    names: Mapping[str, Any]
    metrics: set[str]
    arguments: tuple[str, ...] = ()
    fidelity: float | None = field(default=3)


READERS = {
    "README.md": Reader({"error": 0.1, "cost": 4.5}, {"val_error", "kmacs"}),
    "docs/constraints-and-preferences.md": Reader(
        {"report": report, "epoch": 3, "error": 0.1, "latency": 4.1, "peak": 9.5, "recall": 0.95},
        {"val_error", "latency_ms", "memory_gib", "recall"},
        fidelity=None,
    ),
    "docs/fidelity-and-checkpoints.md": Reader(
        {"error": 0.1, "shuffled": [2, 0, 1], "load": Path.read_text}, {"val_error"}
    ),
    "docs/moving-from-katib.md": Reader(
        {"cost": 1.5}, {"loss", "cost"}, ("0.01", "1"), fidelity=None
    ),
}


def test_the_python_of_every_page_is_run_somewhere() -> None:
    assert {page for page in PAGES if blocks(page, "python")} == {*READERS, *ELSEWHERE}
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (ROOT / "tests" / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", READERS)
def test_the_blocks_of_a_page_run_one_after_the_other(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, reports = READERS[page], tmp_path / "reports.jsonl"
    monkeypatch.setenv("PRIMO_REPORT_FILE", str(reports))
    monkeypatch.setenv("PRIMO_PARAMS", '{"lr": 0.01, "width": 96}')
    monkeypatch.setenv("PRIMO_FIDELITY", "3")
    monkeypatch.setenv("PRIMO_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.setattr(sys, "argv", ["train.py", *reader.arguments])
    names = dict(reader.names)
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)
    summary = folded(reports.read_bytes().splitlines())
    assert summary.rejected == 0
    assert summary.metrics.keys() == reader.metrics
    assert summary.fidelity == reader.fidelity


def commands(program: str, words: str = "") -> list[Any]:
    """What follows the program's name, of all lines in which such words are found."""
    found = []
    for page in PAGES:
        text = "".join(blocks(page, "console")).replace("\\\n", "")
        lines = re.findall(rf"^\$ .*?((?:(?<=\s)|\S*/){program} .*)$", text, re.MULTILINE)
        found += [
            pytest.param(shlex.split(line, comments=True)[1:], id=line)
            for line in lines
            if re.search(words, line)
        ]
    assert found
    return found


@pytest.mark.parametrize("words", commands("primo"))
def test_primo_knows_the_verb_and_its_options(words: list[str]) -> None:
    if ">" in words:
        words = words[: words.index(">")]
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    group.commands[words[0]].make_context(words[0], words[1:])


@pytest.mark.parametrize("words", commands("kubectl", r"\.(spec|status)\."))
def test_fields_that_kubectl_is_asked_for_are_there(words: list[str]) -> None:
    known: set[str] = set()
    for name in ("primostudies", "primotrials"):
        definition = yaml.safe_load((CRDS / f"{name}.yaml").read_text(encoding="utf-8"))
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        known |= {
            f".{part}.{field}"
            for part in ("spec", "status")
            for field in schema[part]["properties"]
        }
    asked = {part for word in words for part in re.findall(r"\.(?:spec|status)\.\w+", word)}
    assert asked <= known


@pytest.mark.parametrize("page", PAGES)
def test_make_has_what_a_page_makes(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?:^\$ |`)make ([a-z]+)", PAGES[page], re.MULTILINE)) <= targets
