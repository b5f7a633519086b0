"""A process of the operator's: its passes, its watches, its Lease, its clock, its death.

Passes are coroutines that are driven by hand: each call they make is applied some time later, and
answered later still, or never. What a real process does around them (`queue.py`, `handlers.py`) is
done here as it is there.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primo_operator.cluster import ClusterError, Object, RefusedError
from primo_operator.failures import note_failure, obstacle
from primo_operator.leadership import Candidacy, Elector
from primo_operator.mirror import Key, Kind, Mirror
from primo_operator.queue import AT_ONCE_S, DEBOUNCE_S, RETRY_EARLY_S, RETRY_MAX_S, RETRY_S
from primo_operator.reconcile import Reconciler
from primo_operator.settings import Settings
from primo_operator.watching import EARLY, Watching
from primo_optimizer import PrimoError
from support.simulation.actors.prometheus import SimulatedMetrics
from support.simulation.api import watched
from support.simulation.cluster import Call, SimulatedCluster
from support.simulation.faults import OPTIMIZER_LIMIT_S, BugError
from support.simulation.interleaving import Interleaved
from support.simulation.scenario import NAMESPACE, START, ViolationError

if TYPE_CHECKING:
    from support.simulation.world import World

REQUEST_TIMEOUT_S = 30.0
RESYNC_S = 60.0
LIST_AGAIN_S = 30.0
WATCH_RENEWED_S = 330.0
FROZEN_S = (5.0, 600.0)
LEASE_RETRY_S, LEASE_RENEW_S = 2.0, 10.0


@dataclass(eq=False)
class Pass:
    """A coroutine on its way: a pass over a study, or an attempt to take the Lease.

    Attributes:
        generation: of the study's spec, that the process knew at the start.
    """

    operator: "Operator"
    coroutine: Coroutine[Any, Any, Any]
    done: Callable[[Any, Exception | None], None]
    key: Key | None = None
    generation: int = 0


class Operator:
    """One process, and those that take its place when it dies."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.frozen_until = START
        self._life = 0
        self._passes: list[Pass] = []
        self.boot(1.0)

    # --- life and death

    def boot(self, delay_s: float = 1.0, *, killed: bool = False) -> None:
        """A process with an empty head starts after so long; the one before is gone."""
        for task in self._passes:
            task.coroutine.close()
        self._life += 1
        self._passes = []
        self._running: dict[Key, Pass] = {}
        self._due: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        self._silent: dict[Kind, float] = {}
        self.was_killed = killed
        self._watches = False
        self.frozen_until = self.world.now
        self.skew_s = self._drawn_skew()
        self.mirror = Mirror()
        self._cluster = cluster = SimulatedCluster(self.world.api)
        settings = Settings(
            resync_s=RESYNC_S,
            prometheus_url="http://prometheus",
            prometheus_namespaces=NAMESPACE,
            prometheus_patience_s=self.world.scenario.patience_s,
        )
        metrics, clock = SimulatedMetrics(self), _Clock(self)
        self.reconciler = Reconciler(
            cluster,
            self.world.suggester,
            metrics,
            clock,
            settings,
            self.mirror,
            Interleaved(self.world.rng),
        )
        places = (NAMESPACE,)
        self._watching = Watching(
            cluster, self.mirror, self.mark, clock.monotonic, RESYNC_S, places
        )
        self.elector: Elector | None = None
        if self.world.scenario.lease:
            self.elector = Elector(Candidacy(NAMESPACE, "lease", self.name), cluster, clock)
        self.works = self.elector is None
        rng = self.world.rng
        self._lags = {kind: float(rng.exponential(self.world.scenario.delay_s)) for kind in Kind}
        self.after(delay_s, self._start)

    def crash(self, when: str = "by hand") -> None:
        """kill -9, and a new start a little later."""
        self.world.say(f"{self.name} CRASH {when}")
        self.boot(float(self.world.rng.uniform(0.5, 20.0)), killed=True)

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Let this process do something; one that is stopped does it when it goes on."""
        life = self._life

        def fire() -> None:
            if life != self._life:
                return
            if self.world.now < self.frozen_until:
                self.world.after(self.frozen_until - self.world.now, fire)
            else:
                act()

        self.world.after(delay_s, fire)

    def _start(self) -> None:
        self._watches = True
        self._watch()
        if self.world.scenario.lists:
            self._list_everything()
        if self.elector:
            self._elect()

    def _watch(self) -> None:
        """Watches are renewed now and then, and begin with a list each time."""
        self.relist()
        self.after(WATCH_RENEWED_S, self._watch)

    def _list_everything(self) -> None:
        """Of `Watching` no more than this: which events arrive, and when, is drawn."""
        self._run(Pass(self, self._watching.list_everything(NAMESPACE), self._listed_everything))

    def _listed_everything(self, _: Any, error: Exception | None) -> None:
        self.after(LIST_AGAIN_S if error else EARLY * RESYNC_S, self._list_everything)

    def _drawn_skew(self) -> float:
        skew = self.world.scenario.skew_s
        return float(self.world.rng.uniform(-skew, skew)) if skew else 0.0

    # --- the Lease

    def _elect(self) -> None:
        assert self.elector
        self._run(Pass(self, self.elector.attempt(), self._elected))

    def _elected(self, holder: Any, error: Exception | None) -> None:
        assert self.elector
        if self.works and (not self.elector.leads or holder not in (None, self.name)):
            self._lose_lead()
            return
        if self.elector.leads:
            self.world.checker.leads(self.world.operators)
            self.after(LEASE_RENEW_S + 0.01, self._check_lead)
            if not self.works:
                self.world.say(f"{self.name} leads")
                self.works = True
                for key in self.mirror.studies():
                    self.mark(key)
        self.after(LEASE_RETRY_S, self._elect)

    def _check_lead(self) -> None:
        if self.works and self.elector and not self.elector.leads:
            self._lose_lead()

    def _lose_lead(self) -> None:
        self.world.say(f"{self.name} does not lead any more")
        self.boot(float(self.world.rng.uniform(1.0, 5.0)))

    # --- passes

    def mark(self, key: Key, after_s: float = DEBOUNCE_S) -> None:
        """A pass is due for this study after so long; an earlier one stays."""
        at = max(self.world.now + after_s, self._not_before.get(key, START))
        if key in self._due and self._due[key] <= at:
            return
        self._due[key] = at
        self.after(at - self.world.now, lambda: self._fire(key, at))

    def _fire(self, key: Key, at: float) -> None:
        if self._due.get(key) != at:
            return
        del self._due[key]
        if key in self._running:
            self._again.add(key)
        elif self.works:
            if self.world.scenario.skew_s and self.world.chance(0.05):
                self.skew_s = self._drawn_skew()
            study = self.mirror.family(key).study or self.world.api.get(Kind.STUDY, key.name)
            known = study["metadata"]["generation"] if study else 0
            self.world.checker.passed()
            coroutine = self.reconciler.reconcile(key)
            task = Pass(self, coroutine, lambda a, e: self._passed(key, a, e), key, known)
            self._running[key] = task
            self._run(task)

    def _passed(self, key: Key, after_s: Any, error: Exception | None) -> None:
        self.was_killed = False
        if error and obstacle(error):  # the study is told, by a pass of its own
            told = note_failure(self._cluster, self.mirror, key, error, _Clock(self))
            self._run(Pass(self, told, lambda _a, _e: self._failed(key), key))
        elif error:
            self._failed(key)
        else:
            self._failures.pop(key, None)
            self._not_before.pop(key, None)
            self._settle(key, after_s)

    def _failed(self, key: Key) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait_s = min(RETRY_S * 2.0 ** min(failures - 1, 10), RETRY_MAX_S)
        self._not_before[key] = self.world.now + min(wait_s, RETRY_EARLY_S)
        if self._due.pop(key, None):  # of an event during the pass
            self.mark(key, 0)
        self._settle(key, wait_s)

    def _settle(self, key: Key, after_s: float | None) -> None:
        del self._running[key]
        if key in self._again:
            self._again.discard(key)
            after_s = AT_ONCE_S
        if after_s is not None:
            self.mark(key, max(after_s, AT_ONCE_S))

    def _run(self, task: Pass) -> None:
        self._passes.append(task)
        self._go_on(task, None, None)

    def _go_on(self, task: Pass, answer: Any, error: Exception | None) -> None:
        """Let a coroutine run to its next call, or to its end."""
        try:
            call = task.coroutine.throw(error) if error else task.coroutine.send(answer)
        except StopIteration as stop:
            self._passes.remove(task)
            task.done(stop.value, None)
        except (ClusterError, BugError) as failure:
            self._passes.remove(task)
            task.done(None, failure)
        except PrimoError as failure:
            raise ViolationError(f"a pass raised {failure!r}") from failure
        else:
            self._send(task, call)

    # --- calls

    def _send(self, task: Pass, call: Call) -> None:
        world = self.world
        world.calls += 1
        world.checker.called()
        if call.write and not world.ended:
            world.write_calls.append(world.calls)
        fault = world.faults.of_call(task, call)
        if fault or "lease" not in call.what:
            world.say(f"{self.name} {call.what} {fault}")
        half = float(world.rng.uniform(0.0005, 0.025))
        if call.write and self.elector and not self.elector.leads:
            self._answer(task, half, None, ClusterError("not sent: it does not lead any more"))
            return
        match fault:
            case "crash-before":
                self.crash("before " + call.what)
            case "bug":
                self._answer(task, half, None, BugError("a bug"))
            case "forbid":
                self._answer(task, half, None, world.faults.forbidden(call))
            case "refuse":
                self._answer(task, half, None, world.faults.refusal(call))
            case "degraded":
                delay = OPTIMIZER_LIMIT_S if world.chance(0.5) else half
                self._answer(task, delay, world.faults.degraded(call), None)
            case "slow":
                if world.chance(0.5):
                    world.after(half, lambda: self._apply(task, call, "late"))
                self._answer(task, REQUEST_TIMEOUT_S, None, ClusterError("no answer within 30 s"))
            case _:
                world.after(half, lambda: self._apply(task, call, fault))

    def _apply(self, task: Pass, call: Call, fault: str) -> None:
        """What the API server does, whether or not the caller still lives."""
        world = self.world
        answer, error = None, None
        if world.away and call.what != "ask":
            error = ClusterError("connection refused")
        elif fault == "reject":
            error = RefusedError(422, "Job is invalid: a policy says so")
        else:
            world.api.author = task
            try:
                answer = self._applied(call)
                if call.write:
                    world.writes[call.what] += 1
            except PrimoError as refusal:
                error = refusal
            finally:
                world.api.author = None
        if task not in self._passes or fault == "late":
            return
        half = float(world.rng.uniform(0.0005, 0.025))
        if fault == "crash-after":
            self.crash("after " + call.what)
        elif fault == "lose" and not error:
            self._answer(task, half, None, ClusterError("the answer was lost"))
        else:
            if fault == "freeze":
                self.freeze(float(world.rng.uniform(*FROZEN_S)))
            self._answer(task, half, answer, error)

    def _applied(self, call: Call) -> Any:
        if not call.list_at:
            return call.apply()
        version = self.world.faults.stale_version(after_crash=self.was_killed)
        there = shown = call.apply()
        if version is not None:
            self.world.say(f"{self.name} sees version {version} of {self.world.api.version}")
            self.world.checker.shown(version)
            shown = call.list_at(version)
        self.world.checker.listed(there, shown)
        return shown

    def _answer(self, task: Pass, delay_s: float, answer: Any, error: Exception | None) -> None:
        def arrive() -> None:
            if task in self._passes:
                self._go_on(task, answer, error)

        self.after(delay_s, arrive)

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        self.world.say(f"{self.name} FROZEN for {seconds:.0f} s")
        self.frozen_until = self.world.now + seconds

    # --- watches: late, lost, merged and repeated events

    def relist(self) -> None:
        """A watch begins with a list, and shows what happens from then on.

        What has been deleted before, it does not tell.
        """
        version = self.world.faults.stale_version(after_crash=self.was_killed)
        at = self.world.api.version if version is None else version
        for kind in Kind:
            for obj in list(self.world.api.at(kind, at)):
                if watched(kind, obj):
                    self._deliver_later(kind, obj, "ADDED")
        for change in self.world.api.past:
            if change.version > at and watched(change.kind, change.obj):
                self._deliver_later(change.kind, change.obj, change.event)

    def happened(self, kind: Kind, before: Object | None, obj: Object, event: str) -> None:
        """A watch shows what its selector matches: an object that leaves it is DELETED."""
        if not self._watches:
            return
        if not watched(kind, obj):
            if before is None or not watched(kind, before):
                return
            metadata = {**before["metadata"], "resourceVersion": obj["metadata"]["resourceVersion"]}
            obj, event = {**before, "metadata": metadata}, "DELETED"
        if self.world.now < self._silent.get(kind, START):
            return
        if self.world.chance(self.world.scenario.silent):
            self.world.say(f"{self.name} watch of {kind}s falls silent")
            self._silent[kind] = self.world.now + WATCH_RENEWED_S
            self.after(WATCH_RENEWED_S, self.relist)
            return
        for _ in range(self.world.faults.deliveries(kind)):
            self._deliver_later(kind, obj, event)

    def _deliver_later(self, kind: Kind, obj: Object, event: str) -> None:
        delay = self._lags[kind] + float(self.world.rng.exponential(self.world.scenario.delay_s))
        self.after(delay, lambda: self._deliver(kind, obj, event))

    def _deliver(self, kind: Kind, obj: Object, event: str) -> None:
        if self.world.away:
            return  # it is listed anew when the API server is back
        if event != "DELETED" and self.world.chance(self.world.scenario.merge):
            now = self.world.api.get(kind, obj["metadata"]["name"])
            if now and now["metadata"]["uid"] == obj["metadata"]["uid"] and watched(kind, now):
                obj = now
        if key := self.mirror.absorb(kind, obj, deleted=event == "DELETED"):
            self.mark(key)


@dataclass
class _Clock:
    operator: Operator

    def now(self) -> float:
        return self.operator.world.now + self.operator.skew_s

    def monotonic(self) -> float:
        return self.operator.world.now - START
