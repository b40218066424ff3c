"""From the ranks of all right answers to the figures of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError
from reidkit.records import DroppedQueries, Scores
from reidkit.scoring._protocols import Protocol
from reidkit.scoring._ranking import Ranks


def check_max_rank(max_rank: int) -> None:
    """Refuse a CMC curve without a place.

    Raises:
        ArgumentError: `max_rank` is below 1.
    """
    if max_rank < 1:
        raise ArgumentError(f"max_rank is {max_rank}, expected at least 1")


def average_ranks(
    parts: Iterable[Ranks],
    *,
    gallery: int,
    metric: str,
    protocol: Protocol,
    dropped: DroppedQueries,
    max_rank: int,
) -> Scores:
    """Give the mean figures over all queries, of which there is one; see `evaluate`.

    `gallery` is the number of gallery pictures that are not junk, `metric` the name of what
    ranked them.
    """
    figures: list[NDArray[np.float64]] = []
    depth = min(max_rank, gallery)
    first, every = np.zeros(depth + 2, np.int64), np.zeros(depth + 2, np.int64)
    for ranks in parts:
        figures.append(_list_figures(ranks))
        for counts, found in ((first, ranks.first_hits()), (every, ranks.ranks)):
            counts += np.bincount(np.minimum(found, depth + 1), minlength=depth + 2)
    whole = np.concatenate(figures, axis=1)
    queries, places = whole.shape[1], np.arange(1, depth + 1)
    mAP, trapezoid, mINP = whole.mean(axis=1).tolist()
    return Scores(
        mAP=mAP,
        mINP=mINP,
        cmc=(np.cumsum(first[1:-1]) / queries).astype(np.float32),
        queries=queries,
        gallery=gallery,
        metric=metric,
        dropped=dropped,
        precision=(np.cumsum(every[1:-1]) / places / queries).astype(np.float32),
        mAP_trapezoid=trapezoid,
        protocol=protocol.name,
    )


def _list_figures(ranks: Ranks) -> NDArray[np.float64]:
    """Give (3, Q): average precision, its trapezoid form, inverse penalty."""
    return np.stack(
        (ranks.average_precisions(), ranks.trapezoid_precisions(), ranks.inverse_penalties())
    )
