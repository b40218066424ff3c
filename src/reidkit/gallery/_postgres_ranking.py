"""Which people are most like a vector, in PostgreSQL, and the vectors of single crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import AbsentError
from reidkit.gallery import _postgres_index
from reidkit.gallery._postgres_connections import Cursor
from reidkit.gallery._postgres_exact import fetch, rank
from reidkit.gallery._postgres_rows import filter_crops, to_vectors
from reidkit.gallery._postgres_schema import Generation
from reidkit.gallery._values import Where

_CROPS_EACH = 8
"""Crops asked of the index for each person: people have several that are alike."""


def rank_people(
    cursor: Cursor, generation: Generation, query: NDArray[np.float32], count: int, where: Where
) -> list[str]:
    """Name the `count` people whose best crop of those meant is most like a vector (D,).

    By the index where it helps and enough people are among what it gives, else exactly.
    """
    if count == 0:
        return []
    found = _postgres_index.walk(cursor, generation, query[None], _CROPS_EACH * count, where)
    if found is not None:
        ids = found[0][0].tolist()
        cursor.execute("SELECT id, person FROM reidkit.crop WHERE id = ANY(%s::bigint[])", (ids,))
        owners = dict(cursor.fetchall())
        names = list(dict.fromkeys(owners[crop] for crop in ids))
        if len(names) >= count:
            return names[:count]
    ids, people, vectors = _find_candidates(cursor, generation, query, count, where)
    best, _ = rank(query, ids, vectors, len(ids))
    owners = dict(zip(ids.tolist(), people, strict=True))
    return list(dict.fromkeys(owners[crop] for crop in best.tolist()))[:count]


def read_vectors(
    cursor: Cursor, generation: Generation, ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Give the vectors (N, D) of crops by their ids (N,), in that order.

    Raises:
        AbsentError: one of them is not there.
    """
    text = (
        f"SELECT v.crop, vector_send(v.embedding) FROM {generation.table} v "
        "WHERE v.crop = ANY(%s::bigint[])"
    )
    there, vectors = fetch(cursor, text, [ids.tolist()], generation.binding.dimension)
    places = {crop: place for place, crop in enumerate(there.tolist())}
    for crop in ids.tolist():
        if crop not in places:
            raise AbsentError(f"there is no crop {crop} in the gallery")
    return vectors[[places[crop] for crop in ids.tolist()]]


def _find_candidates(
    cursor: Cursor, generation: Generation, query: NDArray[np.float32], count: int, where: Where
) -> tuple[NDArray[np.int64], Sequence[str], NDArray[np.float32]]:
    """Give every crop that may be the best of one of the best people: ids, people, vectors.

    The server's float32 sums round otherwise than ours, of D products by no more than is allowed.
    """
    condition, values = filter_crops(where)
    dimension = generation.binding.dimension
    rounding = 2 * (dimension + 32) * 2.0**-24
    cursor.execute(
        "WITH scored AS MATERIALIZED (SELECT c.id, c.person, -(v.embedding <#> %b) AS score "
        f"FROM {generation.table} v JOIN reidkit.crop c ON c.id = v.crop WHERE {condition}), "
        "best AS MATERIALIZED (SELECT person, max(score) AS top FROM scored GROUP BY person), "
        "bar AS (SELECT min(top) AS top FROM (SELECT top FROM best ORDER BY top DESC LIMIT %s) "
        "AS leaders) "
        "SELECT s.id, s.person, vector_send(v.embedding) FROM scored s "
        f"JOIN best ON best.person = s.person JOIN {generation.table} v ON v.crop = s.id, bar "
        "WHERE s.score >= greatest(best.top, bar.top) - %s",
        [query, *values, count, rounding],
        binary=True,
    )
    rows: list[Any] = cursor.fetchall()
    vectors = to_vectors([row[2] for row in rows], dimension)
    return np.array([row[0] for row in rows], np.int64), [row[1] for row in rows], vectors
