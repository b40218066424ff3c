"""Pairs of crops from own footage: of one frame, of one track, and any.

Crops that are compared stand in groups, one after the other (a frame, a track), and only those
of one group meet. A block of scores holds some whole groups.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import MEMORY, Rows, VectorComparison
from reidkit.operating._grid import Grid
from reidkit.operating._people import MOST_UNITS, group
from reidkit.operating._resampling import Accepted

_PART = 256
"""Crops that are scored at once, unless a group is larger."""

_MOST_OF_HALF = 32
"""Crops of each half of a track that are compared; more are near-duplicates."""

_MERGED = 2**18
"""Couples that are collected before those found twice are put together."""

_RANDOM_CROPS = 1024
"""Crops drawn for the control; all pairs of them are scored."""


class ScoredPairs(NamedTuple):
    """P pairs of crops: the units (P,) of both, and the scores (P,) float32."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Vectors (N, D) float32, how they are compared, and the thresholds that are looked at.

    About `memory` bytes are taken up.
    """

    vectors: NDArray[np.float32]
    metric: str
    grid: Grid
    memory: int = MEMORY


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """G crops, group after group; two of one group are a pair where their sides differ.

    Columns (all (G,) int64):
        rows: their rows among the vectors.
        groups: numbers, ascending.
        sides: such as the half of a track.
        units: what is drawn again together.
    """

    rows: NDArray[np.int64]
    groups: NDArray[np.int64]
    sides: NDArray[np.int64]
    units: NDArray[np.int64]

    def score(self, space: Space) -> Iterator[ScoredPairs]:
        """Score all pairs, some groups at a time."""
        comparison = VectorComparison(space.metric)
        for start, stop in self._split():
            side = Rows(space.vectors, self.rows[start:stop])
            blocks = comparison.score_blocks(
                side, side, asked=np.arange(stop - start), memory=space.memory // 2
            )
            for offset, scores in blocks:
                asked = np.arange(start + offset, start + offset + len(scores))
                scores = comparison.word_scores(scores)
                met = np.arange(start, stop)
                pairs = self.groups[asked, None] == self.groups[met]
                pairs &= self.sides[asked, None] != self.sides[met]
                pairs &= asked[:, None] < met
                first, second = np.nonzero(pairs)
                yield ScoredPairs(
                    self.units[asked[first]], self.units[met[second]], scores[first, second]
                )

    def count_met(self) -> int:
        """Count the pairs of one group, those of one side too."""
        sizes = np.bincount(self.groups)
        return int((sizes * (sizes - 1) // 2).sum())

    def _split(self) -> list[tuple[int, int]]:
        starts = np.flatnonzero(np.diff(self.groups, prepend=-1))
        edges = np.append(starts, len(self.groups))
        parts, start = [], 0
        while start < len(self.groups):
            # As many groups as fit, at least one.
            fitting = int(np.searchsorted(edges, start + _PART, side="right")) - 1
            stop = int(edges[max(fitting, int(np.searchsorted(edges, start)) + 1)])
            parts.append((start, stop))
            start = stop
        return parts


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """M crops that have a vector and a sighting.

    Columns (all (M,)):
        rows: int64, their rows among the vectors.
        cameras: int64; moments: float64; tracks: int64, as those of `Sightings`.
        units: int64, what is drawn again together: a track, or a crop without one.
    """

    rows: NDArray[np.int64]
    cameras: NDArray[np.int64]
    moments: NDArray[np.float64]
    tracks: NDArray[np.int64]
    units: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def count_people(self) -> int:
        """Count the tracks, and the crops without one."""
        return int(number_units(self.tracks).max()) + 1

    def group_frames(self) -> Groups:
        """Group the crops of one camera and moment; those of two tracks are two people."""
        order = np.lexsort((self.moments, self.cameras))
        new = (np.diff(self.moments[order]) != 0) | (np.diff(self.cameras[order]) != 0)
        frames = np.concatenate(([0], np.cumsum(new)))[: len(order)]
        # A crop without a track differs from every other.
        sides = np.where(self.tracks < 0, -1 - np.arange(len(self)), self.tracks)[order]
        shared = np.bincount(frames)[frames] > 1
        order, frames, sides = order[shared], frames[shared], sides[shared]
        return Groups(self.rows[order], frames, sides, self.units[order])

    def group_halves(self) -> Groups:
        """Group the crops of each track, split into an earlier and a later half.

        Of longer halves as many crops as are compared, evenly spread.
        """
        order = np.lexsort((self.moments, self.tracks))
        order = order[self.tracks[order] >= 0]
        tracks = self.tracks[order]
        starts = np.flatnonzero(np.diff(tracks, prepend=-1))
        sizes = np.diff(np.append(starts, len(tracks)))
        rank, size = np.arange(len(order)) - np.repeat(starts, sizes), np.repeat(sizes, sizes)
        later = (rank >= size // 2).astype(np.int64)
        place = rank - later * (size // 2)
        length = np.where(later, size - size // 2, size // 2)
        kept = np.minimum(length, _MOST_OF_HALF)
        # The first crop of each of `kept` equal stretches.
        chosen = (size > 1) & ((place * kept) % np.maximum(length, 1) < kept)
        order, tracks, later = order[chosen], tracks[chosen], later[chosen]
        return Groups(self.rows[order], tracks, later, self.units[order])

    def draw_random(self, seed: int) -> Groups:
        """Draw crops at random as one group."""
        random = np.random.default_rng([seed, 2])
        chosen = random.permutation(len(self))[:_RANDOM_CROPS]
        number = np.arange(len(chosen))
        return Groups(self.rows[chosen], np.zeros_like(number), number, self.units[chosen])


def number_units(tracks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number tracks from 0, and after them each crop without one; (M,) as the tracks are."""
    lone = tracks < 0
    known, numbers = np.unique(tracks[~lone], return_inverse=True)
    units = np.empty(len(tracks), np.int64)
    units[~lone] = numbers
    units[lone] = len(known) + np.arange(np.count_nonzero(lone))
    return units


def limit_units(crops: Crops, memory: int, *, thresholds: int) -> Crops:
    """Put tracks that are drawn again into groups where they are very many.

    The counts that `count_by_couple` makes for so many thresholds then fit into `memory` bytes.
    """
    units, most = int(crops.units.max()) + 1, MOST_UNITS
    # Couples wait in up to five copies (keys, counts, one row more) and are sorted in two more.
    size = 5 * 8 * (thresholds + 2) + 2 * 4 * 8
    if min(crops.group_frames().count_met(), min(units, most) ** 2 // 2) * size > memory:
        most = min(most, math.isqrt(2 * memory // size))
    return dataclasses.replace(crops, units=group(crops.units, units, most))


def count_pairs(groups: Groups, space: Space) -> NDArray[np.int64]:
    """Count the scores of all pairs by their place on the grid; (length,)."""
    counts = np.zeros(space.grid.length, np.int64)
    for pairs in groups.score(space):
        counts += space.grid.count(space.grid.place(pairs.scores))
    return counts


def count_by_unit(
    groups: Groups, space: Space, *, thresholds: list[float], units: int
) -> NDArray[np.int64]:
    """Count the pairs of each unit above each of K thresholds, and all of them: (K + 1, U)."""
    counts = np.zeros((len(thresholds) + 1, units), np.int64)
    for pairs in groups.score(space):
        for index, threshold in enumerate([*thresholds, -np.inf]):
            accepted = pairs.first[pairs.scores >= threshold]
            counts[index] += np.bincount(accepted, minlength=units)
    return counts


def count_by_couple(
    groups: Groups, space: Space, *, thresholds: list[float], units: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count the pairs of each two units above each of K thresholds, and all of them.

    Returns:
        (C,) int64, the couples as `first * units + second`, and (K + 1, C) float64 counts.
    """
    parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    merged = waiting = 0
    for pairs in groups.score(space):
        accepted = [pairs.scores >= threshold for threshold in [*thresholds, -np.inf]]
        low, high = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
        parts.append(_sum_by_key(low * units + high, np.stack(accepted).astype(np.float64)))
        waiting += len(parts[-1][0])
        if waiting > max(_MERGED, merged):
            parts = [_merge(parts)]
            merged, waiting = len(parts[0][0]), 0
    return _merge(parts)


def vary_couples(
    keys: NDArray[np.int64],
    counts: NDArray[np.float64],
    genuine: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> list[Accepted]:
    """Give what each threshold accepts, as units are drawn again `weights` (U, B) times.

    `keys` and `counts` as `count_by_couple` gives them, `genuine` (K + 1, U).
    """
    total = counts[-1].sum()
    rates = counts[:-1].sum(axis=1) / total
    off = counts[:-1] - rates[:, None] * counts[-1]
    sums, drawn = np.zeros((len(off), weights.shape[1])), np.zeros(weights.shape[1])
    first, second = np.divmod(keys, len(weights))
    for start in range(0, len(keys), 2048):
        part = slice(start, start + 2048)
        times = (weights[first[part]] * weights[second[part]]).astype(np.float64)
        sums += off[:, part] @ times
        drawn += counts[-1, part] @ times
    deviations = np.divide(sums, drawn, out=np.zeros_like(sums), where=drawn > 0)
    return [
        Accepted(
            float(rate),
            int(np.count_nonzero(counts[index])),
            deviations[index],
            float(np.square(off[index]).sum() / total**2),
            genuine[index],
        )
        for index, rate in enumerate(rates)
    ]


def _merge(
    parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    keys, counts = zip(*parts, strict=True)
    return _sum_by_key(np.concatenate(keys), np.concatenate(counts, axis=1))


def _sum_by_key(
    keys: NDArray[np.int64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Add up the columns of (K, P) counts that have one key."""
    unique, inverse = np.unique(keys, return_inverse=True)
    sums = [np.bincount(inverse, row, len(unique)) for row in counts]
    return unique, np.stack(sums)
