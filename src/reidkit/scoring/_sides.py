"""The two sides of an evaluation, checked to belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import Comparison, Rows, choose_comparison
from reidkit.errors import ArgumentError, MismatchError
from reidkit.records import JUNK, DroppedQueries, Embeddings, Samples, check_same_model
from reidkit.scoring._kin import Kin, count_dropped, explain_nothing_to_score, find_kin
from reidkit.scoring._protocols import MARKET1501, Protocol


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Two sides that were checked to belong together, and who is whose kin.

    `kept` (G,) are the gallery rows that are not junk.
    """

    comparison: Comparison
    queries: Rows
    gallery: Rows
    kept: NDArray[np.intp]
    kin: Kin
    dropped: DroppedQueries

    def find_scored(self) -> NDArray[np.intp]:
        """Give the queries that have a right answer.

        Raises:
            MismatchError: none has.
        """
        return choose_scored(self.kin.count_hits(), self.dropped)


def find_scored(
    query: Samples, gallery: Samples, protocol: Protocol = MARKET1501
) -> NDArray[np.bool_]:
    """Mark the queries that `evaluate` scores: those with a hit in the gallery; (Q,)."""
    kin = find_kin(query, gallery.select(gallery.person_ids != JUNK), protocol)
    return kin.count_hits() > 0


def check_sides(
    query: Embeddings, gallery: Embeddings, *, metric: str | Comparison, protocol: Protocol
) -> Sides:
    """Check that two sides can be compared, and leave junk out of the gallery.

    Raises:
        ArgumentError, MismatchError: as `evaluate`.
    """
    comparison = choose_comparison(metric)
    check_same_model(query, gallery)
    kept = np.flatnonzero(gallery.samples.person_ids != JUNK)
    check_sizes(len(query), len(kept), len(gallery))
    kin = find_kin(query.samples, gallery.samples.select(kept), protocol)
    return Sides(
        comparison,
        Rows.all_of(query.vectors),
        Rows(gallery.vectors, kept),
        kept,
        kin,
        count_dropped(query.samples, kin.count_own(), kin.count_hits()),
    )


def check_sizes(queries: int, kept: int, gallery: int) -> None:
    """Refuse sides without queries, or without a picture that is `kept`, being no junk.

    Raises:
        ArgumentError: as `evaluate`.
    """
    if not queries:
        raise ArgumentError("there are no queries: the query embeddings hold no pictures")
    if not kept:
        raise ArgumentError(
            f"there is nothing to search in: all {gallery} pictures of the gallery are "
            f"junk (person id {JUNK}); give the split called gallery, with its person ids"
        )


def choose_scored(hits: NDArray[np.int64], dropped: DroppedQueries) -> NDArray[np.intp]:
    """Give the queries that have a right answer, of the numbers (Q,) that each has.

    Raises:
        MismatchError: none has.
    """
    scored = np.flatnonzero(hits)
    if not len(scored):
        raise MismatchError(explain_nothing_to_score(dropped))
    return scored


def refuse_trials(protocol: Protocol) -> None:
    """Refuse a protocol that draws a gallery again and again, where one answer is asked for.

    Raises:
        ArgumentError: it is a single-shot protocol.
    """
    if protocol.trials:
        raise ArgumentError(
            f"the protocol {protocol.name} draws {protocol.trials} galleries: a query has no "
            "single list of ranks; use a protocol without trials, such as market1501"
        )
