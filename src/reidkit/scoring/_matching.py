"""Ranked lists: the best gallery rows of every query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import (
    MEMORY,
    Comparison,
    check_memory,
    count_rows,
    find_nearest,
    spread,
)
from reidkit.errors import ArgumentError
from reidkit.records import Embeddings, Matches
from reidkit.scoring._kin import Kin
from reidkit.scoring._protocols import MARKET1501, Protocol
from reidkit.scoring._sides import check_sides, refuse_trials


def match(
    query: Embeddings,
    gallery: Embeddings,
    *,
    metric: str | Comparison = "cosine",
    count: int = 10,
    protocol: Protocol = MARKET1501,
    memory: int = MEMORY,
) -> Matches:
    """Give the best gallery rows of every query, in the order that `evaluate` scores.

    The same rows are left out: junk, and for each query what the protocol removes. No query
    is dropped. `Matches.scores` holds the cosine, or for `euclidean` minus the distance.

    `query` and `gallery` hold (Q, D) and (G, D) vectors; (Q, `count`) matches come back.

    Raises:
        ArgumentError: as `evaluate`, and for a `count` below 1.
        MismatchError: the embeddings are of two models.
    """
    if count < 1:
        raise ArgumentError(f"count is {count}, expected at least 1")
    check_memory(memory)
    refuse_trials(protocol)
    sides = check_sides(query, gallery, metric=metric, protocol=protocol)
    rows = np.full((len(query), count), -1, np.int64)
    scores = np.full((len(query), count), -np.inf, np.float32)
    blocks = sides.comparison.score_blocks(
        sides.queries, sides.gallery, asked=np.arange(len(query)), memory=memory
    )
    for start, block in blocks:
        part = slice(start, start + len(block))
        rows[part], scores[part] = _match_block(block, sides.kin.select(part), count)
    worded = sides.comparison.word_scores(scores)
    return Matches(np.where(rows >= 0, sides.kept[rows], -1), worded)


def _match_block(
    scores: NDArray[np.float32], kin: Kin, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Give the best columns of a block's rows, (n, count), and their scores."""
    rows = np.empty((len(scores), count), np.int64)
    best = np.empty((len(scores), count), np.float32)

    def work(start: int, stop: int) -> None:
        removed = kin.find_removed(slice(start, stop))
        scores[start:stop][removed.queries, removed.rows] = -np.inf
        rows[start:stop], best[start:stop] = find_nearest(scores[start:stop], count)

    spread(work, len(scores), step=count_rows(scores.shape[1]))
    return rows, best
