"""Problems to optimize in tests, and a clockless simulation of workers that run the trials."""

import heapq
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer import Observation, Problem, Suggestion, Trial, suggest
from primo_optimizer.pareto import hypervolume
from primo_optimizer.rungs import reached

Evaluate = Callable[[Mapping[str, Any], float], dict[str, float] | None]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A problem with its truth.

    Attributes:
        spec: as of a PriMOStudy.
        evaluate: (configuration, share of the full fidelity) -> values of the objectives and of
            the constraints' metrics, or None if it fails.
        reference: a loss for each objective, in the order of their names.
    """

    spec: Mapping[str, Any]
    evaluate: Evaluate
    reference: tuple[float, ...] = ()

    def problem(self, **changes: Any) -> Problem:
        """With these keys of the spec changed; None takes one out."""
        spec = {k: v for k, v in {**self.spec, **changes}.items() if v is not None}
        return Problem.from_spec(spec)


def _float(name: str, low: float = 0.0, high: float = 1.0, log: bool = False) -> dict[str, Any]:
    return {"name": name, "float": {"min": low, "max": high, "log": log}}


def _branin_currin(c: Mapping[str, Any], share: float) -> dict[str, float]:
    """Both are wrong at low fidelity, each in its own way; values about 0 to 1."""
    x, y = c["x"], c["y"]
    u, v = 15.0 * x - 5.0, 15.0 * y
    curve = v - (5.1 / (4 * math.pi**2) - 0.02 * (1 - share)) * u**2 + 5 * u / math.pi - 6
    branin = curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(u) + 10
    currin = 2300 * x**3 + 1900 * x**2 + 2092 * x + 60
    currin /= 100 * x**3 + 500 * x**2 + 4 * x + 20
    currin *= 1 - (0.8 + 0.2 * share) * math.exp(-1 / (2 * max(y, 1e-9)))
    return {"branin": branin / 300.0, "currin": currin / 14.0}


BRANIN_CURRIN = Benchmark(
    {
        "objectives": [{"name": "branin"}, {"name": "currin"}],
        "parameters": [_float("x"), _float("y")],
        "fidelity": {"name": "epochs", "min": 1, "max": 27},
    },
    _branin_currin,
    reference=(0.2, 1.0),
)


def _branin_currin_on_a_disk(c: Mapping[str, Any], share: float) -> dict[str, float]:
    """As in Gelbart, Snoek, Adams (arXiv 1403.5607): two of Branin's three minima are outside."""
    u, v = 15.0 * c["x"] - 5.0, 15.0 * c["y"]
    return {**_branin_currin(c, share), "distance": (u - 2.5) ** 2 + (v - 7.5) ** 2}


DISK = Benchmark(
    {**BRANIN_CURRIN.spec, "constraints": [{"metric": "distance", "atMost": 50}]},
    _branin_currin_on_a_disk,
    reference=BRANIN_CURRIN.reference,
)


def _training(c: Mapping[str, Any], share: float) -> dict[str, float]:
    """A training in miniature: error falls with size and data, latency grows with size."""
    rate = math.log10(c["lr"]) + 2.5 + 0.25 * c["layers"] / 6
    size = c["layers"] * (c["width"] / 64) ** 0.5
    kind = {"relu": 0.05, "gelu": 0.0, "tanh": 0.2}[c["activation"]]
    error = 0.15 * rate**2 + 0.5 / (1 + size) + kind + 0.3 * math.exp(-5 * share)
    latency = size * (1.0 + (c["activation"] == "gelu") * 0.3)
    return {"accuracy": 1.0 - min(error, 2.0), "latency": latency}


TRAINING = Benchmark(
    {
        "objectives": [{"name": "latency"}, {"name": "accuracy", "goal": "Maximize"}],
        "parameters": [
            _float("lr", 1e-5, 1e-1, log=True),
            {"name": "layers", "int": {"min": 1, "max": 6}},
            {"name": "width", "ordinal": {"values": [16, 32, 64, 128, 256]}},
            {"name": "activation", "categorical": {"choices": ["relu", "gelu", "tanh"]}},
        ],
        "fidelity": {"name": "epochs", "min": 1, "max": 27},
        "priors": [
            {
                "objective": "accuracy",
                "parameters": [
                    {"name": "lr", "center": 2e-3},
                    {"name": "layers", "center": 6},
                    {"name": "width", "center": 256},
                    {"name": "activation", "choice": "gelu"},
                ],
            },
            {
                "objective": "latency",
                "parameters": [
                    {"name": "layers", "center": 1},
                    {"name": "width", "center": 16, "confidence": 0.9},
                    {"name": "activation", "weights": {"relu": 2, "tanh": 1}},
                ],
            },
        ],
    },
    _training,
    reference=(-0.2, 12.0),  # accuracy, latency
)


def _training_in_memory(c: Mapping[str, Any], share: float) -> dict[str, float]:
    return {**_training(c, share), "memory": c["layers"] * c["width"] / 64}


# What the prior on accuracy believes in takes twelve times the memory there is.
LIMITED = Benchmark(
    {
        **TRAINING.spec,
        "constraints": [
            {"metric": "memory", "atMost": 2},
            {"metric": "accuracy", "atLeast": 0.3},
        ],
    },
    _training_in_memory,
    reference=TRAINING.reference,
)


def _around(c: Mapping[str, Any], best: float, share: float) -> float:
    """Mean squared distance from a point with equal coordinates, which low fidelities shift."""
    shift = 0.1 * (1 - share)
    return sum((value - best - shift) ** 2 for value in c.values()) / len(c)


WIDE = Benchmark(
    {
        "objectives": [{"name": "a"}, {"name": "b"}],
        "parameters": [_float(f"x{i}") for i in range(8)],
        "fidelity": {"name": "epochs", "min": 1, "max": 27},
        "priors": [
            {
                "objective": objective,
                "parameters": [{"name": f"x{i}", "center": center} for i in range(8)],
            }
            for objective, center in (("a", 0.3), ("b", 0.65))
        ],
    },
    lambda c, share: {"a": _around(c, 0.2, share), "b": _around(c, 0.7, share)},
    reference=(0.25, 0.25),
)

TINY = Benchmark(
    {
        "objectives": [{"name": "a"}, {"name": "b"}],
        "parameters": [
            {"name": "i", "int": {"min": 1, "max": 3}},
            {"name": "c", "categorical": {"choices": ["x", "y"]}},
        ],
        "fidelity": {"name": "steps", "min": 1, "max": 9},
        "priors": [{"objective": "a", "parameters": [{"name": "i", "center": 2}]}],
    },
    lambda c, share: {"a": c["i"] + share, "b": -c["i"] * (c["c"] == "x") - share},
)

CONDITIONAL_PARAMETERS: list[dict[str, Any]] = [
    {"name": "model", "categorical": {"choices": ["forest", "network"]}},
    {
        "name": "optimizer",
        "categorical": {"choices": ["adam", "sgd"]},
        "when": {"model": ["network"]},
    },
    {**_float("momentum"), "when": {"optimizer": ["sgd"]}},
    {"name": "trees", "int": {"min": 1, "max": 64}, "when": {"model": ["forest"]}},
    _float("size"),
]


def _conditional(c: Mapping[str, Any], share: float) -> dict[str, float]:
    error = (c["size"] - 0.8) ** 2 + 0.2 * (1 - share)
    if c["model"] == "forest":
        return {"error": error + 0.3 + 1 / c["trees"], "cost": c["size"] * c["trees"] / 64}
    if c["optimizer"] == "sgd":
        error += (c["momentum"] - 0.9) ** 2
    return {"error": error + 0.1 * (c["optimizer"] == "adam"), "cost": c["size"]}


CONDITIONAL = Benchmark(
    {
        "objectives": [{"name": "error"}, {"name": "cost"}],
        "parameters": CONDITIONAL_PARAMETERS,
        "fidelity": {"name": "epochs", "min": 1, "max": 9},
        "priors": [{"objective": "error", "parameters": [{"name": "momentum", "center": 0.9}]}],
    },
    _conditional,
    reference=(1.0, 1.0),
)

THREE = Benchmark(
    {
        "objectives": [{"name": "a"}, {"name": "b"}, {"name": "c", "goal": "Maximize"}],
        "parameters": [_float("x"), _float("y"), _float("z")],
        "fidelity": {"name": "epochs", "min": 0.5, "max": 4.5},
    },
    lambda c, share: {
        "a": (c["x"] - 0.2) ** 2 + 0.1 * (1 - share),
        "b": (c["x"] - 0.8) ** 2 + (c["y"] - 0.5) ** 2,
        "c": -((c["y"] - 0.1) ** 2) - (c["z"] - share) ** 2,
    },
)

ONE = Benchmark(
    {
        "objectives": [{"name": "loss"}],
        "parameters": [_float("x"), _float("y", 1e-3, 1.0, log=True)],
    },
    lambda c, share: {"loss": (c["x"] - 0.3) ** 2 + (math.log10(c["y"]) + 1) ** 2},
)


def failing_where(benchmark: Benchmark, fails: Callable[[Mapping[str, Any]], bool]) -> Benchmark:
    def evaluate(configuration: Mapping[str, Any], share: float) -> dict[str, float] | None:
        return None if fails(configuration) else benchmark.evaluate(configuration, share)

    return replace(benchmark, evaluate=evaluate)


@dataclass(frozen=True, slots=True)
class Ask:
    """One call of `suggest` and what it gave."""

    trials: tuple[Trial, ...]
    count: int
    suggestions: tuple[Suggestion, ...]


@dataclass(slots=True)
class Simulation:
    """Asynchronous workers: each takes the next suggestion as soon as it is free.

    A run lasts as long as the fidelity it adds, times a factor that is a function of the trial;
    so runs overtake each other, and the whole is deterministic.
    """

    benchmark: Benchmark
    problem: Problem
    workers: int = 1
    seed: int = 0
    trials: dict[int, Trial] = field(default_factory=dict)
    asks: list[Ask] = field(default_factory=list)
    spent: float = 0.0
    _running: list[tuple[float, int]] = field(default_factory=list)
    _now: float = 0.0

    def run(self, budget: float) -> "Simulation":
        """Until runs worth `budget` full evaluations have been started, and all have ended."""
        while True:
            free = self.workers - len(self._running)
            if free and self.spent < budget:
                self._start(self._ask(free))
            if not self._running:
                return self
            self._finish_next()

    def _ask(self, count: int) -> tuple[Suggestion, ...]:
        known = tuple(self.trials.values())
        suggestions = tuple(suggest(self.problem, known, count, self.seed))
        self.asks.append(Ask(known, count, suggestions))
        return suggestions

    def _start(self, suggestions: Sequence[Suggestion]) -> None:
        for s in suggestions:
            trial = self.trials.get(s.trial) or Trial(s.trial, s.configuration)
            self.trials[s.trial] = replace(trial, running=True, fidelity=s.fidelity)
            cost = self._share(s.fidelity) - self._share(reached(trial) or 0.0, 0.0)
            self.spent += cost
            pace = 0.5 + np.random.default_rng([s.trial, 7]).random()
            heapq.heappush(self._running, (self._now + cost * pace, s.trial))

    def _finish_next(self) -> None:
        self._now, number = heapq.heappop(self._running)
        trial = self.trials[number]
        values = self.benchmark.evaluate(trial.configuration, self._share(trial.fidelity))
        if values is None:
            self.trials[number] = replace(trial, running=False, failed="Diverged")
            return
        seen = (*trial.observations, self._observation(trial.fidelity, values))
        self.trials[number] = replace(trial, running=False, observations=seen)

    def _observation(self, fidelity: float | None, values: Mapping[str, float]) -> Observation:
        return Observation(
            fidelity,
            {o.name: values[o.name] for o in self.problem.objectives},
            {c.metric: values[c.metric] for c in self.problem.constraints},
        )

    def _share(self, fidelity: float | None, without: float = 1.0) -> float:
        if self.problem.fidelity is None or fidelity is None:
            return without
        return fidelity / self.problem.fidelity.max

    @property
    def suggestions(self) -> list[Suggestion]:
        return list(itertools.chain.from_iterable(ask.suggestions for ask in self.asks))

    def full_losses(self) -> NDArray[np.float64]:
        """(n, m) of the feasible trials at full fidelity."""
        full = self.problem.full_fidelity
        seen = [o for trial in self.trials.values() if (o := trial.at(full))]
        feasible = [o.values for o in seen if self.problem.violation(o.constrained) == 0.0]
        return self.problem.losses(feasible)

    def hypervolume(self) -> float:
        return hypervolume(self.full_losses(), np.array(self.benchmark.reference))


def attainable(benchmark: Benchmark, draws: int = 20_000) -> float:
    """Hypervolume of many random feasible configurations at full fidelity."""
    problem = benchmark.problem()
    rng = np.random.default_rng(12345)
    space = problem.space
    points = space.spread(rng.random((draws, len(space.parameters))))
    values = [benchmark.evaluate(space.decode(point), 1.0) for point in points]
    feasible = [v for v in values if v is not None and problem.violation(v) == 0.0]
    losses = problem.losses(feasible)
    return hypervolume(_thinned(losses), np.array(benchmark.reference))


def _thinned(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a running minimum over the first loss leaves: enough for two objectives, and quick."""
    ordered = losses[np.lexsort((losses[:, 1], losses[:, 0]))]
    best = np.minimum.accumulate(ordered[:, 1])
    return ordered[np.concatenate([[True], best[1:] < best[:-1]])]
