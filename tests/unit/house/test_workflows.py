"""The workflows, which nobody has run yet: at least they call what there is."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


def _jobs(file: Path) -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load(file.read_text())["jobs"]
    return jobs


def _commands(file: Path) -> str:
    return "\n".join(
        step["run"] for job in _jobs(file).values() for step in job["steps"] if "run" in step
    )


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_what_is_made_can_be_made(file: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    made = set(re.findall(r"\bmake ([a-z-]+)", _commands(file)))
    assert made
    assert made <= targets


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_no_words_of_strangers_reach_a_shell(file: Path) -> None:
    """An expression in a script is pasted into it; through `env` it stays a word."""
    assert "${{" not in _commands(file)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_nothing_may_be_written_unless_a_job_says_so(file: Path) -> None:
    assert yaml.safe_load(file.read_text())["permissions"] == {"contents": "read"}


def test_every_image_is_released() -> None:
    names = {file.parent.name for file in (ROOT / "images").glob("*/Dockerfile")}
    (release,) = (file for file in WORKFLOWS if file.stem == "release")
    assert set(_jobs(release)["images"]["strategy"]["matrix"]["name"]) == names
