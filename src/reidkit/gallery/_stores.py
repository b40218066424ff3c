"""Where a gallery is kept: the seam between it and a database, and which database a place means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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

MEMORY = 2**30
"""How many bytes of vectors a gallery may hold in memory, unless told otherwise."""


class Store(Protocol):
    """Crops, their vectors and pictures in one database. Safe to use from several threads.

    What a method that changes something has returned from is on disk. Whatever it does happens
    whole or not at all, its line in the audit included. What another process does is seen by the
    next call. Vectors are (N, D) float32 of unit length; scores are cosines.
    """

    name: str

    def binding(self) -> Binding:
        """Say what the vectors are of."""

    def kept_pictures(self) -> KeptPictures:
        """Say whether pictures are kept."""

    def upsert(
        self,
        crops: Crops,
        vectors: NDArray[np.float32],
        pictures: Sequence[bytes | None],
        *,
        binding: Binding,
        actor: str,
    ) -> NDArray[np.int64]:
        """Add crops; a person's crop of a digest that is there already is replaced.

        `pictures` are PNG files. Gives the new ids (N,), ascending.

        Raises:
            MismatchError: the store is bound to other vectors than `binding`'s.
        """

    def remove(self, where: Where, *, actor: str, action: str = "erase") -> int:
        """Erase crops, with their vectors of any model, pictures and tags, and count them."""

    def search(
        self,
        queries: NDArray[np.float32],
        count: int,
        where: Where,
        *,
        binding: Binding | None = None,
    ) -> Found:
        """Find the `count` best crops of those meant for each of Q vectors (Q, D).

        The filter comes first: what it leaves out takes no place among the best. Equal scores go
        by id.

        Raises:
            MismatchError: what would be searched are other vectors than `binding`'s, if given.
        """

    def rank_people(
        self,
        query: NDArray[np.float32],
        count: int,
        where: Where,
        *,
        binding: Binding | None = None,
    ) -> list[str]:
        """Name the `count` people whose best crop of those meant is most like a vector (D,).

        Equal scores go by the ids of those crops.

        Raises:
            MismatchError: as for `search`.
        """

    def read_vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Give the vectors (N, D) of crops by their ids (N,), in that order.

        Raises:
            AbsentError: one of them is not there.
        """

    def count(self, where: Where) -> int:
        """Count the crops that are meant."""

    def count_people(self) -> int:
        """Count the people."""

    def list_people(self, *, after: str = "", limit: int = 100, named: str = "") -> list[Person]:
        """List people by name (by code point), those after a name, whose name contains `named`."""

    def list_cameras(self) -> list[str]:
        """List the names of all cameras, by code point; not the empty one."""

    def read(self, ids: NDArray[np.int64]) -> Crops:
        """Give crops by their ids, in that order; those that are not there are left out."""

    def find_known(self, people: Sequence[str], digests: Sequence[str]) -> list[str | None]:
        """Say for each of N crops to be added, (person, digest), whose crop that picture is.

        That person's own, else somebody's who has it, else `None`.
        """

    def export(
        self, where: Where, *, after: int = 0, batch: int = 1024
    ) -> Iterator[tuple[Crops, NDArray[np.float32]]]:
        """Give the crops that are meant with their vectors, by id, those after an id."""

    def picture(self, crop: int) -> bytes | None:
        """Give a crop's picture, a PNG file; `None` where there is none."""

    def start_rebinding(self, binding: Binding) -> None:
        """Begin to collect vectors of another model; those collected for this one stay."""

    def list_missing(self, *, binding: Binding, after: int, limit: int) -> Crops:
        """List crops that lack a vector of the model begun, by id, those after an id.

        Raises:
            GalleryError: nothing was begun, or somebody began to move to another model.
        """

    def add_vectors(
        self, ids: NDArray[np.int64], vectors: NDArray[np.float32], *, binding: Binding
    ) -> None:
        """Add vectors of the model begun; of crops erased meanwhile they are dropped.

        Raises:
            GalleryError: as for `list_missing`.
        """

    def finish_rebinding(self, *, binding: Binding, dropping: NDArray[np.int64], actor: str) -> int:
        """Switch to the model begun at once; the older vectors are erased.

        Crops `dropping` (N,) that lack a vector are erased; gives how many. Where others lack one
        too nothing is changed, and -1 is given: they were enrolled meanwhile.

        Raises:
            GalleryError: as for `list_missing`.
        """

    def note(self, action: str, count: int, *, actor: str) -> None:
        """Add a line to the audit, which nothing changes or removes."""

    def audit(self, *, limit: int = 1000) -> list[AuditLine]:
        """Give the audit's latest lines, the newest first."""

    def compact(self, *, actor: str) -> None:
        """Give back space, and overwrite or drop every trace of what was erased."""

    def build_index(self, *, actor: str) -> None:
        """Build an approximate index, which makes searches of large galleries faster.

        Raises:
            GalleryError: this store has none, or cannot build one for such vectors.
        """

    def facts(self, *, measure: bool = False) -> StoreFacts:
        """Say how it searches and what it takes up; `measure` finds out the recall anew."""

    def close(self) -> None:
        """Let go of the database."""


def is_postgres(place: str | Path) -> bool:
    """Tell whether a place is a PostgreSQL address (DSN), not a folder."""
    return str(place).startswith(("postgresql://", "postgres://"))


def create_store(
    place: str | Path, binding: Binding, pictures: KeptPictures, *, actor: str
) -> None:
    """Make an empty store: in a new folder, or in a PostgreSQL database that has none.

    Raises:
        GalleryError: there is one already, or nothing can be made there.
        MissingExtraError: psycopg is not installed.
    """
    if is_postgres(place):
        from reidkit.gallery import _postgres

        _postgres.create(str(place), binding, pictures, actor=actor)
    else:
        from reidkit.gallery import _sqlite

        _sqlite.create(Path(place), binding, pictures, actor=actor)


def open_store(place: str | Path, *, memory: int = MEMORY) -> Store:
    """Open the store at a place, which holds about `memory` bytes of vectors in memory.

    Raises:
        GalleryError: there is none, or the database cannot be reached.
        FormatError: it was written in another format number.
        MissingExtraError: psycopg is not installed.
    """
    if is_postgres(place):
        from reidkit.gallery import _postgres

        return _postgres.PostgresStore(str(place))
    from reidkit.gallery import _sqlite

    return _sqlite.SqliteStore(Path(place), memory=memory)
