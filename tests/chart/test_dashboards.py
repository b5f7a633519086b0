"""The dashboards: made by code, byte for byte, and by the rules of good ones.

The rules are those of Grafana's dashboard-linter, and some of ours. That the queries have results
is shown by tests/integration/test_dashboards.py.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import promql_parser
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.__main__ import DASHBOARDS, rendered
from support import drawing
from support.chart import ROOT
from support.dashboards import (
    DATASOURCE,
    FOLDER,
    NAMES,
    Target,
    filled,
    loaded,
    panels,
    targets,
    used,
    variables,
)

UIDS = {"studies": "primo-studies", "study": "primo-study", "operator": "primo-operator"}
EVERY, WHOLE = timedelta(minutes=7), timedelta(hours=11)
# What Grafana fills in by itself.
BUILT_IN = {"__rate_interval": "7m", "__range": "11h"}
OF_LINKS = {"__url_time_range", "__data"}
COUNTERS = r".*_(total|count|sum|bucket)|DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
PER_STUDY = ("primo_study_", "primo_trial_", "primo_report_", "primo_suggestion_")
ADDED_BY_PROMETHEUS = {"up"}
OF_OTHERS = r"(process|DCGM)_.*"

by_name = pytest.mark.parametrize("name", NAMES)
by_target = pytest.mark.parametrize("target", targets(), ids=str)


def parsed(target: Target) -> Any:
    choices = dict.fromkeys(variables(target.dashboard), "x")
    return promql_parser.parse(filled(target.expr, choices | BUILT_IN))


def nodes(expr: Any) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(expr, found.append)
    return found


def test_there_are_three() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.json" for name in NAMES}
    assert set(DASHBOARDS) == set(NAMES)


@by_name
def test_the_files_are_what_the_code_makes(name: str) -> None:
    """`make dashboards` writes them."""
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == rendered(name)


@by_name
def test_grafanas_models_lose_nothing_of_them(name: str) -> None:
    """A misspelt option would be gone after a round trip."""
    register_default_plugins()
    again = JSONEncoder().encode(Dashboard.from_json(loaded(name)))
    assert json.loads(again) == loaded(name)


@by_name
def test_a_dashboard_is_found_again_and_not_edited_in_place(name: str) -> None:
    board = loaded(name)
    assert board["uid"] == UIDS[name]
    assert board["title"].startswith("PriMO / ")
    assert board["description"]
    assert board["tags"] == ["primo"]
    assert board["editable"] is False
    assert (board["time"]["from"], board["refresh"]) == ("now-6h", "30s")
    assert len((FOLDER / f"{name}.json").read_bytes()) < 2**18  # of a ConfigMap's MiB


@by_name
def test_all_ask_the_data_source_that_is_chosen(name: str) -> None:
    first = next(iter(variables(name).values()))
    assert (first["name"], first["type"], first["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    chosen = [given for given in variables(name).values() if given["type"] == "query"]
    asking = [*chosen, *panels(name), *(t for p in panels(name) for t in p["targets"])]
    assert [each["datasource"] for each in asking] == [DATASOURCE] * len(asking)


@by_name
def test_panels_say_what_they_show_and_in_which_unit(name: str) -> None:
    titles = [panel["title"] for panel in panels(name)]
    assert len(set(titles)) == len(titles)
    for panel in panels(name):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        if panel["type"] in ("timeseries", "trend", "xychart"):
            assert panel["options"]["legend"]["showLegend"], panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == list("ABCDEFGHIJ"[: len(letters)])
        assert letters


@by_name
def test_panels_are_not_migrated_from_options_they_never_had(name: str) -> None:
    """An XY chart without a version, or of one before 11.1, is; and then shows nothing at all."""
    for panel in panels(name):
        major, minor, _ = map(int, panel["pluginVersion"].split("."))
        assert (major, minor) >= (11, 1), panel["title"]


@by_name
def test_panels_fill_the_grid_and_none_covers_another(name: str) -> None:
    everything = loaded(name)["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    places = [panel["gridPos"] for panel in everything]
    cells = [cell for place in places for cell in covered(place)]
    assert len(cells) == len(set(cells))
    assert all(0 <= x < 24 for x, _ in cells)
    height = max(y for _, y in cells) + 1
    assert len(cells) == 24 * height


def covered(place: Any) -> Iterator[tuple[int, int]]:
    across = range(place.get("x", 0), place.get("x", 0) + place["w"])
    down = range(place.get("y", 0), place.get("y", 0) + place["h"])
    return itertools.product(across, down)


@by_name
def test_choices_follow_the_time_shown_and_are_all_used(name: str) -> None:
    choices = variables(name)
    for choice in choices.values():
        if choice["type"] == "query":
            assert choice["refresh"] == 2, "on time range change"
            assert choice["label"]
    earlier: set[str] = set()
    for choice in choices.values():
        assert used(str(choice.get("query", ""))) <= earlier, "asks only for what comes before it"
        earlier.add(choice["name"])
    queries = used(json.dumps([choice.get("query") for choice in choices.values()]))
    shown = used(json.dumps(loaded(name)["panels"]))
    assert set(choices) <= queries | shown
    assert queries | shown <= choices.keys() | BUILT_IN.keys() | OF_LINKS


@by_target
def test_a_target_parses(target: Target) -> None:
    assert nodes(parsed(target))


@by_target
def test_ranges_follow_scrape_interval_and_zoom(target: Target) -> None:
    """`$__range` is right at the end of the time shown alone: a sum over all of it."""
    allowed = {EVERY, WHOLE} if target.instant else {EVERY}
    ranges = {n.range for n in nodes(parsed(target)) if isinstance(n, promql_parser.MatrixSelector)}
    assert ranges <= allowed


@by_target
def test_counters_are_shown_as_rates(target: Target) -> None:
    found = nodes(parsed(target))
    rated = [
        str(argument.vector_selector)
        for call in found
        if isinstance(call, promql_parser.Call) and call.func.name in ("rate", "increase")
        for argument in call.args
    ]
    selectors = [node for node in found if isinstance(node, promql_parser.VectorSelector)]
    counters = [str(node) for node in selectors if re.fullmatch(COUNTERS, node.name)]
    assert sorted(counters) == sorted(rated)


@by_target
def test_a_new_operator_goes_on_with_the_lines_of_the_old(target: Target) -> None:
    """The series of studies have its name in labels that Prometheus adds: they are taken off."""
    above: list[Any] = []

    def enter(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector) and node.name.startswith(PER_STUDY):
            assert any(isinstance(each, promql_parser.AggregateExpr) for each in above), node
        above.append(node)

    def leave(_: Any) -> None:
        above.pop()

    promql_parser.walk(parsed(target), enter, leave)


@by_target
def test_only_metrics_that_there_are(target: Target) -> None:
    pages = [(ROOT / "docs" / page).read_text() for page in ("metrics.md", "reporting.md")]
    documented = set(re.findall(r"primo_[a-z_]+[a-z]", "".join(pages)))
    selectors = [n for n in nodes(parsed(target)) if isinstance(n, promql_parser.VectorSelector)]
    for name in {re.sub(r"_(count|sum|bucket)$", "", node.name) for node in selectors}:
        known = name in documented | ADDED_BY_PROMETHEUS or re.fullmatch(OF_OTHERS, name)
        assert known, name


def test_links_lead_to_dashboards() -> None:
    for name in NAMES:
        text = json.dumps(loaded(name))
        assert set(re.findall(r"/d/([\w-]+)", text)) <= set(UIDS.values())
        for panel in panels(name):
            for found in re.findall(r"var-(\w+)=", json.dumps(panel)):
                assert found in variables("study")


BROKEN: dict[str, tuple[str, Callable[[Target], None]]] = {
    "a typo": ("sum by (x (up)", test_a_target_parses),
    "a range of its own": ("rate(up[5m])", test_ranges_follow_scrape_interval_and_zoom),
    "a bare counter": ("primo_api_requests_total", test_counters_are_shown_as_rates),
    "a series of one operator": (
        "primo_study_hypervolume",
        test_a_new_operator_goes_on_with_the_lines_of_the_old,
    ),
    "no metric of ours": ("primo_study_volume", test_only_metrics_that_there_are),
}


@pytest.mark.parametrize(("expr", "rule"), BROKEN.values(), ids=BROKEN)
def test_the_rules_find_what_breaks_them(expr: str, rule: Callable[[Target], None]) -> None:
    with pytest.raises((AssertionError, ValueError)):
        rule(Target("study", "x", "A", expr, instant=False))


# --- pictures


@pytest.mark.parametrize("picture", drawing.PICTURES)
def test_a_picture_is_of_panels_that_there_are_and_is_small(picture: str) -> None:
    """`make pictures` draws them."""
    name, headings = drawing.PICTURES[picture]
    rows = [panel["title"] for panel in loaded(name)["panels"] if panel["type"] == "row"]
    assert set(headings) <= set(rows)
    assert {panel["type"] for panel in panels(name)} <= drawing.KINDS.keys()
    file = ROOT / "docs" / "images" / f"dashboard-{picture}.png"
    assert 10_000 < file.stat().st_size < 150_000
