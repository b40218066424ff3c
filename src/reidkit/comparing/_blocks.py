"""The seam between scores and what is done with them, and the scores of vectors as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing._ordering import count_rows, order_rows
from reidkit.comparing._prepared import Prepared, prepare
from reidkit.comparing._rows import Rows, measure_squares, open_torch, split_range
from reidkit.errors import ArgumentError

METRICS = ("cosine", "euclidean")

LONGEST_BLOCK = 1024
"""The most queries of a block. More make products no faster."""


class Comparison(Protocol):
    """A way to score a gallery's pictures for queries."""

    @property
    def name(self) -> str:
        """What `Scores.metric` says."""

    def score_blocks(
        self, queries: Rows, gallery: Rows, *, asked: NDArray[np.intp], memory: int
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Give the scores of the queries `asked` (A,) against all G gallery rows, in blocks.

        Each item is the place `start` in `asked` and (n, G) float32 scores of the queries
        `asked[start : start + n]`, higher is more alike, finite, comparable between queries. The
        block may be changed by whoever gets it and is overwritten by the next step. About
        `memory` bytes are taken up.
        """

    def word_scores(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn scores into what people read, of the same order; -inf stays."""


@dataclass(frozen=True, slots=True)
class VectorComparison:
    """Scores of the vectors as they are: `cosine` of the angle, or by `euclidean` distance.

    For `euclidean` the score is minus half the squared distance, which needs no root. Products
    are computed by numpy, or on a `device` such as `cuda` by torch.
    """

    name: str = "cosine"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.name not in METRICS:
            raise ArgumentError(f"metric is {self.name!r}, expected one of {', '.join(METRICS)}")

    def score_blocks(
        self, queries: Rows, gallery: Rows, *, asked: NDArray[np.intp], memory: int
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Give the scores in blocks; see `Comparison`. Equal gallery vectors score the same."""
        prepared = prepare(gallery, self.name, 3 * memory // 4)
        yield from multiply_blocks(queries.select(asked), prepared, memory, self.device)

    def word_scores(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give cosines as they are, and for `euclidean` minus the distances."""
        if self.name == "cosine":
            return scores
        # Rounding may leave a square just below 0.
        return -np.sqrt(np.maximum(-2 * scores, 0))


def choose_comparison(metric: str | Comparison) -> Comparison:
    """Give the comparison that a metric's name stands for; a comparison stands for itself.

    Raises:
        ArgumentError: an unknown metric.
    """
    return VectorComparison(metric) if isinstance(metric, str) else metric


def multiply_blocks(
    queries: Rows, gallery: Prepared, memory: int, device: str = "cpu"
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Give the scores of queries against a prepared gallery, `(start, (n, G) block)`.

    Where the gallery is not held in memory it is made ready once a block: larger blocks are
    fewer passes over it. A `device` other than the CPU holds the whole gallery.

    Raises:
        MissingExtraError, DeviceError, EngineError: the device cannot be used.
    """
    columns = len(gallery)
    held = gallery.held is not None
    size = memory // 4 if held else memory // 2
    parts = split_range(len(queries), max(1, min(LONGEST_BLOCK, size // (4 * columns))))
    width = columns if held else max(1, memory // 8 // (4 * queries.dimension))
    products = None if device == "cpu" else open_torch().DeviceProducts(gallery, device)
    block = np.empty((max(stop - start for start, stop in parts), columns), np.float32)
    for start, stop in parts:
        asked = gallery.read_queries(queries, start, stop)
        scores = block[: stop - start]
        if products is not None:
            products.multiply(asked, scores)
        else:
            for first, last in split_range(columns, width):
                np.matmul(asked, gallery.read(first, last).T, out=scores[:, first:last])
        if gallery.half_squares is not None:
            scores -= gallery.half_squares
            scores -= (measure_squares(asked) / 2).astype(np.float32)[:, None]
        if len(gallery.copies):
            # At a matrix's edge BLAS sums in another order: equal vectors may differ in a bit.
            scores[:, gallery.copies] = scores[:, gallery.originals]
        yield start, scores


def find_nearest(
    scores: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Give the `count` best columns of each row of (R, G) scores, best first, and their scores.

    Equal scores go by column. -inf is never among them: where fewer are left, the column is -1
    and the score -inf. Rows of more than some thousand columns are best given few at a time.
    """
    columns = np.full((len(scores), count), -1, np.int64)
    best = np.full((len(scores), count), -np.inf, np.float32)
    step = count_rows(scores.shape[1])
    for start in range(0, len(scores), step):
        part = scores[start : start + step]
        ordered = order_rows(part, bound_best(part, count))
        found = np.minimum(np.diff(ordered.starts), count)
        rows = np.repeat(np.arange(len(part)), found)
        places = np.arange(len(rows)) - np.repeat(np.cumsum(found) - found, found)
        chosen = ordered.columns[np.repeat(ordered.starts[:-1], found) + places]
        columns[start + rows, places] = chosen
        best[start + rows, places] = part[rows, chosen]
    return columns, best


def bound_best(scores: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Give a bound for each row of (R, G) scores that at least `count` of its entries reach.

    The least of the maxima of `count` groups of columns: far cheaper than the exact value, and
    few more entries reach it. -inf where there are fewer columns.
    """
    width = scores.shape[1] // count
    if width == 0:
        return np.full(len(scores), -np.inf, np.float32)
    groups = scores[:, : width * count].reshape(len(scores), count, width)
    bounds: NDArray[np.float32] = groups.max(axis=2).min(axis=1)
    return bounds
