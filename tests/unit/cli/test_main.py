"""What `primo` says of its options before anything starts."""

import inspect
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from primo_cli.__main__ import app, convert, main, run, validate
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


def test_what_the_system_refuses_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr("sys.argv", ["primo", "up", "--state-dir", str(file / "state")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: [Errno 20] Not a directory: '{file}/state/logs'\n"


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


@pytest.mark.parametrize("verb", ["run", "validate", "convert"])
def test_a_file_is_given_with_or_without_f_but_given(verb: str) -> None:
    for words in ([NO_STUDY], ["-f", NO_STUDY]):
        result = CliRunner().invoke(app, [verb, *words])
        assert NO_STUDY in result.output + str(result.exception)
    assert "none is given" in refused(verb)


def test_a_study_is_run_alone() -> None:
    assert "more than one is given" in refused("run", NO_STUDY, "-f", NO_STUDY)


@pytest.mark.parametrize(
    "option",
    [
        ("--gpus", "2"),
        ("--workdir", "."),
        ("--state-dir", "state"),
        ("--prometheus",),
        ("--prometheus-binary", "prometheus"),
    ],
    ids=lambda option: option[0],
)
def test_what_is_about_the_local_cluster_is_refused_with_another(option: tuple[str, ...]) -> None:
    said = refused("run", NO_STUDY, "--context", "far", *option)
    assert f"{option[0]}: it is about the local cluster" in said


def test_the_version_is_told() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"primo {version('primo-operator')}\n")


@pytest.mark.parametrize("verb", [run, validate, convert])
def test_help_breaks_its_lines_where_the_terminal_ends(verb: Callable[..., None]) -> None:
    name, text = verb.__name__, inspect.getdoc(verb) or ""
    shown = CliRunner(env={"COLUMNS": "1000"}).invoke(app, [name, "--help"]).output
    assert all(paragraph.replace("\n", " ") in shown for paragraph in text.split("\n\n"))
