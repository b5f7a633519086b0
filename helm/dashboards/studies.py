"""*Studies*: all of them at a glance."""

from grafana_foundation_sdk.builders import bargauge, dashboard, stat, table, timeseries
from grafana_foundation_sdk.models import units

from dashboards.panels import (
    FULL,
    HALF,
    THIRD,
    any_of,
    arrange,
    bars,
    fields,
    grid,
    keep,
    lines,
    merge,
    now,
    number,
    once,
    over_time,
    page,
    phases_of_trials,
    rows,
    stacked,
    variable,
    with_rows,
    words,
)

OURS = 'namespace=~"$namespace"'
PHASES = {
    "Pending": ("Pending", "text"),
    "InitialDesign": ("InitialDesign", "blue"),
    "Optimizing": ("Optimizing", "blue"),
    "Suspended": ("Suspended", "yellow"),
    "Completed": ("Completed", "green"),
    "Failed": ("Failed", "red"),
}
# The links keep the data source and the time.
STUDY_URL = (
    "/d/primo-study?${datasource:queryparam}&${__url_time_range}"
    "&var-namespace=${__data.fields.namespace}&var-study=${__data.fields.study}"
)


def build() -> dashboard.Dashboard:
    about = "The studies of the PriMO operator: how far each is, and what needs a look."
    found = page("primo-studies", "PriMO / Studies", about)
    namespaces = variable("namespace", "Namespace", "label_values(primo_study_info, namespace)")
    return with_rows(
        found.with_variable(any_of(namespaces)),
        {
            "At a glance": [_by_phase(), _runs(), _failed(), _gpu_hours()],
            "Studies": [_table(), _needing_a_look()],
            "Over time": [_running(), _trials(), _hypervolume(), _failures()],
        },
    )


def _each(metric: str, *labels: str, where: str = "") -> str:
    return once(metric, f"{OURS}{where}", "namespace", "study", *labels)


def _by_phase() -> stat.Panel:
    query = f"sum by (phase) ({_each('primo_study_phase', 'phase')})"
    about = "How many studies are in each phase."
    return number("Studies by phase", about, units.Short, now(query, "{{phase}}"), width=HALF)


def _runs() -> stat.Panel:
    return number(
        "Unfinished runs",
        "Runs that have not ended, queued ones included, and how many there may be.",
        units.Short,
        now(f"sum({_each('primo_study_unfinished_runs')})", "runs"),
        now(f"sum({_each('primo_study_parallelism')})", "allowed"),
    )


def _failed() -> stat.Panel:
    failed = _each("primo_study_trials", where=', phase="Failed"')
    about = "Trials that failed, of all studies shown."
    return number("Failed trials", about, units.Short, now(f"sum({failed})", "trials"))


def _gpu_hours() -> stat.Panel:
    used = _each("primo_study_budget_used", where=', budget="gpu_hours"')
    about = "GPU hours used, by all studies shown."
    return number("GPU time", about, units.Hours, now(f"sum({used})", "hours")).no_value("none")


def _table() -> table.Panel:
    """The first query gives each study its row and the phase; the others a column each."""
    used, limit = (_each(f"primo_study_budget_{part}", "budget") for part in ("used", "limit"))
    columns = {
        f"max by (namespace, study) ({used} / {limit})": "Budget used",
        _each("primo_study_trials", where=', phase="Completed"'): "Completed",
        _each("primo_study_trials", where=', phase="Failed"'): "Failed",
        _each("primo_study_unfinished_runs"): "Runs",
        _each("primo_study_front_size"): "Front",
        _each("primo_study_hypervolume"): "Hypervolume",
        f"time() - {_each('primo_study_created_timestamp_seconds')}": "Age",
    }
    phase = f"{_each('primo_study_phase', 'phase')} == 1"
    names = {f"Value #{chr(ord('B') + i)}": name for i, name in enumerate(columns.values())}
    about = "Each study's phase, the share of its budget that is used, and what it has found."
    link = {"title": "Open the study", "url": STUDY_URL}
    phases = words(PHASES)
    return (
        grid("Studies", about, rows(phase), *map(rows, columns))
        .with_transformation(keep("namespace|study|phase|Value #[B-H]"))
        .with_transformation(merge())
        .with_transformation(
            arrange({"namespace": "namespace", "study": "study", "phase": "Phase", **names})
        )
        .override_by_name("study", fields(links=[link]))
        .override_by_name(
            "Phase", fields(mappings=phases, custom__cellOptions={"type": "color-text"})
        )
        .override_by_name(
            "Budget used",
            fields(
                unit=units.PercentUnit,
                min=0,
                max=1,
                custom__cellOptions={"type": "gauge", "mode": "basic"},
            ),
        )
        .override_by_name("Age", fields(unit=units.Seconds))
    )


def _needing_a_look() -> table.Panel:
    wrong, right = (
        _each("primo_study_condition", "condition", "reason", where=f', condition=~"{kinds}"')
        for kinds in ("Degraded|Failed|Suspended", "TemplateValid|MetricsAvailable|WarmStarted")
    )
    query = f"{wrong} == 1 or {right} == 0"
    about = "Conditions that are not as they should be; docs/troubleshooting.md has the reasons."
    return (
        grid("Conditions to look at", about, rows(query), width=FULL, height=6)
        .with_transformation(keep("namespace|study|condition|reason"))
        .no_value("none")
    )


def _running() -> timeseries.Panel:
    query = _each("primo_study_unfinished_runs")
    panel = lines(
        "Unfinished runs by study",
        "Runs that have not ended, queued ones included.",
        units.Short,
        over_time(query, "{{namespace}}/{{study}}"),
    )
    return stacked(panel)


def _trials() -> timeseries.Panel:
    query = f"sum by (phase) ({_each('primo_study_trials', 'phase')})"
    about = "Trials of all studies shown, by phase."
    return phases_of_trials("Trials by phase", about, over_time(query, "{{phase}}"))


def _hypervolume() -> timeseries.Panel:
    # Each by its own latest: volumes are in the units of a study's objectives.
    volume = _each("primo_study_hypervolume")
    latest = f"max by (namespace, study) (primo_study_hypervolume{{{OURS}}} @ end())"
    return lines(
        "Hypervolume, as a share of the latest",
        "How a study has come to the front that it has now. A line that is flat at 100 % for long: "
        "the search finds nothing better any more.",
        units.PercentUnit,
        over_time(f"{volume} / ({latest} > 0)", "{{namespace}}/{{study}}"),
        width=FULL - THIRD,
    )


def _failures() -> bargauge.Panel:
    query = f"sum by (reason) ({_each('primo_study_failed_trials', 'reason')})"
    about = "Why trials failed; docs/troubleshooting.md has the reasons."
    panel = bars("Failed trials by reason", about, units.Short, now(query, "{{reason}}"))
    return panel.no_value("none")
