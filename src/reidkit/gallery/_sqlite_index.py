"""The in-memory index of a gallery in SQLite, kept in step with what any process writes."""

from __future__ import annotations

import sqlite3
import threading

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery import _sqlite_rows as rows
from reidkit.gallery._index import Index, Known, Snapshot
from reidkit.gallery._sqlite_connections import Connections, connect, explain
from reidkit.gallery._sqlite_rebinding import read_binding
from reidkit.gallery._values import EVERYTHING, Binding


class Follower:
    """An index that takes over what was written since it was last asked, by whichever process.

    Threads may share it. It has a connection of its own, whose `data_version` tells whether
    anything was committed by another one, be it of this process or not.
    """

    def __init__(self, connections: Connections, *, memory: int) -> None:
        self._connections = connections
        self._memory = memory
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._index: Index | None = None
        self._version = -1
        self._generation = 0
        self._binding = Binding("", "", 0)
        self._last_crop = 0
        self._last_change = 0

    def follow(self) -> tuple[Snapshot, int, Binding]:
        """Give the index as the database is now, the generation of its vectors, and of what."""
        with self._lock, explain(self._connections.file):
            if self._connection is None:
                with self._connections.lend():  # refuses what is closed
                    self._connection = connect(self._connections.file)
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if self._index is None or version != self._version:
                self._connection.execute("BEGIN")
                try:
                    index = self._take_over(self._connection)
                finally:
                    self._connection.execute("COMMIT")
                self._version = version
            else:
                index = self._index
            return index.snapshot(), self._generation, self._binding

    def describe(self) -> tuple[int, bool]:
        """Give the bytes that the index takes up, and whether it holds float32 vectors."""
        self.follow()
        with self._lock:
            return (self._index.memory, self._index.held) if self._index else (0, True)

    def forget(self) -> None:
        """Drop the index from memory; it is read anew when it is next asked for."""
        with self._lock:
            self._forget()

    def close(self) -> None:
        """Drop the index and its connection."""
        with self._lock:
            self._forget()
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _forget(self) -> None:
        self._index, self._last_crop, self._last_change = None, 0, 0

    def _take_over(self, connection: sqlite3.Connection) -> Index:
        """Take over new and erased crops, within one transaction that reads."""
        generation, erased_before = connection.execute(
            "SELECT generation, erased_before FROM gallery"
        ).fetchone()
        index, binding = self._index, read_binding(connection, generation)
        last_change = rows.read_sequence(connection, "erased")
        if index is None or generation != self._generation:
            (count,) = connection.execute("SELECT count(*) FROM crop").fetchone()
            self._forget()
            index = Index(binding.dimension, memory=self._memory)
            index.reserve(count)
        elif last_change > self._last_change:
            index.drop(self._list_erased(connection, index, erased_before))
        for part in rows.scan(connection, generation, after=self._last_crop):
            index.append(_to_known(part))
            self._last_crop = part[-1][0]
        self._index, self._last_change = index, last_change
        self._generation, self._binding = generation, binding
        return index

    def _list_erased(
        self, connection: sqlite3.Connection, index: Index, erased_before: int
    ) -> NDArray[np.int64]:
        if erased_before > self._last_change:
            # The list of what was erased was cut short meanwhile: compare all.
            there = rows.list_ids(connection, EVERYTHING)
            return np.setdiff1d(index.snapshot().ids, np.array(there, np.int64))
        erased = connection.execute(
            "SELECT crop FROM erased WHERE change > ?", (self._last_change,)
        )
        return np.array([crop for (crop,) in erased], np.int64)


def _to_known(part: list[tuple[int, str, str, float | None, float, bytes]]) -> Known:
    ids, people, cameras, times, added, vectors = zip(*part, strict=True)
    return Known(
        np.array(ids, np.int64),
        list(people),
        list(cameras),
        np.array(times, np.float64),
        np.array(added, np.float64),
        rows.join_vectors(vectors, len(part)),
    )
