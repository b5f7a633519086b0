"""The protocol: one run of one optimizer on one problem, on a virtual clock.

Cost is counted in full-fidelity equivalents. Going on with a trial from one fidelity to another
costs the difference; anything that was paid before and is asked for again is paid again in full.
Only evaluations at full fidelity enter the hypervolume.

W workers run asynchronously. A run takes as long as it costs, times a pace that depends on the
seed and the trial. Whenever a worker is free the optimizer is asked, the other runs pending. Cost
is counted when a run ends, so that any number of workers is compared at equal cost.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from peers.adapter import Proposal
from primo_optimizer import Problem
from primo_optimizer.pareto import hypervolume
from problems.benchmark import Benchmark, Values

BUDGET = 20.0
SLOWEST, FASTEST = 1.25, 0.75
# Sums of shares of epochs are not exact.
ROUNDING = 1e-9


class Asked(Protocol):
    """What is needed of an optimizer, see `peers.adapter.Optimizer`."""

    def ask(self) -> Proposal | None: ...

    def tell(self, trial: int, values: Values | None) -> None: ...


@dataclass(slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        curve: (cost, hypervolume ÷ attainable) whenever it grew.
        full: evaluations at full fidelity that succeeded and kept all constraints.
        duplicates: new trials whose configuration an earlier one had.
        paid: cost of all runs that have ended.
        elapsed: on the virtual clock, in durations of a full training.
    """

    curve: list[tuple[float, float]] = field(default_factory=list)
    trials: int = 0
    runs: int = 0
    full: int = 0
    duplicates: int = 0
    failures: int = 0
    paid: float = 0.0
    elapsed: float = 0.0

    def at(self, cost: float) -> float:
        """The value that was reached for this cost."""
        return max((value for paid, value in self.curve if paid <= cost + ROUNDING), default=0.0)


@dataclass(frozen=True, slots=True, order=True)
class _Run:
    ends: float
    trial: int
    fidelity: float | None = field(compare=False)
    cost: float = field(compare=False)


class Search:
    """One run of the protocol. Whatever the optimizer raises passes through; `outcome` stands."""

    def __init__(self, benchmark: Benchmark, optimizer: Asked, workers: int, seed: int) -> None:
        self.outcome = Outcome()
        self._benchmark, self._optimizer = benchmark, optimizer
        self._workers, self._seed = workers, seed
        self._problem = Problem.from_spec(benchmark.task.spec)
        self._reference = self._problem.losses([benchmark.reference])[0]
        self._losses: list[NDArray[np.float64]] = []
        self._configurations: dict[int, Mapping[str, Any]] = {}
        self._reached: dict[int, float] = {}
        self._running: list[_Run] = []
        self._given_out = 0.0

    def run(self, budget: float = BUDGET) -> Outcome:
        """Until runs worth the budget have been started and have ended."""
        while True:
            self._fill(budget)
            if not self._running:
                return self.outcome
            self._end(heapq.heappop(self._running))

    def _fill(self, budget: float) -> None:
        while len(self._running) < self._workers and self._given_out < budget - ROUNDING:
            proposal = self._optimizer.ask()
            if proposal is None:
                return
            self._begin(proposal)

    def _begin(self, proposal: Proposal) -> None:
        if proposal.trial not in self._configurations:
            self._admit(proposal)
        cost = self._cost(proposal)
        self._given_out += cost
        pace = np.random.default_rng([self._seed, proposal.trial]).uniform(FASTEST, SLOWEST)
        ends = self.outcome.elapsed + cost * pace
        heapq.heappush(self._running, _Run(ends, proposal.trial, proposal.fidelity, cost))

    def _admit(self, proposal: Proposal) -> None:
        key = self._problem.space.key(proposal.configuration)
        known = map(self._problem.space.key, self._configurations.values())
        self.outcome.duplicates += key in known
        self.outcome.trials += 1
        self._configurations[proposal.trial] = proposal.configuration

    def _cost(self, proposal: Proposal) -> float:
        if self._problem.fidelity is None or proposal.fidelity is None:
            return 1.0
        reached = self._reached.get(proposal.trial, 0.0)
        paid_before = reached if proposal.fidelity > reached else 0.0
        return (proposal.fidelity - paid_before) / self._problem.fidelity.max

    def _end(self, run: _Run) -> None:
        self.outcome.elapsed = run.ends
        self.outcome.runs += 1
        self.outcome.paid += run.cost
        self._reached[run.trial] = max(run.fidelity or 0.0, self._reached.get(run.trial, 0.0))
        configuration = self._configurations[run.trial]
        (values,) = self._benchmark.task.evaluate([configuration], run.fidelity)
        self.outcome.failures += values is None
        if values is not None and run.fidelity == self._problem.full_fidelity:
            self._count(values)
        self._optimizer.tell(run.trial, None if values is None else self._told(values))

    def _told(self, values: Values) -> Values:
        names = [o.name for o in self._problem.objectives]
        return {
            name: values[name] for name in [*names, *(c.metric for c in self._problem.constraints)]
        }

    def _count(self, values: Values) -> None:
        if self._problem.violation(values) > 0.0:
            return
        self.outcome.full += 1
        self._losses.append(self._problem.losses([values])[0])
        value = hypervolume(np.array(self._losses), self._reference) / self._benchmark.attainable
        if not self.outcome.curve or value > self.outcome.curve[-1][1]:
            self.outcome.curve.append((self.outcome.paid, value))
