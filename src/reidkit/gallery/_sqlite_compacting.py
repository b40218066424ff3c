"""Writing a gallery's database anew, so that nothing of what was erased is left in its files."""

from __future__ import annotations

import sqlite3
import threading
import time

from reidkit.errors import GalleryError
from reidkit.gallery import _sqlite_connections
from reidkit.gallery import _sqlite_rows as rows
from reidkit.gallery._sqlite_connections import Connections
from reidkit.gallery._sqlite_schema import write_audit

_COMPACTING = threading.Lock()
"""Where SQLite puts temporary files is one setting for the whole process."""

_PAUSE = 0.05
"""Seconds between two attempts to empty the log."""


def compact(connections: Connections, *, actor: str) -> None:
    """Write the database anew and empty its log.

    Erased values are overwritten when they are erased. What was moved between pages before that
    may still stand in a gap of a page: only new pages are sure to hold none of it.

    Raises:
        GalleryError: the log could not be emptied, since another process went on reading.
    """
    with connections.write() as connection:
        connection.execute(
            "UPDATE gallery SET erased_before = ?", (rows.read_sequence(connection, "erased"),)
        )
        connection.execute("DELETE FROM erased")
        write_audit(connection, actor, "compact", 0)
    with _COMPACTING, connections.write_alone() as connection:
        _rewrite(connection, str(connections.file.parent.absolute()))
        emptied = _empty_log(connection)
    if not emptied:
        raise GalleryError(
            f"{connections.file}: another process went on reading, so that erased values may "
            "still be in its log: compact again"
        )


def _empty_log(connection: sqlite3.Connection) -> bool:
    """Empty the log; tell whether nobody kept it from being emptied for as long as we wait.

    Readers are waited for by SQLite; beside another connection that is just writing the log into
    the database, as after any commit once the log is long, it gives up at once.
    """
    deadline = time.monotonic() + _sqlite_connections.PATIENCE
    while True:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not busy or time.monotonic() >= deadline:
            return not busy
        time.sleep(_PAUSE)


def _rewrite(connection: sqlite3.Connection, folder: str) -> None:
    """Rewrite the database by way of a temporary file beside it."""
    quoted = folder.replace("'", "''")
    connection.execute("PRAGMA temp_store = FILE")
    connection.execute(f"PRAGMA temp_store_directory = '{quoted}'")
    try:
        connection.execute("VACUUM")
    finally:
        connection.execute("PRAGMA temp_store_directory = ''")
        connection.execute("PRAGMA temp_store = MEMORY")
