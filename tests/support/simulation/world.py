"""A simulated world: its time, who is in it, and what it must come to in the end.

No event loop, no threads, no wall clock: all that happens is an entry in one heap, all that is
drawn comes from the seed, and a seed replays to the letter.
"""

import hashlib
import heapq
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from primo_operator.cluster import Object
from primo_operator.mirror import Key, Kind
from primo_operator.ports import Suggester
from support.simulation.actors.collector import Collector
from support.simulation.actors.jobs import JobController
from support.simulation.actors.kubelet import Kubelet
from support.simulation.actors.kueue import Queue
from support.simulation.actors.prometheus import Prometheus
from support.simulation.actors.user import User
from support.simulation.api import Api
from support.simulation.checker import Checker
from support.simulation.cluster import ScriptedSuggester
from support.simulation.faults import Faults, Script
from support.simulation.operator import Operator
from support.simulation.scenario import (
    AWAY_S,
    KEY,
    NEIGHBOUR,
    NEIGHBOUR_KEY,
    START,
    STUDY,
    Scenario,
    ViolationError,
)

LAST_EVENTS = 60
IDLE_CHECK_S = 30.0


class World:
    """`run` drives it until its studies have ended and nothing moves.

    Attributes:
        calls, events: how many calls were made, and how many events were to be shown.
        write_calls: the numbers of those that write, from 1; without what comes after the end.
        calls_before_rest: how many calls there were before that.
        writes: of the operator's that had an effect, by what they were.
        ended: faults are over, because the end is looked at.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int = 0,
        script: Script | None = None,
        suggester: Suggester | None = None,
    ) -> None:
        self.scenario = scenario
        self.script = script or Script()
        self.rng = np.random.default_rng([seed, 1])
        self.now = START
        self.ended = False
        self.calls = self.events = self.calls_before_rest = 0
        self.write_calls: list[int] = []
        self.writes: Counter[str] = Counter()
        self.trace: deque[str] = deque(maxlen=LAST_EVENTS)
        self._hash = hashlib.sha256()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._away_until = START

        self.checker = Checker(self)
        self.api = Api(self)
        self.faults = Faults(self)
        self.jobs = JobController(self)
        self.kubelet = Kubelet(self)
        self.queue = Queue(self)
        self.collector = Collector(self)
        self.user = User(self)
        self.prometheus = Prometheus()
        self.suggester = suggester or ScriptedSuggester()
        self.keys = [KEY, *([NEIGHBOUR_KEY] if scenario.neighbour else [])]
        self.operators: list[Operator] = []
        self.user.start()
        while self._heap and self._heap[0][0] <= self.now:
            heapq.heappop(self._heap)[2]()
        self.user.make_study()
        if scenario.neighbour:
            self.user.make_study(NEIGHBOUR)
        self.operators += [Operator(self, f"operator-{k}") for k in range(scenario.operators)]
        self.collector.start()
        if scenario.away_at_s is not None:
            self.after(scenario.away_at_s, self._go_away)
        self.after(IDLE_CHECK_S, self._check_idle)

    # --- time and chance

    @property
    def calm(self) -> bool:
        """Faults are over."""
        over = self.now - START > self.scenario.calm_after_s and not self.scenario.safety
        return self.ended or over

    @property
    def away(self) -> bool:
        """There is no API server."""
        return self.now < self._away_until

    def chance(self, rate: float) -> bool:
        """Whether a fault of this probability happens now."""
        return bool(rate) and not self.calm and bool(self.rng.random() < rate)

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._sequence, act))

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """The same for whoever needs the API server: without it he tries again."""

        def fire() -> None:
            if self.away:
                wait = self._away_until - self.now + float(self.rng.exponential(2.0))
                self.after(wait, fire)
            else:
                act()

        self.after(delay_s, fire)

    def say(self, what: str) -> None:
        line = f"{self.now - START:8.2f} {what}"
        self.trace.append(line)
        self._hash.update(line.encode())

    @property
    def trace_hash(self) -> str:
        """Of all that was said so far."""
        return self._hash.hexdigest()

    def run(self, limit_s: float = 7200.0, *, rest: bool = True) -> None:
        """Until the studies have ended; then three resyncs, which must write nothing.

        Args:
            rest: without it that is left out, which takes as long as all the rest.
        """
        if self.scenario.safety:
            self.advance(900.0)
            return
        self._drive(self._finished, limit_s)
        if not rest:
            return
        self.rest()
        self.checker.at_the_end()
        self.user.check_own_trials()

    def rest(self) -> None:
        """Faults are over: what is left to do is done, and then nothing is written any more."""
        self.ended = True
        self.calls_before_rest = self.calls
        self._boot_all()
        self.advance(420.0)
        before = self.writes.total()
        for _ in range(3):
            self._boot_all()
            self.advance(40.0)
        if self.writes.total() != before:
            raise ViolationError(f"not stable: {self.writes}")

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self._drive(lambda: False, seconds, patient=False)

    def _drive(self, done: Callable[[], bool], limit_s: float, *, patient: bool = True) -> None:
        end = self.now + limit_s
        while not done():
            if not self._heap or self._heap[0][0] > end:
                self.now = end
                if patient:
                    phases = {key.name: self.phase_of(key) for key in self.keys}
                    raise ViolationError(f"not finished after {limit_s:g} s: {phases}")
                return
            moment, _, act = heapq.heappop(self._heap)
            self.now = max(self.now, moment)
            act()

    # --- the operator

    @property
    def operator(self) -> Operator:
        return self.operators[0]

    def crash(self) -> None:
        """kill -9, and a new start a little later."""
        self.operator.crash()

    def sleep(self, seconds: float) -> None:
        """No operator is there for so long; then they start with empty heads."""
        for operator in self.operators:
            operator.boot(seconds)
        self.advance(seconds)

    def _boot_all(self) -> None:
        for operator in self.operators:
            operator.boot()

    def _go_away(self) -> None:
        self.say("the API server is gone")
        self._away_until = self.now + AWAY_S
        for operator in self.operators:
            operator.after(AWAY_S + 1.0, operator.relist)

    # --- what happens

    def happened(self, kind: Kind, before: Object | None, obj: Object, event: str) -> None:
        """Something was written: everybody is told."""
        self.jobs.happened(kind, obj, event)
        self.kubelet.happened(kind, obj, event)
        self.queue.happened(kind, obj, event)
        for operator in self.operators:
            operator.happened(kind, before, obj, event)

    # --- what it has come to

    @property
    def phase(self) -> str:
        return self.phase_of(KEY)

    def phase_of(self, key: Key) -> str:
        study = self.api.objects[Kind.STUDY].get(key.name)
        if study is None:
            return "Deleted"
        return str((study.get("status") or {}).get("phase") or "Pending")

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.api.objects[Kind.STUDY][STUDY]["spec"]
        return spec

    def _finished(self) -> bool:
        waits = self.scenario.recreate_at_s or 0.0
        if self.scenario.away_at_s is not None:
            waits = max(waits, self.scenario.away_at_s + AWAY_S)
        if self.now - START <= waits + 10.0:
            return False
        if self.scenario.edit and not self.calm:
            return False
        return all(self._ended(key) for key in self.keys)

    def _ended(self, key: Key) -> bool:
        """By the current spec."""
        study = self.api.objects[Kind.STUDY].get(key.name)
        if study is None or self.phase_of(key) not in ("Completed", "Failed"):
            return False
        return bool(study["status"]["observedGeneration"] == study["metadata"]["generation"])

    def result(self, key: Key = KEY) -> Any:
        """What a study has come to, without names, times and attempts."""
        trials = {}
        study = self.api.objects[Kind.STUDY][key.name]
        for obj in self.api.objects[Kind.TRIAL].values():
            if "number" not in obj["spec"] or obj["spec"]["study"] != key.name:
                continue
            if not any(
                owner["uid"] == study["metadata"]["uid"]
                for owner in obj["metadata"].get("ownerReferences") or ()
            ):
                continue
            status = obj.get("status") or {}
            seen = [(o.get("fidelity"), o["values"]) for o in status.get("observations") or ()]
            trials[obj["spec"]["number"]] = (obj["spec"]["parameters"], status.get("phase"), seen)
        status = study["status"]
        return trials, status["phase"], status.get("front"), status["trials"]

    def delete_study(self, limit_s: float = 60.0) -> None:
        """Nothing of it may be left then, but trials of the user's that it has not taken in."""
        self.ended = True
        self.user.delete_study()
        self.advance(limit_s)
        left = [
            name
            for kind in (Kind.TRIAL, Kind.JOB, Kind.POD)
            for name, obj in self.api.objects[kind].items()
            if self.checker.owned(kind, obj)
        ]
        if left:
            raise ViolationError(f"the study is deleted, and there are {left}")

    def _check_idle(self) -> None:
        if self.calm and not self.away:
            self.checker.look_for_idle_slots()
        self.after(IDLE_CHECK_S, self._check_idle)
