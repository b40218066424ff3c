"""Searches of a gallery in SQLite: in its index, with vectors from the database where needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import AbsentError, GalleryError
from reidkit.gallery import _sqlite_rows as rows
from reidkit.gallery._checks import check_bound, check_search
from reidkit.gallery._searching import Searched, find_best, find_people
from reidkit.gallery._sqlite_connections import Connections
from reidkit.gallery._sqlite_index import Follower
from reidkit.gallery._sqlite_rebinding import read_binding, read_generation
from reidkit.gallery._values import Binding, Found, Where

_TRIES = 8
"""How often a search begins anew because others erased crops while it read their vectors."""

_Answer = TypeVar("_Answer")
_Mask = NDArray[np.bool_] | None
_Vectors = NDArray[np.float32] | None


class Searcher:
    """Searches one store, whose index follows what any process writes. Threads may share it."""

    def __init__(self, connections: Connections, follower: Follower) -> None:
        self._connections = connections
        self._follower = follower

    def search(
        self, queries: NDArray[np.float32], count: int, where: Where, binding: Binding | None
    ) -> Found:
        """Find the `count` best crops for each of Q vectors (Q, D); see `Store.search`."""

        def look(searched: Searched, _: NDArray[np.int32], mask: _Mask) -> Found | None:
            check_search(queries, count, searched.codes.values.shape[1])
            return find_best(searched, queries, count, mask)

        return self._try(look, where, binding)[0]

    def rank_people(
        self, query: NDArray[np.float32], count: int, where: Where, binding: Binding | None
    ) -> list[str]:
        """Name the people most like a vector (D,); see `Store.rank_people`."""

        def look(searched: Searched, people: NDArray[np.int32], mask: _Mask) -> list[int] | None:
            check_search(query[None], count, searched.codes.values.shape[1])
            return find_people(searched, query, count, mask, people=people)

        numbers, names = self._try(look, where, binding)
        # Names are numbered in the order in which they came.
        known = list(names) if numbers else []
        return [known[number] for number in numbers]

    def read_vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Give the vectors (N, D) of crops by their ids (N,); see `Store.read_vectors`."""
        with self._connections.read() as connection:
            generation = read_generation(connection)
            if len(ids) == 0:
                return np.zeros((0, read_binding(connection, generation).dimension), np.float32)
            there = set(rows.read_crops(connection, ids.tolist()).ids.tolist())
            absent = [crop for crop in ids.tolist() if crop not in there]
            wanted, places = np.unique(ids, return_inverse=True)
            vectors = None if absent else rows.read_vectors(connection, generation, wanted)
        if vectors is None:
            raise AbsentError(f"there is no crop {absent[0] if absent else ids[0]} in the gallery")
        return vectors[places]

    def _try(
        self,
        look: Callable[[Searched, NDArray[np.int32], _Mask], _Answer | None],
        where: Where,
        binding: Binding | None,
    ) -> tuple[_Answer, dict[str, int]]:
        """Look at the index as it is now, anew where rows vanish meanwhile."""
        for _ in range(_TRIES):
            snapshot, generation, bound = self._follower.follow()
            check_bound(bound, binding)
            tagged = None
            if where.tags:
                with self._connections.read() as connection:
                    ids = rows.list_ids(connection, Where(tags=where.tags))
                tagged = np.array(ids, np.int64)

            def read(wanted: NDArray[np.int64], begun: int = generation) -> _Vectors:
                return self._read(begun, wanted)

            mask = snapshot.choose(where, tagged)
            answer = look(snapshot.view(read), snapshot.people, mask)
            if answer is not None:
                return answer, snapshot.people_names
        raise GalleryError("others erase crops faster than they can be searched: try again")

    def _read(self, generation: int, ids: NDArray[np.int64]) -> _Vectors:
        with self._connections.read() as connection:
            return rows.read_vectors(connection, generation, ids)
