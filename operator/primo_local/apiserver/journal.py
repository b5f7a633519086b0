"""Keeps the store's objects in a file, so that a server that was killed goes on where it was.

One SQLite file with the newest version of each object. Each change is a transaction of its own,
made before anybody is told of the change. In WAL mode with `synchronous=NORMAL` a transaction
outlives the end of the process, however that ends; of what a machine without power forgets, the
last changes may be part, but never a piece of one. The log of changes is not kept: clients that
watch from before a restart are answered with 410.
"""

import asyncio
import logging
import sqlite3
from pathlib import Path
from typing import Self

from primo_local.apiserver.objects import Key
from primo_local.apiserver.store import Change, Event, Store
from primo_local.wire import decode

log = logging.getLogger(__name__)

FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS objects (
    shelf TEXT, namespace TEXT, name TEXT, revision INTEGER NOT NULL, object BLOB NOT NULL,
    PRIMARY KEY (shelf, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER);
INSERT OR IGNORE INTO counter VALUES (1, 0);
"""


class JournalError(Exception):
    """The file cannot be read, or not by this version."""


class Journal:
    """The file, open. A context manager.

    Attributes:
        failed: has an exception once a change could not be kept; the server must end then, since
            it has told of more than it would know after a restart.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    def open(cls, file: Path) -> Self:
        """Raises:
        JournalError: it is none, or of another version.
        """
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(file, isolation_level=None)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise JournalError(f"{file}: format {version}, expected {FORMAT}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_TABLES)
            connection.execute(f"PRAGMA user_version={FORMAT}")
        except sqlite3.Error as error:
            connection.close()
            raise JournalError(f"{file}: {error}") from error
        except JournalError:
            connection.close()
            raise
        return cls(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def revision(self) -> int:
        """The last that was given; 0 for none."""
        (revision,) = self._connection.execute("SELECT revision FROM counter").fetchone()
        return int(revision)

    def restore(self, store: Store, first: str) -> None:
        """Put what is kept into a store, one shelf before all others; then keep what changes there.

        Its listeners hear of each object as of a new one.
        """
        rows = self._connection.execute(
            "SELECT shelf, namespace, name, revision, object FROM objects"
            " ORDER BY shelf != ?, revision",
            (first,),
        )
        for shelf, namespace, name, revision, text in rows.fetchall():
            store.restore(shelf, Key(namespace, name), decode(text), revision)
        store.listen(self._changed)

    def _changed(self, shelf: str, key: Key, event: Event) -> None:
        place = (shelf, key.namespace, key.name)
        revision = event.record.revision
        try:
            self._connection.execute("BEGIN")
            if event.change is Change.DELETED:
                delete = "DELETE FROM objects WHERE (shelf, namespace, name) = (?, ?, ?)"
                self._connection.execute(delete, place)
            else:
                put = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)"
                self._connection.execute(put, (*place, revision, event.record.encoded))
            self._connection.execute("UPDATE counter SET revision = ?", (revision,))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            log.critical("a change could not be kept: %s", error)
            if not self.failed.done():
                self.failed.set_exception(JournalError(f"a change could not be kept: {error}"))
            raise
