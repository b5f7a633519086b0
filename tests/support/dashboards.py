"""The chart's dashboards as Grafana loads them: their panels, targets and variables."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from support.chart import CHART
from support.prometheus import asked

FOLDER = CHART / "files" / "dashboards"
NAMES = ("studies", "study", "operator")
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# `$1` is PromQL's own: Grafana leaves what is no variable of a dashboard.
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|([A-Za-z_]\w*))")


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel."""

    dashboard: str
    panel: str
    letter: str
    expr: str
    instant: bool
    legend: str = ""

    def names(self, series: Any) -> bool:
        """Whether a series has the labels that its legend shows."""
        return set(re.findall(r"{{(\w+)}}", self.legend)) <= series["metric"].keys()

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel} / {self.letter}"


@cache
def loaded(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def panels(name: str) -> list[Any]:
    """Without the rows, which are headings."""
    return [panel for panel in loaded(name)["panels"] if panel["type"] != "row"]


def panel(name: str, title: str) -> Any:
    (found,) = (panel for panel in panels(name) if panel["title"] == title)
    return found


def targets(*names: str) -> list[Target]:
    return [
        Target(
            name,
            panel["title"],
            t["refId"],
            t["expr"],
            t.get("instant", False),
            t.get("legendFormat", ""),
        )
        for name in names or NAMES
        for panel in panels(name)
        for t in panel["targets"]
    ]


def variables(name: str) -> dict[str, Any]:
    """By name, in their order."""
    return {given["name"]: given for given in loaded(name)["templating"]["list"]}


def filled(text: str, values: Mapping[str, str]) -> str:
    """With all variables in place; a KeyError names one that has no value."""
    return VARIABLE.sub(lambda match: values[match[1] or match[2]], text)


def used(text: str) -> set[str]:
    """The variables in it."""
    return {match[1] or match[2] for match in VARIABLE.finditer(text)}


def answer(
    url: str, target: Target, values: Mapping[str, str], since: float, step_s: float
) -> list[Any]:
    """What a Prometheus tells Grafana: now, or since then."""
    expr, now = filled(target.expr, values), time.time()  # noqa: TID251
    if target.instant:
        return asked(url, "query", query=expr, time=now)
    return asked(url, "query_range", query=expr, start=since, end=now, step=step_s)
