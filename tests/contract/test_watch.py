"""Watching: what a client is told, in which order, and when it has to start afresh."""

import itertools
from collections.abc import Iterable

import pytest

from support.apiserver import CONFIG_MAPS, TABLE, WIDGETS, Obj, Wire, config_map, widget

pytestmark = pytest.mark.cluster

WATCH_LIST = {
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "allowWatchBookmarks": "true",
}
INITIAL_END = "k8s.io/initial-events-end"

Told = list[tuple[str, str]]


def told(events: Iterable[Obj], count: int) -> Told:
    """Types and names of the first events."""
    seen = itertools.islice(events, count)
    return [(each["type"], each["object"]["metadata"]["name"]) for each in seen]


def version(obj: Obj) -> str:
    return str(obj["metadata"]["resourceVersion"])


def test_a_watch_begins_with_what_is_there(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    for name in ("one", "two"):
        wire.make(path, widget(name))
    assert sorted(told(wire.watch(path), 2)) == [("ADDED", "one"), ("ADDED", "two")]


def test_a_watch_goes_on_after_a_version_in_order(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    wire.make(path, widget("before"))
    start = version(wire.found(path))
    wire.make(path, widget("one"))
    wire.change(f"{path}/one", {"spec": {"size": 20}})
    wire("DELETE", f"{path}/one")
    events = list(itertools.islice(wire.watch(path, resourceVersion=start), 3))
    assert [each["type"] for each in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(version(each["object"])) for each in events]
    assert int(start) < versions[0] < versions[1] < versions[2]


def test_a_watch_of_one_object_is_told_of_no_other(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    start = version(wire.found(path))
    for name in ("other", "one"):
        wire.make(path, widget(name))
    one = wire.watch(path, resourceVersion=start, fieldSelector="metadata.name=one")
    assert told(one, 1) == [("ADDED", "one")]


def test_a_watch_ends_when_its_time_is_over(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    wire.make(path, widget("one"))
    assert len(list(wire.watch(path, timeoutSeconds="1"))) == 1


def test_what_no_longer_matches_is_deleted_for_the_watcher(wire: Wire, space: str) -> None:
    path = CONFIG_MAPS.format(space)
    made = wire.make(path, config_map("one", labels={"color": "red"}))
    wire.change(f"{path}/one", {"metadata": {"labels": {"color": "blue"}}})
    wire.change(f"{path}/one", {"metadata": {"labels": {"color": "red"}}})
    events = wire.watch(path, resourceVersion=version(made), labelSelector="color=red")
    assert told(events, 2) == [("DELETED", "one"), ("ADDED", "one")]


def test_a_version_that_is_forgotten_is_gone(wire: Wire, space: str) -> None:
    events = list(wire.watch(WIDGETS.format(space), resourceVersion="1"))
    assert [each["type"] for each in events] == ["ERROR"]
    assert (events[0]["object"]["code"], events[0]["object"]["reason"]) == (410, "Expired")


def test_a_watch_list_says_when_it_has_told_what_was_there(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    wire.make(path, widget("one"))
    first, mark = itertools.islice(wire.watch(path, **WATCH_LIST), 2)
    assert (first["type"], mark["type"]) == ("ADDED", "BOOKMARK")
    assert mark["object"]["metadata"]["annotations"] == {INITIAL_END: "true"}
    assert int(version(mark["object"])) >= int(version(first["object"]))


def test_a_watched_table_defines_its_columns_once(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    for name in ("one", "two"):
        wire.make(path, widget(name))
    events = list(itertools.islice(wire.watch(path, TABLE), 2))
    assert {each["object"]["kind"] for each in events} == {"Table"}
    assert [bool(each["object"].get("columnDefinitions")) for each in events] == [True, False]
    assert {each["object"]["rows"][0]["cells"][0] for each in events} == {"one", "two"}


@pytest.mark.slow
def test_bookmarks_come_at_least_once_a_minute(wire: Wire, space: str) -> None:
    path = WIDGETS.format(space)
    query = {"allowWatchBookmarks": "true", "timeoutSeconds": "70"}
    events = wire.watch(path, resourceVersion=version(wire.found(path)), **query)
    wire.make(path, widget("one"))  # a real server is silent on a kind that nobody writes
    assert "BOOKMARK" in {each["type"] for each in events}
