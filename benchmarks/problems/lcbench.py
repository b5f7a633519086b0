"""LCBench as YAHPO Gym's neural surrogate: tabular networks, 34 data sets, 52 epochs.

Zimmer, Lindauer, Hutter (TPAMI 2021); Pfisterer et al. (AutoML 2022). Run with onnxruntime.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from problems.benchmark import Configuration, Evaluate, Task, Values, floating, whole

# Those of the paper, on whose mean results are reported.
PAPER_TASKS = ("126026", "146212", "168330", "168868")

OUTPUTS = (
    "time",
    "val_accuracy",
    "val_cross_entropy",
    "val_balanced_accuracy",
    "test_cross_entropy",
    "test_balanced_accuracy",
)
# In the order of the surrogate's inputs, after the epoch.
PARAMETERS = (
    whole("batch_size", 16, 512, log=True),
    floating("learning_rate", 1e-4, 0.1, log=True),
    floating("momentum", 0.1, 0.99),
    floating("weight_decay", 1e-5, 0.1),
    whole("num_layers", 1, 5),
    whole("max_units", 64, 1024, log=True),
    floating("max_dropout"),
)
EPOCHS = {"name": "epoch", "min": 1, "max": 52}
# The steady-state step of SGD with momentum, beyond which `diverging` trainings end.
MAX_EFFECTIVE_RATE = 0.3


def all_tasks(data: Path) -> list[str]:
    """Identifiers of the 34 data sets."""
    codes = json.loads((data / "lcbench" / "encoding.json").read_text())["OpenML_task_id"]
    return sorted((task for task in codes if task.isdigit()), key=int)


def task(identifier: str, data: Path) -> Task:
    """Cross entropy against training time, both minimised, as in the PriMO paper."""
    group = "lcbench" if identifier in PAPER_TASKS else "lcbench-others"
    evaluate = surrogate(identifier, data)
    return Task(f"lcbench-{identifier}", group, _spec("val_cross_entropy", "time"), evaluate)


def diverging(identifier: str, data: Path) -> Task:
    """The same where trainings fail whose step is too long."""
    evaluate = surrogate(identifier, data)

    def attempt(
        configurations: Sequence[Configuration], epoch: float | None
    ) -> list[Values | None]:
        rates = [c["learning_rate"] / (1.0 - c["momentum"]) for c in configurations]
        results = evaluate(configurations, epoch)
        return [
            None if rate > MAX_EFFECTIVE_RATE else values
            for rate, values in zip(rates, results, strict=True)
        ]

    spec = _spec("val_cross_entropy", "time")
    return Task(f"lcbench-{identifier}-diverging", "special", spec, attempt)


def three_objectives(identifier: str, data: Path) -> Task:
    """With balanced error as a third objective."""
    evaluate = surrogate(identifier, data)
    spec = _spec("val_cross_entropy", "time", "val_balanced_error")
    return Task(f"lcbench-{identifier}-m3", "special", spec, evaluate)


def _spec(*objectives: str) -> dict[str, Any]:
    return {
        "objectives": [{"name": name} for name in objectives],
        "parameters": list(PARAMETERS),
        "fidelity": EPOCHS,
    }


def surrogate(identifier: str, data: Path) -> Evaluate:
    """All outputs of the surrogate, and `val_balanced_error` in [0, 1]."""
    codes = json.loads((data / "lcbench" / "encoding.json").read_text())["OpenML_task_id"]
    if identifier not in codes:
        raise ValueError(f"lcbench-{identifier}: is not one of {', '.join(all_tasks(data))}")
    session = _session(data / "lcbench" / "model.onnx")
    categorical, continuous = (tensor.name for tensor in session.get_inputs())

    def evaluate(
        configurations: Sequence[Configuration], epoch: float | None
    ) -> list[Values | None]:
        rows = [[epoch, *(c[p["name"]] for p in PARAMETERS)] for c in configurations]
        inputs = {
            categorical: np.full((len(rows), 1), codes[identifier], dtype=np.int32),
            continuous: np.array(rows, dtype=np.float32),
        }
        (outputs,) = session.run(None, inputs)
        return [_values(row) for row in outputs.astype(float).tolist()]

    return evaluate


def _values(row: Sequence[float]) -> Values:
    values = dict(zip(OUTPUTS, row, strict=True))
    return {**values, "val_balanced_error": 1.0 - values["val_balanced_accuracy"]}


@cache
def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
