"""docs/algorithms.md names each algorithm, and its settings as they are."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from primo_optimizer import Problem, bayesian, paper, primo
from primo_optimizer.optimizer import ALGORITHMS, learns_from_earlier

PAGE = (Path(__file__).parents[3] / "docs" / "algorithms.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]
WHAT = {row[0].strip("| `"): row[1:] for row in ROWS if len(row) == 6}
SETTINGS = [row for row in ROWS if len(row) == 5]
SPEC: dict[str, Any] = {
    "objectives": [{"name": "error", "goal": "Minimize"}],
    "parameters": [{"name": f"x{i}", "float": {"min": 0, "max": 1}} for i in range(5)],
}

PRIOR = {"objective": "error", "parameters": [{"name": "x0", "center": 0.5}]}


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def written(algorithm: str) -> dict[str, str]:
    """Setting to default."""
    return {code(row[1])[0]: code(row[2])[0] for row in SETTINGS if algorithm in code(row[0])}


def accepted(algorithm: str) -> set[str]:
    (message,) = import_module(ALGORITHMS[algorithm]).check_settings({"?": 1})
    return set(re.findall(r"\w+", message.partition("there are: ")[2]))


def test_all_algorithms_are_there() -> None:
    assert list(WHAT) == list(ALGORITHMS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_settings_are_those_that_it_takes(algorithm: str) -> None:
    assert set(written(algorithm)) == accepted(algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_who_learns_from_other_studies(algorithm: str) -> None:
    problem = Problem.from_spec({**SPEC, "algorithm": {"name": algorithm}})
    assert learns_from_earlier(problem) == WHAT[algorithm][4].startswith("yes")


def test_the_defaults_are_those_that_are_taken() -> None:
    problem = Problem.from_spec(SPEC)
    ours = primo.Settings.of(problem)
    assert written("primo") == {
        "epsilon": f"{ours.epsilon:g}",
        "initialDesign": f"{ours.initial_design:g}",
        "device": ours.device,
        "paper": str(ours.paper).lower(),
    }
    with_priors = Problem.from_spec({**SPEC, "priors": [PRIOR]})
    shorter = primo.Settings.of(with_priors).initial_design
    assert f"`{written('primo')['initialDesign']}`, or {shorter:g} with priors" in PAGE
    theirs = bayesian.Settings.of(problem)
    defaults = {"initialDesign": str(theirs.initial_design), "samples": str(theirs.samples)}
    assert written("parego") == written("qlognehvi") == defaults
    assert f"its `initialDesign` is {paper.INITIAL_DESIGN:g} " in PAGE
