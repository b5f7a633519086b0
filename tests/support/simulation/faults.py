"""What goes wrong between the operator and the API server: drawn by the scenario, or scripted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from primo_operator.cluster import ClusterError, ConflictError, ForbiddenError, RefusedError
from primo_operator.mirror import Kind
from primo_operator.ports import Answer
from primo_optimizer import SpaceExhaustedError
from primo_study.study import Trouble
from support.simulation.cluster import Call

if TYPE_CHECKING:
    from support.simulation.operator import Pass
    from support.simulation.world import World

QUOTA = 'jobs "x" is forbidden: exceeded quota: jobs'
DIED = Trouble("OptimizerFailed", "the worker died (exit code -9)")
OPTIMIZER_LIMIT_S = 120.0
TAKEN_S = (5.0, 120.0)
HISTORY = 10  # so many versions ago a stale list may be from


class BugError(Exception):
    """A bug of the operator's own, which no code knows."""


@dataclass(frozen=True)
class Script:
    """Faults at given places, in place of drawn ones.

    Attributes:
        faults: number of the call, from 1 -> what becomes of it.
        lost_event: the number of a watch event that never arrives, from 1.
        back: an operator that was killed is shown lists from before so many writes, once.
    """

    faults: Mapping[int, str] = field(default_factory=dict)
    lost_event: int = 0
    back: int = 0


@dataclass
class Faults:
    """Draws what becomes of each call and of each event."""

    world: "World"
    _taken: dict[str, float] = field(default_factory=dict)

    def of_call(self, task: "Pass", call: Call) -> str:
        """The name of what goes wrong; empty if nothing does."""
        world = self.world
        if world.script.faults or world.script.lost_event:
            return "" if world.ended else world.script.faults.get(world.calls, "")
        if world.calm:
            return ""
        if self._is_taken(call):
            return "forbid"
        scenario, draw = world.scenario, float(world.rng.random())
        own = task.key == world.keys[0] and call.what != "patch study"
        poison = scenario.poison if own else 0.0
        hang = scenario.ask_fails if call.what == "ask" else 0.0
        for fault, rate in (
            ("crash-before", scenario.crash / 2),
            ("crash-after", scenario.crash / 2),
            ("freeze", scenario.freeze),
            ("bug", poison),
            ("degraded", hang),
            ("refuse", scenario.refuse),
            ("lose", scenario.lose),
            ("slow", scenario.slow),
            ("reject", scenario.reject if call.what == "create job" else 0.0),
        ):
            if draw < rate:
                return fault
            draw -= rate
        return ""

    def take_right(self, what: str, seconds: float) -> None:
        """The operator has no right to such calls for so long, by a role's editor."""
        self.world.say(f"no right any more: {what}")
        self._taken[what] = self.world.now + seconds

    def _is_taken(self, call: Call) -> bool:
        what, world = call.what, self.world
        if what == "ask" or "lease" in what or world.ended:
            return False
        if world.chance(world.scenario.rights):
            self.take_right(what, float(world.rng.uniform(*TAKEN_S)))
        return world.now < self._taken.get(what, world.now)

    def forbidden(self, call: Call) -> ForbiddenError:
        """Who may not do something is told so."""
        verb, _, resource = call.what.partition(" ")
        return ForbiddenError(403, f'{resource} is forbidden: User "us" cannot {verb} resource')

    def refusal(self, call: Call) -> ClusterError:
        """One of those that such a call may meet; it has had no effect."""
        errors: list[ClusterError] = [
            RefusedError(429, "too many requests"),
            ClusterError("503 the server is currently unable to handle the request"),
        ]
        if call.list_at:
            errors.append(RefusedError(410, "the continue token has expired"))
        if call.what in ("patch trial", "patch study", "adopt trial"):
            errors.append(ConflictError(409, "the object has been modified"))
        if call.what == "create job":
            errors.append(RefusedError(403, QUOTA))
        return errors[int(self.world.rng.integers(len(errors)))]

    def stale_version(self, *, after_crash: bool) -> int | None:
        """Which version a list shows; None for the current one."""
        world, past = self.world, self.world.api.past
        if world.script.back:
            back = world.script.back if after_crash and not world.ended else 0
        else:
            back = int(world.rng.integers(1, HISTORY)) if world.chance(world.scenario.stale) else 0
        return past[-back].version - 1 if 0 < back <= len(past) else None

    def degraded(self, call: Call) -> Answer:
        """What comes when the worker failed: one suggestion, and why."""
        try:
            answer: Answer = call.apply()
        except SpaceExhaustedError:
            answer = Answer(())
        return Answer(answer.suggestions[:1], degraded=DIED)

    def deliveries(self, kind: Kind) -> int:
        """How often a watch event arrives."""
        world = self.world
        world.events += 1
        if world.script.lost_event:
            return int(world.events != world.script.lost_event or world.ended)
        if world.chance(world.scenario.drop):
            return 0
        return 2 if world.chance(0.05) else 1
