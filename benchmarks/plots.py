"""Means and standard errors of runs over what they have cost, as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

import campaign
import published
import tables
from problems import PRIOR_SETTINGS

mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

Row = tables.Row
INCHES = 3.4


def draw(files: Sequence[Path], data: Path, folder: Path) -> list[Path]:
    """One picture for each group of problems and number of workers; a panel a prior setting."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = tables.load(files)
    colors = _colors(rows)
    made = []
    for group, workers in sorted({(row["group"], row["workers"]) for row in rows}):
        found = [row for row in rows if (row["group"], row["workers"]) == (group, workers)]
        # The authors ran one worker, and on the paper's problems.
        logs = [row for row in published.read(data) if (row["group"], workers) == (group, 1)]
        path = folder / f"{group}-{workers}.png"
        _picture([*found, *logs], f"{group}, workers: {workers}", colors, path)
        made.append(path)
    return made


def _colors(rows: Sequence[Row]) -> dict[str, str]:
    """The same for an optimizer in all pictures."""
    labels = sorted({row["label"] for row in rows})
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    named = {label: cycle[i % len(cycle)] for i, label in enumerate(labels)}
    return {**named, published.LABEL: "black"}


def _picture(rows: Sequence[Row], title: str, colors: dict[str, str], path: Path) -> None:
    settings = [p for p in PRIOR_SETTINGS if any(row["priors"] == p for row in rows)]
    size = (INCHES * len(settings), INCHES)
    figure, panels = plt.subplots(1, len(settings), figsize=size, sharey=True, squeeze=False)
    for panel, setting in zip(panels[0], settings, strict=True):
        panel.set_title(f"priors: {setting}", fontsize=9)
        panel.set_xlabel("full evaluations paid")
        panel.grid(alpha=0.3)
        shown = [row for row in rows if row["priors"] == setting]
        for label in sorted({row["label"] for row in shown}):
            _line(panel, [row for row in shown if row["label"] == label], colors[label], label)
        panel.legend(fontsize=6, loc="lower right")
    panels[0][0].set_ylabel("hypervolume ÷ attainable")
    figure.suptitle(f"{title}; mean and standard error", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _line(panel: Axes, rows: Sequence[dict[str, Any] | Row], color: str, label: str) -> None:
    ours = label != published.LABEL
    costs = np.array(campaign.GRID if ours else published.COSTS)
    values = np.array([[row["at"][cost] for cost in costs] for row in rows])
    mean = values.mean(axis=0)
    spread = values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0 * mean
    style = "-" if ours else ".--"
    legend = f"{label} ({len(values)} runs)" if ours else label
    panel.plot(costs, mean, style, color=color, label=legend, linewidth=1.2)
    panel.fill_between(costs, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
