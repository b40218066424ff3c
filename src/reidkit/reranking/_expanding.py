"""Embeddings made of embeddings: expanded queries, an augmented gallery, pooled queries."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import (
    MEMORY,
    METRICS,
    Prepared,
    Rows,
    check_memory,
    find_nearest,
    find_neighbours,
    multiply_blocks,
    prepare,
    split_range,
    to_unit_length,
)
from reidkit.errors import ArgumentError, MismatchError
from reidkit.records import JUNK, Embeddings, Samples, check_same_model

_STEP = 1024


def expand_queries(
    query: Embeddings,
    gallery: Embeddings,
    *,
    count: int = 5,
    alpha: float = 0.0,
    metric: str = "cosine",
    memory: int = MEMORY,
) -> Embeddings:
    """Replace each query by the mean of itself and its `count` best gallery pictures.

    Average query expansion (Chum et al., "Total Recall", ICCV 2007); with `alpha` above 0 a
    picture weighs its cosine to the power of `alpha` (Radenovic et al., TPAMI 2019). Junk takes
    no part; pictures that a protocol will remove do, as they would in a real search.

    `query` and `gallery` hold (Q, D) and (G, D) vectors; with `cosine` they are brought to unit
    length first, and so are the means.

    Raises:
        ArgumentError: `count` below 1, `alpha` below 0 or not with `cosine`, unknown metric.
        MismatchError: the embeddings are of two models.
    """
    _check(count, alpha, metric, memory)
    check_same_model(query, gallery)
    kept = np.flatnonzero(gallery.samples.person_ids != JUNK)
    if not len(kept) or not len(query):
        return query
    prepared = prepare(Rows(gallery.vectors, kept), metric, memory=memory // 2)
    queries = Rows.all_of(query.vectors)
    expanded = np.empty_like(query.vectors)
    for start, scores in multiply_blocks(queries, prepared, memory=memory):
        for first, last in split_range(len(scores), 64):
            rows, best = find_nearest(scores[first:last], min(count, len(kept)))
            part = slice(start + first, start + last)
            own = prepared.read_queries(queries, part.start, part.stop)
            expanded[part] = _average(own, rows, best, prepared, alpha)
    return _finish(query, expanded, metric)


def augment_gallery(
    gallery: Embeddings,
    *,
    count: int = 5,
    alpha: float = 0.0,
    metric: str = "cosine",
    memory: int = MEMORY,
) -> Embeddings:
    """Replace each gallery vector by the mean of itself and its `count` nearest others.

    Database-side augmentation (Arandjelovic and Zisserman, "Three things everyone should know
    to improve object retrieval", CVPR 2012). Junk keeps its vectors and takes no part. `alpha`
    and `metric` are as in `expand_queries`.

    Raises:
        ArgumentError: as `expand_queries`.
    """
    _check(count, alpha, metric, memory)
    kept = np.flatnonzero(gallery.samples.person_ids != JUNK)
    if len(kept) < 2:
        return gallery
    prepared = prepare(Rows(gallery.vectors, kept), metric, memory=memory // 2)
    neighbours = find_neighbours(prepared, count + 1, memory=memory)
    halves = prepared.with_squares().half_squares
    if halves is None:
        halves = np.full(len(kept), 0.5, np.float32)
    augmented = np.array(gallery.vectors)
    for start, stop in split_range(len(kept), _STEP):
        own, others = prepared.read(start, stop), neighbours.rows[start:stop, 1:]
        lengths = halves[start:stop, None] + halves[others]
        cosines = lengths - neighbours.distances[start:stop, 1:] / 2
        augmented[kept[start:stop]] = _average(own, others, cosines, prepared, alpha)
    return _finish(gallery, augmented, metric)


def pool_queries(query: Embeddings, *, metric: str = "cosine") -> Embeddings:
    """Replace the queries of one person and camera by one, their mean: multi-query search.

    The row, path and order are those of the group's first picture. Junk stays as it is.
    `query` holds (Q, D) vectors; with `cosine` they are brought to unit length before and after.

    Raises:
        ArgumentError: unknown metric.
    """
    _check(1, 0.0, metric, MEMORY)
    samples = query.samples
    junk = np.where(samples.person_ids == JUNK, np.arange(len(query)), -1)
    keys = np.stack((samples.person_ids, samples.camera_ids, junk), axis=1)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    sums = np.zeros((len(first), query.vectors.shape[1]))
    vectors = to_unit_length(query.vectors) if metric == "cosine" else query.vectors
    np.add.at(sums, place[inverse], vectors)
    means = sums / np.bincount(place[inverse], minlength=len(first))[:, None]
    pooled = dataclasses.replace(query.select(first[order]), unreadable=query.unreadable)
    return _finish(pooled, means.astype(np.float32), metric)


def average_flips(plain: Embeddings, mirrored: Embeddings) -> Embeddings:
    """Give the mean of the unit vectors of pictures and of their mirror images, at unit length.

    For vectors that another tool made both ways; `Model.with_flip` does it while embedding.

    Raises:
        MismatchError: the embeddings are of two models, or not of the same pictures in order.
    """
    check_same_model(plain, mirrored)
    if not _are_same(plain.samples, mirrored.samples):
        raise MismatchError(
            f"flip averaging needs the same pictures in the same order: {len(plain)} and "
            f"{len(mirrored)} were given, with other paths or ids"
        )
    vectors = to_unit_length(plain.vectors) + to_unit_length(mirrored.vectors)
    return _finish(plain, vectors, "cosine")


def _average(
    own: NDArray[np.float32],
    rows: NDArray[np.integer],
    cosines: NDArray[np.floating],
    prepared: Prepared,
    alpha: float,
) -> NDArray[np.float32]:
    """Average vectors (n, D) with prepared rows (n, K), weighted by cosines where asked."""
    weights = np.ones(cosines.shape) if alpha == 0 else np.maximum(cosines, 0) ** alpha
    sums = own.astype(np.float64)
    for column in range(rows.shape[1]):
        there = rows[:, column] >= 0
        vectors = prepared.take(rows[there, column].astype(np.int64))
        sums[there] += weights[there, column, None] * vectors
    totals = 1 + (weights * (rows >= 0)).sum(axis=1)
    means: NDArray[np.float32] = (sums / totals[:, None]).astype(np.float32)
    if prepared.middle is not None:
        means += prepared.middle
    return means


def _finish(embeddings: Embeddings, vectors: NDArray[np.float32], metric: str) -> Embeddings:
    if metric == "cosine":
        vectors = to_unit_length(vectors)
    return dataclasses.replace(embeddings, vectors=vectors)


def _are_same(first: Samples, second: Samples) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("paths", "person_ids", "camera_ids")
    )


def _check(count: int, alpha: float, metric: str, memory: int) -> None:
    check_memory(memory)
    if metric not in METRICS:
        raise ArgumentError(f"metric is {metric!r}, expected one of {', '.join(METRICS)}")
    if count < 1:
        raise ArgumentError(f"count is {count}, expected at least 1")
    if alpha < 0 or (alpha and metric != "cosine"):
        raise ArgumentError(f"alpha is {alpha} with {metric}, expected 0, or above 0 with cosine")
