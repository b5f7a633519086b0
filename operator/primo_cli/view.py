"""A study in a terminal: where it stands, what runs now, its front."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

Object = Mapping[str, Any]
MAX_RUNNING = 8
WORTH_A_LINE = (("Degraded", "True"), ("Failed", "True"), ("WarmStarted", "False"))


def plain(text: object) -> Text:
    """Words that users or pods wrote: neither markup nor control characters are obeyed."""
    return Text("".join(c if c.isprintable() else "?" for c in str(text)))


def last_line(text: str) -> str:
    """Of a traceback, what went wrong."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def study_view(study: Object, trials: Sequence[Object], elapsed_s: float) -> RenderableType:
    """What changes while it runs."""
    status = study.get("status") or {}
    head = Table.grid(padding=(0, 2))
    head.add_row("study", plain(study["metadata"]["name"]))
    head.add_row("phase", status.get("phase") or "Pending")
    head.add_row("trials", f"{status.get('progress') or '0'}  {_counts(status)}")
    if study["spec"].get("fidelity"):
        head.add_row("rungs", _rungs(trials))
    if spent := _spent(study):
        head.add_row("spent", spent)
    for reason, messages in _reasons(trials, "Queued").items():
        head.add_row("waiting", plain(f"{len(messages)} {reason}: {last_line(messages[-1])}"))
    for reason, messages in _reasons(trials, "Failed").items():
        latest = f"{len(messages)} {reason}, the latest: {last_line(messages[-1])}"
        head.add_row("failures", plain(latest))
    infeasible = f", {status['infeasible']} infeasible" if status.get("infeasible") else ""
    if _has_one_objective(study):
        head.add_row("best", f"{_best(study)}{infeasible}")
    else:
        head.add_row("front", f"{status.get('frontSize') or 0} trade-offs{infeasible}")
    head.add_row("hypervolume", status.get("hypervolumeText") or "-")
    head.add_row("time", f"{elapsed_s:.0f} s")
    for condition in status.get("conditions") or ():
        if (condition["type"], condition["status"]) in WORTH_A_LINE:
            head.add_row(condition["type"].lower(), plain(last_line(condition["message"])))
    return Group(head, _running(trials))


def one_line(study: Object, trials: Sequence[Object]) -> str:
    """Where it stands, for a log; what trials wait for only while none runs."""
    status = study.get("status") or {}
    words = [status.get("phase") or "Pending", f"trials {status.get('progress') or '0'}"]
    if spent := _spent(study):
        words.append(spent)
    if status.get("frontSize"):
        several = f"front {status['frontSize']}"
        words.append(f"best {_best(study)}" if _has_one_objective(study) else several)
        words.append(f"hypervolume {status['hypervolumeText']}")
    if not any(_phase(trial) == "Running" for trial in trials):
        waiting = _reasons(trials, "Queued").items()
        words += [f"waiting: {reason}: {last_line(messages[-1])}" for reason, messages in waiting]
    return ", ".join(words)


def last_words(study: Object) -> Text:
    """How it ended, and why."""
    status = study["status"]
    ended = next(c for c in status["conditions"] if c["type"] == status["phase"])
    first, *rest = ended["message"].strip().split("\n")
    words = [f"{status['phase']}: {ended['reason']}: {first}", *(f"  {line}" for line in rest)]
    return Text("\n").join(plain(line) for line in words)


def front_table(study: Object, trials: Sequence[Object], console: Console) -> RenderableType:
    """The front, a row a trial: objective values and configuration; the preferred one is named.

    Parameters have a column each if the console is wide enough for all, else one together.
    """
    status = study.get("status") or {}
    front = status.get("front") or ()
    if not front and status.get("infeasible"):
        return Text(f"none of {status['infeasible']} trials at full fidelity keeps the constraints")
    if not front:
        return Text("no trial has been observed at full fidelity")
    configurations = {t["spec"]["number"]: t["spec"]["parameters"] for t in trials}
    preferred = f", preferred: {status['preferred']['trial']}" if "preferred" in status else ""
    title = "Best" if _has_one_objective(study) else "Pareto front"
    table, narrow = (Table(title=Text(f"{title}{preferred}")) for _ in range(2))
    objectives = [o["name"] for o in study["spec"]["objectives"]]
    parameters = [p["name"] for p in study["spec"]["parameters"]]
    for name in ("trial", *objectives):
        table.add_column(plain(name), justify="right", no_wrap=True)
        narrow.add_column(plain(name), justify="right", no_wrap=True)
    for name in parameters:
        table.add_column(plain(name), justify="right")
    narrow.add_column("configuration", overflow="fold")
    for entry in front:
        given = configurations.get(entry["trial"], {})
        measured = (str(entry["trial"]), *(number(entry["values"][name]) for name in objectives))
        table.add_row(*measured, *(plain(number(given.get(name, "-"))) for name in parameters))
        narrow.add_row(*measured, _configuration(given))
    unlimited = console.options.update(width=sys.maxsize)
    fits = console.measure(table, options=unlimited).maximum <= console.width
    return table if fits else narrow


def _has_one_objective(study: Object) -> bool:
    return len(study["spec"]["objectives"]) == 1


def _best(study: Object) -> str:
    """The best value of the only objective."""
    found = (study.get("status") or {}).get("best") or {}
    return ", ".join(number(each["value"]) for each in found.values()) or "-"


def _configuration(parameters: Mapping[str, Any]) -> Text:
    return plain(", ".join(f"{k}={number(v)}" for k, v in sorted(parameters.items())))


def _counts(status: Object) -> str:
    counts = status.get("trials") or {}
    names = ("running", "queued", "paused", "completed", "failed", "stopped")
    return ", ".join(f"{counts[name]} {name}" for name in names if counts.get(name))


def _spent(study: Object) -> str:
    """Of the budgets that trials do not count: promotions spend those."""
    used, budget = (study.get("status") or {}).get("budgetUsed") or {}, study["spec"]["budget"]
    names = (("fullEvaluations", "full evaluations"), ("gpuHours", "GPU-hours"))
    return ", ".join(
        f"{words} {used.get(name) or 0:.4g}/{budget[name]:.4g}"
        for name, words in names
        if budget.get(name)
    )


def _rungs(trials: Sequence[Object]) -> str:
    """How many trials have been observed at each fidelity."""
    seen: Counter[float] = Counter()
    for trial in trials:
        for observation in (trial.get("status") or {}).get("observations") or ():
            seen[float(observation.get("fidelity") or 0)] += 1
    return ", ".join(f"{count} at {rung:g}" for rung, count in sorted(seen.items())) or "-"


def _running(trials: Sequence[Object]) -> RenderableType:
    open_ = [t for t in trials if _phase(t) in ("Queued", "Running")]
    if not open_:
        return Text("")
    table = Table(show_edge=False, pad_edge=False)
    for name in ("trial", "phase", "to", "configuration"):
        table.add_column(name)
    for trial in open_[:MAX_RUNNING]:
        status, spec = trial.get("status") or {}, trial["spec"]
        run = (status.get("runs") or [{}])[-1]
        reason = f" ({status['reason']})" if status.get("reason") else ""
        fidelity = run.get("fidelity", spec.get("fidelity"))
        table.add_row(
            str(spec["number"]),
            plain(_phase(trial) + reason),
            "-" if fidelity is None else f"{fidelity:g}",
            _configuration(spec["parameters"]),
        )
    return table


def _reasons(trials: Sequence[Object], phase: str) -> Mapping[str, Sequence[str]]:
    """Why trials are in a phase: the messages of each reason, the latest trial's last."""
    found: dict[str, list[str]] = {}
    for trial in trials:
        status = trial.get("status") or {}
        if _phase(trial) == phase and status.get("reason"):
            message = status.get("message") or "no message"
            found.setdefault(status["reason"], []).append(message)
    return found


def _phase(trial: Object) -> str:
    """A trial that has just been created has no status yet."""
    return str((trial.get("status") or {}).get("phase") or "Queued")
