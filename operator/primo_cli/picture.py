"""The front as a picture."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

Object = Mapping[str, Any]


def save_front(study: Object, trials: Sequence[Object], path: Path) -> None:
    """Save a PNG: each pair of the first objective with another, all trials and the front.

    Of a single objective there are its values by trial, and the best so far.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = [o["name"] for o in study["spec"]["objectives"]]
    others = names[1:]
    plots = max(len(others), 1)
    figure, axes = pyplot.subplots(
        1, plots, figsize=(6 * plots, 4.5), squeeze=False, layout="constrained"
    )
    if not others:
        _draw_progress(axes[0][0], study["spec"]["objectives"][0], trials)
    for axis, other in zip(axes[0], others, strict=False):
        _draw_trials(axis, trials, names[0], other)
        points = sorted(
            (e["values"][other], e["values"][names[0]]) for e in study["status"]["front"]
        )
        # A line stands for a front only where there are no further objectives.
        style = "o-" if len(names) == 2 else "o"
        axis.plot(*zip(*points, strict=True), style, color="tab:blue", label="Pareto front")
        axis.set_xlabel(other)
    for axis in axes[0]:
        axis.set_ylabel(names[0])
        axis.legend()
    figure.suptitle(str(study["metadata"]["name"]))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_trials(axis: Any, trials: Sequence[Object], first: str, other: str | None) -> None:
    """All that were observed, by another objective or, without one, by number."""
    kinds = {
        True: ("o", "0.7", "trials, at their highest fidelity"),
        False: ("x", "tab:red", "infeasible"),
    }
    for feasible, (marker, color, label) in kinds.items():
        points = [
            (seen["values"][other] if other else trial["spec"]["number"], seen["values"][first])
            for trial in trials
            if (seen := _last(trial)) and (seen.get("feasible") is not False) is feasible
        ]
        if points:
            axis.scatter(*zip(*points, strict=True), s=18, marker=marker, color=color, label=label)


def _draw_progress(axis: Any, objective: Object, trials: Sequence[Object]) -> None:
    _draw_trials(axis, trials, objective["name"], None)
    numbers, best = best_so_far(objective, trials)
    axis.plot(numbers, best, color="tab:blue", drawstyle="steps-post", label="best so far")
    axis.set_xlabel("trial")


def best_so_far(objective: Object, trials: Sequence[Object]) -> tuple[list[int], list[float]]:
    """By number, the feasible trials at full fidelity and the best value up to each."""
    done = [
        (trial["spec"]["number"], seen["values"][objective["name"]])
        for trial in trials
        if (seen := _last(trial))
        and trial["status"]["phase"] == "Completed"
        and seen.get("feasible") is not False
    ]
    better = max if objective["goal"] == "Maximize" else min
    return [number for number, _ in done], list(accumulate((value for _, value in done), better))


def _last(trial: Object) -> Mapping[str, Any] | None:
    observations = (trial.get("status") or {}).get("observations") or ()
    return observations[-1] if observations else None
