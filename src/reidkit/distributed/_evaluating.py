"""Scores of a gallery that lies in parts and may be larger than memory."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import Moments, Rows, VectorComparison, check_memory, split_range
from reidkit.distributed._counting import (
    Answers,
    Count,
    Search,
    Span,
    count_answers,
    find_answers,
    measure_moments,
)
from reidkit.distributed._sides import CutEmbeddings, Parts, describe_side
from reidkit.distributed._tasks import HERE, SHARES, Tasks, check_room
from reidkit.records import Embeddings, Scores, check_same_model
from reidkit.scoring import (
    MARKET1501,
    Protocol,
    Ranks,
    average_ranks,
    check_max_rank,
    check_sizes,
    choose_scored,
    count_dropped,
    refuse_trials,
)

_MOST_ROWS = 2**16
"""Rows of the gallery that a task takes, unless one part has more."""


def evaluate_parts(
    query: Embeddings,
    gallery: Parts,
    *,
    metric: str = "cosine",
    max_rank: int = 50,
    protocol: Protocol = MARKET1501,
    tasks: Tasks = HERE,
) -> Scores:
    """Score how well a gallery in parts answers the queries: what `scoring.evaluate` gives.

    The ranks are those of the parts joined: equal vectors score the same wherever they lie, and
    the earlier row is in front. Different vectors whose scores lie within float32 rounding of
    each other may come in either order, as they may on another machine.

    `query` holds (Q, D) vectors in memory; of the gallery each task reads some parts, which take
    up at most an eighth of `tasks.memory` or are one part. It is read twice, for `euclidean`
    three times: for the right answers to all queries and then, with their scores known, for the
    rows before them. This process keeps 32 bytes for each right answer and no vectors of the
    gallery.

    Raises:
        ArgumentError: as `scoring.evaluate`, and for a single-shot protocol.
        MismatchError: as `scoring.evaluate`.
        StoreError, IntegrityError: a part cannot be read.
        EngineError: the engine gave up.
    """
    name = VectorComparison(metric).name
    refuse_trials(protocol)
    check_max_rank(max_rank)
    check_memory(tasks.memory)
    check_same_model(query, describe_side(gallery))
    if isinstance(gallery, CutEmbeddings):
        check_room(tasks, gallery.vectors.nbytes)
    check_sizes(len(query), sum(gallery.rows), sum(gallery.rows))
    queries = Rows.all_of(query.vectors)
    search = Search(queries, query.samples, gallery, name, protocol, tasks.memory)
    spans = cut_gallery(gallery, tasks)
    if metric == "euclidean":
        search = dataclasses.replace(search, middle=_find_middle(search, spans, tasks))
    kept, answers = 0, []
    own, hits = np.zeros((2, len(query)), np.int64)
    for part in tasks.run(find_answers, search, spans):
        kept += part.kept
        own += part.own
        hits += part.hits
        answers.append(part.answers)
    check_sizes(len(query), kept, sum(gallery.rows))
    dropped = count_dropped(query.samples, own, hits)
    count = _collect(search, choose_scored(hits, dropped), answers)
    return average_ranks(
        [_rank(count, spans, tasks)],
        gallery=kept,
        metric=name,
        protocol=protocol,
        dropped=dropped,
        max_rank=max_rank,
    )


def cut_gallery(gallery: Parts, tasks: Tasks) -> list[Span]:
    """Cut a gallery into spans of whole parts, each small enough for a task's memory."""
    size = min(_MOST_ROWS, tasks.memory // 8 // (4 * gallery.dimension))
    if tasks.at_once > 1:
        size = min(size, -(-sum(gallery.rows) // (SHARES * tasks.at_once)))
    starts = [0, *itertools.accumulate(gallery.rows)]
    spans, first = [], 0
    for part in range(len(gallery.rows)):
        if part > first and starts[part + 1] - starts[first] > size:
            spans.append(Span(first, part, starts[first]))
            first = part
    if first < len(gallery.rows):
        spans.append(Span(first, len(gallery.rows), starts[first]))
    return spans


def _find_middle(search: Search, spans: Sequence[Span], tasks: Tasks) -> NDArray[np.float32] | None:
    """Give what `euclidean` subtracts from all vectors; nothing where all are junk."""
    # Sums of float64 depend on their order: tasks end in any.
    found = sorted(tasks.run(measure_moments, search, spans), key=lambda part: part[0])
    nothing = Moments(0, np.zeros(search.queries.dimension), 0.0)
    moments = sum((part for _, part in found), start=nothing)
    return moments.find_middle() if moments.count else None


def _collect(search: Search, scored: NDArray[np.intp], parts: Sequence[Answers]) -> Count:
    """Put all right answers together, those of the queries `scored`, which are numbered anew."""
    whole = Answers(
        np.searchsorted(scored, np.concatenate([part.queries for part in parts])),
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.marks for part in parts]),
    )
    whole = whole.select(np.lexsort((whole.rows, whole.marks, whole.queries)))
    leads = np.ones(len(whole), np.bool_)
    leads[1:] = (np.diff(whole.queries) != 0) | (whole.marks[1:] != whole.marks[:-1])
    # Equal vectors of two parts may have come to scores that differ in a bit.
    first = np.flatnonzero(leads)[np.cumsum(leads) - 1]
    whole = dataclasses.replace(whole, values=whole.values[first])
    order = np.lexsort((whole.rows, -whole.values, whole.queries))
    whole = whole.select(order)
    starts = np.searchsorted(whole.queries, np.arange(len(scored) + 1))
    few = dataclasses.replace(
        search, queries=search.queries.select(scored), samples=search.samples.select(scored)
    )
    return Count(few, whole, starts, leads[order])


def _rank(count: Count, spans: Sequence[Span], tasks: Tasks) -> Ranks:
    """Count for all right answers, and give their ranks."""
    ranks = np.ones(len(count.answers), np.int64)
    items = _cut_queries(spans, len(count.search.queries), tasks)
    for start, counts in tasks.run(count_answers, count, items):
        ranks[start : start + len(counts)] += counts
    return Ranks(ranks, count.starts)


def _cut_queries(spans: Sequence[Span], queries: int, tasks: Tasks) -> Iterator[Span]:
    """Give each span to several tasks, each with some of the queries, where spans are few."""
    cuts = 1
    if tasks.at_once > 1:
        cuts = -(-SHARES * tasks.at_once // len(spans))
    for span in spans:
        for start, stop in split_range(queries, -(-queries // cuts)):
            yield dataclasses.replace(span, start=start, stop=stop)
