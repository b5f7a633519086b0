"""*Operator*: how the operator itself does."""

from grafana_foundation_sdk.builders import dashboard, stat, timeseries
from grafana_foundation_sdk.models import units

from dashboards.panels import (
    THIRD,
    any_of,
    lines,
    now,
    number,
    over_time,
    page,
    rare,
    some_of,
    stacked,
    variable,
    with_rows,
)

OURS = 'namespace=~"$operator_namespace", job=~"$job"'
EVERY = "[$__rate_interval]"
PROCESSES = ("process", "primo_worker_process")  # the operator's, and the optimizer's


def build() -> dashboard.Dashboard:
    about = "The PriMO operator: its health, its passes, its optimizer, its load on the API server."
    found = page("primo-operator", "PriMO / Operator", about)
    # Not all targets have a namespace.
    spaces = variable("operator_namespace", "Namespace", "label_values(primo_leader, namespace)")
    leaders = 'primo_leader{namespace=~"$operator_namespace"}'
    jobs = variable("job", "Job", f"label_values({leaders}, job)")
    return with_rows(
        found.with_variable(any_of(spaces)).with_variable(some_of(jobs)),
        {
            "Health": [_up(), _leader(), _uptime(), _queue_now(), _restarts(), _failed_passes()],
            "Passes": [_passes(), _pass_time(), _queue()],
            "Optimizer": [_suggestions(), _suggestion_time(), _fallbacks()],
            "API server": [_requests(), _codes(), _errors()],
            "Process": [_memory(), _cpu(), _files()],
        },
    )


def _share(of: str, all_: str) -> str:
    """One rate as a share of another; 0 while there is neither."""
    return f"(sum(rate({of}{EVERY})) or vector(0)) / (sum(rate({all_}{EVERY})) > 0) or vector(0)"


def _within(share: float, histogram: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({histogram}_bucket{{{OURS}}}{EVERY})))"


# --- health


def _up() -> stat.Panel:
    about = "Operators that Prometheus reaches; with replicas=2 one of them waits."
    return number("Up", about, units.Short, now(f"sum(up{{{OURS}}})", "operators"))


def _leader() -> stat.Panel:
    query = now(f"primo_leader{{{OURS}}} == 1", "{{instance}}")
    about = "The operator that works. None: no study goes on."
    return number("Leader", about, units.NoUnit, query, words=True).no_value("none")


def _uptime() -> stat.Panel:
    query = now(f"time() - max(process_start_time_seconds{{{OURS}}})", "uptime")
    return number("Uptime", "Since the latest start of an operator.", units.Seconds, query)


def _queue_now() -> stat.Panel:
    query = now(f"sum(primo_queue_depth{{{OURS}}})", "studies")
    return number("Queue now", "Studies that wait for a pass now.", units.Short, query)


def _restarts() -> stat.Panel:
    query = now(f"sum(increase(primo_worker_restarts_total{{{OURS}}}[$__range]))", "restarts")
    about = "Starts of the optimizer's process after the first, in the time shown."
    return number("Optimizer restarts", about, units.Short, query)


def _failed_passes() -> stat.Panel:
    failed = f'primo_pass_duration_seconds_count{{{OURS}, result!="Done"}}'
    query = now(f"sum(increase({failed}[$__range])) or vector(0)", "passes")
    about = "Passes that failed in the time shown; each was tried again."
    return number("Failed passes", about, units.Short, query)


# --- passes


def _passes() -> timeseries.Panel:
    rate = f"sum by (result) (rate(primo_pass_duration_seconds_count{{{OURS}}}{EVERY}))"
    about = "Passes over studies; a ClusterError or a failure is tried again."
    return lines("Passes", about, units.OpsPerSecond, over_time(rate, "{{result}}"), width=THIRD)


def _pass_time() -> timeseries.Panel:
    panel = lines(
        "Time of passes",
        "How long half of the passes, and most of them, took; asks of the optimizer included.",
        units.Seconds,
        over_time(_within(0.5, "primo_pass_duration_seconds"), "50 % within"),
        over_time(_within(0.95, "primo_pass_duration_seconds"), "95 % within"),
        width=THIRD,
    )
    return rare(panel)


def _queue() -> timeseries.Panel:
    query = over_time(f"max by (instance) (primo_queue_depth{{{OURS}}})", "{{instance}}")
    about = "Studies that wait for a pass: if it stays high, there are too few workers."
    return lines("Queue", about, units.Short, query, width=THIRD).min(0)


# --- optimizer


def _suggestions() -> timeseries.Panel:
    rate = f"sum by (result) (rate(primo_asks_total{{{OURS}}}{EVERY}))"
    about = "Asks of the optimizer by what came of them."
    query = over_time(rate, "{{result}}")
    return lines("Suggestions", about, units.OpsPerSecond, query, width=THIRD)


def _suggestion_time() -> timeseries.Panel:
    panel = lines(
        "Time of suggestions",
        "How long asks of the optimizer took, waiting for its process included.",
        units.Seconds,
        over_time(_within(0.5, "primo_suggestion_duration_seconds"), "50 % within"),
        over_time(_within(0.95, "primo_suggestion_duration_seconds"), "95 % within"),
        width=THIRD,
    )
    return rare(panel)


def _fallbacks() -> timeseries.Panel:
    share = _share(f'primo_asks_total{{{OURS}, result!="Done"}}', f"primo_asks_total{{{OURS}}}")
    about = "Share of asks that the algorithm itself did not answer."
    query = over_time(share, "not answered")
    return lines("Asks not answered", about, units.PercentUnit, query, width=THIRD).min(0)


# --- API server


def _requests() -> timeseries.Panel:
    rate = f"sum by (verb, resource) (rate(primo_api_requests_total{{{OURS}}}{EVERY}))"
    about = "Calls to the API server but for watches."
    query = over_time(rate, "{{verb}} {{resource}}")
    return stacked(lines("Requests", about, units.RequestsPerSecond, query, width=THIRD))


def _codes() -> timeseries.Panel:
    rate = f"sum by (code) (rate(primo_api_requests_total{{{OURS}}}{EVERY}))"
    about = "Calls by HTTP status; Error: no answer. 409 and 404 may be part of the normal course."
    query = over_time(rate, "{{code}}")
    return stacked(lines("Requests by code", about, units.RequestsPerSecond, query, width=THIRD))


def _errors() -> timeseries.Panel:
    count = "primo_api_requests_total"
    share = _share(f'{count}{{{OURS}, code=~"5..|429|Error"}}', f"{count}{{{OURS}}}")
    about = "Share of calls that the API server did not serve: 5xx, 429, or no answer."
    query = over_time(share, "errors")
    return lines("Request errors", about, units.PercentUnit, query, width=THIRD).min(0)


# --- process


def _memory() -> timeseries.Panel:
    return lines(
        "Memory",
        "Resident memory of the operator and of the optimizer's process beside it.",
        units.BytesIEC,
        over_time(f"process_resident_memory_bytes{{{OURS}}}", "operator {{instance}}"),
        over_time(
            f"primo_worker_process_resident_memory_bytes{{{OURS}}}", "optimizer {{instance}}"
        ),
        width=THIRD,
    ).min(0)


def _cpu() -> timeseries.Panel:
    operator, optimizer = (f"rate({name}_cpu_seconds_total{{{OURS}}}{EVERY})" for name in PROCESSES)
    return lines(
        "CPU",
        "Cores used by the operator and by the optimizer's process beside it.",
        units.Short,
        over_time(operator, "operator {{instance}}"),
        over_time(optimizer, "optimizer {{instance}}"),
        width=THIRD,
    ).min(0)


def _files() -> timeseries.Panel:
    query = over_time(f"process_open_fds{{{OURS}}}", "{{instance}}")
    about = "Open files and connections of the operator."
    return lines("Open files", about, units.Short, query, width=THIRD).min(0)
