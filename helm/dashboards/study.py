"""*Study*: one study, from its front to the GPUs of its trials."""

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    dashboard,
    stat,
    statetimeline,
    table,
    timeseries,
    trend,
    xychart,
)
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import VariableSort

from dashboards.panels import (
    FULL,
    HALF,
    QUARTER,
    TRIAL_PHASES,
    any_of,
    arrange,
    bars,
    described,
    fields,
    fixed,
    grid,
    join,
    keep,
    legend,
    lines,
    matrix,
    merge,
    now,
    number,
    numeric,
    once,
    ordered,
    over_time,
    page,
    phases_of_trials,
    rare,
    rows,
    rows_over_time,
    variable,
    with_rows,
    words,
)

OURS = 'namespace="$namespace", study="$study"'
TRIALS = f'{OURS}, trial=~"$trial"'
# The trial's number out of a pod's name: study, eight digits of its UID, trial, rung, attempt.
POD = "${study}-[0-9a-f]{8}-($trial)-r[0-9]+-a[0-9]+-[a-z0-9]+"
# Numbers for the phases of trials: a time line has one value for each.
CODES = {phase: str(number) for number, phase in enumerate(TRIAL_PHASES, 1)}


def build() -> dashboard.Dashboard:
    about = "One study of the PriMO operator: its front, its trials, its optimizer, its GPUs."
    found = page("primo-study", "PriMO / Study", about)
    for choice in _variables():
        found.with_variable(choice)
    return with_rows(
        found,
        {
            "At a glance": [
                _phase(), _stage(), _runs(), _front_size(), _volume_now(), _energy_of_all()
            ],
            "Results": [_front(), _best(), _hypervolume(), _budget()],
            "Trials": [_by_phase(), _rungs(), _failures(), _timeline(), _table(), _choices()],
            "Learning curves": [_curves(), _curves_by_step()],
            "Optimizer": [_suggestion_time(), _trust()],
            "GPUs": [_gpu_power(), _gpu_use(), _gpu_memory(), _energy()],
        },
    )  # fmt: skip


def _variables() -> list[dashboard.QueryVariable]:
    # A trial has values once it is observed, the study a reference point once one has finished.
    known = '__name__=~"primo_trial_objective_value|primo_study_reference_point"'
    objectives = f"label_values({{{known}, {OURS}}}, objective)"
    trials = variable("trial", "Trials", f"label_values(primo_trial_info{{{OURS}}}, trial)")
    return [
        variable("namespace", "Namespace", "label_values(primo_study_info, namespace)"),
        variable("study", "Study", 'label_values(primo_study_info{namespace="$namespace"}, study)'),
        variable("objective_x", "Across", objectives),
        # The other way round, so that the two differ at first.
        variable("objective_y", "Up", objectives).sort(
            VariableSort.ALPHABETICAL_CASE_INSENSITIVE_DESC
        ),
        any_of(trials.sort(VariableSort.NUMERICAL_ASC)),
        variable("metric", "Metric", f"label_values(primo_report_metric{{{OURS}}}, metric)"),
    ]


# --- at a glance


def _phase() -> stat.Panel:
    query = now(f"{once('primo_study_phase', OURS, 'phase')} == 1", "{{phase}}")
    return number("Phase", "Which phase the study is in.", units.NoUnit, query, words=True)


def _stage() -> stat.Panel:
    query = now(once("primo_study_stage", OURS, "stage"), "{{stage}}")
    about = "Of the latest suggestion: InitialDesign, or Optimizing with a model."
    return number("Stage", about, units.NoUnit, query, words=True).no_value("none yet")


def _runs() -> stat.Panel:
    return number(
        "Unfinished runs",
        "Runs that have not ended, queued ones included, and how many there may be.",
        units.Short,
        now(once("primo_study_unfinished_runs", OURS), "runs"),
        now(once("primo_study_parallelism", OURS), "allowed"),
    )


def _front_size() -> stat.Panel:
    query = now(once("primo_study_front_size", OURS), "trials")
    return number("Front", "Trials on the Pareto front.", units.Short, query)


def _volume_now() -> stat.Panel:
    query = now(once("primo_study_hypervolume", OURS), "hypervolume")
    about = "Volume between front and reference point, in the objectives' units."
    return number("Hypervolume now", about, units.Short, query)


def _energy_of_all() -> stat.Panel:
    query = now(f"sum({_energy_by_trial()})", "energy")
    about = "Energy of the trials' GPUs in the time shown, by dcgm-exporter; of whole boards."
    return number("GPU energy", about, units.Joule, query).no_value("no GPUs seen")


# --- results


def _front() -> xychart.Panel:
    """One row a trial; the third column is empty but for those on the front."""
    across, up = (
        once("primo_trial_objective_value", f'{OURS}, objective="{name}"', "trial")
        for name in ("$objective_x", "$objective_y")
    )
    on_front = f"{up} and {once('primo_trial_pareto_optimal', OURS, 'trial')} == 1"
    about = (
        "Each trial by two of its objectives, as observed at its highest fidelity. With more than "
        "two objectives a trial of the front may look dominated here."
    )
    queries = [rows(across), rows(up), rows(on_front)]
    title = "Pareto front: $objective_y over $objective_x"
    return (
        described(xychart.Panel(), title, about, units.Short, queries, (HALF, 12))
        .legend(legend())
        .with_transformation(join("trial"))
        .with_transformation(keep("trial|Value #[A-C]"))
        .with_transformation(
            arrange(
                {
                    "trial": "trial",
                    "Value #A": "x",
                    "Value #B": "all trials",
                    "Value #C": "Pareto front",
                }
            )
        )
        .override_by_name("x", fields(custom__axisLabel="$objective_x"))
        .override_by_name(
            "all trials",
            fields(
                custom__axisLabel="$objective_y",
                custom__pointSize={"fixed": 6},
                color=fixed("text"),
            ),
        )
        .override_by_name(
            "Pareto front", fields(custom__pointSize={"fixed": 10}, color=fixed("orange"))
        )
    )


def _best() -> timeseries.Panel:
    across, up = (
        once("primo_study_best_value", f'{OURS}, objective="{name}"', "objective")
        for name in ("$objective_x", "$objective_y")
    )
    panel = lines(
        "Best values",
        "The best value of each objective so far.",
        units.Short,
        over_time(across, "{{objective}}"),
        over_time(up, "{{objective}}"),
        height=12,
    )
    return panel.override_by_query("B", fields(custom__axisPlacement="right"))


def _hypervolume() -> timeseries.Panel:
    query = over_time(once("primo_study_hypervolume", OURS), "hypervolume")
    about = "Volume between front and reference point: the higher, the better the front."
    return lines("Hypervolume", about, units.Short, query)


def _budget() -> timeseries.Panel:
    used, limit = (once(f"primo_study_budget_{p}", OURS, "budget") for p in ("used", "limit"))
    panel = lines(
        "Budget used",
        "The share of each budget that is used; the study ends when one is used up.",
        units.PercentUnit,
        over_time(f"{used} / {limit}", "{{budget}}"),
    )
    return panel.min(0)


# --- trials


def _by_phase() -> timeseries.Panel:
    query = over_time(once("primo_study_trials", OURS, "phase"), "{{phase}}")
    about = "Paused: observed below full fidelity, and may go on."
    return phases_of_trials("Trials by phase", about, query)


def _rungs() -> barchart.Panel:
    query = rows(once("primo_study_rung_trials", OURS, "rung", "fidelity"))
    about = "How many trials have been observed at the fidelity of each rung or beyond it."
    return (
        described(barchart.Panel(), "Rungs", about, units.Short, [query], (QUARTER, 8))
        .x_field("fidelity")
        .no_value("no fidelity")
        .with_transformation(keep("rung|fidelity|Value"))
        .with_transformation(ordered("rung"))
        .with_transformation(arrange({"fidelity": "fidelity", "Value": "trials"}))
        .with_transformation(keep("fidelity|trials"))
    )


def _failures() -> bargauge.Panel:
    query = now(once("primo_study_failed_trials", OURS, "reason"), "{{reason}}")
    about = "Why trials failed; docs/troubleshooting.md has the reasons."
    panel = bars("Failed trials by reason", about, units.Short, query, width=QUARTER)
    return panel.no_value("none")


def _timeline() -> statetimeline.Panel:
    """The phase of a trial is a label: a number for each gives one line a trial."""
    phases = " or ".join(
        f"""{once("primo_trial_phase", f'{TRIALS}, phase="{phase}"', "trial")} * {code}"""
        for phase, code in CODES.items()
    )
    about = "What each trial did when. Not of trials without series of their own (metrics.trials)."
    mappings = words({CODES[phase]: (phase, color) for phase, color in TRIAL_PHASES.items()})
    queries = [over_time(phases, "{{trial}}")]
    return (
        described(statetimeline.Panel(), "Trials", about, units.NoUnit, queries, (FULL, 10))
        .mappings(mappings)
        .show_value(options.VisibilityMode.NEVER)
        .merge_values(True)
        .per_page(20)
    )


def _table() -> table.Panel:
    """A row a trial; objectives and parameters become columns by a label that all queries have."""
    objective, parameter = (
        f'label_replace({metric}{{{TRIALS}}}, "column", "{name}", "{label}", "(.+)")'
        for metric, label, name in (
            ("primo_trial_objective_value", "objective", "objective $1"),
            ("primo_trial_parameter", "parameter", "$1"),
        )
    )
    fidelity, front = (
        f'label_replace({metric}{{{TRIALS}}}, "column", "{name}", "", "")'
        for metric, name in (
            ("primo_trial_fidelity", "fidelity"),
            ("primo_trial_pareto_optimal", "on the front"),
        )
    )
    columns = " or ".join((front, fidelity, objective, parameter))
    about = "Each trial's objectives at its highest fidelity, and its parameters; choices by index."
    on_front = words({"1": ("yes", "orange"), "0": ("", "text")})
    return (
        grid("Trials by parameters", about, rows(f"max by (trial, column) ({columns})"), width=18)
        .with_transformation(matrix(row="trial", column="column", value="Value"))
        .with_transformation(arrange({"trial\\column": "trial"}))
        .with_transformation(numeric("trial"))
        .with_transformation(ordered("trial", descending=True))
        .override_by_name(
            "on the front", fields(mappings=on_front, custom__cellOptions={"type": "color-text"})
        )
    )


def _choices() -> table.Panel:
    query = rows(once("primo_study_choice_info", OURS, "parameter", "index", "choice"))
    about = "Which choice stands behind an index in the table of the trials."
    return (
        grid("Choices", about, query, width=6)
        .with_transformation(keep("parameter|index|choice"))
        .with_transformation(
            arrange({"parameter": "parameter", "index": "index", "choice": "choice"})
        )
        .no_value("no parameter has choices")
    )


# --- learning curves


def _curves() -> timeseries.Panel:
    query = once("primo_report_metric", f'{TRIALS}, metric="$metric"', "trial")
    return lines(
        "$metric over time",
        "What the chosen trials report, while they run: Prometheus must scrape their sidecars.",
        units.Short,
        over_time(query, "trial {{trial}}"),
    )


def _curves_by_step() -> trend.Panel:
    """Step and value have a sample each at a scrape; a column for each trial, a row for each step.

    The panel draws a line across steps that fell between two scrapes of a trial.
    """
    step = once("primo_report_step", TRIALS, "trial")
    value = once("primo_report_metric", f'{TRIALS}, metric="$metric"', "trial")
    about = "The same by the step reported, so that trials can be compared."
    queries = [rows_over_time(step), rows_over_time(value)]
    panel = described(trend.Panel(), "$metric by step", about, units.Short, queries, (HALF, 8))
    return (
        panel.x_field("step")
        .legend(legend())
        .span_nulls(True)
        .show_points(options.VisibilityMode.ALWAYS)
        .with_transformation(merge())
        .with_transformation(matrix(row="Value #A", column="trial", value="Value #B"))
        .with_transformation(arrange({"Value #A\\trial": "step"}))
        .with_transformation(ordered("step"))
    )


# --- optimizer


def _suggestion_time() -> timeseries.Panel:
    name, every = "primo_suggestion_duration_seconds", "[$__rate_interval]"
    total, count = (
        f"sum by (result) (rate({name}_{part}{{{OURS}}}{every}))" for part in ("sum", "count")
    )
    slow = f"histogram_quantile(0.95, sum by (le) (rate({name}_bucket{{{OURS}}}{every})))"
    panel = lines(
        "Time of suggestions",
        "How long asks of the optimizer took; Fallback: a quasi-random answer in its place.",
        units.Seconds,
        over_time(f"{total} / ({count} > 0)", "mean, {{result}}"),
        over_time(slow, "95 % within"),
    )
    return rare(panel)


def _trust() -> timeseries.Panel:
    query = over_time(once("primo_study_prior_trust", OURS, "objective"), "{{objective}}")
    about = "How far the observations support each prior: 1 as believed, 0 not at all."
    panel = lines("Trust in priors", about, units.PercentUnit, query)
    return panel.min(0).max(1).no_value("no priors")


# --- GPUs


def _by_trial(metric: str, function: str = "{}") -> str:
    """Series of dcgm-exporter with the trial's number.

    The exporter's own `pod` and `namespace` push those of the GPU's user to `exported_...`, unless
    its labels are honoured. A name that does not match is left alone.
    """
    theirs, honoured = (
        function.format(f'{metric}{{{prefix}namespace="$namespace", {prefix}pod=~"{POD}"}}')
        for prefix in ("exported_", "")
    )
    found = f"{theirs} or {honoured}"
    for label in ("pod", "exported_pod"):
        found = f'label_replace({found}, "trial", "$1", "{label}", "{POD}")'
    return found


def _energy_by_trial() -> str:
    counter = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"  # in millijoules
    return f"sum by (trial) ({_by_trial(counter, 'increase({}[$__range])')}) / 1000"


def _energy() -> bargauge.Panel:
    query = now(f"sort_desc({_energy_by_trial()})", "trial {{trial}}")
    about = "Energy of each trial's GPUs in the time shown, over all its runs; of whole boards."
    return bars("GPU energy by trial", about, units.Joule, query, width=HALF)


def _gpu_power() -> timeseries.Panel:
    query = over_time(f"sum by (trial) ({_by_trial('DCGM_FI_DEV_POWER_USAGE')})", "trial {{trial}}")
    about = "Power of each trial's GPUs. On a MIG slice or a shared GPU it is not the trial's own."
    return lines("GPU power", about, units.Watt, query)


def _gpu_use() -> timeseries.Panel:
    query = over_time(f"avg by (trial) ({_by_trial('DCGM_FI_DEV_GPU_UTIL')})", "trial {{trial}}")
    about = "Share of time in which a trial's GPUs did something; not there on MIG slices."
    return lines("GPU utilisation", about, units.Percent, query).min(0).max(100)


def _gpu_memory() -> timeseries.Panel:
    query = over_time(f"max by (trial) ({_by_trial('DCGM_FI_DEV_FB_USED')})", "trial {{trial}}")
    about = "Memory used of the fullest GPU of each trial."
    return lines("GPU memory", about, units.Mebibytes, query)
