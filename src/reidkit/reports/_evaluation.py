"""The report of one evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reidkit.errors import ArgumentError, MismatchError, UnreadableImage
from reidkit.records import DroppedQueries, Embeddings, Matches, Scores
from reidkit.reports._pages import check_path, render, write_page
from reidkit.reports._plots import plan_curve
from reidkit.reports._ranked import (
    SHOWN_MATCHES,
    choose_queries,
    find_first_hits,
    list_ranked,
    mark_right,
)
from reidkit.scoring import find_scored

NOTE = "Note"
"""The label of the fact that stands at the top of the page rather than in the table."""

LISTED_RANKS = (1, 5, 10, 20, 50)
LISTED_UNREADABLE = 100


@dataclass(frozen=True, slots=True)
class Figure:
    """One large figure: a fraction, and what it means."""

    name: str
    value: float
    meaning: str


def write_report(
    path: str | Path,
    scores: Scores,
    *,
    query: Embeddings,
    gallery: Embeddings,
    matches: Matches,
    facts: Mapping[str, str],
) -> None:
    """Write the HTML report of one evaluation: figures, CMC curve, ranked lists, provenance.

    The file is written whole or not at all; missing parent folders are made. It shows at most
    20 queries with their first 10 matches and stays near 1 MB. A picture that cannot be opened
    any more is shown as a grey box with its file name.

    Args:
        path: where to write, replacing what is there.
        scores: what `scoring.evaluate` found.
        query: (Q, D) the queries that were evaluated.
        gallery: (G, D) the gallery they were evaluated against.
        matches: (Q, K) what `scoring.match` found with the same metric, K >= 1; K >= 10 fills
            the ranked lists.
        facts: label -> text, how the numbers were made, shown as a table in this order. The fact
            labelled `Note` is shown prominently at the top.

    Raises:
        MismatchError: scores or matches are not those of these embeddings.
        ArgumentError: `matches` has no column, `scores.cmc` is empty, or `path` is a folder.
    """
    path = Path(path)
    check_path(path)
    _check_matches(matches, query, gallery)
    _check_scores(scores, query)
    page = _render_evaluation(scores, query, gallery, matches, facts)
    write_page(path, page)


def _render_evaluation(
    scores: Scores,
    query: Embeddings,
    gallery: Embeddings,
    matches: Matches,
    facts: Mapping[str, str],
) -> str:
    right = mark_right(query.samples, gallery.samples, matches.rows)
    choice = choose_queries(
        find_first_hits(right),
        matches.scores[:, 0],
        find_scored(query.samples, gallery.samples),
    )
    lists = list_ranked(
        np.concatenate((choice.hardest, choice.others)),
        query=query.samples,
        gallery=gallery.samples,
        matches=matches,
        metric=scores.metric,
    )
    unreadable = [*_name_split("query", query), *_name_split("gallery", gallery)]
    return render(
        "evaluation.html",
        note=facts.get(NOTE),
        scores=scores,
        figures=_list_figures(scores),
        dropped=word_dropped(scores.dropped),
        curve=plan_curve(scores.cmc),
        ranks=[(rank, scores.rank(rank)) for rank in LISTED_RANKS if rank <= len(scores.cmc)],
        hardest=lists[: len(choice.hardest)],
        others=lists[len(choice.hardest) :],
        places=min(SHOWN_MATCHES, matches.rows.shape[1]),
        facts=[(label, text) for label, text in facts.items() if label != NOTE],
        unreadable=unreadable[:LISTED_UNREADABLE],
        unreadable_count=len(unreadable),
    )


def _list_figures(scores: Scores) -> list[Figure]:
    places = {1: "first match is right", **{k: f"right match in the first {k}" for k in (5, 10)}}
    ranks = [
        Figure(f"Rank-{k}", scores.rank(k), text) for k, text in places.items() if scores.covers(k)
    ]
    return [
        Figure("mAP", scores.mAP, "mean average precision"),
        *ranks,
        Figure("mINP", scores.mINP, "how early the last one comes"),
    ]


def word_dropped(dropped: DroppedQueries) -> list[tuple[int, str]]:
    """Give the counts that are not 0, each with its reason."""
    reasons = [
        (dropped.junk, "junk: the query itself has person id −1"),
        (dropped.person_absent, "the gallery holds no picture of the person"),
        (dropped.same_camera_only, "the gallery has the person from the query's own camera only"),
    ]
    return [(count, reason) for count, reason in reasons if count]


def _name_split(split: str, embeddings: Embeddings) -> list[tuple[str, UnreadableImage]]:
    return [(split, image) for image in embeddings.unreadable]


def _check_matches(matches: Matches, query: Embeddings, gallery: Embeddings) -> None:
    if len(matches.rows) != len(query):
        raise MismatchError(
            f"matches has {len(matches.rows)} rows for {len(query)} queries: "
            "give the matches of these queries"
        )
    if matches.rows.shape[1] == 0:
        raise ArgumentError("matches has no column: ask for at least 1 match of each query")
    highest = matches.rows.max(initial=-1)
    if highest >= len(gallery):
        raise MismatchError(
            f"matches names gallery row {highest}, but the gallery has {len(gallery)} rows: "
            "give the gallery that was searched"
        )


def _check_scores(scores: Scores, query: Embeddings) -> None:
    if len(scores.cmc) == 0:
        raise ArgumentError("scores.cmc is empty, expected at least Rank-1: evaluate again")
    counted = scores.queries + scores.dropped.total
    if counted != len(query):
        raise MismatchError(
            f"scores count {counted} queries, scored or dropped, but there are {len(query)}: "
            "give the scores of these queries"
        )
