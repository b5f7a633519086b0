"""The results as a table in Markdown, and whether they keep the limits."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

LIMITS = Path(__file__).parent / "limits.yaml"
WORDS = {
    "one": "one study, as fast as it goes",
    "steady": "one study, with runs of 5 to 15 s",
    "many": "many studies at once",
    "abusive": "small studies beside one that wants everything",
    "idle": "studies at rest",
    "restart": "a start",
    "memory": "many trials to keep",
}
Row = Mapping[str, Any]


def read(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def table(rows: Sequence[Row]) -> str:
    """A section for each scenario, a column for each run of it."""
    return "\n\n".join(_section(name, rows) for name in dict.fromkeys(r["scenario"] for r in rows))


def _section(name: str, rows: Sequence[Row]) -> str:
    runs = [row for row in rows if row["scenario"] == name]
    limits = {each["figure"]: each for each in _limits(name)}
    heads = [f"{row['label'] or 'run'} ({_size(name, row)})" for row in runs]
    lines = [f"## {name}: {WORDS[name]}", "", "| | limit | " + " | ".join(heads) + " |"]
    lines.append("|---" * (len(runs) + 2) + "|")
    for figure in dict.fromkeys(f for row in runs for f in row["figures"] if f != "calls"):
        cells = [_number(row["figures"].get(figure)) for row in runs]
        limit = _limit_text(limits[figure]) if figure in limits else ""
        lines.append(f"| {figure} | {limit} | " + " | ".join(cells) + " |")
    calls = dict.fromkeys(c for row in runs for c in row["figures"].get("calls", ()))
    for call in calls:
        cells = [str(row["figures"].get("calls", {}).get(call, 0)) for row in runs]
        lines.append(f"| calls: {call} | | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _size(name: str, row: Row) -> str:
    size = row["size"]
    return {
        "one": f"{size['trials']} trials, parallelism {size['parallelism']}",
        "steady": f"{size.get('steady')} trials, parallelism {size['parallelism']}",
        "many": f"{size['studies']} × {size['each']}",
        "abusive": f"{size['normal']} beside one",
        "idle": f"{size['studies']} studies, {size['idle_s']:g} s",
        "restart": f"{size['studies']} studies, {size['restart_trials']} trials",
        "memory": f"{size['memory_trials']} trials",
    }[name]


def broken(rows: Sequence[Row]) -> Iterator[str]:
    """What does not keep its limit; a limit is for its size, or a larger one."""
    for row in rows:
        for limit in _limits(row["scenario"]):
            value = row["figures"].get(limit["figure"])
            if value is None or any(row["size"][k] < v for k, v in limit["size"].items()):
                continue
            if not limit.get("least", value) <= value <= limit.get("most", value):
                yield (
                    f"{row['scenario']} {row['label']}: {limit['figure']} is {_number(value)}, "
                    f"asked is {_limit_text(limit)}: {limit['why']}"
                )


def _limits(scenario: str) -> list[Row]:
    return [each for each in yaml.safe_load(LIMITS.read_text()) if each["scenario"] == scenario]


def _limit_text(limit: Row) -> str:
    return f"≥ {limit['least']}" if "least" in limit else f"≤ {limit['most']}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
