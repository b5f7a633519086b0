"""One leads at a time, whatever the API server does; and soon somebody does again."""

import asyncio
import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kubernetes.aio.client import ApiClient, Configuration

from primo_operator.cluster import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    Object,
    RefusedError,
)
from primo_operator.kubernetes_cluster import KubernetesCluster
from primo_operator.leadership import Candidacy, Elector, LeadershipLostError, candidacy
from primo_operator.settings import BadSettingError, Settings
from support.virtual_time import run_in_virtual_time

DURATION_S, RENEW_S, RETRY_S = 15, 10.0, 2.0


class FakeLeases:
    """One Lease, as an API server keeps it.

    `before` and `after` are called around each call's effect and may wait or raise.
    """

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.calls: list[str] = []
        self.before: Callable[[str], Any] | None = None
        self.after: Callable[[str], Any] | None = None
        self._version = 0

    async def get_lease(self, namespace: str, name: str) -> Object | None:
        return await self._call("get", lambda: self.lease)

    async def create_lease(self, lease: Object) -> Object:
        def effect() -> Object:
            if self.lease is not None:
                raise AlreadyExistsError(409, "already exists")
            return self._store(lease)

        return await self._call("create", effect)

    async def update_lease(self, lease: Object) -> Object:
        def effect() -> Object:
            current = self.lease and self.lease["metadata"]["resourceVersion"]
            if lease["metadata"]["resourceVersion"] != current:
                raise ConflictError(409, "has been modified")
            return self._store(lease)

        return await self._call("update", effect)

    def edit(self, **metadata: Any) -> None:
        """As somebody else would."""
        assert self.lease
        self._store({**self.lease, "metadata": {**self.lease["metadata"], **metadata}})

    @property
    def spec(self) -> Any:
        assert self.lease
        return self.lease["spec"]

    def _store(self, lease: Object) -> Object:
        self._version += 1
        metadata = {**lease["metadata"], "resourceVersion": str(self._version)}
        self.lease = copy.deepcopy({**lease, "metadata": metadata})
        return self.lease

    async def _call(self, verb: str, effect: Callable[[], Any]) -> Any:
        self.calls.append(verb)
        if self.before:
            await self.before(verb)
        found = copy.deepcopy(effect())
        if self.after:
            await self.after(verb)
        return found


class SteppedClock:
    """Time that a test moves; the wall clock is wrong by some seconds."""

    def __init__(self, skew_s: float = 0.0) -> None:
        self.time_s, self.skew_s = 1000.0, skew_s

    def now(self) -> float:
        return 1.8e9 + self.time_s + self.skew_s

    def monotonic(self) -> float:
        return self.time_s


class LoopClock:
    """The time of the event loop; the wall clock is wrong by some seconds."""

    def __init__(self, skew_s: float = 0.0) -> None:
        self._skew_s = skew_s

    def now(self) -> float:
        return 1.8e9 + self.monotonic() + self._skew_s

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def stands(identity: str) -> Candidacy:
    return Candidacy("n", "primo-operator", identity, DURATION_S, RENEW_S, RETRY_S)


# --- step by step


class Stepped:
    """Candidates that a test calls one by one."""

    def __init__(self, **skews: float) -> None:
        self.leases = FakeLeases()
        self.clocks = {name: SteppedClock(skew) for name, skew in skews.items()}
        self.electors = {
            name: Elector(stands(name), self.leases, clock) for name, clock in self.clocks.items()
        }

    def wait(self, seconds: float) -> None:
        for clock in self.clocks.values():
            clock.time_s += seconds

    def attempt(self, name: str) -> str:
        return asyncio.run(self.electors[name].attempt())

    @property
    def leaders(self) -> list[str]:
        return [name for name, elector in self.electors.items() if elector.leads]


def test_the_first_leads_at_once_and_says_so() -> None:
    run = Stepped(a=0)
    assert run.attempt("a") == "a"
    assert run.leaders == ["a"]
    stamp = "2027-01-15T08:16:40.000000Z"
    assert run.leases.spec == {
        "holderIdentity": "a",
        "leaseDurationSeconds": DURATION_S,
        "acquireTime": stamp,
        "renewTime": stamp,
        "leaseTransitions": 0,
    }


@pytest.mark.parametrize("skew_s", [0.0, -1e7, 1e7])
def test_a_lease_is_taken_when_it_has_not_changed_for_its_duration(skew_s: float) -> None:
    run = Stepped(a=0, b=skew_s)
    run.attempt("a")
    run.wait(600)
    assert run.attempt("b") == "a"  # first seen now: how old it is, no clock can tell
    run.wait(DURATION_S - 0.1)
    assert run.attempt("b") == "a"
    run.wait(0.1)
    assert run.attempt("b") == "b"
    assert run.leases.spec["leaseTransitions"] == 1
    assert run.leases.spec["acquireTime"] == run.leases.spec["renewTime"]


def test_each_renewal_is_waited_for_anew_whatever_time_it_shows() -> None:
    run = Stepped(a=0, b=0)
    run.attempt("a")
    assert run.attempt("b") == "a"
    for _ in range(5):
        run.wait(8)
        run.clocks["a"].skew_s -= 8  # its wall clock stands still: all renewals look the same
        assert run.attempt("a") == "a"
        assert run.attempt("b") == "a"
    assert run.leases.spec["leaseTransitions"] == 0


def test_the_duration_is_the_holders_not_the_candidates() -> None:
    run = Stepped(a=0, b=0)
    longer = replace(stands("a"), duration_s=60)
    run.electors["a"] = Elector(longer, run.leases, run.clocks["a"])
    run.attempt("a")
    run.attempt("b")
    run.wait(59)
    assert run.attempt("b") == "a"
    run.wait(1)
    assert run.attempt("b") == "b"


def test_a_holder_renews_with_one_call_and_keeps_when_it_began() -> None:
    run = Stepped(a=0)
    run.attempt("a")
    began = run.leases.spec["acquireTime"]
    run.leases.calls.clear()
    run.wait(RETRY_S)
    run.attempt("a")
    assert run.leases.calls == ["update"]
    assert run.leases.spec["acquireTime"] == began < run.leases.spec["renewTime"]


def test_a_leader_that_was_paused_knows_that_it_is_none_before_it_asks() -> None:
    run = Stepped(a=0, b=0)
    run.attempt("a")
    run.attempt("b")
    run.wait(DURATION_S)
    assert run.leaders == []
    assert run.attempt("b") == "b"
    with pytest.raises(ConflictError):
        run.attempt("a")  # with what it last wrote
    assert run.attempt("a") == "b"
    assert run.leaders == ["b"]


def test_one_that_was_paused_leads_on_if_nobody_else_was_there() -> None:
    run = Stepped(a=0)
    run.attempt("a")
    run.wait(3600)
    assert run.leaders == []
    assert run.attempt("a") == "a"
    assert run.leases.spec["leaseTransitions"] == 0


def test_an_edit_by_somebody_else_ends_no_leadership_and_is_kept() -> None:
    run = Stepped(a=0)
    run.attempt("a")
    run.leases.edit(labels={"seen": "yes"})
    with pytest.raises(ConflictError):
        run.attempt("a")
    assert run.attempt("a") == "a"
    assert run.leases.lease
    assert run.leases.lease["metadata"]["labels"] == {"seen": "yes"}


def test_a_lease_that_is_deleted_is_made_again() -> None:
    run = Stepped(a=0)
    run.attempt("a")
    run.leases.lease = None
    with pytest.raises(ConflictError):
        run.attempt("a")
    assert run.attempt("a") == "a"
    assert run.leases.spec["holderIdentity"] == "a"


def test_the_same_container_started_again_does_not_wait_for_itself() -> None:
    run = Stepped(a=0)
    run.attempt("a")
    again = Elector(stands("a"), run.leases, run.clocks["a"])
    assert asyncio.run(again.attempt()) == "a"
    assert again.leads


def test_an_empty_lease_made_by_hand_is_free() -> None:
    run = Stepped(a=0)
    asyncio.run(run.leases.create_lease({"metadata": {"name": "primo-operator", "namespace": "n"}}))
    assert run.attempt("a") == "a"


def test_a_lease_given_up_is_free_at_once() -> None:
    run = Stepped(a=0, b=0)
    run.attempt("a")
    assert run.attempt("b") == "a"
    asyncio.run(run.electors["a"].release())
    assert run.leaders == []
    assert "holderIdentity" not in run.leases.spec
    assert run.attempt("b") == "b"
    assert run.leases.spec["leaseTransitions"] == 1


def test_who_does_not_lead_gives_nothing_up() -> None:
    run = Stepped(a=0, b=0)
    run.attempt("a")
    run.attempt("b")
    run.leases.calls.clear()
    asyncio.run(run.electors["b"].release())
    assert run.leases.calls == []
    assert run.leases.spec["holderIdentity"] == "a"


def test_time_counts_from_before_the_call() -> None:
    run = Stepped(a=0)

    async def slow(verb: str) -> None:
        run.wait(2)

    run.leases.before = slow
    run.attempt("a")  # get and create: 4 s
    run.wait(RENEW_S - 4 - 0.1)
    assert run.leaders == ["a"]
    run.wait(0.1)
    assert run.leaders == []


# --- with time running


async def refuse(verb: str) -> None:
    raise RefusedError(403, "leases are forbidden")


async def hang(verb: str) -> None:
    await asyncio.sleep(1e6)


async def fail(verb: str) -> None:
    raise ClusterError("the server is gone")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", [refuse, hang, fail])
def test_a_leader_without_an_answer_stops_before_another_may_begin(fault: Any, when: str) -> None:
    async def scenario() -> tuple[float, float]:
        leases, clock = FakeLeases(), LoopClock()
        first, second = (Elector(stands(name), leases, clock) for name in "ab")
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(0.1)
        holding = asyncio.create_task(first.hold())
        await asyncio.sleep(60)
        assert first.leads
        setattr(leases, when, fault)
        with pytest.raises(LeadershipLostError, match="not renewed within 10 s"):
            await holding
        stopped = clock.monotonic()
        assert not first.leads
        waiting.cancel()
        leases.before = leases.after = None
        await second.acquire()
        return stopped, clock.monotonic()

    stopped, taken = run_in_virtual_time(scenario())
    assert 60 + RENEW_S - RETRY_S <= stopped <= 60 + RENEW_S
    assert stopped + DURATION_S - RENEW_S - RETRY_S <= taken <= stopped + DURATION_S + 2 * RETRY_S


def test_a_short_failure_costs_nothing() -> None:
    async def scenario() -> None:
        leases = FakeLeases()
        elector = Elector(stands("a"), leases, LoopClock())
        await elector.acquire()
        holding = asyncio.create_task(elector.hold())
        for _ in range(10):
            leases.before = fail
            await asyncio.sleep(RENEW_S - 2 * RETRY_S)
            leases.before = None
            await asyncio.sleep(2 * RETRY_S)
            assert elector.leads
        holding.cancel()
        assert leases.spec["leaseTransitions"] == 0

    run_in_virtual_time(scenario())


def test_a_leader_that_sees_another_stops_at_once() -> None:
    async def scenario() -> float:
        leases, clock = FakeLeases(), LoopClock()
        elector = Elector(stands("a"), leases, clock)
        await elector.acquire()
        leases.spec["holderIdentity"] = "b"
        leases.edit()
        with pytest.raises(LeadershipLostError, match="b holds it"):
            await elector.hold()
        assert not elector.leads
        return clock.monotonic()

    assert run_in_virtual_time(scenario()) <= 2 * RETRY_S


def test_giving_up_does_not_wait_for_a_server_that_is_silent() -> None:
    async def scenario() -> float:
        leases, clock = FakeLeases(), LoopClock()
        elector = Elector(stands("a"), leases, clock)
        await elector.acquire()
        leases.before = hang
        await elector.release()
        assert not elector.leads
        return clock.monotonic()

    assert run_in_virtual_time(scenario()) <= RETRY_S


@pytest.mark.parametrize("seed", range(20))
def test_never_two_and_always_one_again(seed: int) -> None:
    """Three candidates that die, resign and come back; a server that is slow, fails and forgets."""
    rng = np.random.default_rng(seed)

    async def trouble(verb: str) -> None:
        kind = rng.random()
        if kind < 0.1:
            await asyncio.sleep(float(rng.exponential(5.0)))
        elif kind < 0.25:
            raise ClusterError("seeded")
        else:
            await asyncio.sleep(float(rng.uniform(0, 0.5)))

    async def scenario() -> None:
        leases = FakeLeases()
        electors: dict[str, Elector] = {}

        async def candidate(name: str) -> None:
            life = 0
            while True:
                life += 1
                elector = electors[name] = Elector(
                    stands(f"{name}{life}"), leases, LoopClock(float(rng.uniform(-1e6, 1e6)))
                )
                try:
                    async with asyncio.timeout(float(rng.exponential(60.0))):
                        await elector.acquire()
                        await elector.hold()
                except LeadershipLostError:
                    pass
                except TimeoutError:
                    if rng.random() < 0.5:
                        await elector.release()  # otherwise it dies, and works no more
                    else:
                        elector._stop_at = float("-inf")

        tasks = [asyncio.create_task(candidate(name)) for name in "abc"]
        leases.before = leases.after = trouble
        led = 0
        for _ in range(1200):
            await asyncio.sleep(0.25)
            leaders = [name for name, elector in electors.items() if elector.leads]
            assert len(leaders) <= 1
            led += len(leaders)
        assert led > 100
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        leases.before = leases.after = None
        async with asyncio.timeout(DURATION_S + 2 * RETRY_S):
            await Elector(stands("d"), leases, LoopClock()).acquire()

    run_in_virtual_time(scenario())


# --- what the settings say


def test_in_a_pod_the_lease_lies_beside_it(tmp_path: Path) -> None:
    own = tmp_path / "namespace"
    assert (found := candidacy(Settings(), ["team", "other"], own))
    assert found.namespace == "team"
    own.write_text("primo-system\n")
    assert (found := candidacy(Settings(), ["team"], own))
    assert found.namespace == "primo-system"
    assert (found := candidacy(Settings(lease_namespace="kept-apart"), [], own))
    assert found.namespace == "kept-apart"


def test_two_operators_of_one_host_are_two() -> None:
    assert (found := candidacy(Settings(), []))
    assert found.identity.rpartition("_")[2].isdigit()
    assert (found := candidacy(Settings(lease_identity="pod-1"), []))
    assert found.identity == "pod-1"


def test_without_a_name_there_is_no_election() -> None:
    assert candidacy(Settings.from_environment({"PRIMO_LEASE_NAME": ""}), ["team"]) is None


@pytest.mark.parametrize(
    ("duration_s", "renew_s", "retry_s"), [(10, 10, 2), (15, 2, 2), (15, 10, 0), (15, 10, -1)]
)
def test_times_that_leave_no_room_are_refused(
    duration_s: int, renew_s: float, retry_s: float
) -> None:
    with pytest.raises(BadSettingError, match=r"PRIMO_LEASE_DURATION_S.* not 1"):
        Candidacy("n", "l", "a", duration_s, renew_s, retry_s)


def test_who_leads_no_more_writes_no_more() -> None:
    async def scenario() -> None:
        client = ApiClient(Configuration(host="http://127.0.0.1:1"))
        cluster = KubernetesCluster(client, 1.0, may_write=lambda: False)
        with pytest.raises(ClusterError, match="does not lead any more"):
            await cluster.delete_job("n", "job", "u")
        with pytest.raises(ClusterError, match=r"127\.0\.0\.1"):  # reads are sent
            await cluster.get_job("n", "job")
        await client.close()

    asyncio.run(scenario())
