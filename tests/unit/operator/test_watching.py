"""Everything is listed once and then watched; what a watch loses the next list finds."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

from primo_operator import names
from primo_operator.cluster import ClusterError, ForbiddenError, Object, RefusedError
from primo_operator.mirror import Key, Kind, Mirror, version
from primo_operator.watching import Event, Page, Watching
from support.virtual_time import run_in_virtual_time as run

KEY = Key("team", "digits")
RESYNC_S = 300.0


def study(name: str = "digits", version: int = 1, **metadata: Any) -> Object:
    given = {"name": name, "namespace": "team", "uid": name, "resourceVersion": str(version)}
    return {"metadata": {**given, **metadata}, "spec": {}}


def job(name: str, version: int = 1, of: str = "digits") -> Object:
    found = study(name, version, labels={names.STUDY_LABEL: of})
    return {**found, "status": {}}


class Store:
    """A `Stream` over lists that a test fills; what it sends goes to the watches."""

    def __init__(self, *studies: Object) -> None:
        self.objects: dict[Kind, list[Object]] = defaultdict(list, {Kind.STUDY: list(studies)})
        self.version = 10
        self.lists: list[tuple[Kind, str]] = []
        self.watched_from: dict[Kind, list[int]] = defaultdict(list)
        self.sent: dict[Kind, asyncio.Queue[Event | Exception | None]] = defaultdict(asyncio.Queue)
        self.refuse: ClusterError | None = None
        self.refused_in: str | None = None

    async def pages(self, kind: Kind, namespace: str) -> AsyncIterator[Page]:
        self.lists.append((kind, namespace))
        if self.refuse and self.refused_in in (None, namespace):
            raise self.refuse
        for obj in self.objects[kind]:  # one a page
            yield [obj], self.version
        yield [], self.version

    async def events(self, kind: Kind, namespace: str, version: int) -> AsyncIterator[Event]:
        self.watched_from[kind].append(version)
        while event := await self.sent[kind].get():
            if isinstance(event, Exception):
                raise event
            yield event


class Watched:
    """A mirror that is kept up to date from a store, and the studies that were marked."""

    def __init__(self, store: Store, *namespaces: str) -> None:
        self.store, self.mirror, self.marked = store, Mirror(), list[Key]()
        clock = asyncio.get_running_loop().time
        mark = lambda key, _after_s: self.marked.append(key)  # noqa: E731
        self.watching = Watching(store, self.mirror, mark, clock, RESYNC_S, namespaces)
        self.task = asyncio.create_task(self.watching.run())

    async def send(self, kind: Kind, *events: Event | Exception | None) -> None:
        for event in events:
            self.store.sent[kind].put_nowait(event)
        await asyncio.sleep(5.0)


def test_nothing_is_decided_before_everything_is_listed() -> None:
    async def scenario() -> None:
        store = Store(study())
        store.refuse = ClusterError("busy")
        watched = Watched(store)
        await asyncio.sleep(3.0)
        assert watched.marked == []
        store.refuse = None
        await asyncio.sleep(60.0)
        assert watched.marked == [KEY]
        watched.task.cancel()

    run(scenario())


def test_without_the_right_to_list_each_study_is_told_so_until_everything_is_listed() -> None:
    async def scenario() -> None:
        store = Store(study())
        store.refuse = refused = ForbiddenError(403, "cannot list")
        watched = Watched(store)
        watched.mirror.absorb(Kind.STUDY, study())  # as kopf shows it
        with pytest.raises(ClusterError, match="not everything has been listed yet"):
            watched.watching.check(KEY)
        await asyncio.sleep(5.0)
        assert set(watched.marked) == {KEY}
        with pytest.raises(ForbiddenError) as raised:
            watched.watching.check(KEY)
        assert raised.value is refused
        store.refuse = None
        await asyncio.sleep(60.0)
        watched.watching.check(KEY)
        watched.task.cancel()

    run(scenario())


@pytest.mark.parametrize("studies", [1, 200])
def test_at_rest_each_kind_is_listed_once_in_a_while_however_many_studies_there_are(
    studies: int,
) -> None:
    async def scenario() -> None:
        watched = Watched(Store(*(study(f"s{k}") for k in range(studies))))
        await asyncio.sleep(RESYNC_S / 2)
        assert watched.store.lists == [(kind, "") for kind in Kind]
        assert watched.mirror.listed_at == {"": 0.0}
        await asyncio.sleep(RESYNC_S / 2)
        assert len(watched.store.lists) == 8
        # So no pass ever finds its study unlisted for so long that it would list it.
        assert watched.mirror.listed_at == pytest.approx({"": RESYNC_S * 0.75})
        await asyncio.sleep(1.0)
        assert len(watched.marked) == 2 * studies
        watched.task.cancel()

    run(scenario())


def test_each_namespace_is_listed_and_watched() -> None:
    async def scenario() -> None:
        watched = Watched(Store(), "a", "b")
        await asyncio.sleep(1.0)
        assert set(watched.store.lists) == {(kind, name) for kind in Kind for name in "ab"}
        watched.task.cancel()

    run(scenario())


def test_a_namespace_that_may_not_be_listed_holds_up_no_study_of_another_one() -> None:
    async def scenario() -> None:
        store = Store(study())
        store.refuse, store.refused_in = ForbiddenError(403, "cannot list in gone"), "gone"
        watched = Watched(store, "gone", KEY.namespace)
        lost = Key("gone", "letters")
        watched.mirror.absorb(Kind.STUDY, study("letters", namespace="gone"))
        await asyncio.sleep(1.0)
        watched.watching.check(KEY)
        with pytest.raises(ForbiddenError):
            watched.watching.check(lost)
        assert set(watched.marked) == {KEY, lost}
        await watched.send(Kind.JOB, ("ADDED", job("j", 12)))
        assert watched.marked.count(KEY) == 2, "one for the list, one for the event"
        await asyncio.sleep(RESYNC_S)
        assert watched.mirror.listed_at == pytest.approx({KEY.namespace: RESYNC_S * 0.75})
        store.refuse = None
        await asyncio.sleep(60.0)
        watched.watching.check(lost)
        watched.task.cancel()

    run(scenario())


def test_a_watch_goes_on_from_the_last_event_or_bookmark() -> None:
    async def scenario() -> None:
        watched = Watched(Store(study()))
        await asyncio.sleep(1.0)
        await watched.send(Kind.JOB, ("ADDED", job("j", 12)), None)
        bookmark = {"metadata": {"resourceVersion": "40"}}
        await watched.send(Kind.JOB, ("BOOKMARK", bookmark), ClusterError("cut off"))
        assert watched.store.watched_from[Kind.JOB] == [10, 12, 40]
        assert len(watched.store.lists) == 4
        assert watched.marked == [KEY, KEY]
        watched.task.cancel()

    run(scenario())


@pytest.mark.parametrize(
    "error",
    [
        RefusedError(410, "too old"),
        RefusedError(504, "Timeout: Too large resource version: 30, current: 10"),
        ClusterError("GET /jobs: 504 Timeout: Too large resource version: 30, current: 10"),
    ],
    ids=str,
)
def test_a_watch_that_cannot_go_on_begins_with_a_list(error: ClusterError) -> None:
    async def scenario() -> None:
        store = Store(study())
        store.objects[Kind.JOB] = [job("kept"), job("removed")]
        watched = Watched(store)
        await asyncio.sleep(1.0)
        store.objects[Kind.JOB], store.version = [job("kept")], 30
        await watched.send(Kind.JOB, error)
        assert store.lists[4:] == [(Kind.JOB, "")]
        assert store.watched_from[Kind.JOB] == [10, 30]
        names_of_jobs = [j["metadata"]["name"] for j in watched.mirror.family(KEY).jobs]
        assert names_of_jobs == ["kept"]
        watched.task.cancel()

    run(scenario())


def test_what_a_watch_has_lost_the_next_list_finds() -> None:
    async def scenario() -> None:
        store = Store(study())
        watched = Watched(store)
        await asyncio.sleep(1.0)
        store.objects[Kind.JOB], store.version = [job("j", 12)], 13
        await asyncio.sleep(RESYNC_S)
        assert [j["metadata"]["name"] for j in watched.mirror.family(KEY).jobs] == ["j"]
        store.objects[Kind.STUDY], store.version = [], 20
        await asyncio.sleep(RESYNC_S)
        assert watched.mirror.studies() == []
        watched.task.cancel()

    run(scenario())


@pytest.mark.parametrize("other", ["letters", "No_Study"])
def test_what_wears_the_label_of_another_study_is_gone_with_the_next_list(other: str) -> None:
    """So that the study asks for it by name, instead of waiting for what no watch will show."""

    async def scenario() -> None:
        store = Store(study(), study("letters"))
        store.objects[Kind.JOB] = [job("moved", 2), job("stays", 3)]
        watched = Watched(store)
        await asyncio.sleep(1.0)
        moved = job("moved", 12, of=other)
        store.objects[Kind.JOB][0], store.version = moved, 13
        await watched.send(Kind.JOB, ("MODIFIED", moved))
        await asyncio.sleep(RESYNC_S)
        assert [j["metadata"]["name"] for j in watched.mirror.family(KEY).jobs] == ["stays"]
        watched.task.cancel()

    run(scenario())


def test_what_a_list_shows_and_nobody_understands_is_not_gone() -> None:
    async def scenario() -> None:
        store = Store(study())
        store.objects[Kind.JOB] = [job("j", 2)]
        watched = Watched(store)
        await asyncio.sleep(1.0)
        broken = job("j", 12)
        broken["metadata"]["labels"] = ["digits"]
        store.objects[Kind.JOB], store.version = [broken], 13
        await asyncio.sleep(RESYNC_S)
        assert [version(j) for j in watched.mirror.family(KEY).jobs] == [2]
        watched.task.cancel()

    run(scenario())


def test_an_object_that_nobody_understands_blinds_us_to_no_other() -> None:
    async def scenario() -> None:
        watched = Watched(Store(study()))
        broken = {**study("t", 11), "spec": {"study": "digits", "number": 0}}
        await watched.send(Kind.TRIAL, ("ADDED", broken))
        await watched.send(Kind.TRIAL, ("ADDED", {**broken, "spec": ["digits"]}))
        await watched.send(Kind.JOB, ("ADDED", job("j", 12)))
        assert len(list(watched.mirror.family(KEY).jobs)) == 1
        watched.task.cancel()

    run(scenario())


def test_a_watch_that_ends_at_once_each_time_is_asked_for_less_and_less_often() -> None:
    async def scenario() -> None:
        store = Store(study())
        for _ in range(1000):
            store.sent[Kind.JOB].put_nowait(None)
        watched = Watched(store)
        await asyncio.sleep(120.0)
        assert 3 < len(store.watched_from[Kind.JOB]) < 15
        assert len(store.lists) == 4, "what was listed is good"
        watched.task.cancel()

    run(scenario())
