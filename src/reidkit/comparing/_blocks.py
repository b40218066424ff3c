"""The seam between scores and what is done with them, and the scores of vectors as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing._devices import CPU, check_device, open_torch
from reidkit.comparing._ordering import count_rows, order_rows
from reidkit.comparing._prepared import Prepared, prepare
from reidkit.comparing._rows import Rows, list_ranges, measure_squares, split_range
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
        """Turn scores into what people read, of the same order; -inf stays. May overwrite them."""


@dataclass(frozen=True, slots=True)
class VectorComparison:
    """Scores of the vectors as they are: `cosine` of the angle, or by `euclidean` distance.

    For `euclidean` the score is minus half the squared distance, which needs no root. Products
    are computed by numpy, or on a `device` such as `cuda` by torch.
    """

    name: str = "cosine"
    device: str = CPU

    def __post_init__(self) -> None:
        if self.name not in METRICS:
            raise ArgumentError(f"metric is {self.name!r}, expected one of {', '.join(METRICS)}")
        check_device(self.device)

    def score_blocks(
        self, queries: Rows, gallery: Rows, *, asked: NDArray[np.intp], memory: int
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Give the scores in blocks; see `Comparison`. Equal gallery vectors score the same."""
        prepared = prepare(gallery, self.name, memory=3 * memory // 4)
        yield from multiply_blocks(
            queries.select(asked), prepared, memory=memory, device=self.device
        )

    def word_scores(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give cosines as they are, and for `euclidean` minus the distances."""
        if self.name == "cosine":
            return scores
        scores *= -2
        np.maximum(scores, 0, out=scores)  # rounding may leave a square just below 0
        np.sqrt(scores, out=scores)
        return np.negative(scores, out=scores)


def choose_comparison(metric: str | Comparison) -> Comparison:
    """Give the comparison that a metric's name stands for; a comparison stands for itself.

    Raises:
        ArgumentError: an unknown metric.
    """
    return VectorComparison(metric) if isinstance(metric, str) else metric


def multiply_blocks(
    queries: Rows, gallery: Prepared, *, memory: int, device: str = CPU
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
    products = None if device == CPU else open_torch().DeviceProducts(gallery, device)
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
        entries, rows = list_ranges(ordered.starts[:-1], ordered.starts[:-1] + found)
        places, chosen = entries - ordered.starts[rows], ordered.columns[entries]
        columns[start + rows, places] = chosen
        best[start + rows, places] = part[rows, chosen]
    return columns, best


def bound_best(scores: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Give a bound for each row of (R, G) scores that at least `count` of its entries reach.

    Of the maxima of four times as many groups of columns the `count`-th: far cheaper than the
    exact value, and few more entries reach it. -inf where there are fewer columns.
    """
    width = scores.shape[1] // (4 * count)
    if width == 0:
        return np.full(len(scores), -np.inf, np.float32)
    groups = scores[:, : 4 * width * count].reshape(len(scores), 4 * count, width)
    maxima: NDArray[np.float32] = groups.max(axis=2)
    maxima.partition(3 * count, axis=1)
    return maxima[:, 3 * count]
