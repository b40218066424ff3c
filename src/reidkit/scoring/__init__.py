"""How well embeddings find the right people: mAP, CMC and mINP under the field's protocol.

The protocol is that of Market-1501 (Zheng et al., "Scalable Person Re-identification: A
Benchmark", ICCV 2015): junk is not in the gallery, a query never meets its own person seen by
its own camera, and every other gallery picture of its person is a hit.

Everything is exact and done in blocks of queries: the whole query x gallery matrix never
exists. The rank of a hit is *counted*: 1 + the rows in front of it. Among equal scores the row
that comes earlier in the gallery is in front, as a stable sort would have it. Equal gallery
vectors have exactly equal scores; two different vectors whose scores lie within float32 rounding
of each other may come in either order, and that may depend on the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError, MismatchError
from reidkit.records import (
    JUNK,
    DroppedQueries,
    Embeddings,
    Matches,
    Samples,
    Scores,
    check_same_model,
)
from reidkit.scoring._comparing import measure_squares, prepare, score_rows

METRICS = ("cosine", "euclidean")


def evaluate(
    query: Embeddings, gallery: Embeddings, *, metric: str = "cosine", max_rank: int = 50
) -> Scores:
    """Score how well the gallery's vectors answer the queries.

    Gallery pictures with person id -1 (junk) are left out, and for each query those of the same
    person *and* the same camera. A query is dropped and counted where it is junk itself, where
    the gallery lacks its person, or has the person from the query's own camera only.

    - CMC at k: share of queries with a hit in the first k places.
    - mAP: mean over queries of the mean over hits of `hits so far / rank`.
    - mINP: mean over queries of `hits / rank of the last hit` (Ye et al., "Deep Learning for
      Person Re-identification: A Survey and Outlook", 2021).

    `query` and `gallery` hold (Q, D) and (G, D) vectors. The `metric` `cosine` ranks by the angle
    between them (a vector of zeros scores 0 with everything), `euclidean` by the distance between
    them as they are. `max_rank` is the length K of the CMC curve; a gallery of fewer pictures
    gives a shorter one.

    Raises:
        ArgumentError: an unknown metric, `max_rank` below 1, no queries, or nothing in the
            gallery that is not junk.
        MismatchError: the embeddings are of two models, or no query is left to score: query and
            gallery do not belong together.
    """
    if max_rank < 1:
        raise ArgumentError(f"max_rank is {max_rank}, expected at least 1")
    kept = _check_sides(query, gallery, metric)
    kin = _find_kin(query.samples, gallery.samples.select(kept))
    dropped = _count_dropped(query.samples, kin)
    scored = np.flatnonzero(kin.count_hits())
    if not len(scored):
        raise MismatchError(_explain_nothing_to_score(dropped))
    kin = _Kin(kin.order, kin.bounds[scored])
    first_hits = np.empty(len(scored), np.int64)
    precisions, inverse_penalties = np.empty(len(scored)), np.empty(len(scored))
    pair = prepare(query.vectors[scored], gallery.vectors[kept], metric)
    for index, row in score_rows(pair):
        row[kin.find_excluded(index)] = -np.inf
        ranks = _count_ranks(row, kin.find_hits(index))
        first_hits[index] = ranks[0]
        precisions[index] = np.mean(np.arange(1, len(ranks) + 1) / ranks)
        inverse_penalties[index] = len(ranks) / ranks[-1]
    depth = min(max_rank, len(kept))
    found_at = np.bincount(first_hits, minlength=depth + 1)[1 : depth + 1]
    return Scores(
        mAP=float(precisions.mean()),
        mINP=float(inverse_penalties.mean()),
        cmc=(np.cumsum(found_at) / len(scored)).astype(np.float32),
        queries=len(scored),
        gallery=len(kept),
        metric=metric,
        dropped=dropped,
    )


def match(
    query: Embeddings, gallery: Embeddings, *, metric: str = "cosine", count: int = 10
) -> Matches:
    """Give the best gallery rows of every query, in the order that `evaluate` scores.

    The same rows are left out: junk, and for each query those of its person and camera. No query
    is dropped. `Matches.scores` holds the cosine, or for `euclidean` minus the distance.

    `query` and `gallery` hold (Q, D) and (G, D) vectors; (Q, `count`) matches come back.

    Raises:
        ArgumentError: as `evaluate`, and for a `count` below 1.
        MismatchError: the embeddings are of two models.
    """
    if count < 1:
        raise ArgumentError(f"count is {count}, expected at least 1")
    kept = _check_sides(query, gallery, metric)
    kin = _find_kin(query.samples, gallery.samples.select(kept))
    rows = np.full((len(query), count), -1, np.int64)
    scores = np.full((len(query), count), -np.inf, np.float32)
    pair = prepare(query.vectors.copy(), gallery.vectors[kept], metric)
    for index, row in score_rows(pair):
        row[kin.find_excluded(index)] = -np.inf
        best = _find_best(row, count)
        rows[index, : len(best)] = kept[best]
        scores[index, : len(best)] = row[best]
    if metric == "euclidean":
        # From q g - |g|^2 / 2 to |q - g|; rounding may leave a square just below 0.
        squares = measure_squares(pair.queries)[:, None] - 2 * scores.astype(np.float64)
        scores = (-np.sqrt(np.maximum(squares, 0))).astype(np.float32)
    return Matches(rows, scores)


def find_scored(query: Samples, gallery: Samples) -> NDArray[np.bool_]:
    """Mark the queries that `evaluate` scores: those with a hit in the gallery; (Q,)."""
    return _find_kin(query, gallery.select(gallery.person_ids != JUNK)).count_hits() > 0


@dataclass(frozen=True, slots=True, eq=False)
class _Kin:
    """Which gallery rows show each query's person.

    `order` (G,) lists the gallery by person, then camera, then row. `bounds` (Q, 4) are places
    in it: the query's person takes up 0 to 3, seen by the query's own camera 1 to 2.
    """

    order: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def count_hits(self) -> NDArray[np.int64]:
        widths = np.diff(self.bounds, axis=1)
        return widths[:, 0] + widths[:, 2]

    def find_hits(self, query: int) -> NDArray[np.int64]:
        """Give the gallery rows of the query's person from other cameras."""
        start, own_start, own_end, end = self.bounds[query].tolist()
        return np.concatenate((self.order[start:own_start], self.order[own_end:end]))

    def find_excluded(self, query: int) -> NDArray[np.int64]:
        """Give the gallery rows of the query's person from the query's camera."""
        return self.order[slice(*self.bounds[query, 1:3].tolist())]


def _check_sides(query: Embeddings, gallery: Embeddings, metric: str) -> NDArray[np.intp]:
    """Check what both functions require and give the gallery rows that are not junk."""
    if metric not in METRICS:
        raise ArgumentError(f"metric is {metric!r}, expected one of {', '.join(METRICS)}")
    check_same_model(query, gallery)
    if not len(query):
        raise ArgumentError("there are no queries: the query embeddings hold no pictures")
    kept = np.flatnonzero(gallery.samples.person_ids != JUNK)
    if not len(kept):
        raise ArgumentError(
            f"there is nothing to search in: all {len(gallery)} pictures of the gallery are "
            f"junk (person id {JUNK}); give the split called gallery, with its person ids"
        )
    return kept


def _find_kin(query: Samples, gallery: Samples) -> _Kin:
    people = np.concatenate((query.person_ids, gallery.person_ids))
    cameras = np.concatenate((query.camera_ids, gallery.camera_ids))
    seen_by, camera = np.unique(cameras, return_inverse=True)
    # One number a person and camera: all cameras of one person are neighbours.
    person = np.unique(people, return_inverse=True)[1] * len(seen_by)
    asked, given = np.split(person + camera, [len(query)])
    order = np.argsort(given, kind="stable")
    found, person = given[order], person[: len(query)]
    bounds = (
        np.searchsorted(found, person),
        np.searchsorted(found, asked),
        np.searchsorted(found, asked, "right"),
        np.searchsorted(found, person + len(seen_by)),
    )
    return _Kin(order, np.stack(bounds, axis=1))


def _count_dropped(query: Samples, kin: _Kin) -> DroppedQueries:
    junk = query.person_ids == JUNK
    absent = ~junk & (kin.bounds[:, 0] == kin.bounds[:, 3])
    own_only = ~junk & ~absent & (kin.count_hits() == 0)
    return DroppedQueries(*(int(np.count_nonzero(reason)) for reason in (junk, absent, own_only)))


def _explain_nothing_to_score(dropped: DroppedQueries) -> str:
    return (
        f"none of the {dropped.total} queries can be scored: {dropped.junk} are junk (person id "
        f"{JUNK}), {dropped.person_absent} show a person who is absent from the gallery, "
        f"{dropped.same_camera_only} one whom the gallery has from the query's own camera only; "
        "check that both sides are of one data set and that the camera ids are right"
    )


def _count_ranks(row: NDArray[np.float32], hits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the ranks of the hits among a query's scores, ascending, the best is 1."""
    scores = row[hits]
    # Nothing behind the last hit counts: with a good model few rows are left to sort.
    ahead = np.sort(row[row >= scores.min()])
    equal_or_better = len(ahead) - np.searchsorted(ahead, scores, "left")
    ranks = len(ahead) - np.searchsorted(ahead, scores, "right") + 1
    for tied in np.flatnonzero(equal_or_better > ranks):
        ranks[tied] += np.count_nonzero(row[: hits[tied]] == scores[tied])
    ranks.sort()
    return ranks


def _find_best(row: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Give the best rows of one query, ties in gallery order, excluded ones never."""
    count = min(count, len(row))
    front = np.flatnonzero((row >= np.partition(row, -count)[-count]) & (row > -np.inf))
    return front[np.argsort(-row[front], kind="stable")[:count]]
