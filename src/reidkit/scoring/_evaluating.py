"""Scores: mAP, CMC, mINP and precision under a protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import MEMORY, Comparison, check_memory
from reidkit.records import Embeddings, Scores
from reidkit.scoring._averaging import average_ranks, check_max_rank
from reidkit.scoring._drawing import evaluate_drawn
from reidkit.scoring._protocols import MARKET1501, Protocol
from reidkit.scoring._ranking import Ranks, rank_block
from reidkit.scoring._sides import Sides, check_sides, refuse_trials


@dataclass(frozen=True, slots=True, eq=False)
class QueryScores:
    """What an evaluation found for each of the Q queries that were scored.

    Columns:
        queries: (Q,) int64, their rows among the queries given.
        average_precisions: (Q,) float64.
        inverse_penalties: (Q,) float64, right answers / rank of the last one.
        first_hits: (Q,) int64, rank of the first right answer, 1 is the best.
        ranks: (H,) int64, the ranks of all right answers, query after query, ascending.
        starts: (Q + 1,) int64: query q has `ranks[starts[q] : starts[q + 1]]`.
    """

    queries: NDArray[np.int64]
    average_precisions: NDArray[np.float64]
    inverse_penalties: NDArray[np.float64]
    first_hits: NDArray[np.int64]
    ranks: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.queries)


def evaluate(
    query: Embeddings,
    gallery: Embeddings,
    *,
    metric: str | Comparison = "cosine",
    max_rank: int = 50,
    protocol: Protocol = MARKET1501,
    memory: int = MEMORY,
) -> Scores:
    """Score how well the gallery's vectors answer the queries.

    Gallery pictures with person id -1 (junk) are left out, and for each query what the protocol
    removes: by default those of the same person *and* the same camera. A query is dropped and
    counted where it is junk itself, where the gallery lacks its person, or has the person from
    the query's own camera only.

    - CMC at k: share of queries with a hit in the first k places.
    - mAP: mean over queries of the mean over hits of `hits so far / rank`.
    - mINP: mean over queries of `hits / rank of the last hit` (Ye et al., "Deep Learning for
      Person Re-identification: A Survey and Outlook", 2021).
    - precision at k: mean over queries of the share of hits among the first k places.

    `query` and `gallery` hold (Q, D) and (G, D) vectors, which may be mapped from disk. The
    `metric` `cosine` ranks by the angle between them (a vector of zeros scores 0 with
    everything), `euclidean` by the distance between them as they are; `reranking.KReciprocal`
    is another `Comparison`. `max_rank` is the length K of the CMC curve; a gallery of fewer
    pictures gives a shorter one. About `memory` bytes are taken up besides the vectors.

    Raises:
        ArgumentError: an unknown metric, `max_rank` below 1, `memory` below 1 MiB, no queries,
            or nothing in the gallery that is not junk.
        MismatchError: the embeddings are of two models, or no query is left to score: query and
            gallery do not belong together.
    """
    check_max_rank(max_rank)
    sides = check_sides(query, gallery, metric=metric, protocol=protocol)
    if protocol.trials:
        return evaluate_drawn(
            sides,
            query.samples,
            gallery.samples,
            protocol=protocol,
            max_rank=max_rank,
            memory=memory,
        )
    scored = sides.find_scored()
    return average_ranks(
        _rank_all(sides, scored, memory),
        gallery=len(sides.kept),
        metric=sides.comparison.name,
        protocol=protocol,
        dropped=sides.dropped,
        max_rank=max_rank,
    )


def score_queries(
    query: Embeddings,
    gallery: Embeddings,
    *,
    metric: str | Comparison = "cosine",
    protocol: Protocol = MARKET1501,
    memory: int = MEMORY,
) -> QueryScores:
    """Give what `evaluate` averages: the figures and ranks of each query that is scored.

    Raises:
        ArgumentError, MismatchError: as `evaluate`, and for a single-shot protocol, whose ranks
            differ from trial to trial.
    """
    refuse_trials(protocol)
    sides = check_sides(query, gallery, metric=metric, protocol=protocol)
    scored = sides.find_scored()
    parts = list(_rank_all(sides, scored, memory))
    whole = Ranks(
        np.concatenate([part.ranks for part in parts]),
        np.concatenate(([0], np.cumsum(np.concatenate([part.count_hits() for part in parts])))),
    )
    return QueryScores(
        queries=scored,
        average_precisions=whole.average_precisions(),
        inverse_penalties=whole.inverse_penalties(),
        first_hits=whole.first_hits(),
        ranks=whole.ranks,
        starts=whole.starts,
    )


def _rank_all(sides: Sides, scored: NDArray[np.intp], memory: int) -> Iterator[Ranks]:
    """Rank the right answers of the queries `scored`, part by part in their order."""
    check_memory(memory)
    kin = sides.kin.select(scored)
    blocks = sides.comparison.score_blocks(
        sides.queries, sides.gallery, asked=scored, memory=memory
    )
    for start, scores in blocks:
        yield from rank_block(scores, kin.select(slice(start, start + len(scores))))
