"""k-reciprocal re-ranking of a gallery in parts: neighbours and scores are found by tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import (
    CPU,
    Joined,
    Neighbours,
    Prepared,
    Rows,
    check_memory,
    find_neighbours_of,
    join_neighbours,
    split_range,
)
from reidkit.distributed._sides import Parts, describe_side, read_kept, without_paths
from reidkit.distributed._tasks import HERE, SHARES, Tasks, check_room
from reidkit.errors import ArgumentError
from reidkit.records import DroppedQueries, Embeddings, Scores, check_same_model
from reidkit.reranking import Encoded, KReciprocal
from reidkit.scoring import (
    MARKET1501,
    Kin,
    Protocol,
    Ranks,
    average_ranks,
    check_max_rank,
    check_sides,
    check_sizes,
    rank_block,
    refuse_trials,
)

_LEAST_ROWS, _MOST_ROWS = 256, 8192
"""Rows whose neighbours, or queries whose scores, one task finds."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Both sides, ready: all vectors, queries first, and who is whose kin.

    `scored` are the queries that have a right answer, `kin` is theirs.
    """

    everyone: Prepared
    queries: Rows
    scored: NDArray[np.intp]
    kin: Kin
    dropped: DroppedQueries

    @property
    def gallery(self) -> int:
        """The number of gallery pictures."""
        return len(self.everyone) - len(self.queries)


@dataclass(frozen=True, slots=True, eq=False)
class _Finding:
    """What the tasks that find neighbours share."""

    everyone: Prepared
    count: int
    memory: int


@dataclass(frozen=True, slots=True, eq=False)
class _Scoring:
    """What the tasks that score queries share."""

    encoded: Encoded
    queries: Rows
    scored: NDArray[np.intp]
    kin: Kin
    memory: int


def evaluate_reranked(
    query: Embeddings,
    gallery: Parts,
    *,
    metric: KReciprocal | None = None,
    max_rank: int = 50,
    protocol: Protocol = MARKET1501,
    tasks: Tasks = HERE,
) -> Scores:
    """Score re-ranked lists: what `scoring.evaluate` gives with `metric=KReciprocal(...)`.

    Tasks find the neighbours of some rows each, which grows with the square of the pictures, and
    then the scores of some queries each. The encodings between are made in this process, by all
    its cores: their work grows with the pictures.

    The vectors of all pictures, 4 N D bytes, are held in this process (twice while they are read)
    and once on each machine of the engine, by its object store, where tasks use them without a
    copy; besides them come the encodings, about N k numbers.

    Raises:
        EngineError: the vectors do not fit into the engine's object store, said before anything
            is read; or the engine gave up.
        ArgumentError: as `scoring.evaluate`; for a single-shot protocol; for a `metric` on
            another device than the CPU.
        MismatchError: as `scoring.evaluate`.
        StoreError, IntegrityError: a part cannot be read.
    """
    metric = KReciprocal() if metric is None else metric
    if metric.device != CPU:
        raise ArgumentError(
            f"device is {metric.device!r}: in tasks only {CPU!r} finds neighbours; use scoring."
            "evaluate for a GPU"
        )
    refuse_trials(protocol)
    check_max_rank(max_rank)
    check_memory(tasks.memory)
    check_same_model(query, describe_side(gallery))
    check_room(tasks, 4 * gallery.dimension * (len(query) + sum(gallery.rows)))
    sides = _read(query, gallery, metric, protocol)
    neighbours = _find_neighbours(sides.everyone, metric.neighbours, tasks)
    encoded = metric.encode(sides.everyone, neighbours, len(query))
    return average_ranks(
        _rank(sides, encoded, tasks),
        gallery=sides.gallery,
        metric=metric.name,
        protocol=protocol,
        dropped=sides.dropped,
        max_rank=max_rank,
    )


def _read(query: Embeddings, gallery: Parts, metric: KReciprocal, protocol: Protocol) -> _Sides:
    """Read the gallery without junk, and make both sides ready."""
    whole = _collect(gallery)
    check_sizes(len(query), len(whole), sum(gallery.rows))
    sides = check_sides(query, whole, metric=metric, protocol=protocol)
    both = Joined(sides.queries, sides.gallery)
    # More than they take up: they are held, whatever share of it is for that.
    everyone = metric.prepare(both, memory=8 * both.dimension * len(both))
    scored = sides.find_scored()
    return _Sides(
        everyone.without_source(), sides.queries, scored, sides.kin.select(scored), sides.dropped
    )


def _collect(gallery: Parts) -> Embeddings:
    """Read the rows that are no junk into memory, without their paths."""
    vectors = np.empty((sum(gallery.rows), gallery.dimension), np.float32)
    people, cameras = np.empty((2, len(vectors)), np.int64)
    row = 0
    for part in range(len(gallery.rows)):
        found, kept = read_kept(gallery, [part])
        rows = slice(row, row + len(kept))
        vectors[rows] = found.vectors[kept]
        people[rows] = found.samples.person_ids[kept]
        cameras[rows] = found.samples.camera_ids[kept]
        row = rows.stop
    samples = without_paths(people[:row], cameras[:row])
    return Embeddings(vectors[:row], samples, gallery.model_sha256, gallery.contract_sha256)


def _find_neighbours(everyone: Prepared, count: int, tasks: Tasks) -> Neighbours:
    """Find the neighbours of all pictures."""
    finding = _Finding(everyone, count, tasks.memory)
    found = dict(tasks.run(_find_some, finding, _cut(len(everyone), tasks)))
    return join_neighbours(everyone, [found[start] for start in sorted(found)], count)


def _find_some(finding: _Finding, rows: tuple[int, int]) -> tuple[int, Neighbours]:
    found = find_neighbours_of(finding.everyone, rows, finding.count, memory=finding.memory)
    return rows[0], found


def _rank(sides: _Sides, encoded: Encoded, tasks: Tasks) -> Iterator[Ranks]:
    """Rank the right answers of all queries, in their order."""
    scoring = _Scoring(
        encoded.without_source(), sides.queries, sides.scored, sides.kin, tasks.memory
    )
    found = dict(tasks.run(_rank_some, scoring, _cut(len(sides.scored), tasks)))
    for start in sorted(found):
        yield from found[start]


def _rank_some(scoring: _Scoring, part: tuple[int, int]) -> tuple[int, list[Ranks]]:
    asked, kin = scoring.scored[slice(*part)], scoring.kin.select(slice(*part))
    blocks = scoring.encoded.score_blocks(scoring.queries, asked=asked, memory=scoring.memory)
    ranks: list[Ranks] = []
    for start, scores in blocks:
        ranks += rank_block(scores, kin.select(slice(start, start + len(scores))))
    return part[0], ranks


def _cut(length: int, tasks: Tasks) -> list[tuple[int, int]]:
    """Cut rows into items, enough for all who work."""
    size = -(-length // (SHARES * tasks.at_once))
    return split_range(length, max(_LEAST_ROWS, min(_MOST_ROWS, size)))
