"""Counting pairs of known people: once by score, then above each threshold by pair of persons.

Each pair of pictures is scored once a pass: pictures are sorted by person, and a part of them
meets those from its own first picture on. Nothing larger than a block of scores is ever held.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import MEMORY, Rows, VectorComparison, count_rows, split_range, spread
from reidkit.operating._grid import Grid, Histogram
from reidkit.operating._people import People
from reidkit.operating._resampling import Accepted

_PART = 2048
"""Pictures that meet the others at once; whole units."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """All pairs to count.

    `vectors` (N, D) float32 and `metric` give the scores; `same_camera` says whether pairs of one
    camera are genuine ones too; about `memory` bytes are taken up.
    """

    vectors: NDArray[np.float32]
    people: People
    metric: str
    same_camera: bool = False
    memory: int = MEMORY


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Scores (n, M - first) of the pictures `start` on with those from `first` on."""

    start: int
    first: int
    scores: NDArray[np.float32]

    def split(self) -> list[_Block]:
        """Give parts that stay in a processor's cache."""
        return [
            _Block(self.start + a, self.first, self.scores[a:b])
            for a, b in split_range(len(self.scores), count_rows(self.scores.shape[1]))
        ]


def count_scores(pairs: Pairs, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the scores of genuine and impostor pairs by their place on the grid; (length,) each."""
    genuine, impostor = Histogram(grid), Histogram(grid)
    for first, last in split_people(pairs.people, _PART):
        for block in _score(pairs, first, last):
            _place_block(block, pairs, genuine, impostor)
    return genuine.finish(), impostor.finish()


def _place_block(block: _Block, pairs: Pairs, genuine: Histogram, impostor: Histogram) -> None:
    """Add the pairs of a block to the histograms."""
    parts = block.split()

    def work(start: int, stop: int) -> None:
        for part in parts[start:stop]:
            places = genuine.grid.place(part.scores)
            rows, columns = _list_genuine(pairs, part)
            genuine.add(places[rows, columns])
            _clear_kin(places, part, pairs.people)
            impostor.add(places)

    spread(work, len(parts), step=1)


def count_accepted(
    pairs: Pairs,
    thresholds: list[float],
    rates: list[float],
    weights: NDArray[np.float32],
) -> list[Accepted]:
    """Count what each threshold accepts, as people are drawn again.

    `rates` are the shares of impostor pairs that they accept; `weights` (U, B) how often each
    unit is drawn.
    """
    people, number = pairs.people, len(thresholds)
    genuine = np.zeros((number, people.unit_count), np.int64)
    sums = np.zeros((number, weights.shape[1]))
    squares, couples = np.zeros(number), np.zeros(number, np.int64)
    # The counts of a part may take up a quarter of the memory.
    most = max(1, pairs.memory // (16 * max(1, number) * people.unit_count))
    for first, last in split_people(people, min(_PART, most)):
        found, kin = _count_part(pairs, (first, last), thresholds)
        genuine += kin
        rows = slice(people.units[first], people.units[last - 1] + 1)
        expected = _count_impostors(people, rows)
        for index, rate in enumerate(rates):
            off = found[index] - np.float32(rate) * expected
            squares[index] += float(np.vdot(off, off))
            couples[index] += np.count_nonzero(found[index])
            sums[index] += ((off @ weights) * weights[rows]).sum(axis=0, dtype=np.float64)
    drawn, total = _draw_impostors(people, weights)
    deviations = np.divide(sums, drawn, out=np.zeros_like(sums), where=drawn > 0)
    return [
        Accepted(rate, int(couples[i]), deviations[i], squares[i] / total**2, genuine[i])
        for i, rate in enumerate(rates)
    ]


def split_people(people: People, most: int) -> list[tuple[int, int]]:
    """Split the known pictures into parts of whole units, of about `most` pictures."""
    starts = people.unit_starts()[: people.known_units]
    edges = np.append(starts, people.known)
    wanted = [stop for _, stop in split_range(people.known, most)]
    stops = np.unique(edges[np.searchsorted(edges, wanted)]).tolist()
    return list(zip([0, *stops[:-1]], stops, strict=True))


def _score(pairs: Pairs, first: int, last: int) -> Iterator[_Block]:
    """Score the pictures `first` to `last` with all from `first` on, in blocks."""
    side = Rows(pairs.vectors, pairs.people.rows[first:])
    comparison = VectorComparison(pairs.metric)
    blocks = comparison.score_blocks(
        side, side, asked=np.arange(last - first), memory=pairs.memory // 2
    )
    for start, scores in blocks:
        yield _Block(first + start, first, comparison.word_scores(scores))


def _list_genuine(pairs: Pairs, block: _Block) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, second = pairs.people.list_genuine(
        block.start, block.start + len(block.scores), same_camera=pairs.same_camera
    )
    return first - block.start, second - block.first


def _clear_kin(
    values: NDArray[np.int32] | NDArray[np.bool_], block: _Block, people: People
) -> None:
    """Set to 0 what is no impostor pair, or comes a second time: all up to the person's end."""
    ends = people.ends[block.start : block.start + len(values)] - block.first
    width = int(ends.max())
    values[:, :width][np.arange(width) < ends[:, None]] = 0


class _Tally:
    """Pairs above K thresholds of the pictures `first` to `last`, added to from several threads.

    `found` (K, u, U) float32 counts impostor pairs by pair of units, `genuine` (K, U) int64
    genuine pairs by unit. The u units of these pictures start with the unit `lowest`.
    """

    def __init__(self, pairs: Pairs, part: tuple[int, int], thresholds: list[float]) -> None:
        people, number = pairs.people, len(thresholds)
        self.pairs, self.thresholds = pairs, thresholds
        self.lowest = int(people.units[part[0]])
        self.columns = people.unit_starts()[self.lowest :] - part[0]
        count = int(people.units[part[1] - 1]) + 1 - self.lowest
        self.found = np.zeros((number, count, people.unit_count), np.float32)
        self.genuine = np.zeros((number, people.unit_count), np.int64)
        self._lock = threading.Lock()

    def add(self, block: _Block) -> None:
        """Add the pairs of a block."""
        parts = block.split()

        def work(start: int, stop: int) -> None:
            for part in parts[start:stop]:
                self._add_part(part)

        spread(work, len(parts), step=1)

    def _add_part(self, part: _Block) -> None:
        people, scores = self.pairs.people, part.scores
        rows, others = _list_genuine(self.pairs, part)
        kin, owners = scores[rows, others], people.units[rows + part.start]
        units = people.units[part.start : part.start + len(scores)]
        edges = np.flatnonzero(np.diff(units, prepend=-1))
        for index, threshold in enumerate(self.thresholds):
            same = np.bincount(owners[kin >= threshold], minlength=people.unit_count)
            reach = scores >= np.float32(threshold)
            _clear_kin(reach, part, people)
            counts = np.add.reduceat(reach, self.columns, axis=1, dtype=np.int32)
            counts = np.add.reduceat(counts, edges, axis=0)
            with self._lock:
                self.genuine[index] += same
                self.found[index, units[edges] - self.lowest, self.lowest :] += counts


def _count_part(
    pairs: Pairs, part: tuple[int, int], thresholds: list[float]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Count above K thresholds: impostors (K, u, U) by pair of units, genuine pairs (K, U)."""
    tally = _Tally(pairs, part, thresholds)
    for block in _score(pairs, *part):
        tally.add(block)
    return tally.found, tally.genuine


def _count_impostors(people: People, rows: slice) -> NDArray[np.float32]:
    """Count all impostor pairs of the units `rows` with themselves and later ones; (u, U)."""
    sizes = np.bincount(people.units, minlength=people.unit_count)
    counts = np.outer(sizes[rows], sizes).astype(np.float32)
    numbers = np.arange(people.unit_count)
    counts[numbers[None, :] <= numbers[rows][:, None]] = 0
    within = (sizes**2 - _count_squares(people)) // 2
    counts[np.arange(len(counts)), numbers[rows]] = within[rows]
    return counts


def _draw_impostors(
    people: People, weights: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    """Count all impostor pairs each time people are drawn again, (B,), and as they are."""
    known = slice(0, people.known_units)
    sizes = np.bincount(people.units, minlength=people.unit_count).astype(np.float64)
    squares = _count_squares(people).astype(np.float64)

    def count(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        seen = sizes[known] @ drawn[known]
        strays = sizes[people.known_units :] @ drawn[people.known_units :]
        result: NDArray[np.float64] = (
            seen**2 - squares[known] @ drawn[known] ** 2
        ) / 2 + seen * strays
        return result

    return count(weights.astype(np.float64)), float(count(np.ones((people.unit_count, 1)))[0])


def _count_squares(people: People) -> NDArray[np.int64]:
    """Sum the squared numbers of pictures of each unit's people; (U,)."""
    persons, starts, sizes = np.unique(people.persons, return_index=True, return_counts=True)
    del persons
    squares = np.bincount(people.units[starts], sizes**2, people.unit_count)
    return squares.astype(np.int64)
