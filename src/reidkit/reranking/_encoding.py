"""k-reciprocal encoding: each picture as weights of the few pictures that are mutually near."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import Neighbours, Prepared, list_ranges, split_range, spread
from reidkit.reranking._variants import Variant

_STEP = 256
"""The most pictures that a thread encodes at once."""

_LARGEST = 2**24
"""The most bytes of a thread's largest array."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """N rows of weights, of which few are not 0.

    Columns:
        starts: (N + 1,) int64: row i has the entries `starts[i]` to `starts[i + 1]`.
        columns: (E,) int32, ascending within a row.
        weights: (E,) float32, at least 0; those of a row add up to 1.
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def find_entries(
        self, rows: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the entries of rows one after the other, and which of `rows` each belongs to."""
        return list_ranges(self.starts[rows], self.starts[rows + 1])


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Pairs of pictures with a weight, by row and column, and their squared distances."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    squares: NDArray[np.float32]


def encode(neighbours: Neighbours, prepared: Prepared, *, k1: int, variant: Variant) -> Encoding:
    """Encode every picture by its k-reciprocal neighbours, expanded (Zhong et al., section 3.2).

    Of the `k1` nearest those count that have the picture among their own `k1` nearest; a
    neighbour's own reciprocal set of half the size joins where more than 2/3 of it are in the
    picture's set. A weight is exp(-original distance), divided by the row's sum.
    """
    near = neighbours.rows[:, : k1 + variant.neighbours]
    half = neighbours.rows[:, : int(np.around(k1 / 2)) + 1][:, : near.shape[1]]
    members, half_members = _mark_reciprocal(near), _mark_reciprocal(half)
    own_sets = np.where(members, near, -1)
    half_sets = np.where(half_members, half, -2)
    # Each of a picture's k1 neighbours brings k1 / 2, each compared with its k1.
    parts = split_range(len(near), min(_STEP, _LARGEST // (near.shape[1] ** 2 * half.shape[1])))
    found: dict[int, _Pairs] = {}

    def work(first: int, last: int) -> None:
        for start, stop in parts[first:last]:
            rows, columns = _expand(own_sets, half_sets, start, stop)
            squares = _measure_pairs(neighbours, prepared, rows, columns, start)
            found[start] = _Pairs(rows, columns, squares)

    spread(work, len(parts), step=1)
    pairs = [found[start] for start, _ in parts]
    rows = np.concatenate([part.rows for part in pairs])
    columns = np.concatenate([part.columns for part in pairs])
    squares = np.concatenate([part.squares for part in pairs])
    original = variant.measure(squares, neighbours.farthest[rows])
    weights = np.exp(-original)
    starts = np.searchsorted(rows, np.arange(len(near) + 1))
    sums = np.add.reduceat(weights, starts[:-1], dtype=np.float64)
    weights /= np.repeat(sums, np.diff(starts))
    return Encoding(starts, columns.astype(np.int32), weights.astype(np.float32))


def average(encoding: Encoding, near: NDArray[np.int32]) -> Encoding:
    """Average each row with those of its nearest, `near` (N, k2): local query expansion."""
    longest = int(np.diff(encoding.starts).max()) * near.shape[1]
    parts = split_range(len(near), min(_STEP, _LARGEST // (8 * longest)))
    found: dict[int, _Sums] = {}

    def work(first: int, last: int) -> None:
        for start, stop in parts[first:last]:
            sources = near[start:stop]
            entries, owners = encoding.find_entries(sources.ravel())
            columns, weights = encoding.columns[entries], encoding.weights[entries]
            found[start] = _add_up(owners // sources.shape[1], columns, weights, len(sources))

    spread(work, len(parts), step=1)
    sums = [found[start] for start, _ in parts]
    weights = np.concatenate([part.weights for part in sums])
    return Encoding(
        np.concatenate(([0], np.cumsum(np.concatenate([part.counts for part in sums])))),
        np.concatenate([part.columns for part in sums]),
        np.divide(weights, near.shape[1], dtype=np.float32),
    )


def _mark_reciprocal(near: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Mark the neighbours (N, K) that have the row among their own K neighbours."""
    marks = np.empty(near.shape, np.bool_)

    def work(start: int, stop: int) -> None:
        rows = np.arange(start, stop, dtype=np.int32)
        marks[start:stop] = (near[near[start:stop]] == rows[:, None, None]).any(axis=2)

    spread(work, len(near), step=max(1, min(_STEP, _LARGEST // (4 * near.shape[1] ** 2))))
    return marks


def _expand(
    own_sets: NDArray[np.int32], half_sets: NDArray[np.int32], start: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the expanded sets of the rows `start` to `stop` as pairs, by row and column."""
    own = own_sets[start:stop]
    row, place = np.nonzero(own >= 0)
    candidates = half_sets[own[row, place]]
    common = (candidates[:, :, None] == own[row][:, None, :]).any(axis=2).sum(axis=1)
    sizes = np.count_nonzero(candidates >= 0, axis=1)
    joining = common > 2 / 3 * sizes
    joined = candidates[joining]
    there = joined >= 0
    rows = np.concatenate((row, np.repeat(row[joining], there.sum(axis=1))))
    columns = np.concatenate((own[row, place], joined[there])).astype(np.int64)
    keys = np.unique(rows * len(own_sets) + columns)
    rows, columns = np.divmod(keys, len(own_sets))
    return rows + start, columns


def _measure_pairs(
    neighbours: Neighbours,
    prepared: Prepared,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    start: int,
) -> NDArray[np.float32]:
    """Give the squared distances of pairs: looked up where known, else computed."""
    stop = int(rows[-1]) + 1
    known = neighbours.rows[start:stop]
    length = len(neighbours.rows)
    keys = (np.arange(len(known))[:, None] * length + known).ravel()
    order = np.argsort(keys)
    asked = (rows - start) * length + columns
    places = np.minimum(np.searchsorted(keys, asked, sorter=order), len(keys) - 1)
    entries = order[places]
    squares = neighbours.distances[start:stop].ravel()[entries]
    unknown = np.flatnonzero(keys[entries] != asked)
    if len(unknown):
        squares[unknown] = prepared.measure_squares(rows[unknown], columns[unknown])
    return squares


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Rows of added weights: the number of entries of each, their columns and sums."""

    counts: NDArray[np.int64]
    columns: NDArray[np.int32]
    weights: NDArray[np.float32]


def _add_up(
    rows: NDArray[np.int64],
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    count: int,
) -> _Sums:
    """Add up the weights of equal rows, below `count`, and columns."""
    # One sort of whole numbers: row, column and place share 64 bits.
    column_bits = np.uint64(int(columns.max()).bit_length())
    place_bits = np.uint64(len(rows).bit_length())
    keys = rows.astype(np.uint64) << column_bits | columns.astype(np.uint64)
    keys = keys << place_bits | np.arange(len(rows), dtype=np.uint64)
    keys.sort()
    order = (keys & _low_bits(place_bits)).astype(np.int64)
    pairs = keys >> place_bits
    first = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1]))
    found = pairs[first]
    return _Sums(
        np.bincount((found >> column_bits).astype(np.int64), minlength=count),
        (found & _low_bits(column_bits)).astype(np.int32),
        np.add.reduceat(weights[order], first),
    )


def _low_bits(count: np.uint64) -> np.uint64:
    return (np.uint64(1) << count) - np.uint64(1)
