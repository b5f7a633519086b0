"""Draws a dashboard from the answers to its queries, about as Grafana would.

An approximation: places, kinds and titles of the panels are the dashboard's, and so is all data;
tables and charts of columns go through Grafana's own transformations. Colors, axes and fonts are
matplotlib's.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from PIL import Image

from support.dashboards import filled, loaded
from support.grafana import shown, table

mpl.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

COLUMN_IN, ROW_IN, DPI = 0.58, 0.3, 100
NOTE = "approximate rendering of real answers, not made by Grafana"
# Picture -> a dashboard, and the headings whose panels are drawn.
PICTURES: Mapping[str, tuple[str, Sequence[str]]] = {
    "studies": ("studies", ("At a glance", "Studies", "Over time")),
    "study": ("study", ("At a glance", "Results")),
    "study-trials": ("study", ("Trials", "Learning curves", "Optimizer")),
    "operator": ("operator", ("Health", "Passes", "Optimizer", "API server", "Process")),
}
COLORS = {"text": "0.55", "purple": "tab:purple", "blue": "tab:blue", "green": "tab:green",
          "yellow": "gold", "red": "tab:red", "orange": "tab:orange"}  # fmt: skip

Answers = Mapping[str, Sequence[Any]]
Query = tuple[Any, Sequence[Any]]  # a target, and its series


def draw(
    name: str, headings: Sequence[str], answers: Answers, values: Mapping[str, str], file: Path
) -> None:
    chosen = _panels(name, headings)
    lowest = max(place["y"] + place["h"] for _, place in chosen) + 1
    size = (24 * COLUMN_IN, lowest * ROW_IN)
    figure = pyplot.figure(figsize=size, facecolor="#f4f5f5")
    title = f"{loaded(name)['title']}: {NOTE}"
    figure.text(0.006, 1 - 0.5 / lowest, title, fontsize=10, va="center", weight="bold")
    for panel, place in chosen:
        left, top = place["x"] / 24, 1 - (place["y"] + 1) / lowest
        if panel["type"] == "row":
            figure.text(left + 0.006, top - 0.5 / lowest, panel["title"], fontsize=9, va="center")
            continue
        queries = [
            (t, answers[f"{name} / {panel['title']} / {t['refId']}"]) for t in panel["targets"]
        ]
        box = (left, top - place["h"] / lowest, place["w"] / 24, place["h"] / lowest)
        axes = _frame(figure, box, size, filled(panel["title"], values), _margins(panel))
        if not any(series for _, series in queries):
            _say(axes, panel["fieldConfig"]["defaults"].get("noValue", "No data"))
            continue
        KINDS[panel["type"]](axes, name, panel, queries)
    figure.savefig(file, dpi=DPI)
    pyplot.close(figure)
    Image.open(file).convert("RGB").quantize(64).save(file, optimize=True)


def _panels(name: str, headings: Sequence[str]) -> list[tuple[Any, Any]]:
    """Those under the headings, and their places with no gap for the others."""
    found: list[tuple[Any, Any]] = []
    wanted, gone, bottom = False, 0, 0
    for panel in loaded(name)["panels"]:
        place = {"x": 0, "y": 0, **panel["gridPos"]}
        if panel["type"] == "row":
            wanted = panel["title"] in headings
            gone = place["y"] - bottom
        if wanted:
            found.append((panel, {**place, "y": place["y"] - gone}))
            bottom = max(bottom, place["y"] - gone + place["h"])
    return found


def _margins(panel: Any) -> tuple[float, float]:
    """Left and right of what is drawn, in inches."""
    if panel["type"] in ("stat", "table"):
        return 0.15, 0.15
    return 0.6, 0.6 if _right_axis(panel) else 0.2


def _frame(
    figure: Any, box: Any, size: tuple[float, float], title: str, margins: tuple[float, float]
) -> Axes:
    """A white panel with its title; the axes lie within."""
    pad_x, pad_y = 0.05 / size[0], 0.04 / size[1]
    left, bottom, width, height = box
    back = figure.add_axes((left + pad_x, bottom + pad_y, width - 2 * pad_x, height - 2 * pad_y))
    back.set(xticks=[], yticks=[], facecolor="white")
    for side in back.spines.values():
        side.set_color("#dcdee0")
    back.text(0.1 / (width * size[0]), 1 - 0.13 / (height * size[1]), title, fontsize=8,
              weight="bold", va="center")  # fmt: skip
    inner = (left + margins[0] / size[0], bottom + 0.35 / size[1],
             width - sum(margins) / size[0], height - 0.75 / size[1])  # fmt: skip
    axes: Axes = figure.add_axes(inner)
    axes.tick_params(labelsize=6.5, color="#dcdee0")
    for side in axes.spines.values():
        side.set_visible(False)
    return axes


def _say(axes: Axes, words: str) -> None:
    axes.axis("off")
    axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=9, color="0.5")


def _legend(target: Any, series: Any) -> str:
    return re.sub(r"{{(\w+)}}", lambda m: series["metric"].get(m[1], ""), target["legendFormat"])


# --- each kind of panel


def _number(axes: Axes, _: str, panel: Any, queries: Sequence[Query]) -> None:
    unit, mode = panel["fieldConfig"]["defaults"]["unit"], panel["options"]["textMode"]
    found = [
        (_legend(target, series), _text(float(series["value"][1]), unit))
        for target, all_ in queries
        for series in all_
    ]
    axes.axis("off")
    for index, (label, value) in enumerate(found):
        x = (index + 0.5) / len(found)
        big = label if mode == "name" else value
        axes.text(x, 0.45, big, ha="center", va="center", fontsize=13, color="tab:green")
        if mode != "name" and len(found) > 1:
            axes.text(x, 0.0, label, ha="center", va="center", fontsize=7)


def _lines(axes: Axes, _: str, panel: Any, queries: Sequence[Query]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults.get("custom", {})
    drawn = [
        (_legend(target, series), *_samples(series), target["refId"])
        for target, all_ in queries
        for series in all_
    ]
    if custom.get("stacking", {}).get("mode") == "normal":
        layers = [(label, times, values) for label, times, values, _ in drawn]
        _stack(axes, layers, _fixed_colors(panel))
    else:
        right = _right_axis(panel)
        other = axes.twinx() if right else axes
        if right:
            other.tick_params(labelsize=6.5, color="#dcdee0")
            other.spines[:].set_visible(False)
        for index, (label, times, values, letter) in enumerate(drawn):
            where = other if letter in right else axes
            marker = "o" if custom.get("showPoints") == "always" else None
            if pairs := _with_gaps(times, values, custom.get("spanNulls") is True):
                where.plot(*zip(*pairs, strict=True), label=label, color=f"C{index % 10}",
                           marker=marker, markersize=2, linewidth=1.3)  # fmt: skip
        if right:
            axes.plot([], [], label=drawn[-1][0] + " (right)", color="C1")
    if "min" in defaults:
        axes.set_ylim(bottom=defaults["min"], top=defaults.get("max"))
    _finish(axes, defaults["unit"])


def _with_gaps(
    times: Sequence[datetime], values: Sequence[float], spanned: bool
) -> list[tuple[datetime, float]]:
    """Finite values; NaN, which breaks a line, where samples are missing."""
    pairs = [(t, v) for t, v in zip(times, values, strict=True) if math.isfinite(v)]
    if spanned:
        return pairs
    steps = [after - before for before, after in itertools.pairwise(times)]
    found = []
    for index, pair in enumerate(pairs):
        if index and pair[0] - pairs[index - 1][0] > min(steps) * 1.5:
            found.append((pairs[index - 1][0], math.nan))
        found.append(pair)
    return found


def _fixed_colors(panel: Any) -> dict[str, str]:
    return {
        override["matcher"]["options"]: COLORS[given["value"]["fixedColor"]]
        for override in panel["fieldConfig"]["overrides"]
        for given in override["properties"]
        if given["id"] == "color"
    }


def _right_axis(panel: Any) -> set[str]:
    return {
        override["matcher"]["options"]
        for override in panel["fieldConfig"]["overrides"]
        for given in override["properties"]
        if (given["id"], given["value"]) == ("custom.axisPlacement", "right")
    }


def _stack(
    axes: Axes,
    drawn: Sequence[tuple[str, list[datetime], list[float]]],
    colors: Mapping[str, str],
) -> None:
    times = sorted({time for _, all_, _ in drawn for time in all_})
    rows = [[dict(zip(t, v, strict=True)).get(time, 0.0) for time in times] for _, t, v in drawn]
    labels = [label for label, _, _ in drawn]
    chosen = [colors.get(label, f"C{index % 10}") for index, label in enumerate(labels)]
    axes.stackplot(times, rows, labels=labels, colors=chosen, alpha=0.7)


def _finish(axes: Axes, unit: str) -> None:
    axes.grid(color="#eceef0")
    axes.yaxis.set_major_formatter(lambda value, _: _text(value, unit))
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    if axes.xaxis.get_converter() is not None:
        axes.xaxis.set_major_formatter(mpl.dates.DateFormatter("%H:%M:%S"))
    handles, labels = axes.get_legend_handles_labels()
    if 0 < len(labels) <= 12:
        axes.legend(handles, labels, fontsize=6, loc="upper left", framealpha=0.6, ncols=2)


def _bars(axes: Axes, _: str, panel: Any, queries: Sequence[Query]) -> None:
    found = [(_legend(t, s), float(s["value"][1])) for t, all_ in queries for s in all_]
    axes.barh([label for label, _ in found], [value for _, value in found], color="tab:green")
    axes.invert_yaxis()
    _finish(axes, "short")
    axes.xaxis.set_major_formatter(
        lambda value, _: _text(value, panel["fieldConfig"]["defaults"]["unit"])
    )


def _columns(name: str, panel: Any, queries: Sequence[Query]) -> dict[str, list[Any]]:
    """By Grafana's transformations."""
    frames = []
    for target, all_ in queries:
        rows = [(s["metric"], time, float(v)) for s in all_
                for time, v in (s.get("values") or [s["value"]])]  # fmt: skip
        frames.append(
            table(
                target["refId"],
                [(labels, value) for labels, _, value in rows],
                alone=len(queries) == 1,
                times=[round(time) for _, time, _ in rows],
            )
        )
    return shown(name, panel["title"], frames)


def _chart_bars(axes: Axes, name: str, panel: Any, queries: Sequence[Query]) -> None:
    found = _columns(name, panel, queries)
    labels, (values,) = found.pop(panel["options"]["xField"]), found.values()
    axes.bar(labels, values, color="tab:green")
    axes.grid(axis="y", color="#eceef0")


def _points(axes: Axes, name: str, panel: Any, queries: Sequence[Query]) -> None:
    found = _columns(name, panel, queries)
    del found["trial"]
    x = found.pop("x")
    for label, color, size in (("all trials", "0.6", 14), ("Pareto front", "tab:orange", 36)):
        pairs = [(a, b) for a, b in zip(x, found[label], strict=True) if None not in (a, b)]
        axes.scatter(*zip(*pairs, strict=True), s=size, color=color, label=label)
    axes.grid(color="#eceef0")
    axes.legend(fontsize=6.5)


def _trend(axes: Axes, name: str, panel: Any, queries: Sequence[Query]) -> None:
    found = _columns(name, panel, queries)
    x = found.pop(panel["options"]["xField"])
    for label, values in found.items():
        pairs = [(a, b) for a, b in zip(x, values, strict=True) if b is not None]
        axes.plot(*zip(*pairs, strict=True), marker="o", markersize=2.5, linewidth=1, label=label)
    axes.grid(color="#eceef0")
    axes.set_xlabel("step", fontsize=6.5, labelpad=0)


def _timeline(axes: Axes, _: str, panel: Any, queries: Sequence[Query]) -> None:
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    ((_, series),) = queries
    rows = sorted(series, key=lambda each: int(each["metric"]["trial"]))[
        : panel["options"]["perPage"]
    ]
    used = set()
    for row, each in enumerate(rows):
        times, values = _samples(each)
        for start, end, value in zip(times, times[1:], values, strict=False):
            found = mapping["options"][f"{value:g}"]
            used.add((found["text"], COLORS[found["color"]]))
            begin, length = mpl.dates.date2num(start), (end - start).total_seconds() / 86400
            axes.barh(row, length, left=begin, height=0.8, color=COLORS[found["color"]])
    axes.set_yticks(range(len(rows)), [each["metric"]["trial"] for each in rows])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(mpl.dates.DateFormatter("%H:%M:%S"))
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    for text, color in sorted(used):
        axes.barh(0, 0, left=axes.get_xlim()[0], color=color, label=text)
    axes.legend(fontsize=6.5, loc="upper right", ncols=6)


def _table(axes: Axes, name: str, panel: Any, queries: Sequence[Query]) -> None:
    found = _columns(name, panel, queries)
    fits = max(int(panel["gridPos"]["h"] * 1.1) - 3, 1)
    units = {
        override["matcher"]["options"]: given["value"]
        for override in panel["fieldConfig"]["overrides"]
        for given in override["properties"]
        if given["id"] == "unit"
    }
    texts = [
        [_cell(v, units.get(key, "short")) for v in values[:fits]] for key, values in found.items()
    ]
    axes.axis("off")
    left: Any = {"loc": "upper left", "cellLoc": "left", "colLoc": "left"}
    rows = list(zip(*texts, strict=True))
    drawn = axes.table(rows, colLabels=list(found), edges="horizontal", **left)
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(6.5)
    for cell in drawn.get_celld().values():
        cell.set_edgecolor("#dcdee0")
        cell.set_height(1 / (fits + 1))


def _cell(value: Any, unit: str) -> str:
    if value is None:
        return ""
    return _text(value, unit) if isinstance(value, int | float) else str(value)


KINDS: Mapping[str, Callable[[Axes, str, Any, Sequence[Query]], None]] = {
    "stat": _number,
    "timeseries": _lines,
    "bargauge": _bars,
    "barchart": _chart_bars,
    "xychart": _points,
    "trend": _trend,
    "state-timeline": _timeline,
    "table": _table,
}

# --- values


def _samples(series: Any) -> tuple[list[datetime], list[float]]:
    pairs = [(datetime.fromtimestamp(t, UTC), float(v)) for t, v in series["values"]]
    return [time for time, _ in pairs], [value for _, value in pairs]


def _text(value: float, unit: str) -> str:
    match unit:
        case "percentunit":
            return f"{value:.0%}"
        case "bytes":
            return f"{value / 2**20:.0f} MiB"
        case "s" if value >= 60:
            return f"{value / 60:.1f} min"
        case "s":
            return f"{value:.3g} s"
        case "h":
            return f"{value:.2g} hours"
        case "reqps" | "ops":
            return f"{value:.2g}/s"
        case _:
            return f"{value:.4g}"
