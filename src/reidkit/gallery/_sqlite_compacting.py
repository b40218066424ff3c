"""Writing a gallery's database anew, so that nothing of what was erased is left in its files."""

from __future__ import annotations

import sqlite3
import threading

from reidkit.errors import GalleryError
from reidkit.gallery import _sqlite_rows as rows
from reidkit.gallery._sqlite_connections import Connections
from reidkit.gallery._sqlite_schema import write_audit

_COMPACTING = threading.Lock()
"""Where SQLite puts temporary files is one setting for the whole process."""


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
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise GalleryError(
            f"{connections.file}: another process went on reading, so that erased values may "
            "still be in its log: compact again"
        )


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
