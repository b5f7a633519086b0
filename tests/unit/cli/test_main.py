"""What `primo` says of its options before anything starts."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from primo_cli.__main__ import app, convert, run, validate
from primo_cli.run import run_study
from primo_optimizer import InvalidSpecError

NO_STUDY = "no.yaml"


def refused(*words: str) -> str:
    """What is said of a command line; in one line."""
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, words)
    assert result.exit_code == 2
    return result.output


@pytest.mark.parametrize("verb", [("run", "-f", NO_STUDY), ("up",)])
def test_a_folder_for_trials_must_be_there(verb: tuple[str, ...], tmp_path: Path) -> None:
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.touch()
    assert "does not exist" in refused(*verb, "--workdir", str(missing))
    assert "is a file" in refused(*verb, "--workdir", str(file))


def test_a_picture_needs_a_folder_to_go_to(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match=f"--picture .*: there is no folder {tmp_path}/a"):
        run_study(
            Path(NO_STUDY),
            context=None,
            namespace="default",
            gpus=0,
            workdir=tmp_path,
            state_dir=None,
            picture=tmp_path / "a" / "front.png",
        )


@pytest.mark.parametrize("verb", [run, validate, convert])
def test_help_breaks_its_lines_where_the_terminal_ends(verb: Callable[..., None]) -> None:
    name, text = verb.__name__, inspect.getdoc(verb) or ""
    shown = CliRunner(env={"COLUMNS": "1000"}).invoke(app, [name, "--help"]).output
    assert all(paragraph.replace("\n", " ") in shown for paragraph in text.split("\n\n"))
