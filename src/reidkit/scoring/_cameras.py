"""Scores for each pair of cameras: where a network fails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import MEMORY, Comparison
from reidkit.records import Embeddings
from reidkit.scoring._evaluating import rank_all
from reidkit.scoring._protocols import MARKET1501, Protocol
from reidkit.scoring._sides import check_sides, join_sides, refuse_trials


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
    """Score the queries against one camera's gallery pictures at a time.

    All cameras together cost about as much as one `evaluate`.

    Raises:
        ArgumentError, MismatchError: as `evaluate`.
    """
    refuse_trials(protocol)
    sides = check_sides(query, gallery, metric=metric, protocol=protocol)
    sides.find_scored()
    seen_by = gallery.samples.camera_ids[sides.kept]
    asking, camera = np.unique(query.samples.camera_ids, return_inverse=True)
    given = np.unique(seen_by)
    shape = (len(asking), len(given))
    sums, firsts, counts = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    for column, gallery_camera in enumerate(given):
        kept = sides.kept[seen_by == gallery_camera]
        part = join_sides(query, gallery, kept=kept, comparison=sides.comparison, protocol=protocol)
        scored = np.flatnonzero(part.kin.count_hits())
        if not len(scored):
            continue
        ranked = list(rank_all(part, scored, memory))
        rows = camera[scored]
        precisions = np.concatenate([ranks.average_precisions() for ranks in ranked])
        first = np.concatenate([ranks.first_hits() for ranks in ranked])
        counts[:, column] = np.bincount(rows, minlength=len(asking))
        sums[:, column] = np.bincount(rows, precisions, len(asking))
        firsts[:, column] = np.bincount(rows, first == 1, len(asking))
    divisors = np.where(counts > 0, counts, np.nan)
    return CameraScores(asking, given, sums / divisors, firsts / divisors, counts)
