"""Connections to a gallery's database: one to write with, as many to read with as threads."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reidkit.errors import GalleryError
from reidkit.gallery._sqlite_schema import check_database

PATIENCE = 30.0
"""Seconds to wait for another process that is writing."""

_ADVICE = {
    sqlite3.SQLITE_BUSY: f"another process has been using it for {PATIENCE:.0f} s: try again later",
    sqlite3.SQLITE_FULL: "the disk is full, and nothing was changed: make room and try again",
    sqlite3.SQLITE_READONLY: "it may not be written: check the permissions of folder and files",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check the permissions of folder and files",
    sqlite3.SQLITE_PERM: "it cannot be opened: check the permissions of folder and files",
    sqlite3.SQLITE_IOERR: "the disk failed or is full, and nothing was changed: check the disk",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore a copy, or save what can be read with "
    "`sqlite3 gallery.sqlite .recover`",
    sqlite3.SQLITE_NOTADB: "it is not a database: restore a copy, or make a new gallery elsewhere",
}


@contextmanager
def explain(file: Path) -> Iterator[None]:
    """Turn the database's errors into `GalleryError`, with what to do about them."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        advice = _ADVICE.get(code, "it may be damaged or of another program")
        raise GalleryError(f"{file}: {advice} ({error})") from error


def connect(file: Path) -> sqlite3.Connection:
    """Open a connection to a database that is there, for any thread."""
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        # Nothing but VACUUM may leave data in a temporary file elsewhere.
        for setting in (
            "synchronous = FULL",
            "secure_delete = ON",
            "foreign_keys = ON",
            "temp_store = MEMORY",
            "cache_size = -8000",
            "journal_size_limit = 67108864",
        ):
            connection.execute(f"PRAGMA {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


class Connections:
    """The connections of one store. Threads may share it."""

    def __init__(self, file: Path) -> None:
        """Open and check the database.

        Raises:
            GalleryError: it cannot be opened, or is no gallery's.
            FormatError: another format number.
        """
        self.file = file
        self._closed = False
        self._free: list[sqlite3.Connection] = []
        self._pool = threading.Lock()
        self._writes = threading.Lock()
        with self.lend() as connection:
            check_database(connection, file)
        with explain(file):
            self._writer = connect(file)

    @contextmanager
    def lend(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection outside any transaction, for one thread at a time."""
        with explain(self.file):
            with self._pool:
                if self._closed:
                    raise GalleryError(f"the gallery in {self.file.parent} is closed: open it anew")
                connection = self._free.pop() if self._free else None
            connection = connection or connect(self.file)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._take_back(connection)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Read what is there at one moment."""
        with self.lend() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Change something, whole or not at all; on disk once the block has ended."""
        with self.write_alone() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def write_alone(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection that writes, outside any transaction."""
        with explain(self.file), self._writes:
            if self._closed:
                raise GalleryError(f"the gallery in {self.file.parent} is closed: open it anew")
            yield self._writer

    def measure(self) -> int:
        """Give the bytes on disk, of the database and its log."""
        log = self.file.with_name(f"{self.file.name}-wal")
        return sum(file.stat().st_size for file in (self.file, log) if file.exists())

    def close(self) -> None:
        """Close all; connections that are lent close when they come back."""
        with explain(self.file), self._writes, self._pool:
            self._closed = True
            for connection in self._free:
                connection.close()
            self._free.clear()
            self._writer.close()

    def _take_back(self, connection: sqlite3.Connection) -> None:
        with self._pool:
            if self._closed:
                connection.close()
            else:
                self._free.append(connection)
