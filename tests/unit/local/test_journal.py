"""What is kept of the store, and what becomes of a file that cannot be kept."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from primo_local.apiserver.journal import Journal, JournalError
from primo_local.apiserver.objects import Json, Key
from primo_local.apiserver.store import Change, Store

SHELF, FIRST = "things", "definitions"
KEY = Key("n", "a")


def thing(**fields: object) -> Json:
    return {"metadata": {"name": "a", "namespace": "n", "uid": "u"}, **fields}


def with_journal(file: Path, work: Callable[[Journal, Store], None], revision: int = 10) -> Store:
    """A store of a new process."""

    async def process() -> Store:
        with Journal.open(file) as journal:
            store = Store(max(revision, journal.revision + 1))
            journal.restore(store, FIRST)
            work(journal, store)
            return store

    return asyncio.run(process())


def nothing(journal: Journal, store: Store) -> None:
    pass


def test_the_newest_version_is_there_again_and_what_was_removed_is_not(tmp_path: Path) -> None:
    def work(_: Journal, store: Store) -> None:
        store.put(SHELF, KEY, thing(x=1))
        store.put(SHELF, KEY, thing(x=2))
        store.put(SHELF, Key("", "b"), thing(x="\ud800"))
        store.remove(SHELF, Key("", "b"), thing())

    file = tmp_path / "sub" / "f"
    before, after = with_journal(file, work), with_journal(file, nothing)
    assert [(s, k, r.obj, r.revision) for s, k, r in after.all()] == [
        (s, k, r.obj, r.revision) for s, k, r in before.all()
    ]
    # Also when the clock was set back, and what came last was a removal.
    assert after.revision > before.revision == 14


def test_definitions_are_heard_of_first_and_nothing_can_be_watched(tmp_path: Path) -> None:
    def work(_: Journal, store: Store) -> None:
        store.put(SHELF, KEY, thing())
        store.put(FIRST, KEY, thing())

    with_journal(tmp_path / "f", work)
    heard: list[tuple[str, Change, bool]] = []

    async def process() -> Store:
        with Journal.open(tmp_path / "f") as journal:
            store = Store(100)
            store.listen(lambda s, _, e: heard.append((s, e.change, e.before is None)))
            journal.restore(store, FIRST)
            return store

    store = asyncio.run(process())
    assert heard == [(FIRST, Change.ADDED, True), (SHELF, Change.ADDED, True)]
    assert store.shelf(SHELF).since(0) == []
    assert store.shelf(SHELF).compacted == 100


def test_a_change_that_cannot_be_kept_ends_the_server(tmp_path: Path) -> None:
    def work(journal: Journal, store: Store) -> None:
        # As a full disk would be: the file may grow no more.
        journal._connection.execute("PRAGMA max_page_count=1")
        with pytest.raises(sqlite3.Error):
            store.put(SHELF, KEY, thing(x="y" * 100_000))
        assert isinstance(journal.failed.exception(), JournalError)

    with_journal(tmp_path / "f", work)
    assert list(with_journal(tmp_path / "f", nothing).all()) == []


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    with_journal(tmp_path / "f", lambda _, store: store.put(SHELF, KEY, thing()) and None)
    with sqlite3.connect(tmp_path / "f") as connection:
        connection.execute("PRAGMA user_version=2")
    with pytest.raises(JournalError, match="format 2, expected 1"):
        with_journal(tmp_path / "f", nothing)
