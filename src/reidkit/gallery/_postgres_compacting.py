"""Dropping what was erased from PostgreSQL's files."""

from __future__ import annotations

import re
import time
from contextlib import suppress

from psycopg import errors
from psycopg.errors import Diagnostic

from reidkit.errors import GalleryError
from reidkit.gallery._postgres_connections import Connection

PATIENCE = 30.0
"""Seconds to wait for other sessions' transactions that still see what was erased."""


def rewrite_tables(connection: Connection, *, patience: float = PATIENCE) -> None:
    """Write the gallery's tables and indexes anew, without what was erased.

    Raises:
        GalleryError: a transaction of another session that began before still sees erased rows.
    """
    rows = connection.execute(
        "SELECT 'reidkit.' || quote_ident(relname) FROM pg_class "
        "WHERE relnamespace = 'reidkit'::regnamespace AND relkind = 'r' ORDER BY relname"
    ).fetchall()
    deadline = time.monotonic() + patience
    for (table,) in rows:
        while left := _rewrite(connection, table):
            if time.monotonic() > deadline:
                raise GalleryError(
                    f"{left} erased rows of {table} are still seen by a transaction that was begun "
                    "before they were erased (or held by a prepared transaction or a replication "
                    "slot): end it, and compact again"
                )
            time.sleep(0.2)
    # Where this user may, also what the write-ahead log holds is let go of.
    for statement in ("SELECT pg_switch_wal()", "CHECKPOINT"):
        with suppress(errors.InsufficientPrivilege):
            connection.execute(statement)


def _rewrite(connection: Connection, table: str) -> int:
    """Write one table anew; count the erased rows that had to be taken along."""
    details: list[str] = []

    def keep(diagnostic: Diagnostic) -> None:
        details.append(diagnostic.message_detail or "")

    connection.add_notice_handler(keep)
    try:
        # A table that a switch of models has dropped meanwhile is gone altogether.
        with suppress(errors.UndefinedTable):
            connection.execute(f"VACUUM (FULL, VERBOSE, ANALYZE) {table}")
    finally:
        connection.remove_notice_handler(keep)
    numbers = [re.match(r"\D*(\d+)", detail) for detail in details]
    return max((int(number[1]) for number in numbers if number), default=0)
