"""PD1, distilled: tuning of large networks (Wang et al., JMLR 2024), through boosted trees.

The original surrogates are not at hand. These were fitted on what the published runs of PriMO
evaluated there, so they are less reliable the farther a configuration is from those runs.
"""

import gzip
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from problems.benchmark import Configuration, Task, Values, floating, one_by_one

# Name -> epochs of a full training.
TASKS = {
    "cifar100-wide_resnet-2048": 199,
    "imagenet-resnet-512": 99,
    "lm1b-transformer-2048": 74,
    "translate_wmt-xformer_translate-64": 19,
}
# In the order of the boosters' inputs, before the epoch.
PARAMETERS = (
    floating("lr_decay_factor", 0.01, 0.99),
    floating("lr_initial", 1e-5, 10.0, log=True),
    floating("lr_power", 0.1, 2.0),
    floating("opt_momentum", 5.8e-5, 0.999, log=True),
)


def task(name: str, data: Path) -> Task:
    """Validation error against the cost of training, both minimised."""
    if name not in TASKS:
        raise ValueError(f"pd1-{name}: is not one of {', '.join(TASKS)}")
    error, cost = (_booster(data / "pd1" / f"{name}.{what}.json.gz") for what in ("error", "cost"))

    def evaluate(configuration: Configuration, epoch: float | None) -> Values:
        assert epoch is not None
        units = [_to_unit(configuration[p["name"]], **p["float"]) for p in PARAMETERS]
        row = np.array([[*units, math.log(epoch)]], dtype=np.float32)
        return {
            "valid_error_rate": min(max(_predicted(error, row), 0.0), 1.0),
            "train_cost": math.exp(_predicted(cost, row)),
        }

    spec = {
        "objectives": [{"name": "valid_error_rate"}, {"name": "train_cost"}],
        "parameters": list(PARAMETERS),
        "fidelity": {"name": "epoch", "min": 1, "max": TASKS[name]},
    }
    return Task(f"pd1-{name}", "pd1", spec, one_by_one(evaluate))


def _to_unit(value: float, min: float, max: float, log: bool) -> float:  # noqa: A002
    if log:
        return math.log(value / min) / math.log(max / min)
    return (value - min) / (max - min)


def _predicted(booster: Any, row: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    return float(booster.inplace_predict(row)[0])


@cache
def _booster(file: Path) -> Any:
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(gzip.decompress(file.read_bytes())))
    booster.set_param({"nthread": 1})
    return booster
