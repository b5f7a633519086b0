"""A Prometheus that knows a run's cost by its trial, and is at times down, slow or empty."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from primo_operator.mirror import Key
from primo_study.queries import Gap, Question, Reading

if TYPE_CHECKING:
    from support.simulation.operator import Operator

GAPS = (Gap.UNREACHABLE, Gap.TIMED_OUT, Gap.NO_SERIES)


@dataclass
class Prometheus:
    """The server.

    Attributes:
        away: it cannot be reached.
        asked: every question that came.
    """

    away: bool = False
    asked: list[Question] = field(default_factory=list)


@dataclass
class SimulatedMetrics:
    """`Metrics`, as one operator uses it."""

    operator: "Operator"
    asking: set[str] = field(default_factory=set)

    def ask(self, key: Key, job: str, questions: Sequence[Question]) -> None:
        if job in self.asking:
            return
        self.asking.add(job)
        operator = self.operator
        operator.world.prometheus.asked += questions
        readings = {question.objective: self._reading(question) for question in questions}

        def answer() -> None:
            self.asking.discard(job)
            operator.reconciler.answered(key, job, readings)
            operator.mark(key)

        operator.after(float(operator.world.rng.exponential(2.0)), answer)

    def _reading(self, question: Question) -> Reading:
        world = self.operator.world
        if world.prometheus.away:
            return Reading(gap=Gap.UNREACHABLE, message="away")
        if world.chance(world.scenario.prometheus or 0.0):
            return Reading(gap=GAPS[int(world.rng.integers(len(GAPS)))], message="a fault")
        number = int(question.query.partition("trial=")[2])
        return Reading(float(1 + number % 7))
