"""Scores between two sets of vectors, a block of queries at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError

BLOCK_BYTES = 32 * 2**20
"""The size of the block of scores that is in memory at one time."""

SHORTEST_LENGTH = 1e-12
"""Cosine divides a shorter vector by this, so that a vector of zeros stays one (as torch does)."""

LONGEST_LENGTH = 1e18
"""Squares of longer vectors overflow float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Both sides made ready: the score of a row is `queries @ gallery.T - half_squares`.

    The gallery rows `copies` repeat the vectors of the earlier rows `originals`.
    """

    queries: NDArray[np.float32]
    gallery: NDArray[np.float32]
    half_squares: NDArray[np.float32] | None
    copies: NDArray[np.intp]
    originals: NDArray[np.intp]


def prepare(queries: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> Pair:
    """Make both sides ready; this overwrites them."""
    if metric == "cosine":
        asked, given = measure_squares(queries), measure_squares(gallery)
        for vectors, squares in ((queries, asked), (gallery, given)):
            # Division in float64 lets parallel vectors come out equal.
            lengths = np.maximum(np.sqrt(squares), SHORTEST_LENGTH)[:, None]
            np.divide(vectors, lengths, out=vectors, casting="same_kind")
        return Pair(queries, gallery, None, *_find_copies(gallery))
    _move_to_origin(queries, gallery)
    given = measure_squares(gallery)
    longest = float(np.sqrt(max(measure_squares(queries).max(), given.max())))
    if longest > LONGEST_LENGTH:
        raise ArgumentError(
            f"a vector is {longest:.3g} long, beyond {LONGEST_LENGTH:.0e} Euclidean distances "
            "overflow float32: use the cosine metric or scale the vectors down"
        )
    # |q - g|^2 = |q|^2 - 2 (q g - |g|^2 / 2): ranking needs the bracket alone.
    return Pair(queries, gallery, (given / 2).astype(np.float32), *_find_copies(gallery))


def _move_to_origin(queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> None:
    """Subtract the gallery's middle from both sides, which changes no distance.

    Far from the origin the small differences between distances drown in float32. The middle is
    rounded to a power of two below the gallery's spread: what float32 held exactly stays exact,
    so that ties stay ties.
    """
    middle = gallery.mean(axis=0, dtype=np.float64)
    variance = measure_squares(gallery).mean() - middle @ middle
    if variance > 0 and np.isfinite(variance):
        step = 2.0 ** np.floor(np.log2(np.sqrt(variance / len(middle))))
        middle = (np.rint(middle / step) * step).astype(np.float32)
        queries -= middle
        gallery -= middle


def measure_squares(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give each row's squared length in float64, (N,)."""
    squares = np.empty(len(vectors))
    for start in range(0, len(vectors), 256):
        rows = vectors[start : start + 256].astype(np.float64)
        squares[start : start + 256] = np.square(rows, out=rows).sum(axis=1)
    return squares


def _find_copies(vectors: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the rows that repeat an earlier row's vector, and those earlier rows."""
    _, inverse, counts = np.unique(vectors[:, 0], return_inverse=True, return_counts=True)
    first: dict[int, int] = {}
    copies, originals = [], []
    for row in np.flatnonzero(counts[inverse] > 1).tolist():
        # Adding 0 makes -0 and 0 the same bytes.
        original = first.setdefault(hash((vectors[row] + np.float32(0)).tobytes()), row)
        if original != row and np.array_equal(vectors[row], vectors[original]):
            copies.append(row)
            originals.append(original)
    return np.array(copies, np.intp), np.array(originals, np.intp)


def score_rows(pair: Pair) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Give each query's number and its scores (G,), higher is more alike.

    The scores are a view that the next step overwrites.
    """
    size = max(1, BLOCK_BYTES // (4 * len(pair.gallery)))
    block = np.empty((min(size, len(pair.queries)), len(pair.gallery)), np.float32)
    for start in range(0, len(pair.queries), size):
        queries = pair.queries[start : start + size]
        scores = np.matmul(queries, pair.gallery.T, out=block[: len(queries)])
        for index, row in enumerate(scores, start):
            if pair.half_squares is not None:
                row -= pair.half_squares
            # At a matrix's edge BLAS sums in another order: equal vectors may differ in a last bit.
            row[pair.copies] = row[pair.originals]
            yield index, row
