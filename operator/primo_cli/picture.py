"""The front as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Object = Mapping[str, Any]


def save_front(study: Object, trials: Sequence[Object], path: Path) -> None:
    """Save a PNG: each pair of the first objective with another, all trials and the front."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    front = study["status"]["front"]
    names = [o["name"] for o in study["spec"]["objectives"]]
    first, others = names[0], names[1:] or names[:1]
    figure, axes = pyplot.subplots(
        1, len(others), figsize=(6 * len(others), 4.5), squeeze=False, layout="constrained"
    )
    last = [seen for trial in trials if (seen := _last(trial))]
    kinds = {
        True: ("o", "0.7", "trials, at their highest fidelity"),
        False: ("x", "tab:red", "infeasible"),
    }
    for axis, other in zip(axes[0], others, strict=True):
        for feasible, (marker, color, label) in kinds.items():
            values = [v["values"] for v in last if (v.get("feasible") is not False) is feasible]
            if values:
                x, y = [v[other] for v in values], [v[first] for v in values]
                axis.scatter(x, y, s=18, marker=marker, color=color, label=label)
        points = sorted((e["values"][other], e["values"][first]) for e in front)
        axis.plot(*zip(*points, strict=True), "o-", color="tab:blue", label="Pareto front")
        axis.set_xlabel(other)
        axis.set_ylabel(first)
        axis.legend()
    figure.suptitle(str(study["metadata"]["name"]))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _last(trial: Object) -> Mapping[str, Any] | None:
    observations = (trial.get("status") or {}).get("observations") or ()
    return observations[-1] if observations else None
