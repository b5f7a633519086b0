"""What the dashboards are made of: queries, panels of each kind, transformations, variables.

All of it asks the data source that is chosen in the dashboard. A panel's letter for a query (`A`,
`B`, ...) is its place among the panel's queries.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
    trend,
    xychart,
)
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.dashboard import Panel as BuiltPanel
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = options.DataSourceRef(type_val="prometheus", uid="${datasource}")
ALL = VariableOption(selected=True, text="All", value="$__all")
# Whose options these are. Without it Grafana takes an XY chart for one of before 11.1, and fails to
# migrate it.
GRAFANA = "11.6.0"
FULL, HALF, THIRD, QUARTER = 24, 12, 8, 6  # of the grid's columns

TRIAL_PHASES = {
    "Queued": "yellow",
    "Running": "blue",
    "Paused": "purple",
    "Completed": "green",
    "Failed": "red",
    "Stopped": "text",
}

Query = prometheus.Dataquery
Panel = TypeVar(
    "Panel",
    barchart.Panel,
    bargauge.Panel,
    stat.Panel,
    statetimeline.Panel,
    table.Panel,
    timeseries.Panel,
    trend.Panel,
    xychart.Panel,
)

AnyPanel = (
    barchart.Panel
    | bargauge.Panel
    | stat.Panel
    | statetimeline.Panel
    | table.Panel
    | timeseries.Panel
    | trend.Panel
    | xychart.Panel
)

# --- queries


def once(metric: str, selector: str, *labels: str) -> str:
    """A metric with these labels only: an operator that was replaced showed the same series."""
    by = f" by ({', '.join(labels)})" if labels else ""
    return f"max{by} ({metric}{{{selector}}})"


def over_time(expr: str, legend: str) -> Query:
    """Over the dashboard's time; a line for each series."""
    return Query().expr(expr).legend_format(legend).range()


def now(expr: str, legend: str) -> Query:
    """At the end of the dashboard's time; a number for each series."""
    return Query().expr(expr).legend_format(legend).instant()


def rows(expr: str) -> Query:
    """At the end of the dashboard's time; a row for each series, a column for each label."""
    return Query().expr(expr).format(PromQueryFormat.TABLE).instant()


def rows_over_time(expr: str) -> Query:
    """Over the dashboard's time; a row for each sample."""
    return Query().expr(expr).format(PromQueryFormat.TABLE).range()


# --- panels


def described(
    panel: Panel, title: str, about: str, unit: str, queries: Sequence[Query], size: tuple[int, int]
) -> Panel:
    """What every panel has; `size` in columns and rows of the grid."""
    panel.title(title).description(about).unit(unit).datasource(DATASOURCE)
    panel.span(size[0]).height(size[1])
    for letter, query in zip("ABCDEFGHIJ", queries, strict=False):
        panel.with_target(query.ref_id(letter).datasource(DATASOURCE))
    return panel


def legend() -> common.VizLegendOptions:
    """Below the panel; without one of ours there is none."""
    shown = common.VizLegendOptions().show_legend(True).placement(options.LegendPlacement.BOTTOM)
    return shown.display_mode(options.LegendDisplayMode.LIST)


def lines(
    title: str, about: str, unit: str, *queries: Query, width: int = HALF, height: int = 8
) -> timeseries.Panel:
    panel = described(timeseries.Panel(), title, about, unit, queries, (width, height))
    tooltip = common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI)
    return panel.legend(legend()).tooltip(tooltip).fill_opacity(8).line_width(2)


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    stacking = common.StackingConfig().mode(options.StackingMode.NORMAL)
    return panel.stacking(stacking).fill_opacity(40).line_width(1)


def phases_of_trials(title: str, about: str, query: Query) -> timeseries.Panel:
    """A layer for each phase, in the color that it has everywhere."""
    panel = stacked(lines(title, about, units.Short, query))
    for phase, color in TRIAL_PHASES.items():
        panel.override_by_name(phase, fields(color=fixed(color)))
    return panel


def rare(panel: timeseries.Panel) -> timeseries.Panel:
    """For values that come now and then, with nothing between them."""
    return panel.show_points(options.VisibilityMode.ALWAYS).span_nulls(True)


def number(
    title: str, about: str, unit: str, *queries: Query, width: int = 4, words: bool = False
) -> stat.Panel:
    """One number for each series; the series' names alone if it is about words."""
    panel = described(stat.Panel(), title, about, unit, queries, (width, 4))
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    named = options.BigValueTextMode.NAME if words else options.BigValueTextMode.AUTO
    return panel.reduce_options(last).text_mode(named).graph_mode(options.BigValueGraphMode.NONE)


def bars(
    title: str, about: str, unit: str, *queries: Query, width: int = THIRD, height: int = 8
) -> bargauge.Panel:
    """A bar for each series."""
    panel = described(bargauge.Panel(), title, about, unit, queries, (width, height))
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    return panel.reduce_options(last).orientation(options.VizOrientation.HORIZONTAL).min(0)


def grid(
    title: str, about: str, *queries: Query, width: int = FULL, height: int = 10
) -> table.Panel:
    """A table, of `rows`."""
    panel = described(table.Panel(), title, about, "short", queries, (width, height))
    return panel.filterable(True).cell_height(options.TableCellHeight.SM)


# --- fields


def fields(**values: Any) -> list[DynamicConfigValue]:
    """Properties of a field; `custom__` in a name stands for the dot after `custom`."""
    return [DynamicConfigValue(key.replace("__", "."), value) for key, value in values.items()]


def fixed(color: str) -> dict[str, str]:
    return {"mode": "fixed", "fixedColor": color}


def words(given: Mapping[str, tuple[str, str]]) -> list[ValueMapping]:
    """Value -> what is shown for it, and its color."""
    shown = {
        value: ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(given.items())
    }
    return [ValueMap(options=shown)]


# --- transformations, of which Grafana does one after the other


def merge() -> DataTransformerConfig:
    """One table of all queries: a row for each combination of the labels they share."""
    return DataTransformerConfig("merge", options={})


def join(field: str) -> DataTransformerConfig:
    """One table of all queries: a row for each value of a label."""
    return DataTransformerConfig("joinByField", options={"byField": field, "mode": "outer"})


def matrix(*, row: str, column: str, value: str) -> DataTransformerConfig:
    """A row for each value of one field, a column for each of another."""
    given = {"rowField": row, "columnField": column, "valueField": value, "emptyValue": "null"}
    return DataTransformerConfig("groupingToMatrix", options=given)


def keep(pattern: str) -> DataTransformerConfig:
    """Only the fields whose names match."""
    return DataTransformerConfig(
        "filterFieldsByName", options={"include": {"pattern": f"/^({pattern})$/"}}
    )


def arrange(names: Mapping[str, str]) -> DataTransformerConfig:
    """Fields in this order, by new names."""
    order = {name: index for index, name in enumerate(names)}
    given = {"indexByName": order, "renameByName": dict(names), "excludeByName": {}}
    return DataTransformerConfig("organize", options=given)


def numeric(field: str) -> DataTransformerConfig:
    """A label as a number, so that 10 comes after 9."""
    given = [{"targetField": field, "destinationType": "number"}]
    return DataTransformerConfig("convertFieldType", options={"conversions": given, "fields": {}})


def ordered(field: str, *, descending: bool = False) -> DataTransformerConfig:
    sort = [{"field": field, "desc": descending}]
    return DataTransformerConfig("sortBy", options={"fields": {}, "sort": sort})


# --- dashboards


def datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A choice of what a query of labels finds."""
    found = dashboard.QueryVariable(name).label(label).query(query).datasource(DATASOURCE)
    return found.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC
    )


def some_of(choice: dashboard.QueryVariable) -> dashboard.QueryVariable:
    """Of which several may be chosen, and all that were found are at first."""
    return choice.multi(True).include_all(True).current(ALL)


def any_of(choice: dashboard.QueryVariable) -> dashboard.QueryVariable:
    """The same, and all are really all: where there may be too many to name each."""
    return some_of(choice).all_value(".*")


def page(uid: str, title: str, about: str) -> dashboard.Dashboard:
    """An empty dashboard with a way to the others."""
    others = dashboard.DashboardLink("PriMO").type(DashboardLinkType.DASHBOARDS).tags(["primo"])
    found = dashboard.Dashboard(title).uid(uid).description(about).tags(["primo"]).readonly()
    return (
        found.time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .link(others.as_dropdown(True).include_vars(True).keep_time(True))
        .with_variable(datasource())
    )


def with_rows(
    page: dashboard.Dashboard, rows: Mapping[str, Sequence[AnyPanel]]
) -> dashboard.Dashboard:
    """Panels under their headings, numbered in their order."""
    number = 0
    for title, panels in rows.items():
        number += 1
        page.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            page.with_panel(panel.id(number))
    for built in page.build().panels or ():
        if isinstance(built, BuiltPanel):
            built.plugin_version = GRAFANA
    return page
