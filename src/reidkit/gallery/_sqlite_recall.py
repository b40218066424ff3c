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

    A crop found counts as one of the true ten best where its score reaches the tenth best.
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
        wanted = min(_BEST, len(ids))
        best = np.full((len(queries), wanted), -np.inf)
        for part in rows.scan(connection, generation, after=0):
            vectors = rows.join_vectors([row[-1] for row in part], len(part))
            scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
            joined = np.concatenate([best, scores], axis=1)
            best = np.partition(joined, joined.shape[1] - wanted, axis=1)[:, -wanted:]
    found = search(queries, wanted, EVERYTHING)
    recall = float(np.mean(found.scores >= best.min(axis=1, keepdims=True) - _NEAR))
    with connections.write() as connection:
        connection.execute("UPDATE gallery SET recall = ?, recall_time = ?", (recall, time.time()))
