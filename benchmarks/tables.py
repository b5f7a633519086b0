"""Means and standard errors of runs, as tables in Markdown."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import campaign
import published

COSTS = (5, 10, 15, 20)
Row = Mapping[str, Any]


def load(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Rows with the value at each cost as `at`.

    Where files share a label, it is followed by the file's name, so that two versions of an
    optimizer can be compared.
    """
    by_file = {file: list(campaign.read([file])) for file in files}
    labels = [{row["label"] for row in rows} for rows in by_file.values()]
    rows = []
    for file, found in by_file.items():
        for row in found:
            shared = sum(row["label"] in known for known in labels) > 1
            label = f"{row['label']}@{file.stem}" if shared else row["label"]
            at = dict(zip(campaign.GRID, row["values"], strict=True))
            rows.append({**row, "label": label, "at": at})
    return rows


def summary(files: Sequence[Path], data: Path, pair: Sequence[str] | None = None) -> str:
    rows = load(files)
    parts = [
        "## Hypervolume ÷ attainable, mean ± standard error",
        by_group(rows, published.read(data)),
        "## Each problem at 20 units",
        by_problem(rows, published.read(data)),
        "## Cost of suggesting",
        effort(rows),
    ]
    pairs = [tuple(pair)] if pair else list(_default_pairs(rows))
    for one, other in pairs:
        parts += [
            f"## {one} less {other}, on the same problems and seeds",
            paired(rows, one, other),
        ]
    return "\n\n".join(parts)


def _default_pairs(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    labels = list(dict.fromkeys(row["label"] for row in rows))
    for label in labels[1:]:
        yield labels[0], label


def by_group(rows: Sequence[Row], logs: Sequence[Row] = ()) -> str:
    """The published logs are added where something was run on the same problems."""
    groups = {(row["group"], row["workers"], row["priors"]) for row in rows}
    logs = [row for row in logs if (row["group"], row["workers"], row["priors"]) in groups]
    keys = ("group", "priors", "workers", "label")
    header = ["problems", "priors", "workers", "optimizer", *(f"@{c}" for c in COSTS), "runs"]
    lines = []
    for key, found in _grouped([*rows, *logs], keys):
        values = np.array([[row["at"][cost] for cost in COSTS] for row in found])
        stopped = sum(row["error"] is not None for row in found)
        runs = f"{len(found)}" + (f" ({stopped} stopped by an error)" if stopped else "")
        lines.append([*key, *(_mean(column) for column in values.T), runs])
    return markdown(header, lines)


def by_problem(rows: Sequence[Row], logs: Sequence[Row] = ()) -> str:
    """A table for each group of problems."""
    groups = dict.fromkeys(row["group"] for row in rows)
    return "\n\n".join(
        _problems([row for row in rows if row["group"] == group], logs) for group in groups
    )


def _problems(rows: Sequence[Row], logs: Sequence[Row]) -> str:
    problems = {(row["problem"], row["priors"], row["workers"]) for row in rows}
    logs = [row for row in logs if (row["problem"], row["priors"], row["workers"]) in problems]
    names = list(dict.fromkeys(row["problem"] for row in rows))
    lines = []
    for key, found in _grouped([*rows, *logs], ("priors", "workers", "label")):
        cells = []
        for name in names:
            values = np.array([row["at"][COSTS[-1]] for row in found if row["problem"] == name])
            cells.append(f"{_mean(values)} ({len(values)})" if len(values) else "")
        lines.append([*key, *cells])
    return markdown(["priors", "workers", "optimizer", *names], lines)


def effort(rows: Sequence[Row]) -> str:
    header = ["optimizer", "workers", "seconds a run", "seconds a suggestion (median, p95)"]
    header += ["runs", "duplicates a run", "failed trials a run"]
    lines = []
    for key, found in _grouped(rows, ("label", "workers")):
        mean: Callable[[str], float] = lambda name, of=found: float(np.mean([r[name] for r in of]))  # type: ignore[misc]  # noqa: E731
        each = f"{mean('secondsMedian'):.3f}, {mean('secondsP95'):.3f}"
        counts = [f"{mean(name):.1f}" for name in ("runs", "duplicates", "failures")]
        lines.append([*key, f"{mean('optimizerSeconds'):.1f}", each, *counts])
    return markdown(header, lines)


def speed(rows: Sequence[Row]) -> str:
    """A column for each number of observations; empty where an optimizer was too slow before."""
    counts = sorted({row["observations"] for row in rows})
    lines = []
    for key, found in _grouped(rows, ("objectives", "label")):
        cells = {row["observations"]: _seconds(row) for row in found}
        lines.append([*key, *(cells.get(count, "") for count in counts)])
    return markdown(["objectives", "optimizer", *(f"{n} observations" for n in counts)], lines)


def _seconds(row: Row) -> str:
    return row["error"] or f"{row['median']:.3f} / {row['p95']:.3f}"


def paired(rows: Sequence[Row], one: str, other: str) -> str:
    """Mean difference and its standard error, over runs that both have done."""
    same = ("problem", "priors", "workers", "seed")
    theirs = {tuple(row[k] for k in same): row for row in rows if row["label"] == other}
    both = [
        {**row, "less": theirs[key]}
        for row in rows
        if row["label"] == one and (key := tuple(row[k] for k in same)) in theirs
    ]
    overall = [{**row, "group": "all", "priors": "all"} for row in both]
    lines = []
    for key, found in _grouped([*both, *overall], ("group", "priors", "workers")):
        less = np.array([[r["at"][c] - r["less"]["at"][c] for c in COSTS] for r in found])
        lines.append([*key, *(_mean(column, "+") for column in less.T), len(found)])
    return markdown(["problems", "priors", "workers", *(f"@{c}" for c in COSTS), "pairs"], lines)


def _grouped(
    rows: Iterable[Row], keys: Sequence[str]
) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    """In the order of their first appearance, sorted by all keys but the last."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    for key in sorted(groups, key=lambda key: tuple(map(str, key[:-1]))):
        yield key, groups[key]


def _mean(values: NDArray[np.float64], sign: str = "") -> str:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{values.mean():{sign}.3f} ± {error:.3f}"


def chance(found: Sequence[Row]) -> str:
    """The share that trainings at random come to, by how many they are."""
    counts = list(found[0]["shares"])
    lines = []
    for (group,), rows in _grouped(found, ("group",)):
        shares = np.array([[row["shares"][count] for count in counts] for row in rows])
        lines += [[row["problem"], *_shares(each)] for row, each in zip(rows, shares, strict=True)]
        lines.append([f"{group}, mean", *_shares(shares.mean(axis=0))])
    return markdown(["problem", *(f"{count:,}" for count in counts)], lines)


def _shares(values: NDArray[np.float64]) -> list[str]:
    return [f"{value:.3f}" for value in values]


def markdown(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    cells = [list(header), *([str(cell) for cell in line] for line in lines)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)
