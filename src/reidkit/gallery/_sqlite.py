"""The store of a gallery in a folder: one SQLite database, searched exactly in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit import disk
from reidkit.errors import ArgumentError, GalleryError
from reidkit.gallery import _sqlite_compacting as compacting
from reidkit.gallery import _sqlite_people
from reidkit.gallery import _sqlite_rebinding as rebinding
from reidkit.gallery import _sqlite_rows as rows
from reidkit.gallery._checks import check_added, check_bound
from reidkit.gallery._sqlite_connections import Connections
from reidkit.gallery._sqlite_index import Follower
from reidkit.gallery._sqlite_recall import measure_recall
from reidkit.gallery._sqlite_schema import DATABASE, make_database, write_audit
from reidkit.gallery._sqlite_searching import Searcher
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


def create(path: Path, binding: Binding, pictures: KeptPictures, *, actor: str) -> None:
    """Make a folder with an empty gallery, whole or not at all.

    Raises:
        GalleryError: it has other things in it, or nothing can be made there.
    """
    if (path / DATABASE).exists():
        raise GalleryError(f"{path} holds a gallery already: open it, or choose another folder")
    try:
        with disk.new_folder(path, marker=DATABASE) as folder:
            folder.chmod(0o700)
            make_database(folder / DATABASE, binding, pictures, actor=actor)
        for place in (path, path.absolute().parent):
            _sync(place)
    except (ArgumentError, OSError) as error:
        raise GalleryError(f"no gallery can be made: {error}") from error


class SqliteStore:
    """Crops, vectors and pictures in a folder; see `Store`. Any number of processes may open it.

    The vectors are held in memory in eight bits a value, and in float32 too while all of it fits
    into the budget; beyond it the few that matter to a search are read from the database.
    """

    name = "sqlite"

    def __init__(self, path: Path, *, memory: int) -> None:
        """Open the gallery in a folder; vectors are read when they are first needed.

        Raises:
            GalleryError: there is none, or it cannot be read.
            FormatError: it was written in another format number.
        """
        file = path / DATABASE
        if not file.is_file():
            raise GalleryError(f"{path} holds no gallery: `reidkit gallery create` makes one")
        self._connections = Connections(file)
        self._follower = Follower(self._connections, memory=memory)
        self._searcher = Searcher(self._connections, self._follower)

    def binding(self) -> Binding:
        """Say what the vectors are of."""
        with self._connections.read() as connection:
            return rebinding.read_binding(connection, rebinding.read_generation(connection))

    def kept_pictures(self) -> KeptPictures:
        """Say whether pictures are kept."""
        with self._connections.read() as connection:
            keep, largest = connection.execute(
                "SELECT pictures_kept, pictures_largest FROM gallery"
            ).fetchone()
        return KeptPictures(bool(keep), largest)

    def upsert(
        self,
        crops: Crops,
        vectors: NDArray[np.float32],
        pictures: Sequence[bytes | None],
        *,
        binding: Binding,
        actor: str,
    ) -> NDArray[np.int64]:
        """Add crops; see `Store`.

        Raises:
            MismatchError: the gallery is bound to other vectors than `binding`'s.
            ShapeError, ArgumentError: not one vector of its dimension, finite and no longer than
                1, and one picture or `None` for each crop.
        """
        check_added(crops, vectors, pictures, dimension=binding.dimension)
        with self._connections.write() as connection:
            generation = rebinding.read_generation(connection)
            check_bound(rebinding.read_binding(connection, generation), binding)
            if len(crops) == 0:
                return np.zeros(0, np.int64)
            ids, kept = rows.insert_crops(connection, crops)
            rows.insert_vectors(connection, generation, [ids[row] for row in kept], vectors[kept])
            connection.executemany(
                "INSERT INTO picture VALUES (?, ?)",
                ((ids[row], pictures[row]) for row in kept if pictures[row] is not None),
            )
            write_audit(connection, actor, "enrol", len(crops))
        return np.array(ids, np.int64)

    def remove(self, where: Where, *, actor: str, action: str = "erase") -> int:
        """Erase crops with all that belongs to them, and count them."""
        with self._connections.write() as connection:
            ids = rows.list_ids(connection, where)
            rows.erase_crops(connection, ids)
            write_audit(connection, actor, action, len(ids))
        return len(ids)

    def search(
        self,
        queries: NDArray[np.float32],
        count: int,
        where: Where,
        *,
        binding: Binding | None = None,
    ) -> Found:
        """Find the `count` best crops for each of Q unit vectors (Q, D), exactly; see `Store`.

        Raises:
            ShapeError, ArgumentError: queries of another dimension or not finite, or a negative
                count.
            MismatchError: the gallery is bound to other vectors than `binding`'s.
        """
        return self._searcher.search(queries, count, where, binding)

    def rank_people(
        self,
        query: NDArray[np.float32],
        count: int,
        where: Where,
        *,
        binding: Binding | None = None,
    ) -> list[str]:
        """Name the `count` people whose best crop is most like a vector, exactly; see `Store`."""
        return self._searcher.rank_people(query, count, where, binding)

    def read_vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Give the vectors (N, D) of crops by their ids (N,); see `Store`."""
        return self._searcher.read_vectors(ids)

    def count(self, where: Where) -> int:
        """Count the crops that are meant."""
        condition, values = rows.write_condition(where)
        with self._connections.read() as connection:
            (count,) = connection.execute(
                f"SELECT count(*) FROM crop WHERE {condition}", values
            ).fetchone()
        return int(count)

    def count_people(self) -> int:
        """Count the people."""
        with self._connections.read() as connection:
            (count,) = connection.execute("SELECT count(DISTINCT person) FROM crop").fetchone()
        return int(count)

    def list_people(self, *, after: str = "", limit: int = 100, named: str = "") -> list[Person]:
        """List people by name (by code point), those after a name, whose name contains `named`."""
        with self._connections.read() as connection:
            return _sqlite_people.list_people(connection, after=after, limit=limit, named=named)

    def list_cameras(self) -> list[str]:
        """List the names of all cameras, by code point; not the empty one."""
        with self._connections.read() as connection:
            return _sqlite_people.list_cameras(connection)

    def read(self, ids: NDArray[np.int64]) -> Crops:
        """Give crops by their ids, in that order; those that are not there are left out."""
        with self._connections.read() as connection:
            return rows.read_crops(connection, ids.tolist())

    def find_known(self, people: Sequence[str], digests: Sequence[str]) -> list[str | None]:
        """Say for each of N crops to be added whose crop that picture is; see `Store`."""
        with self._connections.read() as connection:
            return _sqlite_people.find_known(connection, people, digests)

    def export(
        self, where: Where, *, after: int = 0, batch: int = 1024
    ) -> Iterator[tuple[Crops, NDArray[np.float32]]]:
        """Give the crops that are meant with their vectors, by id, some at a time.

        Each part is what is there when it is asked for.

        Raises:
            GalleryError: another model's vectors took their place meanwhile.
        """
        begun = None
        while True:
            with self._connections.read() as connection:
                generation = rebinding.read_generation(connection)
                if generation != (begun or generation):
                    raise GalleryError("the gallery changed to another model: export it anew")
                begun = generation
                ids = rows.list_ids(connection, where, after=after, limit=batch)
                crops = rows.read_crops(connection, ids)
                vectors = rows.read_vectors(connection, generation, crops.ids)
            if len(crops) == 0 or vectors is None:
                return
            yield crops, vectors
            after = ids[-1]

    def picture(self, crop: int) -> bytes | None:
        """Give a crop's picture, a PNG file; `None` where there is none."""
        with self._connections.read() as connection:
            row = connection.execute("SELECT png FROM picture WHERE crop = ?", (crop,)).fetchone()
        return None if row is None else bytes(row[0])

    def start_rebinding(self, binding: Binding) -> None:
        """Begin to collect vectors of another model; those collected for this one stay."""
        with self._connections.write() as connection:
            rebinding.start(connection, binding)

    def list_missing(self, *, binding: Binding, after: int, limit: int) -> Crops:
        """List crops that lack a vector of the model begun, by id, those after an id."""
        with self._connections.read() as connection:
            return rebinding.list_missing(connection, binding, after=after, limit=limit)

    def add_vectors(
        self, ids: NDArray[np.int64], vectors: NDArray[np.float32], *, binding: Binding
    ) -> None:
        """Add vectors of the model begun; of crops erased meanwhile they are dropped."""
        with self._connections.write() as connection:
            rebinding.add_vectors(connection, binding, ids, vectors)

    def finish_rebinding(self, *, binding: Binding, dropping: NDArray[np.int64], actor: str) -> int:
        """Switch to the model begun at once, and count the crops erased for it; see `Store`."""
        with self._connections.write() as connection:
            return rebinding.finish(connection, binding, dropping, actor=actor)

    def note(self, action: str, count: int, *, actor: str) -> None:
        """Add a line to the audit, which nothing changes or removes."""
        with self._connections.write() as connection:
            write_audit(connection, actor, action, count)

    def audit(self, *, limit: int = 1000) -> list[AuditLine]:
        """Give the audit's latest lines, the newest first."""
        with self._connections.read() as connection:
            lines = connection.execute(
                "SELECT time, actor, action, count FROM audit ORDER BY line DESC LIMIT ?", (limit,)
            ).fetchall()
        return [AuditLine(*line) for line in lines]

    def compact(self, *, actor: str) -> None:
        """Write the database anew without what was erased, and empty its log.

        Raises:
            GalleryError: another process went on reading what has to be emptied.
        """
        compacting.compact(self._connections, actor=actor)
        self._follower.forget()

    def build_index(self, *, actor: str) -> None:
        """Refuse: search is exact and in memory, no index would make it faster.

        Raises:
            GalleryError: always.
        """
        raise GalleryError("a gallery in a folder needs no index: its search is exact as it is")

    def facts(self, *, measure: bool = False) -> StoreFacts:
        """Say how it searches and what it takes up; `measure` finds out the recall anew."""
        if measure:
            measure_recall(self._connections, self.search)
        memory, held = self._follower.describe()
        words = "exact, float32 in memory" if held else "exact: int8 first pass, float32 from disk"
        with self._connections.read() as connection:
            (recall,) = connection.execute("SELECT recall FROM gallery").fetchone()
        return StoreFacts(self.name, self._connections.measure(), memory, words, recall)

    def close(self) -> None:
        """Let go of the database."""
        self._follower.close()
        self._connections.close()


def _sync(folder: Path) -> None:
    """See to it that a folder's entries are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
