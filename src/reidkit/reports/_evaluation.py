"""The report of one evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reidkit.errors import ArgumentError, MismatchError, UnreadableImage
from reidkit.records import DroppedQueries, Embeddings, Matches, Scores
from reidkit.reports._cameras import plan_cameras
from reidkit.reports._findings import Findings
from reidkit.reports._pages import check_path, render, write_page
from reidkit.reports._pairs import PairHistogram, plan_pairs
from reidkit.reports._plots import Curve, plan_curve
from reidkit.reports._ranked import (
    SHOWN_MATCHES,
    Choice,
    RankedList,
    choose_queries,
    choose_worst,
    find_first_hits,
    list_ranked,
    mark_right,
    word_precision,
)
from reidkit.reports._roc import RateRow, list_rates, plan_roc
from reidkit.reports._scatter import plan_map
from reidkit.reports._wording import word_threshold
from reidkit.scoring import MARKET1501, PROTOCOLS, QueryScores, Verification, find_scored

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


@dataclass(frozen=True, slots=True)
class RankRow:
    """A rank of the table; `precision` is `None` where it was not measured that far."""

    rank: int
    share: float
    precision: float | None


@dataclass(frozen=True, slots=True)
class Pairs:
    """What the page says about pairs: the threshold drawn is an operating point `named`, or EER."""

    measured: Verification
    histogram: PairHistogram
    threshold: str
    named: str | None
    equal_threshold: str
    roc: Curve
    rates: list[RateRow]


def write_report(
    path: str | Path,
    scores: Scores | Findings,
    *,
    query: Embeddings,
    gallery: Embeddings,
    matches: Matches,
    facts: Mapping[str, str],
) -> None:
    """Write the HTML report of one evaluation: figures, CMC curve, ranked lists, provenance.

    Given `Findings`, it shows what they hold as well: the queries of lowest average precision,
    the scores of pairs with the operating point, the ROC, the pairs of cameras, a map of the
    embeddings.

    The file is written whole or not at all; missing parent folders are made. It shows at most
    20 queries with their first 10 matches and stays near 1 MB. A picture that cannot be opened
    any more is shown as a grey box with its file name.

    Args:
        path: where to write, replacing what is there.
        scores: what `scoring.evaluate` found, alone or among other `Findings`.
        query: (Q, D) the queries that were evaluated.
        gallery: (G, D) the gallery they were evaluated against.
        matches: (Q, K) what `scoring.match` found with the same metric, K >= 1; K >= 10 fills
            the ranked lists.
        facts: label -> text, how the numbers were made, shown as a table in this order. The fact
            labelled `Note` is shown prominently at the top.

    Raises:
        MismatchError: scores, findings or matches are not those of these embeddings.
        ArgumentError: `matches` has no column, `scores.cmc` is empty, or `path` is a folder.
    """
    path = Path(path)
    check_path(path)
    findings = scores if isinstance(scores, Findings) else Findings(scores)
    _check_matches(matches, query, gallery)
    _check_scores(findings.scores, query)
    _check_queries(findings.queries, query)
    write_page(path, _render_evaluation(findings, query, gallery, matches, facts))


def _render_evaluation(
    findings: Findings,
    query: Embeddings,
    gallery: Embeddings,
    matches: Matches,
    facts: Mapping[str, str],
) -> str:
    scores = findings.scores
    hardest, others = _show_lists(findings, query, gallery, matches)
    cameras, found_map = findings.cameras, findings.embedding_map
    unreadable = [*_name_split("query", query), *_name_split("gallery", gallery)]
    return render(
        "evaluation.html",
        note=facts.get(NOTE),
        scores=scores,
        figures=_list_figures(scores),
        dropped=word_dropped(scores.dropped),
        curve=plan_curve(scores.cmc),
        ranks=_list_ranks(scores),
        protocol=PROTOCOLS.get(scores.protocol),
        pairs=_plan_pairs(findings),
        cameras=plan_cameras(cameras) if cameras is not None else None,
        map=found_map,
        map_plot=plan_map(found_map) if found_map is not None else None,
        by_precision=findings.queries is not None,
        hardest=hardest,
        others=others,
        places=min(SHOWN_MATCHES, matches.rows.shape[1]),
        facts=[(label, text) for label, text in facts.items() if label != NOTE],
        unreadable=unreadable[:LISTED_UNREADABLE],
        unreadable_count=len(unreadable),
    )


def _choose_lists(
    findings: Findings, query: Embeddings, gallery: Embeddings, matches: Matches
) -> Choice:
    if findings.queries is not None:
        return choose_worst(findings.queries)
    right = mark_right(query.samples, gallery.samples, matches.rows)
    protocol = PROTOCOLS.get(findings.scores.protocol, MARKET1501)
    scored = find_scored(query.samples, gallery.samples, protocol)
    return choose_queries(find_first_hits(right), matches.scores[:, 0], scored)


def _show_lists(
    findings: Findings, query: Embeddings, gallery: Embeddings, matches: Matches
) -> tuple[list[RankedList], list[RankedList]]:
    """Give the hardest lists and others; each says how its whole ranking did, if that is known."""
    choice = _choose_lists(findings, query, gallery, matches)
    rows = np.concatenate((choice.hardest, choice.others))
    lists = list_ranked(
        rows,
        query=query.samples,
        gallery=gallery.samples,
        matches=matches,
        metric=findings.scores.metric,
    )
    queries = findings.queries
    if queries is not None:
        lists = [
            dataclasses.replace(shown, outcome=word_precision(queries, row))
            for shown, row in zip(lists, rows.tolist(), strict=True)
        ]
    return lists[: len(choice.hardest)], lists[len(choice.hardest) :]


def _list_ranks(scores: Scores) -> list[RankRow]:
    precisions = scores.precision.tolist()
    return [
        RankRow(rank, scores.rank(rank), precisions[rank - 1] if rank <= len(precisions) else None)
        for rank in LISTED_RANKS
        if rank <= len(scores.cmc)
    ]


def _plan_pairs(findings: Findings) -> Pairs | None:
    measured = findings.verification
    if measured is None:
        return None
    equal = measured.equal_error_threshold
    named, threshold = findings.threshold or (None, equal)
    return Pairs(
        measured,
        plan_pairs(measured, threshold),
        word_threshold(threshold, measured.metric),
        named,
        word_threshold(equal, measured.metric),
        plan_roc(measured),
        list_rates(measured),
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


def _check_queries(queries: QueryScores | None, query: Embeddings) -> None:
    highest = queries.queries.max(initial=-1) if queries is not None else -1
    if highest >= len(query):
        raise MismatchError(
            f"the figures of single queries name query {highest}, but there are {len(query)}: "
            "give what score_queries found for these queries"
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
