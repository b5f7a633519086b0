"""A benchmark problem: what an optimizer is told of it, and what only the harness knows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Configuration = Mapping[str, Any]
# Objective or constrained metric -> value, in the problem's own unit and direction.
Values = Mapping[str, float]
# (configurations, fidelity) -> values of each, or None where such a training fails. Deterministic.
Evaluate = Callable[[Sequence[Configuration], float | None], list[Values | None]]
# Objective -> "good" | "bad" -> the configuration in which a prior believes.
Beliefs = Mapping[str, Mapping[str, Configuration]]

CONFIDENCE = 0.75
NO_PRIORS = "none"
NO_FIDELITY = "-no-fidelity"
ONE_OBJECTIVE = "-one-objective"
PRIOR_SETTINGS = ("good-good", "bad-good", "good-bad", "bad-bad", NO_PRIORS)


def one_by_one(evaluate: Callable[[Configuration, float | None], Values | None]) -> Evaluate:
    return lambda configurations, fidelity: [evaluate(c, fidelity) for c in configurations]


@dataclass(frozen=True, slots=True)
class Task:
    """A problem without what had to be computed for it.

    Attributes:
        group: over whose problems results are averaged.
        spec: as of a PriMOStudy, without priors and reference points.
    """

    name: str
    group: str
    spec: Mapping[str, Any]
    evaluate: Evaluate


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A task with its yardstick.

    Attributes:
        reference: objective -> worst value that counts in the hypervolume, in its own direction.
        attainable: hypervolume of about the best that there is, at full fidelity.
    """

    task: Task
    reference: Mapping[str, float]
    attainable: float
    beliefs: Beliefs

    def spec(self, priors: str) -> dict[str, Any]:
        """What the optimizer is told under a prior setting.

        `good-bad` is a good prior for the first objective of the spec and bad ones for the rest.
        """
        if priors == NO_PRIORS:
            return dict(self.task.spec)
        if priors not in PRIOR_SETTINGS:
            raise ValueError(f"priors: {priors!r} is not one of {', '.join(PRIOR_SETTINGS)}")
        first, rest = priors.split("-")
        names = [objective["name"] for objective in self.task.spec["objectives"]]
        qualities = [first] + [rest] * (len(names) - 1)
        believed = [
            _prior(name, self.beliefs[name][quality], self.task.spec["parameters"])
            for name, quality in zip(names, qualities, strict=True)
        ]
        return {**self.task.spec, "priors": believed}


def one_objective(task: Task) -> Task:
    """The same trainings for who minimises the first objective alone."""
    spec = {**task.spec, "objectives": task.spec["objectives"][:1]}
    return replace(
        task, name=task.name + ONE_OBJECTIVE, group=task.group + ONE_OBJECTIVE, spec=spec
    )


def without_fidelity(benchmark: Benchmark) -> Benchmark:
    """The same problem for who can only train to the end."""
    task = benchmark.task
    full = task.spec["fidelity"]["max"]
    spec = {name: value for name, value in task.spec.items() if name != "fidelity"}
    return replace(
        benchmark,
        task=Task(
            task.name + NO_FIDELITY,
            task.group + NO_FIDELITY,
            spec,
            lambda configurations, _: task.evaluate(configurations, full),
        ),
    )


def _prior(
    objective: str, center: Configuration, parameters: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    beliefs = [
        {"name": p["name"], "choice" if "categorical" in p else "center": center[p["name"]]}
        for p in parameters
    ]
    return {"objective": objective, "confidence": CONFIDENCE, "parameters": beliefs}


def floating(name: str, low: float = 0.0, high: float = 1.0, log: bool = False) -> dict[str, Any]:
    return {"name": name, "float": {"min": low, "max": high, "log": log}}


def whole(name: str, low: int, high: int, log: bool = False) -> dict[str, Any]:
    return {"name": name, "int": {"min": low, "max": high, "log": log}}
