"""What makes hypervolumes comparable: reference points, attainable values, priors' centres.

For the paper's problems they are published with the data. For others they are computed once, by
`run.py yardstick`, and kept in yardsticks.json.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primo_optimizer import Problem
from primo_optimizer.pareto import hypervolume, non_dominated
from problems import botorch_suite, synthetic
from problems.benchmark import Beliefs, Benchmark, Configuration, Task, Values

FILE = Path(__file__).with_name("yardsticks.json")

# Of each problem: random points, split for restarts, each of them climbing towards some trade-offs.
DRAWS, RESTARTS = 60_000, 3
# Number of objectives -> steps between the corners of the lattice of trade-offs.
LATTICE = {1: 1, 2: 11, 3: 4}
ROUNDS, SURVIVORS, CHILDREN = 50, 100, 250
STEPS = (0.003, 0.01, 0.03, 0.1, 0.3)
MOVED = 0.4
# Of the sum of losses beside the largest weighted one, so that weakly dominated points fall behind.
AUGMENTED = 0.01
# Cells of a front for each unit of a scaled loss, by number of objectives; rows compared at once.
RESOLUTION = {1: 1_000, 2: 1_000, 3: 50}
PART = 1_000
# A derived reference point is this quantile of random configurations in each objective; of a single
# one, where it is a matter of a few draws, a worse one would leave nothing to tell optimizers by.
REFERENCE_QUANTILE, REFERENCE_QUANTILE_OF_ONE = 0.8, 0.2
# In the unit cube: a good prior is not exactly right. As in the paper.
PRIOR_NOISE = 0.01
SEED = 20_260_101
# Of trainings at random, how many are picked of how many, and how often.
PICKED, OF, TIMES = (20, 100, 1_000, 10_000), 20_000, 20

# Task -> reference point in the order of its objectives, attainable hypervolume.
PAPER: Mapping[str, tuple[tuple[float, float], float]] = {
    "lcbench-126026": ((1, 150), 145.882),
    "lcbench-146212": ((1, 150), 140.470),
    "lcbench-168330": ((1, 5000), 3191.63),
    "lcbench-168868": ((1, 200), 194.114),
    "pd1-cifar100-wide_resnet-2048": ((1, 30), 18.864),
    "pd1-imagenet-resnet-512": ((1, 5000), 3607.85),
    "pd1-lm1b-transformer-2048": ((1, 1000), 371.020),
    "pd1-translate_wmt-xformer_translate-64": ((1, 20000), 12387.35),
}


# Of others: from the literature, or chosen beside the problem.
REFERENCES = {**synthetic.REFERENCES, **botorch_suite.REFERENCES}
ATTAINABLE = {**synthetic.ATTAINABLE, **botorch_suite.ATTAINABLE}


def load_yardstick(task: Task, data: Path) -> Benchmark:
    if task.name in PAPER:
        reference, attainable = PAPER[task.name]
        names = [objective["name"] for objective in task.spec["objectives"]]
        beliefs = _published_priors(data)[task.name]
        return Benchmark(task, dict(zip(names, reference, strict=True)), attainable, beliefs)
    kept = read()
    if task.name not in kept:
        raise ValueError(
            f"{task.name}: no yardstick, run `run.py yardstick --problems {task.name}`"
        )
    return Benchmark(task, **kept[task.name])


def read() -> dict[str, Any]:
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def keep(name: str, yardstick: Mapping[str, Any]) -> None:
    FILE.write_text(json.dumps({**read(), name: yardstick}, indent=1, sort_keys=True) + "\n")


@cache
def _published_priors(data: Path) -> dict[str, Beliefs]:
    published = json.loads((data / "primo_published" / "priors.json").read_text())
    return {name.removeprefix("yahpo-"): beliefs for name, beliefs in published.items()}


# --- computing them


@dataclass(frozen=True, slots=True)
class _Sample:
    """Feasible configurations at full fidelity.

    Attributes:
        points: (n, d) in the unit cube.
        losses: (n, m).
    """

    points: NDArray[np.float64]
    losses: NDArray[np.float64]

    def __getitem__(self, rows: Any) -> "_Sample":
        return _Sample(self.points[rows], self.losses[rows])

    def __add__(self, other: "_Sample") -> "_Sample":
        return _Sample(
            np.concatenate([self.points, other.points]), np.concatenate([self.losses, other.losses])
        )


def compute(task: Task) -> dict[str, Any]:
    """What `Benchmark` has beside the task, as plain JSON data; takes about a minute."""
    problem = Problem.from_spec(task.spec)
    rng = np.random.default_rng(SEED)
    uniform = rng.random((DRAWS, len(problem.space.parameters)))
    sample = _evaluated(task, problem, problem.space.spread(uniform))
    single = len(problem.objectives) == 1
    quantile = REFERENCE_QUANTILE_OF_ONE if single else REFERENCE_QUANTILE
    reference = np.quantile(sample.losses, quantile, axis=0)
    for j, objective in enumerate(problem.objectives):
        known = REFERENCES.get(task.name, {}).get(objective.name)
        reference[j] = reference[j] if known is None else objective.sign * known
    return {
        "reference": {
            o.name: float(o.sign * worst)
            for o, worst in zip(problem.objectives, reference, strict=True)
        },
        "attainable": attainable(task, problem, sample, reference, rng),
        "beliefs": _beliefs(problem, sample, rng),
    }


def by_chance(benchmark: Benchmark) -> dict[str, Any]:
    """The mean share of the attainable hypervolume by the number of full trainings at random.

    Picked from the same ones without replacement, so large numbers differ less than they would.
    """
    problem = Problem.from_spec(benchmark.task.spec)
    rng = np.random.default_rng(SEED)
    uniform = rng.random((OF, len(problem.space.parameters)))
    losses = _evaluated(benchmark.task, problem, problem.space.spread(uniform)).losses
    worst = np.array([o.sign * benchmark.reference[o.name] for o in problem.objectives])
    shares = {}
    for count in PICKED:
        picked = [losses[rng.permutation(len(losses))[:count]] for _ in range(TIMES)]
        found = [hypervolume(some, worst) / benchmark.attainable for some in picked]
        shares[count] = float(np.mean(found))
    task = benchmark.task
    return {"problem": task.name, "group": task.group, "shares": shares}


def _evaluated(task: Task, problem: Problem, points: NDArray[np.float64]) -> _Sample:
    space = problem.space
    configurations = [space.decode(point) for point in points]
    results = task.evaluate(configurations, problem.full_fidelity)
    seen = list(_feasible(configurations, results, problem))
    encoded = np.array([space.encode(configuration) for configuration, _ in seen])
    losses = problem.losses([values for _, values in seen])
    return _Sample(encoded.reshape(len(seen), len(space.parameters)), losses)


def _feasible(
    configurations: Sequence[Configuration], results: Sequence[Values | None], problem: Problem
) -> Iterator[tuple[Configuration, Values]]:
    for configuration, values in zip(configurations, results, strict=True):
        if values is not None and problem.violation(values) == 0.0:
            yield configuration, values


def attainable(
    task: Task,
    problem: Problem,
    sample: _Sample,
    reference: NDArray[np.float64],
    rng: np.random.Generator,
) -> float:
    """The hypervolume of the front after local search, or the true one where it is known.

    The search goes towards one trade-off at a time, and more than once: what is best by one
    objective is often in a far corner of the space that the front alone does not lead to.
    """
    if task.name in ATTAINABLE:
        return ATTAINABLE[task.name]
    ideal = sample.losses.min(axis=0)
    scaled = replace(sample, losses=(sample.losses - ideal) / (reference - ideal))
    front = _front(scaled)
    for weights, restart in product(_trade_offs(len(ideal)), range(RESTARTS)):
        found = _climb(task, problem, scaled[restart::RESTARTS], ideal, reference, weights, rng)
        front = _front(front + found)
    return hypervolume(front.losses, np.ones(len(ideal))) * float(np.prod(reference - ideal))


def _front(sample: _Sample) -> _Sample:
    """In parts, since all pairs are compared; one point for each cell of a fine grid."""
    inside = sample[(sample.losses < 1.0).all(axis=1)]
    resolution = RESOLUTION[sample.losses.shape[1]]
    front = inside[:0]
    for start in range(0, len(inside.losses), PART):
        both = front + inside[start : start + PART]
        both = both[non_dominated(both.losses)]
        cells = np.floor(both.losses * resolution)
        front = both[np.unique(cells, axis=0, return_index=True)[1]]
    return front


def _trade_offs(m: int) -> Iterator[NDArray[np.float64]]:
    """(m,) weights on an even lattice."""
    steps = LATTICE[m]
    for counts in product(range(steps + 1), repeat=m):
        if sum(counts) == steps:
            yield np.array(counts) / steps


def _climb(
    task: Task,
    problem: Problem,
    scaled: _Sample,
    ideal: NDArray[np.float64],
    reference: NDArray[np.float64],
    weights: NDArray[np.float64],
    rng: np.random.Generator,
) -> _Sample:
    """All that an evolution strategy came by: the best survive, their mutants compete with them.

    Losses in and out are scaled: 0 is the best of the random configurations, 1 the reference.
    """
    best = _survivors(scaled, weights)
    seen = best
    for _ in range(ROUNDS):
        parents = best.points[rng.integers(len(best.points), size=CHILDREN)]
        step = rng.choice(STEPS, size=(CHILDREN, 1)) * (rng.random(parents.shape) < MOVED)
        points = np.clip(parents + step * rng.normal(size=parents.shape), 0.0, 1.0)
        children = _evaluated(task, problem, points)
        children = replace(children, losses=(children.losses - ideal) / (reference - ideal))
        seen += children
        best = _survivors(best + children, weights)
    return seen


def _survivors(scaled: _Sample, weights: NDArray[np.float64]) -> _Sample:
    weighted = weights * scaled.losses
    rank = np.argsort(weighted.max(axis=1) + AUGMENTED * weighted.sum(axis=1), kind="stable")
    return scaled[rank[:SURVIVORS]]


def _beliefs(problem: Problem, sample: _Sample, rng: np.random.Generator) -> Beliefs:
    """The best and the worst by each objective alone."""
    beliefs = {}
    for j, objective in enumerate(problem.objectives):
        best = sample.points[np.argmin(sample.losses[:, j])]
        worst = sample.points[np.argmax(sample.losses[:, j])]
        near_best = np.clip(best + PRIOR_NOISE * rng.normal(size=best.shape), 0.0, 1.0)
        beliefs[objective.name] = {
            "good": problem.space.decode(near_best),
            "bad": problem.space.decode(worst),
        }
    return beliefs
