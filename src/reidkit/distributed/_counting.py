"""What tasks do for an evaluation in parts: find the right answers, and count who is before them.

A part never meets another one: a right answer travels as its score and a mark of its vector. Rows
of other parts with the same mark get exactly that score, whatever a product came to there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import (
    Moments,
    Prepared,
    Rows,
    count_rows,
    list_ranges,
    multiply_blocks,
    number_descending,
    prepare,
    split_range,
    spread,
)
from reidkit.distributed._sides import Parts, read_kept
from reidkit.records import Samples
from reidkit.scoring import Pairs, Protocol, count_before, find_kin, is_sorting_cheaper

_FEWEST, _PRODUCT = 64, 2**20
"""Queries whose right answers are scored in one product, which holds each with the answers to all
of them: a few, or as many as keep it this small."""

_STEP = 1024

_Block = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What all tasks of an evaluation share.

    Fields:
        queries, samples: the Q queries.
        gallery: the other side.
        middle: (D,) float32 of the whole gallery, for `euclidean` once it is known.
        memory: about how many bytes a task takes up.
    """

    queries: Rows
    samples: Samples
    gallery: Parts
    metric: str
    protocol: Protocol
    memory: int
    middle: NDArray[np.float32] | None = None

    def prepare(self, rows: Rows) -> Prepared:
        """Make some of the gallery ready."""
        return prepare(rows, self.metric, memory=self.memory // 2, middle=self.middle)


@dataclass(frozen=True, slots=True)
class Span:
    """The gallery's parts from `first` to `last`, which begin at its row `row`.

    For counting also the queries from `start` to `stop`.
    """

    first: int
    last: int
    row: int
    start: int = 0
    stop: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Right answers, by query.

    Columns:
        queries: (H,) int64.
        rows: (H,) int64, in the whole gallery.
        values: (H,) float32, their scores.
        marks: (H,) uint64: equal vectors have equal marks, others have others.
    """

    queries: NDArray[np.int64]
    rows: NDArray[np.int64]
    values: NDArray[np.float32]
    marks: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.queries)

    def select(self, entries: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Answers:
        """Take some of them."""
        return Answers(
            self.queries[entries], self.rows[entries], self.values[entries], self.marks[entries]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What one span holds: `kept` rows that are no junk, and right answers.

    `own` and `hits` (Q,) are as `Kin` counts them.
    """

    kept: int
    own: NDArray[np.int64]
    hits: NDArray[np.int64]
    answers: Answers


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """A search, and all right answers to its queries: by query, best first, equal ones by row.

    Columns:
        starts: (Q + 1,) int64: query q has the answers `starts[q]` to `starts[q + 1]`.
        leads: (H,) bool, whether an answer is the first of its query with its mark.
    """

    search: Search
    answers: Answers
    starts: NDArray[np.int64]
    leads: NDArray[np.bool_]


def measure_moments(search: Search, span: Span) -> tuple[int, Moments]:
    """Add up the vectors of a span that are no junk; with the span's first part."""
    found, kept = read_kept(search.gallery, range(span.first, span.last))
    return span.first, Moments.measure(Rows(found.vectors, kept))


def find_answers(search: Search, span: Span) -> Found:
    """Find and score the right answers in a span."""
    found, kept = read_kept(search.gallery, range(span.first, span.last))
    samples = found.samples.select(kept)
    kin = find_kin(search.samples, samples, search.protocol)
    pairs = kin.find_hits(slice(None))
    # Queries of one person have the same right answers: they are scored side by side.
    person = search.samples.person_ids[pairs.queries]
    order = np.lexsort((pairs.rows, pairs.queries, person))
    pairs = Pairs(pairs.queries[order], pairs.rows[order])
    values = np.empty(len(order), np.float32)
    marks = np.empty(len(order), np.uint64)
    for part in _cut_queries(pairs.queries, max(_FEWEST, _PRODUCT // max(1, len(kept)))):
        wanted, place = np.unique(pairs.rows[part], return_inverse=True)
        prepared = search.prepare(Rows(found.vectors, kept[wanted]))
        marks[part] = mark_rows(prepared)[place]
        asked, line = np.unique(pairs.queries[part], return_inverse=True)
        blocks = multiply_blocks(search.queries.select(asked), prepared, memory=search.memory // 2)
        for start, scores in blocks:
            here = np.flatnonzero((line >= start) & (line < start + len(scores)))
            values[part.start + here] = scores[line[here] - start, place[here]]
    rows = span.row + kept[pairs.rows]
    answers = Answers(pairs.queries, rows, values, marks)
    return Found(len(kept), kin.count_own(), kin.count_hits(), answers)


def count_answers(count: Count, span: Span) -> tuple[int, NDArray[np.int64]]:
    """Count the rows of a span that stand before each right answer of some queries.

    Gives where in `count.answers` the counts belong, and these.
    """
    search, first = count.search, int(count.starts[span.start])
    counts = np.zeros(int(count.starts[span.stop]) - first, np.int64)
    found, kept = read_kept(search.gallery, range(span.first, span.last))
    if not len(kept):
        return first, counts
    prepared = search.prepare(Rows(found.vectors, kept))
    asked = np.arange(span.start, span.stop)
    kin = find_kin(search.samples.select(asked), found.samples.select(kept), search.protocol)
    marks = mark_rows(prepared)
    by_mark = np.argsort(marks, kind="stable")
    marks = marks[by_mark]
    blocks = multiply_blocks(search.queries.select(asked), prepared, memory=search.memory // 2)
    for begin, block in blocks:

        def work(start: int, stop: int, begin: int = begin, block: _Block = block) -> None:
            scores, queries = block[start:stop], slice(begin + start, begin + stop)
            edges = count.starts[span.start + queries.start : span.start + queries.stop + 1]
            entries = slice(int(edges[0]), int(edges[-1]))
            answers = count.answers.select(entries)
            lines = answers.queries - (span.start + queries.start)
            leads = count.leads[entries]
            _level(scores, lines[leads], answers.select(leads), (marks, by_mark))
            removed = kin.find_removed(queries)
            scores[removed.queries, removed.rows] = -np.inf
            hits = Pairs(lines, np.searchsorted(kept, answers.rows - span.row))
            counts[entries.start - first : entries.stop - first] = count_ahead(
                scores, answers.values, hits, edges - edges[0]
            )

        spread(work, len(block), step=count_rows(block.shape[1]))
    return first, counts


def mark_rows(prepared: Prepared) -> NDArray[np.uint64]:
    """Mark each vector, (M,): equal ones alike in every process, others almost surely not."""
    marks = np.empty(len(prepared), np.uint64)
    for start, stop in split_range(len(prepared), _STEP):
        lines = (memoryview(row).cast("B") for row in prepared.read(start, stop))
        digests = b"".join(hashlib.blake2b(line, digest_size=8).digest() for line in lines)
        marks[start:stop] = np.frombuffer(digests, "<u8")
    return marks


def count_ahead(
    scores: NDArray[np.float32],
    values: NDArray[np.float32],
    hits: Pairs,
    starts: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Count the (n, G) scores that stand before each right answer, (H,); see `count_before`.

    The answers are sorted by query, score (best first) and row; query q has those from
    `starts[q]` to `starts[q + 1]`, at least one.
    """
    bounds = values[starts[1:] - 1]
    if not is_sorting_cheaper(scores, bounds, len(values)):
        return count_before(scores, values, hits)
    columns = scores.shape[1]
    entries = np.flatnonzero((scores >= bounds[:, None]) & (scores > -np.inf))
    lines, column = np.divmod(entries, columns)
    shift = np.uint64(32)
    keys = hits.queries.astype(np.uint64) << shift | number_descending(values)
    wanted = lines.astype(np.uint64) << shift | number_descending(scores.ravel()[entries])
    places = np.searchsorted(keys, wanted)
    # Of equal scores, a row stands before the answers whose row comes later.
    runs = np.cumsum(np.diff(keys, prepend=keys[:1]) != 0)
    equal = np.flatnonzero(keys[np.minimum(places, len(keys) - 1)] == wanted)
    by_row = runs * (columns + 1) + np.clip(hits.rows, 0, columns)
    asked = runs[places[equal]] * (columns + 1) + column[equal]
    places[equal] = np.searchsorted(by_row, asked, "right")
    # A row that stands before one answer stands before all later ones of the query.
    places = places[places < starts[lines + 1]]
    totals = np.concatenate(([0], np.cumsum(np.bincount(places, minlength=len(values)))))
    counts: NDArray[np.int64] = totals[1:] - totals[starts[hits.queries]]
    return counts


def _level(
    scores: NDArray[np.float32],
    lines: NDArray[np.int64],
    answers: Answers,
    marked: tuple[NDArray[np.uint64], NDArray[np.intp]],
) -> None:
    """Give the rows that equal a right answer's vector exactly its score.

    `marked` are the rows' marks, sorted, and the rows. At a matrix's edge BLAS sums in another
    order, and so does another machine: equal vectors may differ in a bit.
    """
    marks, rows = marked
    first = np.searchsorted(marks, answers.marks)
    last = np.searchsorted(marks, answers.marks, "right")
    places, owners = list_ranges(first, last)
    scores[lines[owners], rows[places]] = answers.values[owners]


def _cut_queries(queries: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Cut pairs, sorted so that each query's are together, into those of few queries."""
    edges = np.append(np.flatnonzero(np.diff(queries, prepend=-1)), len(queries))
    for start in range(0, len(edges) - 1, most):
        yield slice(int(edges[start]), int(edges[min(start + most, len(edges) - 1)]))
