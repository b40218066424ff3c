"""The ranks of all right answers, query by query, and the figures made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import count_rows, order_rows, split_range, spread
from reidkit.scoring._kin import Kin, Pairs

_ENTRY_COST, _HIT_COST, _PASS_COST = 50.0, 4000.0, 0.15
"""Measured nanoseconds: to sort one score, to count for one right answer, and that a score."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """The ranks of the right answers of Q queries, each query's ascending, the best is 1.

    Columns:
        ranks: (H,) int64, query after query.
        starts: (Q + 1,) int64: query q has `ranks[starts[q] : starts[q + 1]]`, at least one.
    """

    ranks: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def count_hits(self) -> NDArray[np.int64]:
        """Count the right answers; (Q,)."""
        return np.diff(self.starts)

    def first_hits(self) -> NDArray[np.int64]:
        """Give the rank of the first right answer; (Q,)."""
        return self.ranks[self.starts[:-1]]

    def last_hits(self) -> NDArray[np.int64]:
        """Give the rank of the last right answer; (Q,)."""
        return self.ranks[self.starts[1:] - 1]

    def average_precisions(self) -> NDArray[np.float64]:
        """Give the mean of the precisions at the right answers; (Q,)."""
        return self._average(self._number() / self.ranks)

    def trapezoid_precisions(self) -> NDArray[np.float64]:
        """Give the area under the precision-recall curve by trapezoids; (Q,).

        Each step from one right answer to the next counts the mean of the precision at it and
        just before it (1 before the first place), as some published tables do.
        """
        found, before = self._number(), self.ranks - 1
        earlier = np.where(before > 0, (found - 1) / np.maximum(before, 1), 1.0)
        return self._average((found / self.ranks + earlier) / 2)

    def inverse_penalties(self) -> NDArray[np.float64]:
        """Give the number of right answers over the rank of the last one; (Q,)."""
        return self.count_hits() / self.last_hits()

    def _number(self) -> NDArray[np.int64]:
        """Number each query's right answers from 1."""
        counts = self.count_hits()
        return np.arange(1, len(self.ranks) + 1) - np.repeat(self.starts[:-1], counts)

    def _average(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        means: NDArray[np.float64] = np.add.reduceat(values, self.starts[:-1]) / self.count_hits()
        return means


def rank_block(scores: NDArray[np.float32], kin: Kin) -> list[Ranks]:
    """Rank the right answers of a block's queries, which all have one, in parts in their order.

    `scores` (n, G) are overwritten: -inf for what a query never meets.
    """
    parts = split_range(len(scores), count_rows(scores.shape[1]))
    found: dict[int, Ranks] = {}

    def work(first: int, last: int) -> None:
        for start, stop in parts[first:last]:
            queries = slice(start, stop)
            found[start] = _rank(
                scores[start:stop], kin.find_hits(queries), kin.find_removed(queries)
            )

    spread(work, len(parts), step=1)
    return [found[start] for start, _ in parts]


def _rank(scores: NDArray[np.float32], hits: Pairs, removed: Pairs) -> Ranks:
    scores[removed.queries, removed.rows] = -np.inf
    starts = np.searchsorted(hits.queries, np.arange(len(scores) + 1))
    values = scores[hits.queries, hits.rows]
    # Nothing behind a query's last right answer counts: with a good model few scores are left.
    bounds = np.minimum.reduceat(values, starts[:-1])
    if is_sorting_cheaper(scores, bounds, len(values)):
        ranks = _sort_ranks(scores, bounds, hits)
    else:
        ranks = count_before(scores, values, hits) + 1
    return Ranks(ranks[np.lexsort((ranks, hits.queries))], starts)


def _sort_ranks(
    scores: NDArray[np.float32], bounds: NDArray[np.float32], hits: Pairs
) -> NDArray[np.int64]:
    """Find the ranks by sorting what stands before each query's last right answer."""
    ordered = order_rows(scores, bounds)
    positions = hits.queries * scores.shape[1] + hits.rows
    places = ordered.places[np.searchsorted(ordered.entries, positions)]
    ranks: NDArray[np.int64] = places - ordered.starts[hits.queries] + 1
    return ranks


def is_sorting_cheaper(scores: NDArray[np.float32], bounds: NDArray[np.float32], hits: int) -> bool:
    """Tell whether to sort the (n, G) scores that reach their query's bound, (n,).

    The other way is one pass over a query's scores for each of its right answers, `hits` in all.
    """
    ahead = np.count_nonzero(scores >= bounds[:, None])
    return bool(_ENTRY_COST * ahead <= hits * (_HIT_COST + _PASS_COST * scores.shape[1]))


def count_before(
    scores: NDArray[np.float32], values: NDArray[np.float32], hits: Pairs
) -> NDArray[np.int64]:
    """Count what stands before each right answer, by one pass over (n, G) scores for each; (H,).

    A right answer's score is in `values`; before it stand higher scores, and equal ones of
    earlier rows. Its row may be that of another part of the gallery: before the first or beyond
    the last of these.
    """
    counts = np.empty(len(values), np.int64)
    edges = np.clip(hits.rows, 0, scores.shape[1]).tolist()
    triples = zip(hits.queries.tolist(), edges, values, strict=True)
    for index, (query, edge, value) in enumerate(triples):
        line = scores[query]
        earlier = np.count_nonzero(line[:edge] >= value)
        counts[index] = earlier + np.count_nonzero(line[edge:] > value)
    return counts
