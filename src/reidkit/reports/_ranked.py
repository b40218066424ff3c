"""Which queries a report shows, and what stands in their ranked lists."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.records import JUNK, Matches, Samples
from reidkit.reports._thumbnails import Thumbnail, make_thumbnail
from reidkit.reports._wording import format_percent
from reidkit.scoring import QueryScores

SHOWN_QUERIES = 20
SHOWN_MATCHES = 10


@dataclass(frozen=True, slots=True)
class Person:
    """One picture and whom it shows."""

    thumbnail: Thumbnail
    person_id: int
    camera_id: int


@dataclass(frozen=True, slots=True)
class Match:
    """One place of a ranked list; `score` is worded for people.

    `change` says where another list has this picture, where two lists are compared.
    """

    place: int
    person: Person
    right: bool
    score: str
    change: str = ""


@dataclass(frozen=True, slots=True)
class RankedList:
    """A query, its first matches, and in one phrase where the first right one stands."""

    query: Person
    matches: tuple[Match, ...]
    outcome: str


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The rows of the queries to show: the hardest ones, hardest first, and some of the rest."""

    hardest: NDArray[np.int64]
    others: NDArray[np.int64]


def mark_right(query: Samples, gallery: Samples, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the matches, `rows` (Q, K), that show the query's person; (Q, K)."""
    found = np.full(rows.shape, JUNK, np.int64)
    found[rows >= 0] = gallery.person_ids[rows[rows >= 0]]
    right: NDArray[np.bool_] = (found == query.person_ids[:, None]) & (found != JUNK)
    return right


def find_first_hits(right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give the place of the first right match in each of Q lists, K + 1 where none is; (Q,)."""
    places: NDArray[np.int64] = right.argmax(axis=1).astype(np.int64) + 1
    places[~right.any(axis=1)] = right.shape[1] + 1
    return places


def choose_queries(
    first_hits: NDArray[np.int64],
    best_scores: NDArray[np.float32],
    scored: NDArray[np.bool_],
    *,
    count: int = SHOWN_QUERIES,
) -> Choice:
    """Choose at most `count` of the scored queries, the same ones every time.

    Up to half are the hardest of those whose first match is wrong: the first right match comes
    latest, and among equals the wrong match had the highest score. The others are spread evenly
    over all that remain, in their order.

    Args:
        first_hits: (Q,) places, 1 is the first.
        best_scores: (Q,) score of each query's first match.
        scored: (Q,) queries that have a right answer.
        count: how many queries to choose.
    """
    failed = np.flatnonzero(scored & (first_hits > 1))
    order = np.lexsort((-best_scores[failed], -first_hits[failed]))
    return _choose(failed[order], np.flatnonzero(scored), count)


def choose_worst(queries: QueryScores, *, count: int = SHOWN_QUERIES) -> Choice:
    """Choose as `choose_queries` does, but by all ranks: up to half are those of lowest precision.

    Among equal average precisions the query whose first right answer comes latest is first. A
    query that found all its answers before anything else is never among them.
    """
    precisions = queries.average_precisions
    failed = np.flatnonzero(precisions < 1)
    order = np.lexsort((-queries.first_hits[failed], precisions[failed]))
    return _choose(queries.queries[failed[order]], queries.queries, count)


def list_ranked(
    rows: NDArray[np.int64],
    *,
    query: Samples,
    gallery: Samples,
    matches: Matches,
    metric: str,
) -> list[RankedList]:
    """Put together the ranked lists of some queries: `rows` (n,) are their rows in `query`."""
    right = mark_right(query.select(rows), gallery, matches.rows[rows])
    # One gallery picture may stand in many lists.
    shrink = functools.cache(make_thumbnail)
    lists = []
    for row, marks, first in zip(rows, right.tolist(), find_first_hits(right), strict=True):
        answers = zip(matches.rows[row].tolist(), matches.scores[row].tolist(), marks, strict=True)
        shown = tuple(
            Match(place, _describe_person(gallery, answer, shrink), mark, _word(score, metric))
            for place, (answer, score, mark) in enumerate(answers, 1)
            if answer >= 0 and place <= SHOWN_MATCHES
        )
        outcome = _word_outcome(int(first), len(marks))
        lists.append(RankedList(_describe_person(query, row, shrink), shown, outcome))
    return lists


def word_precision(queries: QueryScores, row: int) -> str:
    """Say how a scored query did: `row` is its row among all queries."""
    place = int(np.flatnonzero(queries.queries == row)[0])
    answers = int(queries.starts[place + 1] - queries.starts[place])
    return (
        f"average precision {format_percent(float(queries.average_precisions[place]))} %, "
        f"{answers:,} right {'answer' if answers == 1 else 'answers'}, "
        f"the first at rank {int(queries.first_hits[place]):,}"
    )


def spread_evenly(length: int, count: int) -> NDArray[np.int64]:
    """Give `count` places spread evenly over `length`, or all of them where there are fewer."""
    count = min(count, length)
    return (2 * np.arange(count, dtype=np.int64) + 1) * length // max(2 * count, 1)


def _choose(failed: NDArray[np.int64], scored: NDArray[np.int64], count: int) -> Choice:
    hardest = failed[: count // 2]
    rest = np.setdiff1d(scored, hardest)
    return Choice(hardest, rest[spread_evenly(len(rest), count - len(hardest))])


def _describe_person(samples: Samples, row: int, shrink: Callable[[str], Thumbnail]) -> Person:
    return Person(
        shrink(samples.paths[row]), int(samples.person_ids[row]), int(samples.camera_ids[row])
    )


def _word_outcome(first_hit: int, length: int) -> str:
    if first_hit > length:
        return f"no right match among the first {length}"
    return "first match is right" if first_hit == 1 else f"first right match at place {first_hit}"


def _word(score: float, metric: str) -> str:
    # Euclidean matches are scored by minus their distance.
    return f"{-score:.4g}" if metric == "euclidean" else f"{score:.3f}"
