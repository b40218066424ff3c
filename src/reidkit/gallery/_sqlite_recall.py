"""How many of the true best crops a gallery's search finds, measured on its own vectors."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery import _sqlite_rows as rows
from reidkit.gallery._sqlite_connections import Connections
from reidkit.gallery._sqlite_rebinding import read_generation
from reidkit.gallery._values import EVERYTHING, Found, Where

_QUERIES = 64
_BEST = 10
_NEAR = 1e-6
"""Scores this near are equal: the two ways of computing them round differently."""

Search = Callable[[NDArray[np.float32], int, Where], Found]


def measure_recall(connections: Connections, search: Search) -> None:
    """Search for some stored vectors and compare with all scores; keeps the result, and when.

    They are searched for one by one, as people are: among all crops, and among those of the most
    common camera; the lower share is kept. A crop found counts as one of the true ten best where
    its score reaches the tenth best.
    """
    with connections.read() as connection:
        generation = read_generation(connection)
        ids = np.array(rows.list_ids(connection, EVERYTHING), np.int64)
        if len(ids) == 0:
            return
        chosen = np.random.default_rng(0).permutation(ids)[:_QUERIES]
        queries = rows.read_vectors(connection, generation, np.sort(chosen))
        if queries is None:
            return
        (camera,) = connection.execute(
            "SELECT camera FROM crop GROUP BY camera ORDER BY count(*) DESC, camera LIMIT 1"
        ).fetchone()
        best = [np.full((len(queries), _BEST), -np.inf) for _ in range(2)]
        for part in rows.scan(connection, generation, after=0):
            vectors = rows.join_vectors([row[-1] for row in part], len(part))
            scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
            there = np.array([row[2] == camera for row in part], np.bool_)
            best = [_keep_best(best[0], scores), _keep_best(best[1], scores[:, there])]
    filters = (EVERYTHING, Where(cameras=(camera,)))
    shares = [_share(search, queries, *both) for both in zip(filters, best, strict=True)]
    with connections.write() as connection:
        connection.execute(
            "UPDATE gallery SET recall = ?, recall_time = ?", (min(shares), time.time())
        )


def _keep_best(best: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    joined = np.concatenate([best, scores], axis=1)
    return np.partition(joined, joined.shape[1] - _BEST, axis=1)[:, -_BEST:]


def _share(
    search: Search, queries: NDArray[np.float32], where: Where, best: NDArray[np.float64]
) -> float:
    """Give the share of the true best scores (Q, 10) that searches reach."""
    right = total = 0
    for query, true in zip(queries, best, strict=True):
        there = true[np.isfinite(true)]
        scores = search(query[None], len(there), where).scores[0]
        right += int(np.count_nonzero(scores >= there.min(initial=np.inf) - _NEAR))
        total += len(there)
    return right / max(total, 1)
