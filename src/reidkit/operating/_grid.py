"""A fine grid of thresholds: how many scores reach each is counted in one pass, without a sort.

A step is a power of two, so that a score's place on the grid and its comparison with a threshold
agree to the last bit.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import Rows, VectorComparison, measure_squares, split_range

_STEPS = 2**17
"""At most as many steps lie between the lowest and the highest score there can be."""

_FINEST = 2.0**23
"""Steps in a unit: float32 holds no finer ones just above 1."""

_ROUNDING = 4e-6
"""How far rounding may lead a cosine out of its range."""

_READ_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Grid:
    """Thresholds `(first + place) / scale` for the places 0 to `length - 1`; place 0 is unused.

    `scale` is a power of two.
    """

    scale: float
    first: int
    length: int

    def place(self, scores: NDArray[np.float32]) -> NDArray[np.int32]:
        """Give the place of the highest threshold that each score reaches; same shape."""
        steps: NDArray[np.int32] = np.floor(scores * np.float32(self.scale)).astype(np.int32)
        steps -= np.int32(self.first)
        np.clip(steps, 1, self.length - 1, out=steps)
        return steps

    def threshold(self, place: int) -> float:
        """Give the threshold at a place; float32 holds it exactly."""
        return (self.first + place) / self.scale

    def count(self, places: NDArray[np.int32]) -> NDArray[np.int64]:
        """Count scores by place; (length,)."""
        return np.bincount(places.ravel(), minlength=self.length)

    def mean(self, counts: NDArray[np.int64]) -> float:
        """Give the mean of counted scores, within one step."""
        total = float(counts.sum())
        return float(counts @ (self.first + 0.5 + np.arange(self.length))) / self.scale / total


class Histogram:
    """Counts of scores by place, added to from several threads."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.counts: NDArray[np.int64] = np.zeros(grid.length, np.int64)
        self._lock = threading.Lock()

    def add(self, places: NDArray[np.int32]) -> None:
        """Count some places; place 0 is for what does not count."""
        counts = self.grid.count(places)
        with self._lock:
            self.counts += counts

    def finish(self) -> NDArray[np.int64]:
        """Give the counts, (length,), without what did not count."""
        self.counts[0] = 0
        return self.counts


def make_grid(vectors: NDArray[np.float32], metric: str) -> Grid:
    """Make the grid for the scores of (N, D) vectors: cosines, or minus distances.

    It is finer where vectors are much alike, as those of a model that has nearly collapsed.
    """
    cosine = metric == "cosine"
    reach = 1 - _bound_cosines(vectors) if cosine else 2 * _find_longest(vectors)
    scale = 2.0 ** math.floor(math.log2(_STEPS / (reach or 1.0)))
    scale = min(scale, _FINEST) if cosine else scale
    margin = 8 + math.ceil(_ROUNDING * scale) if cosine else 8
    width, top = math.ceil(reach * scale), int(scale) if cosine else 0
    return Grid(scale, top - width - margin, width + 2 * margin)


def _bound_cosines(vectors: NDArray[np.float32]) -> float:
    """Give a bound below all cosines: no two vectors differ by twice the angle to a third."""
    middle = np.zeros((1, vectors.shape[1]))
    for start, stop in split_range(len(vectors), _READ_ROWS):
        middle += vectors[start:stop].sum(axis=0, dtype=np.float64)
    one = Rows.all_of((middle / len(vectors)).astype(np.float32))
    blocks = VectorComparison("cosine").score_blocks(
        Rows.all_of(vectors), one, asked=np.arange(len(vectors)), memory=2**26
    )
    lowest = min(float(scores.min()) for _, scores in blocks)
    return max(-1.0, 2 * lowest**2 - 1 - _ROUNDING) if lowest > 0 else -1.0


def _find_longest(vectors: NDArray[np.float32]) -> float:
    """Give the longest distance from the first vector: no two are further apart than twice it."""
    squares = 0.0
    for start, stop in split_range(len(vectors), _READ_ROWS):
        part = vectors[start:stop] - vectors[:1]
        squares = max(squares, float(measure_squares(part).max()))
    return math.sqrt(squares)


def count_reaching(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count, for each place, the scores that reach its threshold; one more place for none."""
    return np.concatenate((np.cumsum(counts[::-1])[::-1], [0]))


def find_threshold(reaching: NDArray[np.int64], rate: float) -> int:
    """Find the lowest place whose threshold accepts at most a share `rate` of all scores."""
    return int(np.argmax(reaching[1:] / reaching[0] <= rate)) + 1


def find_equal_error(genuine: NDArray[np.int64], impostor: NDArray[np.int64]) -> tuple[int, float]:
    """Find the place where false-accept and false-reject rates are nearest, and their mean.

    Both arguments are what `count_reaching` gives.
    """
    accepted = impostor[1:] / impostor[0]
    refused = 1 - genuine[1:] / genuine[0]
    after = int(np.argmax(refused >= accepted))
    gaps = np.abs(refused - accepted)
    chosen = after - 1 if after and gaps[after - 1] < gaps[after] else after
    return chosen + 1, float(accepted[chosen] + refused[chosen]) / 2
