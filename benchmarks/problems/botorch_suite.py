"""Test problems of BoTorch: engineering designs and functions of the literature, no fidelity.

Nothing here is a training. They are here to tell how the optimizer does elsewhere: more parameters,
three objectives, constraints, one objective with many optima, and fronts that lie inside the space
where those of trainings lie on its bounds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from botorch.test_functions import Ackley, Hartmann, Levy, Rosenbrock
from botorch.test_functions.base import BaseTestProblem
from botorch.test_functions.multi_objective import (
    C2DTLZ2,
    DTLZ2,
    ZDT1,
    ZDT2,
    DiscBrake,
    Penicillin,
    VehicleSafety,
)

from problems.benchmark import Configuration, Task, Values, floating

PREFIX = "bt"
_MAKE: Mapping[str, Callable[[], BaseTestProblem]] = {
    "vehicle-safety": VehicleSafety,
    "penicillin": Penicillin,
    "disc-brake": DiscBrake,
    "c2dtlz2-d4": lambda: C2DTLZ2(dim=4),
    "dtlz2-d6m3": lambda: DTLZ2(dim=6, num_objectives=3),
    "zdt1-d8": lambda: ZDT1(dim=8),
    "zdt2-d5": lambda: ZDT2(dim=5),
    "hartmann-d6": lambda: Hartmann(dim=6),
    "ackley-d5": lambda: Ackley(dim=5),
    "levy-d8": lambda: Levy(dim=8),
    "rosenbrock-d10": lambda: Rosenbrock(dim=10),
}
TASKS = tuple(f"{PREFIX}-{name}" for name in _MAKE)
# As BoTorch has them, where they are not so loose that any front has nearly all of the hypervolume;
# with one objective, what a few draws at random reach.
REFERENCES: Mapping[str, Mapping[str, float]] = {
    "bt-vehicle-safety": {"f1": 1864.72022, "f2": 11.81993945, "f3": 0.2903999384},
    "bt-penicillin": {"f1": 25.935, "f2": 57.612, "f3": 935.5},
    "bt-disc-brake": {"f1": 5.7771, "f2": 3.9651},
    "bt-c2dtlz2-d4": {"f1": 1.1, "f2": 1.1},
    "bt-dtlz2-d6m3": {"f1": 1.1, "f2": 1.1, "f3": 1.1},
    "bt-hartmann-d6": {"f1": 0.0},
    "bt-ackley-d5": {"f1": 20.0},
    "bt-levy-d8": {"f1": 60.0},
    "bt-rosenbrock-d10": {"f1": 2e5},
}
ATTAINABLE: Mapping[str, float] = {
    "bt-vehicle-safety": 246.81607081187002,
    "bt-penicillin": 2183455.909507436,
    "bt-c2dtlz2-d4": 0.3996406303723544,
    "bt-dtlz2-d6m3": 0.8074012244017015,
}


def task(name: str) -> Task:
    """Its objectives are f1, f2 and so on, all minimised; constraints c1, c2 are at least 0."""
    if name not in _MAKE:
        raise ValueError(f"{PREFIX}-{name}: is not one of {', '.join(_MAKE)}")
    function = _MAKE[name]().double()
    objectives = [f"f{j + 1}" for j in range(function.num_objectives)]
    constraints = [f"c{j + 1}" for j in range(getattr(function, "num_constraints", 0))]
    parameters = [
        floating(f"x{j + 1:02}", low, high)
        for j, (low, high) in enumerate(function.bounds.T.tolist())
    ]

    def evaluate(configurations: Sequence[Configuration], _: float | None) -> list[Values | None]:
        rows = [[c[p["name"]] for p in parameters] for c in configurations]
        X = torch.tensor(rows, dtype=torch.double)
        columns = [function.evaluate_true(X).reshape(len(X), -1)]
        if constraints:
            columns.append(function.evaluate_slack_true(X))
        seen = torch.cat(columns, dim=1).tolist()
        return [dict(zip((*objectives, *constraints), row, strict=True)) for row in seen]

    spec: dict[str, Any] = {
        "objectives": [{"name": objective} for objective in objectives],
        "parameters": parameters,
    }
    if constraints:
        spec["constraints"] = [{"metric": name, "atLeast": 0.0} for name in constraints]
    group = "botorch" if len(objectives) > 1 else "botorch-single"
    return Task(f"{PREFIX}-{name}", group, spec, evaluate)
