"""A cheap first pass over vectors: eight bits a value, and a bound on what that can be wrong by.

A vector x is kept as whole numbers c of -127 to 127 and a scale s, with the length e of x - s c.
For a query q kept likewise, |x . q - s c . t d| <= e |q| + |s c| f by the inequality of Cauchy and
Schwarz, where t d and f stand for the query as s c and e stand for x. A row whose product, with
that allowance, cannot reach the best ones need not be looked at in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simsimd
from numpy.typing import NDArray

from reidkit.machine import available_cores

_STEPS = 127
_BLOCK = 2**18
"""Values made ready at once: they stay in a processor's cache."""

_DECODED = 2**20
"""Values turned to float32 at once: half the size is no slower, twice the size is."""


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """N vectors in eight bits a value.

    Columns:
        values: (N, D) int8.
        scales: (N,) float32, what the values are multiplied by.
        errors: (N,) float32, at least the length of what rounding took away.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    errors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.values)

    def select(self, rows: NDArray[np.intp] | slice) -> Codes:
        """Take some of the rows."""
        return Codes(self.values[rows], self.scales[rows], self.errors[rows])


def encode(vectors: NDArray[np.float32]) -> Codes:
    """Give vectors (N, D), none longer than some units, in eight bits a value."""
    count, dimension = vectors.shape
    codes = Codes(
        np.empty((count, dimension), np.int8),
        np.empty(count, np.float32),
        np.empty(count, np.float32),
    )
    step = max(1, _BLOCK // max(1, dimension))
    for start in range(0, count, step):
        _encode_block(vectors[start : start + step], codes.select(slice(start, start + step)))
    return codes


def _encode_block(vectors: NDArray[np.float32], codes: Codes) -> None:
    scales = np.maximum(vectors.max(axis=1), -vectors.min(axis=1)) / np.float32(_STEPS)
    # What is too small to divide by counts as zeros, and its length as the error.
    scales[scales < 1e-30] = 0
    factors = np.zeros_like(scales)
    np.divide(1, scales, out=factors, where=scales > 0)
    scaled = vectors * factors[:, None]
    np.rint(scaled, out=scaled)
    np.clip(scaled, -_STEPS, _STEPS, out=scaled)
    codes.values[:] = scaled
    codes.scales[:] = scales
    scaled *= scales[:, None]
    np.subtract(vectors, scaled, out=scaled)
    squares = np.einsum("ij,ij->i", scaled, scaled)
    # The subtraction itself rounds, by less than 2^-23 of the vector's length each way.
    codes.errors[:] = np.sqrt(squares) * np.float32(1.0001) + scales * np.float32(
        _STEPS * 2.0**-22 * np.sqrt(vectors.shape[1])
    )


def multiply_codes(queries: Codes, rows: Codes) -> NDArray[np.float32]:
    """Give the (Q, N) float32 products of vectors that are both in eight bits: for few queries.

    The products of the whole numbers are exact.
    """
    products = simsimd.cdist(
        queries.values, rows.values, metric="dot", threads=min(available_cores(), 16)
    )
    scales = queries.scales[:, None] * rows.scales
    exact = np.asarray(products).reshape(scales.shape)
    np.multiply(exact, scales, out=scales, casting="same_kind")
    return scales


def multiply_decoded(queries: NDArray[np.float32], rows: Codes) -> NDArray[np.float32]:
    """Give the (Q, N) float32 products with float32 queries (Q, D): for many queries.

    A block of rows is turned to float32 where the processor's cache holds it, which costs less
    than reading float32 from memory.
    """
    products = np.empty((len(queries), len(rows)), np.float32)
    step = max(1, _DECODED // max(1, queries.shape[1]))
    space = np.empty((min(step, len(rows)), queries.shape[1]), np.float32)
    for start in range(0, len(rows), step):
        part = rows.values[start : start + step]
        decoded = space[: len(part)]
        np.copyto(decoded, part)
        np.matmul(queries, decoded.T, out=products[:, start : start + step])
    products *= rows.scales
    return products
