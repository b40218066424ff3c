"""Exact search in PostgreSQL: by the server for few queries, over streamed vectors for many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery._postgres_connections import Cursor
from reidkit.gallery._postgres_rows import filter_crops, to_vectors
from reidkit.gallery._postgres_schema import Generation
from reidkit.gallery._values import Found, Where

_FEW = 3
"""So many queries the server scans for, one after the other (57 ms each over 20,000 x 512);
streaming all vectors once (250 ms, 315 ms for 64 queries) costs less for more."""

_SPARE = 16
"""Candidates beyond those asked for: the server's float32 sums round otherwise than ours."""

_TIES = 1024
"""The most candidates kept of those that differ by rounding alone."""

_TOGETHER = 512
_BLOCK = 2**21
"""Queries answered in one stream, and values of vectors multiplied at a time."""

Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]


def find_exact(
    cursor: Cursor,
    generation: Generation,
    queries: NDArray[np.float32],
    count: int,
    where: Where,
) -> Found:
    """Find the `count` best crops for each query (Q, D); the transaction sees one moment."""
    if count == 0 or len(queries) == 0:
        return gather([], len(queries), count)
    if len(queries) <= _FEW:
        ranked = [_scan(cursor, generation, query, count, where) for query in queries]
        return gather(ranked, len(queries), count)
    ranked = []
    for start in range(0, len(queries), _TOGETHER):
        part = queries[start : start + _TOGETHER]
        ranked += _stream(cursor, generation, part, count, where)
    return gather(ranked, len(queries), count)


def rank(
    query: NDArray[np.float32], ids: NDArray[np.int64], vectors: NDArray[np.float32], count: int
) -> Ranked:
    """Give the `count` best of candidates (N,) (N, D): their ids and float32 cosines.

    Computed in float64 by one formula, so that equal vectors get equal scores.
    """
    scores = np.vecdot(vectors.astype(np.float64), query.astype(np.float64)).astype(np.float32)
    order = np.lexsort((ids, -scores))[:count]
    return ids[order], scores[order]


def gather(ranked: Sequence[Ranked], queries: int, count: int) -> Found:
    """Put the best of each query into one table."""
    ids = np.full((queries, count), -1, np.int64)
    scores = np.full((queries, count), -np.inf, np.float32)
    for place, (best, values) in enumerate(ranked):
        ids[place, : len(best)] = best
        scores[place, : len(best)] = values
    return Found(ids, scores)


def select_vectors(generation: Generation, where: Where) -> tuple[str, list[object]]:
    """Give the query for the ids and vectors of the crops that are meant, and its parameters."""
    condition, values = filter_crops(where)
    joined = "" if condition == "true" else " JOIN reidkit.crop c ON c.id = v.crop"
    return (
        f"SELECT v.crop, vector_send(v.embedding) FROM {generation.table} v{joined} "
        f"WHERE {condition}",
        values,
    )


def fetch(
    cursor: Cursor, query: str, values: Sequence[object], dimension: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Fetch ids (N,) and vectors (N, D)."""
    rows = cursor.execute(query, values, binary=True).fetchall()
    ids = np.array([row[0] for row in rows], np.int64)
    return ids, to_vectors([row[1] for row in rows], dimension)


def _scan(
    cursor: Cursor, generation: Generation, query: NDArray[np.float32], count: int, where: Where
) -> Ranked:
    text, values = select_vectors(generation, where)
    text += " ORDER BY v.embedding <#> %b, v.crop LIMIT %s"
    dimension = generation.binding.dimension
    ids, vectors = fetch(cursor, text, [*values, query, count + _SPARE], dimension)
    return rank(query, ids, vectors, count)


def _stream(
    cursor: Cursor,
    generation: Generation,
    queries: NDArray[np.float32],
    count: int,
    where: Where,
) -> list[Ranked]:
    leaders = [_Leaders(count, generation.binding.dimension) for _ in queries]
    for ids, vectors in _read_blocks(cursor, generation, where):
        products = queries @ vectors.T
        for leader, scores in zip(leaders, products, strict=True):
            leader.offer(ids, scores)
    wanted = np.unique(np.concatenate([leader.ids for leader in leaders]))
    text, _ = select_vectors(generation, Where())
    text += " AND v.crop = ANY(%s) ORDER BY v.crop"
    ids, vectors = fetch(cursor, text, [wanted.tolist()], generation.binding.dimension)
    ranked = []
    for query, leader in zip(queries, leaders, strict=True):
        places = np.searchsorted(ids, leader.ids)
        ranked.append(rank(query, leader.ids, vectors[places], count))
    return ranked


def _read_blocks(
    cursor: Cursor, generation: Generation, where: Where
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    text, values = select_vectors(generation, where)
    dimension = generation.binding.dimension
    most = max(256, _BLOCK // dimension)
    ids: list[int] = []
    sent: list[bytes] = []
    for crop, vector in cursor.stream(text, values, binary=True):
        ids.append(crop)
        sent.append(vector)
        if len(ids) == most:
            yield np.array(ids, np.int64), to_vectors(sent, dimension)
            ids, sent = [], []
    if ids:
        yield np.array(ids, np.int64), to_vectors(sent, dimension)


class _Leaders:
    """The crops that may yet be among the best of one query, as blocks come by."""

    def __init__(self, count: int, dimension: int) -> None:
        self.ids = np.zeros(0, np.int64)
        self._count = count
        self._scores = np.zeros(0, np.float32)
        self._least = -np.inf
        # Two sums of D products in float32 differ by no more, for vectors of unit length.
        self._rounding = 2 * (dimension + 32) * 2.0**-24

    def offer(self, ids: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        """Take in crops (N,) with their scores in float32."""
        near = scores >= self._least
        if not near.any():
            return
        self.ids = np.concatenate([self.ids, ids[near]])
        self._scores = np.concatenate([self._scores, scores[near]])
        if len(self.ids) <= self._count:
            return
        place = len(self.ids) - self._count
        self._least = float(np.partition(self._scores, place)[place]) - self._rounding
        kept = np.flatnonzero(self._scores >= self._least)
        if len(kept) > self._count + _TIES:
            order = np.lexsort((self.ids[kept], -self._scores[kept]))
            kept = kept[order[: self._count + _TIES]]
        self.ids, self._scores = self.ids[kept], self._scores[kept]
