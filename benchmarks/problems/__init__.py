"""Benchmark problems by name.

lcbench-<id>, pd1-<name>, the synthetic ones, and variants of them with what real studies also
have: failures, constraints, three objectives. With `-one-objective` behind it, the first one alone;
with `-no-fidelity` behind that, without a fidelity.
bt-<name> are test problems of BoTorch.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from problems import botorch_suite, lcbench, pd1, synthetic
from problems.benchmark import (
    NO_FIDELITY,
    NO_PRIORS,
    ONE_OBJECTIVE,
    PRIOR_SETTINGS,
    Benchmark,
    Task,
    one_objective,
    without_fidelity,
)
from problems.yardstick import load_yardstick

__all__ = ["NO_PRIORS", "PRIOR_SETTINGS", "Benchmark", "Task", "expand", "load", "task"]

# The default of `expand("all")`; the other 30 tasks of LCBench are there to report on.
GROUPS = ("lcbench", "pd1", "synthetic", "special")


def expand(words: Iterable[str], data: Path) -> list[str]:
    """Names of problems from names and groups, in order, each once."""
    names: list[str] = []
    for word in words:
        names += _GROUPS[word](data) if word in _GROUPS else [word]
    return list(dict.fromkeys(names))


def task(name: str, data: Path) -> Task:
    """The problem of this name, without reference point, priors and attainable hypervolume.

    Raises:
        ValueError: there is none.
    """
    if name.endswith(ONE_OBJECTIVE):
        return one_objective(task(name.removesuffix(ONE_OBJECTIVE), data))
    if name in synthetic.TASKS:
        return synthetic.TASKS[name]
    family, _, rest = name.partition("-")
    if family == "pd1":
        return pd1.task(rest, data)
    if family == botorch_suite.PREFIX:
        return botorch_suite.task(rest)
    if family != "lcbench":
        raise ValueError(f"problem: {name!r} is unknown (groups: {', '.join(_GROUPS)})")
    identifier, _, variant = rest.partition("-")
    variants = {
        "": lcbench.task,
        "diverging": lcbench.diverging,
        "m3": lcbench.three_objectives,
    }
    if variant not in variants:
        raise ValueError(f"problem: {name!r}: variant is not one of {', '.join(variants)}")
    return variants[variant](identifier, data)


def load(name: str, data: Path) -> Benchmark:
    """The problem of this name with all that a benchmark needs.

    Raises:
        ValueError: there is none, or its yardstick has not been computed.
    """
    if name.endswith(NO_FIDELITY):
        return without_fidelity(load(name.removesuffix(NO_FIDELITY), data))
    return load_yardstick(task(name, data), data)


def _paper_tasks(data: Path) -> list[str]:  # noqa: ARG001
    return [f"lcbench-{task}" for task in lcbench.PAPER_TASKS]


def _other_tasks(data: Path) -> list[str]:
    tasks = lcbench.all_tasks(data)
    return [f"lcbench-{task}" for task in tasks if task not in lcbench.PAPER_TASKS]


def _pd1(data: Path) -> list[str]:  # noqa: ARG001
    return [f"pd1-{name}" for name in pd1.TASKS]


def _variants(suffix: str) -> Callable[[Path], list[str]]:
    return lambda data: [name + suffix for name in expand(("lcbench", "pd1"), data)]


def _synthetic(data: Path) -> list[str]:  # noqa: ARG001
    return [name for name, task in synthetic.TASKS.items() if task.group == "synthetic"]


def _special(data: Path) -> list[str]:  # noqa: ARG001
    own = [name for name, task in synthetic.TASKS.items() if task.group == "special"]
    return [*own, f"mf-dtlz2-d6m2{NO_FIDELITY}", "lcbench-126026-diverging", "lcbench-126026-m3"]


def _botorch(data: Path) -> list[str]:  # noqa: ARG001
    return list(botorch_suite.TASKS)


def _all(data: Path) -> list[str]:
    return expand(GROUPS, data)


_GROUPS: dict[str, Callable[[Path], list[str]]] = {
    "lcbench": _paper_tasks,
    "lcbench-others": _other_tasks,
    "pd1": _pd1,
    "synthetic": _synthetic,
    "no-fidelity": _variants(NO_FIDELITY),
    "one-objective": _variants(ONE_OBJECTIVE),
    "one-objective-no-fidelity": _variants(ONE_OBJECTIVE + NO_FIDELITY),
    "botorch": _botorch,
    "special": _special,
    "all": _all,
}
