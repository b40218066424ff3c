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
            parts = block.split()

            def work(start: int, stop: int) -> None:
                for part in parts[start:stop]:  # noqa: B023 - used up within the iteration
                    places = grid.place(part.scores)
                    rows, columns = _list_genuine(pairs, part)
                    genuine.add(places[rows, columns])
                    _clear_kin(places, part, pairs.people)
                    impostor.add(places)

            spread(work, len(parts), step=1)
    return genuine.finish(), impostor.finish()


def count_genuine(pairs: Pairs) -> NDArray[np.int64]:
    """Count the genuine pairs of each unit; (U,)."""
    counts = np.zeros(pairs.people.unit_count, np.int64)
    for start, stop in split_range(pairs.people.known, _PART):
        first, _ = pairs.people.list_genuine(start, stop, same_camera=pairs.same_camera)
        counts += np.bincount(pairs.people.units[first], minlength=len(counts))
    return counts


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


def _count_part(
    pairs: Pairs, part: tuple[int, int], thresholds: list[float]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Count above K thresholds: impostors (K, u, U) by pair of units, genuine pairs (K, U)."""
    people, first = pairs.people, part[0]
    lowest = int(people.units[first])
    columns = people.unit_starts()[lowest:] - first
    count = int(people.units[part[1] - 1]) + 1 - lowest
    found = np.zeros((len(thresholds), count, people.unit_count), np.float32)
    genuine = np.zeros((len(thresholds), people.unit_count), np.int64)
    lock = threading.Lock()
    for block in _score(pairs, *part):
        parts = block.split()

        def work(start: int, stop: int) -> None:
            for piece in parts[start:stop]:  # noqa: B023 - used up within the iteration
                scores = piece.scores
                rows, others = _list_genuine(pairs, piece)
                kin, owners = scores[rows, others], people.units[rows + piece.start]
                units = people.units[piece.start : piece.start + len(scores)]
                edges = np.flatnonzero(np.diff(units, prepend=-1))
                for index, threshold in enumerate(thresholds):
                    same = np.bincount(owners[kin >= threshold], minlength=people.unit_count)
                    reach = scores >= np.float32(threshold)
                    _clear_kin(reach, piece, people)
                    counts = np.add.reduceat(reach, columns, axis=1, dtype=np.int32)
                    counts = np.add.reduceat(counts, edges, axis=0)
                    with lock:
                        genuine[index] += same
                        found[index, units[edges] - lowest, lowest:] += counts

        spread(work, len(parts), step=1)
    return found, genuine


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
