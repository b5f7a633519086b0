"""docs/fidelity-and-checkpoints.md: the rungs, and what they cost, are those that come out."""

import re
from pathlib import Path

import pytest

from primo_optimizer.problem import Fidelity
from primo_optimizer.rungs import ladder

PAGE = (Path(__file__).parents[3] / "docs" / "fidelity-and-checkpoints.md").read_text()
RUNGS = re.findall(r"^\| ([\d.]+) \| (\d+) \| (\d+) \| ([\d., ]+) \|$", PAGE, re.MULTILINE)
COSTS = re.findall(r"^\| [a-z ]+ \| (\d+) \| (\d+) \| (\d+)/(\d+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("low", "high", "eta", "shown"), RUNGS)
def test_the_rungs_of_the_table(low: str, high: str, eta: str, shown: str) -> None:
    rungs = ladder(Fidelity("epochs", float(low), float(high), float(eta)))
    assert [f"{rung:.3g}" for rung in rungs] == shown.split(", ")


def test_the_costs_are_what_each_run_adds() -> None:
    assert len(RUNGS) == 6
    rungs = ladder(Fidelity("epochs", 1.0, 52.0, 3.0))
    assert [int(to) for _, to, _, _ in COSTS] == list(rungs)
    assert all(int(to) - int(since) == int(adds) for since, to, adds, _ in COSTS)
    assert sum(int(adds) for _, _, adds, _ in COSTS) == rungs[-1]
    assert {whole for *_, whole in COSTS} == {"52"}
