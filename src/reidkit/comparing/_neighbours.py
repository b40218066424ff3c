"""The nearest neighbours of every vector among all of them, each product computed once.

The matrix of products is symmetric: only blocks on and above its diagonal are computed, and what
they hold counts for their rows and for their columns. Of each row only the nearest are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing._devices import CPU, open_torch
from reidkit.comparing._nearest import Nearest
from reidkit.comparing._prepared import Prepared
from reidkit.comparing._rows import list_ranges, split_range, spread

_BLOCK_ROWS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The K nearest of N vectors to each: itself, then nearest first, equal ones by row.

    Columns:
        rows: (N, K) int32.
        distances: (N, K) float32, squared Euclidean, at least 0.
        farthest: (N,) float32, squared distance to the farthest of all N.
    """

    rows: NDArray[np.int32]
    distances: NDArray[np.float32]
    farthest: NDArray[np.float32]


def find_neighbours(
    prepared: Prepared, count: int, *, memory: int, device: str = CPU
) -> Neighbours:
    """Find the `count` (at most N) nearest of the prepared vectors to each of them.

    Takes up about `memory` bytes, and (N, 5 count) slots; on a `device` such as `cuda`, the
    vectors and a block of scores there.

    Raises:
        MissingExtraError, DeviceError, EngineError: the device cannot be used.
    """
    prepared = prepared.with_squares()
    count = min(count, len(prepared))
    distinct = min(count, len(prepared) - len(prepared.copies))
    if device == CPU:
        found = _find_distinct(prepared, distinct, memory)
    else:
        found = open_torch().find_on_device(prepared, distinct, device)
    return _add_copies(prepared, found, count) if len(prepared.copies) else found


def find_neighbours_of(
    prepared: Prepared, rows: tuple[int, int], count: int, *, memory: int
) -> Neighbours:
    """Find the neighbours of the rows from `rows[0]` to `rows[1]` alone, each product twice.

    For work on many machines: `join_neighbours` makes of all parts what `find_neighbours` gives.
    `prepared` has been given its squares (`Prepared.with_squares`). Copies are not among what
    is found, (n, at most `count`).
    """
    start, stop = rows
    distinct = min(count, len(prepared) - len(prepared.copies))
    nearest = Nearest(stop - start, distinct, prepared.copies)
    step, width = _choose_block(prepared, memory)
    space = np.empty(step * min(width, len(prepared)), np.float32)
    for begin, end in split_range(stop - start, step):
        asked = prepared.read(start + begin, start + end)
        for first, last in split_range(len(prepared), width):
            scores = _multiply(prepared, asked, (start + begin, first, last), space)
            nearest.add_rows(scores, begin, first)
    return _finish(nearest, prepared)


def join_neighbours(prepared: Prepared, parts: Sequence[Neighbours], count: int) -> Neighbours:
    """Make one of the neighbours of all rows, found part by part in their order."""
    found = Neighbours(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.distances for part in parts]),
        np.concatenate([part.farthest for part in parts]),
    )
    count = min(count, len(prepared))
    return _add_copies(prepared, found, count) if len(prepared.copies) else found


def _find_distinct(prepared: Prepared, count: int, memory: int) -> Neighbours:
    """Find neighbours among the rows that are no copies; what copies get means nothing."""
    length = len(prepared)
    nearest = Nearest(length, count, prepared.copies)
    rows, width = _choose_block(prepared, memory)
    space = np.empty(rows * min(width, length), np.float32)
    for start, stop in split_range(length, rows):
        asked = prepared.read(start, stop)
        for first, last in split_range(length - start, width):
            first, last = first + start, last + start
            scores = _multiply(prepared, asked, (start, first, last), space)
            nearest.add_rows(scores, start, first)
            beyond = max(first, stop)
            if beyond < last:
                nearest.add_columns(scores[:, beyond - first :], start, beyond)
    return _finish(nearest, prepared)


def _choose_block(prepared: Prepared, memory: int) -> tuple[int, int]:
    """Give the rows and columns of a block of scores."""
    rows = max(1, min(_BLOCK_ROWS, memory // 8 // (4 * prepared.dimension)))
    return rows, max(rows, memory // 8 // (4 * rows))


def _finish(nearest: Nearest, prepared: Prepared) -> Neighbours:
    best, scores = nearest.finish()
    return Neighbours(
        best, prepared.turn_to_squares(scores), prepared.turn_to_squares(nearest.lowest)
    )


def _multiply(
    prepared: Prepared,
    asked: NDArray[np.float32],
    place: tuple[int, int, int],
    space: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Score the vectors `asked`, (n, D), which are the rows from `start` on, with others.

    `place` is `(start, first, last)`: the others are the rows `first` to `last`. The scores lie
    in `space`; a row's with itself is infinite.
    """
    start, first, last = place
    stop, halves = start + len(asked), prepared.half_squares
    scores = space[: len(asked) * (last - first)].reshape(len(asked), -1)
    np.matmul(asked, prepared.read(first, last).T, out=scores)
    if halves is not None:
        scores -= halves[start:stop, None]
        scores -= halves[first:last]
    own = np.arange(max(start, first), min(stop, last))
    scores[own - start, own - first] = np.inf
    return scores


def _add_copies(prepared: Prepared, found: Neighbours, count: int) -> Neighbours:
    """Put the rows that repeat a vector beside it in all lists."""
    groups = prepared.number_groups()
    members = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[members], np.arange(len(groups) + 1))
    unique = np.flatnonzero(groups == np.arange(len(groups)))
    rows = np.empty((len(unique), count), np.int32)
    distances = np.empty((len(unique), count), np.float32)

    def work(begin: int, end: int) -> None:
        asked = found.rows[unique[begin:end]]
        first = starts[asked]
        # No list takes more than `count` of one group.
        last = np.minimum(starts[asked + 1], first + count)
        places, owners = list_ranges(first.ravel(), last.ravel())
        row, distance = members[places], found.distances[unique[begin:end]].ravel()[owners]
        line = owners // asked.shape[1]
        order = np.lexsort((row, distance, line))
        edges = np.searchsorted(line[order], np.arange(end - begin))
        chosen = order[edges[:, None] + np.arange(count)]
        rows[begin:end], distances[begin:end] = row[chosen], distance[chosen]

    spread(work, len(unique), step=256)
    place = np.searchsorted(unique, groups)
    return _put_first(Neighbours(rows[place], distances[place], found.farthest[groups]))


def _put_first(neighbours: Neighbours) -> Neighbours:
    """Move each vector to the front of its own list, or put it there in place of the last."""
    length, count = neighbours.rows.shape
    own = neighbours.rows == np.arange(length, dtype=np.int32)[:, None]
    place = np.where(own.any(axis=1), own.argmax(axis=1), count - 1)[:, None]
    column = np.arange(count)
    source = np.where(column == 0, place, np.where(column <= place, column - 1, column))
    rows = np.take_along_axis(neighbours.rows, source, axis=1)
    rows[:, 0] = np.arange(length)
    distances = np.take_along_axis(neighbours.distances, source, axis=1)
    return Neighbours(rows, distances, neighbours.farthest)
