"""Scores for each pair of cameras: where a network fails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import MEMORY, Comparison
from reidkit.records import Embeddings
from reidkit.scoring._kin import find_kin
from reidkit.scoring._protocols import MARKET1501, Protocol
from reidkit.scoring._ranking import Ranks, rank_block
from reidkit.scoring._sides import check_sides, refuse_trials


@dataclass(frozen=True, slots=True, eq=False)
class CameraScores:
    """How well queries of one camera find their people among another camera's pictures.

    Columns:
        query_cameras: (A,) int64 camera ids, ascending.
        gallery_cameras: (B,) int64 camera ids, ascending.
        mAP: (A, B) float64, NaN where no query can be scored.
        rank1: (A, B) float64, share of queries whose first match is right; NaN likewise.
        queries: (A, B) int64, number of queries scored.
    """

    query_cameras: NDArray[np.int64]
    gallery_cameras: NDArray[np.int64]
    mAP: NDArray[np.float64]
    rank1: NDArray[np.float64]
    queries: NDArray[np.int64]


def score_cameras(
    query: Embeddings,
    gallery: Embeddings,
    *,
    metric: str | Comparison = "cosine",
    protocol: Protocol = MARKET1501,
    memory: int = MEMORY,
) -> CameraScores:
    """Rank the queries among one camera's gallery pictures at a time, by the same scores.

    All cameras together cost about as much as one `evaluate`.

    Raises:
        ArgumentError, MismatchError: as `evaluate`.
    """
    refuse_trials(protocol)
    sides = check_sides(query, gallery, metric=metric, protocol=protocol)
    scored = sides.find_scored()
    seen_by = gallery.samples.camera_ids[sides.kept]
    asking, camera = np.unique(query.samples.camera_ids, return_inverse=True)
    given = np.unique(seen_by)
    pictures = gallery.samples.select(sides.kept)
    columns = [np.flatnonzero(seen_by == number) for number in given]
    kins = [
        find_kin(query.samples, pictures.select(part), protocol).select(scored) for part in columns
    ]
    tables = np.zeros((3, len(asking), len(given)))
    blocks = sides.comparison.score_blocks(
        sides.queries, sides.gallery, asked=scored, memory=memory
    )
    for start, scores in blocks:
        rows = camera[scored[start : start + len(scores)]]
        for number, (part, kin) in enumerate(zip(columns, kins, strict=True)):
            kin = kin.select(slice(start, start + len(scores)))
            answered = np.flatnonzero(kin.count_hits())
            if len(answered):
                ranks = rank_block(scores[np.ix_(answered, part)], kin.select(answered))
                tables[:, :, number] += _add_up(ranks, rows[answered], len(asking))
    sums, firsts, counts = tables
    divisors = np.where(counts > 0, counts, np.nan)
    return CameraScores(asking, given, sums / divisors, firsts / divisors, counts.astype(np.int64))


def _add_up(parts: list[Ranks], cameras: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """Add up precisions, first hits at rank 1 and queries by the queries' cameras; (3, count)."""
    precisions = np.concatenate([ranks.average_precisions() for ranks in parts])
    first = np.concatenate([ranks.first_hits() for ranks in parts]) == 1
    return np.stack(
        [
            np.bincount(cameras, values, count)
            for values in (precisions, first, np.ones(len(cameras)))
        ]
    )
