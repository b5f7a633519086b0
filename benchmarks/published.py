"""The logs of PriMO's authors: 25 seeds on each of eight problems, four prior settings."""

import csv
from pathlib import Path
from typing import Any

from problems.yardstick import PAPER

LABEL = "PriMO (published, 25 seeds)"
COSTS = (5, 6, 8, 10, 12, 15, 20)


def read(data: Path) -> list[dict[str, Any]]:
    """Rows as those of a campaign, with the value at each of `COSTS` as `at`."""
    with (data / "primo_published" / "hypervolume.csv").open() as file:
        return [_row(line) for line in csv.DictReader(file)]


def _row(line: dict[str, str]) -> dict[str, Any]:
    problem = line["bench"].removeprefix("yahpo-")
    _, attainable = PAPER[problem]
    return {
        "label": LABEL,
        "problem": problem,
        "group": problem.partition("-")[0],
        "priors": line["priors"],
        "workers": 1,
        "seed": int(line["seed"]),
        "error": None,
        "at": {cost: float(line[f"hv{cost}"]) / attainable for cost in COSTS},
    }
