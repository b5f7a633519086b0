"""When the operator works, and what ends it: the wiring, without a cluster."""

import asyncio
from collections.abc import Callable
from typing import Any

import kopf
import pytest
from kubernetes.aio.client import ApiClient, Configuration

from primo_operator import handlers, parts
from primo_operator.definitions import Definitions
from primo_operator.leadership import Candidacy, Elector, LeadershipLostError
from primo_operator.queue import StudyQueue
from primo_operator.settings import Settings
from primo_operator.watching import Watching

CANDIDACY = Candidacy("n", "primo-operator", "a")


class Wiring:
    """An operator whose Lease a test decides about; notes what it does in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.story: list[str] = []
        self.won, self.lost = asyncio.Event(), asyncio.Event()
        self.error: Exception = LeadershipLostError("b holds it")
        self.ending: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        wiring = self

        async def connect(context: str | None) -> ApiClient:
            return ApiClient(Configuration(host="http://127.0.0.1:1"))

        async def acquire(self: Elector) -> None:
            await wiring.won.wait()

        async def hold(self: Elector) -> None:
            await wiring.lost.wait()
            raise wiring.error

        async def release(self: Elector) -> None:
            wiring.story.append("released")

        async def passes(self: StudyQueue) -> None:
            wiring.story.append("works")
            try:
                await asyncio.Event().wait()
            finally:
                wiring.story.append("stops")

        monkeypatch.setattr(parts, "connect", connect)
        monkeypatch.setattr(Elector, "acquire", acquire)
        monkeypatch.setattr(Elector, "hold", hold)
        monkeypatch.setattr(Elector, "release", release)
        monkeypatch.setattr(StudyQueue, "run", passes)

    async def start(self, candidacy: Candidacy | None) -> Callable[[], Any]:
        """What ends it, as SIGTERM would."""
        registry = handlers.registry(Settings(), None, candidacy, self.ending)
        found = registry._activities.get_all_handlers()
        calls: dict[str, Any] = {handler.fn.__name__: handler.fn for handler in found}
        await calls["start"](settings=kopf.OperatorSettings())
        await settle()
        stop: Callable[[], Any] = calls["stop"]
        return stop


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_it_works_when_it_leads_and_gives_the_lease_up_when_all_has_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        wiring = Wiring(monkeypatch)
        stop = await wiring.start(CANDIDACY)
        assert wiring.story == []
        wiring.won.set()
        await settle()
        assert wiring.story == ["works"]
        await stop()
        assert wiring.story == ["works", "stops", "released"]
        assert wiring.ending.result() == 0

    asyncio.run(scenario())


def test_one_that_waits_ends_without_having_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        wiring = Wiring(monkeypatch)
        await (await wiring.start(CANDIDACY))()
        assert "works" not in wiring.story
        assert wiring.ending.result() == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [LeadershipLostError("b holds it"), KeyError("a bug of ours")])
def test_a_lost_lease_stops_the_work_at_once_and_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def scenario() -> None:
        wiring = Wiring(monkeypatch)
        wiring.error = error
        stop = await wiring.start(CANDIDACY)
        wiring.won.set()
        await settle()
        wiring.lost.set()
        await settle()
        assert wiring.story == ["works", "stops"]
        assert wiring.ending.result() == 1  # kopf sees it and begins to end
        await stop()
        assert wiring.ending.result() == 1

    asyncio.run(scenario())


def test_without_an_election_it_works_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        wiring = Wiring(monkeypatch)
        stop = await wiring.start(None)
        assert wiring.story == ["works"]
        await stop()
        assert wiring.story == ["works", "stops"]

    asyncio.run(scenario())


@pytest.mark.parametrize("part", [Watching, Definitions, StudyQueue])
def test_a_part_that_ends_by_a_bug_says_why_and_ends_the_process(
    part: type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not only where somebody asks for its health: it would be there, and deaf, or do nothing."""

    async def dies(self: object) -> None:
        await settle()
        raise KeyError("a bug of ours")

    async def scenario() -> None:
        wiring = Wiring(monkeypatch)
        monkeypatch.setattr(part, "run", dies)
        stop = await wiring.start(None)
        await settle()
        assert wiring.ending.result() == 1
        assert "works" not in wiring.story or wiring.story == ["works", "stops"]
        await stop()

    asyncio.run(scenario())
    (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "a bug of ours" in said.getMessage()
    assert said.exc_info
