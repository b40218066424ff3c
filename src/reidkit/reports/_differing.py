"""The queries whose ranked lists differ most between source and compiled package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reidkit.certifying import Evidence
from reidkit.errors import MismatchError
from reidkit.records import Embeddings, Matches, Samples
from reidkit.reports._ranked import (
    SHOWN_MATCHES,
    RankedList,
    find_first_hits,
    list_ranked,
    mark_right,
)
from reidkit.reports._wording import format_percent
from reidkit.scoring import find_scored, match

SHOWN_PAIRS = 10
DEPTH = 50
"""How far down the lists are compared."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One query's two lists, and in a sentence what changed."""

    name: str
    change: str
    source: RankedList
    compiled: RankedList


@dataclass(frozen=True, slots=True)
class Differences:
    """How many of the `scored` queries find their person later, earlier, and other pictures.

    `other` counts those whose first matches are not the same pictures, `reordered` those that
    have the same ones in another order; `places` is how many matches were compared for that, and
    `depth` for the first right one.
    """

    scored: int
    later: int
    earlier: int
    other: int
    reordered: int
    places: int
    depth: int
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What one side finds for Q queries.

    `first_hits` (Q,) are the places of the first right match, DEPTH + 1 where there is none;
    `precisions` (Q,) the average precision as far as the list goes; `matches` the list.
    """

    matches: Matches
    first_hits: NDArray[np.int64]
    precisions: NDArray[np.float64]


def compare_lists(evidence: Evidence, metric: str) -> Differences:
    """Search with both sides' vectors and put together the lists that differ most.

    Raises:
        MismatchError: the two sides are not of the same pictures.
        ArgumentError: there are no queries, or the gallery holds nothing but junk.
    """
    _check_same_pictures(evidence.source_query.samples, evidence.compiled_query.samples, "query")
    _check_same_pictures(
        evidence.source_gallery.samples, evidence.compiled_gallery.samples, "gallery"
    )
    query, gallery = evidence.source_query.samples, evidence.source_gallery.samples
    depth = min(DEPTH, max(len(gallery), 1))
    source = _find_standing(evidence.source_query, evidence.source_gallery, metric, depth)
    compiled = _find_standing(evidence.compiled_query, evidence.compiled_gallery, metric, depth)
    scored = find_scored(query, gallery)
    overlap = measure_overlap(
        source.matches.rows[:, :SHOWN_MATCHES], compiled.matches.rows[:, :SHOWN_MATCHES]
    )
    moved = (source.matches.rows != compiled.matches.rows)[:, :SHOWN_MATCHES].any(axis=1)
    chosen = choose_differing(source, compiled, overlap, scored)
    return Differences(
        scored=int(scored.sum()),
        later=int((scored & (compiled.first_hits > source.first_hits)).sum()),
        earlier=int((scored & (compiled.first_hits < source.first_hits)).sum()),
        other=int((scored & (overlap < 1)).sum()),
        reordered=int((scored & (overlap == 1) & moved).sum()),
        places=min(SHOWN_MATCHES, depth),
        depth=depth,
        pairs=_list_pairs(chosen, (query, gallery), (source, compiled), metric),
    )


def choose_differing(
    source: Standing,
    compiled: Standing,
    overlap: NDArray[np.float64],
    scored: NDArray[np.bool_],
    *,
    count: int = SHOWN_PAIRS,
) -> NDArray[np.int64]:
    """Choose the queries whose lists differ most, the same ones every time.

    The largest loss of average precision comes first, among equals the first right match that
    moved furthest back, then the smallest `overlap` (Q,) of the first matches. Queries that lost
    nothing and have the same first matches, or no right answer, are never chosen.
    """
    loss = np.maximum(source.precisions - compiled.precisions, 0).round(6)
    moved = np.maximum(compiled.first_hits - source.first_hits, 0)
    rows = np.flatnonzero(scored & ((loss > 0) | (moved > 0) | (overlap < 1)))
    order = np.lexsort((rows, overlap[rows], -moved[rows], -loss[rows]))
    chosen: NDArray[np.int64] = rows[order][:count].astype(np.int64)
    return chosen


def measure_overlap(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the share of each of Q queries' matches, (Q, K) rows, that both have; (Q,).

    Places without a match, -1, do not count; a query without any match has an overlap of 1.
    """
    both = (ours[:, :, None] == theirs[:, None, :]).any(axis=2) & (ours >= 0)
    found = (ours >= 0).sum(axis=1)
    share: NDArray[np.float64] = np.where(found > 0, both.sum(axis=1) / np.maximum(found, 1), 1.0)
    return share


def measure_precision(right: NDArray[np.bool_], hits: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the average precision of Q lists as far as they go: `right` (Q, K), `hits` (Q,).

    Right answers behind the K-th place count as never found, so that with more than K `hits`
    even a perfect list would not reach 1 without the limit of K on their number.
    """
    places = np.arange(1, right.shape[1] + 1)
    found = np.where(right, right.cumsum(axis=1) / places, 0).sum(axis=1)
    precision: NDArray[np.float64] = found / np.clip(hits, 1, right.shape[1])
    return precision


def _find_standing(query: Embeddings, gallery: Embeddings, metric: str, depth: int) -> Standing:
    matches = match(query, gallery, metric=metric, count=depth)
    right = mark_right(query.samples, gallery.samples, matches.rows)
    hits = _count_hits(query.samples, gallery.samples)
    return Standing(matches, find_first_hits(right), measure_precision(right, hits))


def _count_hits(query: Samples, gallery: Samples) -> NDArray[np.int64]:
    """Count the pictures of each query's person that other cameras took; (Q,)."""
    people = zip(query.person_ids.tolist(), query.camera_ids.tolist(), strict=True)
    counts = [
        np.count_nonzero((gallery.person_ids == person) & (gallery.camera_ids != camera))
        for person, camera in people
    ]
    return np.array(counts, np.int64)


def _list_pairs(
    rows: NDArray[np.int64],
    samples: tuple[Samples, Samples],
    sides: tuple[Standing, Standing],
    metric: str,
) -> tuple[Pair, ...]:
    query, gallery = samples
    source, compiled = sides
    lists = [
        list_ranked(rows, query=query, gallery=gallery, matches=side.matches, metric=metric)
        for side in sides
    ]
    return tuple(
        Pair(
            name=ours.query.thumbnail.name,
            change=_word_change(row, source, compiled),
            source=_note_places(ours, source.matches.rows[row], compiled.matches.rows[row], "now"),
            compiled=_note_places(
                theirs, compiled.matches.rows[row], source.matches.rows[row], "was"
            ),
        )
        for row, ours, theirs in zip(rows.tolist(), *lists, strict=True)
    )


def _note_places(
    shown: RankedList, rows: NDArray[np.int64], others: NDArray[np.int64], verb: str
) -> RankedList:
    """Note beside each match where the other list has it, unless at the same place."""
    places = {row: place for place, row in enumerate(others.tolist(), 1) if row >= 0}
    matches = tuple(
        replace(each, change=_word_place(each.place, row, places, verb))
        for each, row in zip(shown.matches, rows.tolist(), strict=False)
    )
    return replace(shown, matches=matches)


def _word_place(place: int, row: int, places: Mapping[int, int], verb: str) -> str:
    other = places.get(row)
    if other == place:
        return ""
    return f"{verb} {other}" if other else f"{verb} > {DEPTH}"


def _word_change(row: int, source: Standing, compiled: Standing) -> str:
    old, new = int(source.first_hits[row]), int(compiled.first_hits[row])
    depth = source.matches.rows.shape[1]
    before, after = (format_percent(side.precisions[row]) for side in (source, compiled))
    shown = _name_first(source, row)
    both = np.intersect1d(shown, _name_first(compiled, row))
    first = (
        f"first right match still {_word_hit(new, depth)}"
        if old == new
        else f"first right match moves: {_word_hit(old, depth)} → {_word_hit(new, depth)}"
    )
    precision = f"{before} %" if before == after else f"{before} % → {after} %"
    verb = "is" if len(both) == 1 else "are"
    same = f"{len(both)} of the first {len(shown)} matches {verb} the same"
    return f"{first}; average precision {precision}; {same}"


def _word_hit(place: int, depth: int) -> str:
    return f"at place {place}" if place <= depth else f"beyond the first {depth}"


def _name_first(side: Standing, row: int) -> NDArray[np.int64]:
    rows = side.matches.rows[row, :SHOWN_MATCHES]
    found: NDArray[np.int64] = rows[rows >= 0]
    return found


def _check_same_pictures(source: Samples, compiled: Samples, split: str) -> None:
    if len(source) != len(compiled):
        raise MismatchError(
            f"the evidence has {len(source)} {split} pictures of the source and {len(compiled)} "
            "of the compiled package: embed the same pictures with both"
        )
    differ = np.flatnonzero(source.paths != compiled.paths)
    if len(differ):
        raise MismatchError(
            f"{split} picture {differ[0]} of the evidence is {source.paths[differ[0]]} of the "
            f"source and {compiled.paths[differ[0]]} of the compiled package: embed the same "
            "pictures with both, in one order"
        )
