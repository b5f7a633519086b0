"""Problems in closed form, with low fidelities that mislead, and what real studies also have."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from problems.benchmark import Configuration, Task, Values, floating, one_by_one, whole

EPOCHS = {"name": "epochs", "min": 1, "max": 27}
# What a `mixed` training may take, in units of width times depth.
MAX_MEMORY = 8.0


def _share(epochs: float | None) -> float:
    """Of the full fidelity; without a fidelity all of it."""
    return 1.0 if epochs is None else epochs / EPOCHS["max"]


def branin_currin(configuration: Configuration, epochs: float | None) -> Values:
    """Branin's and Currin's functions (Belakaria et al., NeurIPS 2019), biased at low fidelity."""
    x, y, missing = configuration["x"], configuration["y"], 1.0 - _share(epochs)
    u, v = 15.0 * x - 5.0, 15.0 * y
    curve = v - (5.1 / (4 * math.pi**2) - 0.01 * missing) * u**2
    curve += (5 / math.pi - 0.1 * missing) * u - 6
    branin = curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(u) + 10
    decay = 0.0 if y <= 0.0 else math.exp(-1 / (2 * y))
    currin = 2300 * x**3 + 1900 * x**2 + 2092 * x + 60
    currin /= 100 * x**3 + 500 * x**2 + 4 * x + 20
    return {"branin": branin, "currin": currin * (1 - (1 - 0.2 * missing) * decay)}


def dtlz2(objectives: int) -> Callable[[Configuration, float | None], Values]:
    """DTLZ2 (Deb et al. 2002): a concave front, which no weighted sum of objectives covers.

    At low fidelity the best values of the distance parameters lie elsewhere.
    """

    def evaluate(configuration: Configuration, epochs: float | None) -> Values:
        missing = 1.0 - _share(epochs)
        x = [configuration[name] for name in sorted(configuration)]
        angles, distances = x[: objectives - 1], x[objectives - 1 :]
        radius = 1.0 + 0.3 * missing
        radius += sum((value - 0.5 - 0.1 * missing) ** 2 for value in distances)
        values = {}
        for j in range(objectives):
            value = radius
            for angle in angles[: objectives - 1 - j]:
                value *= math.cos(angle * math.pi / 2)
            if j:
                value *= math.sin(angles[objectives - 1 - j] * math.pi / 2)
            values[f"f{j + 1}"] = value
        return values

    return evaluate


def mixed(configuration: Configuration, epochs: float | None) -> Values:
    """A training in miniature, over all kinds of parameters: error against latency."""
    c, missing = configuration, 1.0 - _share(epochs)
    size = c["layers"] * (c["width"] / 64) ** 0.5
    activation = {"relu": 0.04, "gelu": 0.0, "tanh": 0.1}[c["activation"]]
    schedule = {"constant": 0.08, "cosine": 0.0, "step": 0.03}[c["schedule"]]
    best_rate = -2.5 - 0.2 * c["layers"] / 6 + (0.4 if c["schedule"] == "cosine" else 0.0)
    rate = 0.12 * (math.log10(c["learning_rate"]) - best_rate) ** 2
    dropout = 0.3 * (c["dropout"] - 0.05 * size) ** 2
    slow = (0.15 + 0.03 * size) * missing * (1.5 if c["learning_rate"] < 1e-3 else 1.0)
    error = 0.05 + 0.5 / (1 + size) + activation + schedule + rate + dropout + slow
    latency = 1.0 + size * (1.25 if c["activation"] == "gelu" else 1.0)
    return {"error": min(error, 1.0), "latency": latency}


def mixed_in_memory(configuration: Configuration, epochs: float | None) -> Values:
    memory = configuration["layers"] * configuration["width"] / 64
    return {**mixed(configuration, epochs), "memory": memory}


def single(configuration: Configuration, epochs: float | None) -> Values:
    """Branin's function alone."""
    return {"branin": branin_currin(configuration, epochs)["branin"]}


PLANE = [floating("x"), floating("y")]
CUBE = [floating(f"x{i + 1}") for i in range(6)]
NETWORK = [
    floating("learning_rate", 1e-5, 1e-1, log=True),
    floating("dropout", 0.0, 0.8),
    whole("layers", 1, 6),
    {"name": "width", "ordinal": {"values": [16, 32, 64, 128, 256]}},
    {"name": "activation", "categorical": {"choices": ["relu", "gelu", "tanh"]}},
    {"name": "schedule", "categorical": {"choices": ["constant", "cosine", "step"]}},
]


def _task(
    name: str,
    group: str,
    evaluate: Callable[[Configuration, float | None], Values],
    objectives: Sequence[str],
    parameters: Sequence[Mapping[str, Any]],
    **more: Any,
) -> Task:
    spec = {
        "objectives": [{"name": name} for name in objectives],
        "parameters": parameters,
        "fidelity": EPOCHS,
        **more,
    }
    return Task(name, group, spec, one_by_one(evaluate))


IN_MEMORY = {"constraints": [{"metric": "memory", "atMost": MAX_MEMORY}]}

_TASKS = (
    _task("mf-branin-currin", "synthetic", branin_currin, ("branin", "currin"), PLANE),
    _task("mf-dtlz2-d6m2", "synthetic", dtlz2(2), ("f1", "f2"), CUBE),
    _task("mixed-toy", "synthetic", mixed, ("error", "latency"), NETWORK),
    _task("mf-dtlz2-d6m3", "special", dtlz2(3), ("f1", "f2", "f3"), CUBE),
    _task("mf-branin", "special", single, ("branin",), PLANE),
    _task(
        "mixed-toy-constrained",
        "special",
        mixed_in_memory,
        ("error", "latency"),
        NETWORK,
        **IN_MEMORY,
    ),
)
TASKS: Mapping[str, Task] = {task.name: task for task in _TASKS}
# As the literature has them; those of the others are derived from random configurations.
REFERENCES: Mapping[str, Mapping[str, float]] = {
    "mf-branin-currin": {"branin": 18.0, "currin": 6.0},
    "mf-dtlz2-d6m2": {"f1": 1.1, "f2": 1.1},
    "mf-dtlz2-d6m3": {"f1": 1.1, "f2": 1.1, "f3": 1.1},
}
# Above the best front of DTLZ2, which is a part of the unit sphere; the others' are searched for.
ATTAINABLE: Mapping[str, float] = {
    "mf-dtlz2-d6m2": 1.1**2 - math.pi / 4,
    "mf-dtlz2-d6m3": 1.1**3 - math.pi / 6,
}
