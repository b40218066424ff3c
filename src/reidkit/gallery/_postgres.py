"""A gallery in a PostgreSQL database with pgvector: many processes, replication, one DSN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import GalleryError
from reidkit.gallery import (
    _postgres_index,
    _postgres_people,
    _postgres_ranking,
    _postgres_rebinding,
)
from reidkit.gallery._checks import check_added, check_bound, check_search, check_vectors
from reidkit.gallery._postgres_compacting import rewrite_tables
from reidkit.gallery._postgres_connections import Connections, Cursor
from reidkit.gallery._postgres_rows import CROP, filter_crops, to_crops, to_vectors, write_crops
from reidkit.gallery._postgres_schema import Mode, State, check_format, create, note, read_state
from reidkit.gallery._postgres_schema import start as start_transaction
from reidkit.gallery._values import (
    AuditLine,
    Binding,
    Crops,
    Found,
    KeptPictures,
    Person,
    StoreFacts,
    Where,
)

__all__ = ["PostgresStore", "create"]


class PostgresStore:
    """The gallery in the schema `reidkit` of a database; its methods are those of `Store`.

    Everything is in the database: nothing is held in memory between two calls.
    """

    name = "postgres"

    def __init__(self, dsn: str) -> None:
        self._connections = Connections(dsn)
        try:
            with self._connections.transaction(
                "BEGIN READ ONLY; SELECT format FROM reidkit.gallery"
            ) as cursor:
                check_format(cursor)
        except BaseException:
            self._connections.close()
            raise

    def binding(self) -> Binding:
        """Say what the vectors are of."""
        with self._begin("read") as (_, state):
            return state.current.binding

    def kept_pictures(self) -> KeptPictures:
        """Say whether pictures are kept."""
        with self._begin("read") as (_, state):
            return state.kept

    def upsert(
        self,
        crops: Crops,
        vectors: NDArray[np.float32],
        pictures: Sequence[bytes | None],
        *,
        binding: Binding,
        actor: str,
    ) -> NDArray[np.int64]:
        """Add crops, instead of those of the same person and digest; gives the new ids."""
        with self._begin("write") as (cursor, state):
            check_bound(state.current.binding, binding)
            check_added(crops, vectors, pictures, dimension=binding.dimension)
            ids = write_crops(cursor, state.current.table, crops, vectors, pictures)
            note(cursor, "enrol", len(crops), actor=actor)
        return ids

    def remove(self, where: Where, *, actor: str, action: str = "erase") -> int:
        """Erase crops, with their vectors of any model, pictures and tags, and count them."""
        condition, values = filter_crops(where)
        with self._begin("write") as (cursor, _):
            cursor.execute(f"DELETE FROM reidkit.crop c WHERE {condition}", values)
            erased = cursor.rowcount
            note(cursor, action, erased, actor=actor)
        return erased

    def search(
        self,
        queries: NDArray[np.float32],
        count: int,
        where: Where,
        *,
        binding: Binding | None = None,
    ) -> Found:
        """Find the `count` best crops of those meant for each of Q vectors (Q, D)."""
        with self._begin("read") as (cursor, state):
            check_bound(state.current.binding, binding)
            check_search(queries, count, state.current.binding.dimension)
            return _postgres_index.find_best(cursor, state.current, queries, count, where)

    def rank_people(
        self,
        query: NDArray[np.float32],
        count: int,
        where: Where,
        *,
        binding: Binding | None = None,
    ) -> list[str]:
        """Name the `count` people whose best crop of those meant is most like a vector (D,)."""
        with self._begin("read") as (cursor, state):
            check_bound(state.current.binding, binding)
            check_search(query[None], count, state.current.binding.dimension)
            return _postgres_ranking.rank_people(cursor, state.current, query, count, where)

    def read_vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Give the vectors (N, D) of crops by their ids (N,), in that order."""
        with self._begin("read") as (cursor, state):
            return _postgres_ranking.read_vectors(cursor, state.current, ids)

    def count(self, where: Where) -> int:
        """Count the crops that are meant."""
        condition, values = filter_crops(where)
        with self._begin("read") as (cursor, _):
            return _count(cursor, f"count(*) FROM reidkit.crop c WHERE {condition}", values)

    def count_people(self) -> int:
        """Count the people."""
        with self._begin("read") as (cursor, _):
            return _count(cursor, "count(DISTINCT person) FROM reidkit.crop")

    def list_people(self, *, after: str = "", limit: int = 100, named: str = "") -> list[Person]:
        """List people by name (by code point), those after a name, whose name contains `named`."""
        with self._begin("read") as (cursor, _):
            return _postgres_people.list_people(cursor, after, limit, named)

    def list_cameras(self) -> list[str]:
        """List the cameras by name (by code point), without the empty one."""
        with self._begin("read") as (cursor, _):
            return _postgres_people.list_cameras(cursor)

    def read(self, ids: NDArray[np.int64]) -> Crops:
        """Give crops by their ids, in that order; those that are not there are left out."""
        wanted = ids.tolist()
        with self._begin("read") as (cursor, _):
            cursor.execute(
                f"SELECT {CROP} FROM reidkit.crop c WHERE c.id = ANY(%s::bigint[])", (wanted,)
            )
            rows = {row[0]: row for row in cursor.fetchall()}
        return to_crops([rows[crop] for crop in wanted if crop in rows])

    def find_known(self, people: Sequence[str], digests: Sequence[str]) -> list[str | None]:
        """Say for each (person, digest) whose crop that is: theirs, the first other's, nobody's."""
        with self._begin("read") as (cursor, _):
            return _postgres_people.find_known(cursor, people, digests)

    def export(
        self, where: Where, *, after: int = 0, batch: int = 1024
    ) -> Iterator[tuple[Crops, NDArray[np.float32]]]:
        """Give the crops that are meant with their vectors, by id, some at a time.

        Each batch is a transaction of its own: nobody waits for a slow reader.

        Raises:
            GalleryError: the gallery was switched to another model meanwhile.
        """
        condition, values = filter_crops(where)
        number = None
        while True:
            with self._begin("read") as (cursor, state):
                if number not in (None, state.current.number):
                    raise GalleryError("the gallery's model was changed meanwhile: export anew")
                number = state.current.number
                cursor.execute(
                    f"SELECT {CROP}, vector_send(v.embedding) FROM reidkit.crop c "
                    f"JOIN {state.current.table} v ON v.crop = c.id "
                    f"WHERE {condition} AND c.id > %s ORDER BY c.id LIMIT %s",
                    [*values, after, batch],
                )
                rows = cursor.fetchall()
                dimension = state.current.binding.dimension
            if not rows:
                return
            after = rows[-1][0]
            yield to_crops(rows), to_vectors([row[-1] for row in rows], dimension)

    def picture(self, crop: int) -> bytes | None:
        """Give a crop's picture, a PNG file; `None` where there is none."""
        with self._begin("read") as (cursor, _):
            cursor.execute("SELECT png FROM reidkit.picture WHERE crop = %s", (int(crop),))
            row = cursor.fetchone()
            return None if row is None else bytes(row[0])

    def start_rebinding(self, binding: Binding) -> None:
        """Begin to collect vectors of another model; those collected for this one stay."""
        with self._begin("write") as (cursor, state):
            _postgres_rebinding.start(cursor, state, binding)

    def list_missing(self, *, binding: Binding, after: int, limit: int) -> Crops:
        """List crops that lack a vector of the model begun, by id, those after an id."""
        with self._begin("read") as (cursor, state):
            begun = _postgres_rebinding.require_begun(state, binding)
            return _postgres_rebinding.list_missing(cursor, begun, after, limit)

    def add_vectors(
        self, ids: NDArray[np.int64], vectors: NDArray[np.float32], *, binding: Binding
    ) -> None:
        """Add vectors of the model begun; of crops erased meanwhile they are dropped."""
        with self._begin("write") as (cursor, state):
            begun = _postgres_rebinding.require_begun(state, binding)
            check_vectors(vectors, len(ids), begun.binding.dimension)
            _postgres_rebinding.add_vectors(cursor, begun, ids, vectors)

    def finish_rebinding(self, *, binding: Binding, dropping: NDArray[np.int64], actor: str) -> int:
        """Switch to the model begun at once; the older vectors and their index are dropped."""
        with self._begin("switch") as (cursor, state):
            return _postgres_rebinding.finish(cursor, state, binding, dropping, actor=actor)

    def note(self, action: str, count: int, *, actor: str) -> None:
        """Add a line to the audit, which a trigger keeps from being changed or removed."""
        with self._begin("note") as (cursor, _):
            note(cursor, action, count, actor=actor)

    def audit(self, *, limit: int = 1000) -> list[AuditLine]:
        """Give the audit's latest lines, the newest first."""
        with self._begin("read") as (cursor, _):
            cursor.execute(
                "SELECT time, actor, action, count FROM reidkit.audit ORDER BY id DESC LIMIT %s",
                (limit,),
            )
            return [AuditLine(*row) for row in cursor.fetchall()]

    def build_index(self, *, actor: str) -> None:
        """Make an approximate index (HNSW, float16) over the vectors; writers wait meanwhile.

        Searches that mean more than 20,000 crops then use it, and score what it gives exactly;
        others stay exact. A switch to another model drops it.

        Raises:
            GalleryError: vectors of more than 4,000 dimensions, or pgvector older than 0.8.
        """
        with self._begin("write") as (cursor, state):
            _postgres_index.build_index(cursor, state.current)
            note(cursor, "index", _count(cursor, "count(*) FROM reidkit.crop"), actor=actor)

    def compact(self, *, actor: str) -> None:
        """Write the tables and indexes anew (VACUUM FULL), without what was erased.

        Afterwards no file of the database's tables and indexes holds it. What is outside them may:
        segments of the write-ahead log (`pg_wal`), which a checkpoint gives back but the server
        overwrites only when it uses them again; archived segments, replicas' logs and backups; the
        server's own log, where it is told to log parameters; disk blocks that the file system has
        freed. The checkpoint is made where this user may. Needs free space for the largest table
        twice; everybody waits while a table is written.

        Raises:
            GalleryError: a transaction that began before the erasure has not ended in 30 seconds.
        """
        self.note("compact", 0, actor=actor)
        with self._connections.alone() as connection:
            rewrite_tables(connection)

    def facts(self, *, measure: bool = False) -> StoreFacts:
        """Say how it searches and what it takes up; `measure` finds out the index's recall."""
        if measure:
            self._measure()
        with self._begin("read") as (cursor, state):
            return _postgres_index.tell_facts(cursor, state.current)

    def close(self) -> None:
        """Let go of the database."""
        self._connections.close()

    @contextmanager
    def _begin(self, mode: Mode) -> Iterator[tuple[Cursor, State]]:
        with self._connections.transaction(start_transaction(mode)) as cursor:
            yield cursor, read_state(cursor)

    def _measure(self) -> None:
        with self._begin("read") as (cursor, state):
            if not state.current.indexed:
                return
            recall = _postgres_index.measure_recall(cursor, state.current)
        with self._begin("write") as (cursor, _):
            cursor.execute(
                "UPDATE reidkit.binding SET recall = %s WHERE generation = %s AND indexed",
                (recall, state.current.number),
            )


def _count(cursor: Cursor, what: str, values: Sequence[object] = ()) -> int:
    row = cursor.execute(f"SELECT {what}", values).fetchone()
    return 0 if row is None else int(row[0])
