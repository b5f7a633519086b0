"""The store counts revisions, keeps a bounded log, and never changes what it gave away."""

import asyncio
from typing import Any

import pytest

from primo_local.apiserver import store as store_module
from primo_local.apiserver.errors import ApiError
from primo_local.apiserver.listing import Lister, check_list_version
from primo_local.apiserver.objects import Json, Key
from primo_local.apiserver.selectors import Selection, parse_selection
from primo_local.apiserver.store import Change, Store
from primo_local.apiserver.watch import Observed, WatchRequest, watch

SHELF = "things"
EVERYTHING = Selection()


def thing(name: str, **labels: str) -> Json:
    return {"metadata": {"name": name, "namespace": "n", "uid": name, "labels": labels}}


def put(store: Store, name: str, **labels: str) -> int:
    return store.put(SHELF, Key("n", name), thing(name, **labels)).revision


def remove(store: Store, name: str) -> int:
    return store.remove(SHELF, Key("n", name), thing(name)).revision


def test_each_write_has_a_revision_of_its_own_on_all_shelves() -> None:
    store = Store(first_revision=100)
    assert put(store, "a") == 101
    assert store.put("others", Key("n", "a"), thing("a")).revision == 102
    assert remove(store, "a") == 103
    assert store.revision == 103


def test_a_stored_object_is_not_the_one_that_was_given() -> None:
    store = Store()
    given = thing("a")
    record = store.put(SHELF, Key("n", "a"), given)
    assert record.obj["metadata"]["resourceVersion"] == str(record.revision)
    assert "resourceVersion" not in given["metadata"]


def test_listeners_hear_what_was_before() -> None:
    store = Store()
    heard: list[tuple[Change, bool]] = []
    store.listen(lambda _shelf, _key, event: heard.append((event.change, event.before is not None)))
    put(store, "a")
    put(store, "a")
    remove(store, "a")
    assert heard == [(Change.ADDED, False), (Change.MODIFIED, True), (Change.DELETED, True)]


def test_the_log_forgets_its_oldest_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOG_CHANGES", 3)
    store = Store()
    revisions = [put(store, name) for name in "abcde"]
    shelf = store.shelf(SHELF)
    assert shelf.compacted == revisions[1]
    assert [event.record.revision for event in shelf.since(revisions[1])] == revisions[2:]
    assert [event.record.revision for event in shelf.since(revisions[3])] == revisions[4:]


def test_the_log_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOG_BYTES", 1000)
    store = Store()
    for number in range(50):
        put(store, "a", n=str(number))
    assert len(store.shelf(SHELF).since(0)) < 20


async def _events(store: Store, request: WatchRequest, count: int, *acts: Any) -> list[Observed]:
    """The first events of a watch; each act is done once the watch waits for something new."""
    seen: list[Observed] = []
    pending = list(acts)
    stream = watch(store, store.shelf(SHELF), request)

    async def follow() -> None:
        async for batch in stream:
            seen.extend(batch)
            if len(seen) >= count:
                return

    task = asyncio.ensure_future(follow())
    while not task.done():
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if pending:
            pending.pop(0)()
        await asyncio.wait({task}, timeout=0.01)
    task.result()
    await stream.aclose()
    return seen


def watched(store: Store, request: WatchRequest, count: int, *acts: Any) -> list[tuple[str, str]]:
    events = asyncio.run(_events(store, request, count, *acts))
    return [(e.type, e.record.obj["metadata"]["name"] if e.record else "") for e in events]


def test_a_watch_begins_with_what_is_there() -> None:
    store = Store()
    put(store, "b")
    put(store, "a")
    request = WatchRequest(EVERYTHING, after=None, timeout_s=5)
    seen = watched(store, request, 3, lambda: put(store, "c"))
    assert seen == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]


def test_a_watch_goes_on_after_a_revision() -> None:
    store = Store()
    start = put(store, "a")
    put(store, "a")
    put(store, "b")
    remove(store, "a")
    request = WatchRequest(EVERYTHING, after=start, timeout_s=5)
    assert watched(store, request, 3) == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")]


def test_what_leaves_a_selection_is_deleted_and_what_enters_it_is_added() -> None:
    store = Store()
    start = put(store, "a", on="1")
    put(store, "a", on="0")
    put(store, "a", on="1")
    request = WatchRequest(parse_selection("on=1", "", ()), after=start, timeout_s=5)
    assert watched(store, request, 2) == [("DELETED", "a"), ("ADDED", "a")]


def test_the_end_of_the_initial_events_can_be_announced() -> None:
    store = Store()
    put(store, "a")
    request = WatchRequest(EVERYTHING, None, 5, bookmarks=True, announce_end=True)
    events = asyncio.run(_events(store, request, 2))
    assert [e.type for e in events] == ["ADDED", "BOOKMARK"]
    assert events[1].initial_end
    assert events[1].revision == store.revision


def test_a_watch_ends_with_its_time_and_a_bookmark_before() -> None:
    store = Store()
    request = WatchRequest(EVERYTHING, store.revision, 0.05, bookmarks=True)
    assert [kind for kind, _ in watched(store, request, 9)] == ["BOOKMARK"]


def test_a_revision_that_is_forgotten_is_a_410() -> None:
    store = Store(first_revision=50)
    (event,) = asyncio.run(_events(store, WatchRequest(EVERYTHING, 49, 5), 1))
    assert event.error is not None
    assert (event.type, event.error["code"]) == ("ERROR", 410)


def test_a_watcher_that_has_gone_is_forgotten() -> None:
    store = Store()
    watched(store, WatchRequest(EVERYTHING, None, 0.01), 1)
    assert not store.shelf(SHELF)._wakers


def test_pages_are_cut_from_one_snapshot() -> None:
    async def pages() -> list[list[str]]:
        store = Store()
        for name in "abcde":
            put(store, name)
        lister, shelf = Lister(store), store.shelf(SHELF)
        first = lister.page(shelf, EVERYTHING, 2, "")
        remove(store, "c")
        put(store, "ca")
        second = lister.page(shelf, EVERYTHING, 2, first.token)
        third = lister.page(shelf, EVERYTHING, 2, second.token)
        assert (first.remaining, second.remaining, third.token) == (3, 1, "")
        assert first.revision == second.revision == third.revision
        found = [first, second, third]
        return [[r.obj["metadata"]["name"] for r in page.records] for page in found]

    assert asyncio.run(pages()) == [["a", "b"], ["c", "d"], ["e"]]


@pytest.mark.parametrize("token", ["garbage", "e30=", "////"])
def test_a_token_that_is_none_is_a_400(token: str) -> None:
    store = Store()
    with pytest.raises(ApiError) as refused:
        Lister(store).page(store.shelf(SHELF), EVERYTHING, 1, token)
    assert refused.value.code == 400


def test_the_token_of_a_forgotten_snapshot_is_a_410() -> None:
    async def stale() -> int:
        store = Store()
        put(store, "a")
        put(store, "b")
        token = Lister(store).page(store.shelf(SHELF), EVERYTHING, 1, "").token
        with pytest.raises(ApiError) as refused:
            Lister(store).page(store.shelf(SHELF), EVERYTHING, 1, token)
        return refused.value.code

    assert asyncio.run(stale()) == 410


@pytest.mark.parametrize(
    ("asked", "match", "code"),
    [
        ("", "", None),
        ("0", "NotOlderThan", None),
        ("10", "Exact", None),
        ("9", "NotOlderThan", None),
        ("9", "Exact", 410),
        ("11", "", 504),
        ("x", "", 400),
    ],
)
def test_lists_are_only_of_the_newest_revision(asked: str, match: str, code: int | None) -> None:
    if code is None:
        check_list_version(asked, match, revision=10)
        return
    with pytest.raises(ApiError) as refused:
        check_list_version(asked, match, revision=10)
    assert refused.value.code == code
