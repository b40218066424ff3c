"""The order of scores within rows of a block, ties by column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SCORE_BITS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Ordered:
    """The scores of R rows that reach their row's bound, best first; equal ones by column.

    Columns:
        columns: (E,) int64, row after row.
        starts: (R + 1,) int64: row r has the entries `starts[r]` to `starts[r + 1]`.
        places: (E,) int64: where the entries stand, in the order of rows and columns; with
            `entries` (E,) int64, their flat positions `row * G + column`, ascending.
    """

    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    places: NDArray[np.int64]
    entries: NDArray[np.int64]


def order_rows(scores: NDArray[np.float32], bounds: NDArray[np.float32]) -> Ordered:
    """Order those of (R, G) scores that are at least their row's bound, (R,), and above -inf.

    One sort of whole numbers does it: a number holds an entry's row, its score and its place
    among the entries, so that R times the number of entries may not pass 2^32.
    """
    mask = scores >= bounds[:, None]
    mask &= scores > -np.inf
    counts = np.count_nonzero(mask, axis=1)
    entries = np.flatnonzero(mask)
    starts = np.concatenate(([0], np.cumsum(counts)))
    shift = _SCORE_BITS - (len(scores) - 1).bit_length()
    keys = number_descending(scores.ravel()[entries]) << np.uint64(shift)
    keys |= np.arange(len(entries), dtype=np.uint64)
    keys |= np.repeat(
        np.arange(len(scores), dtype=np.uint64) << np.uint64(_SCORE_BITS + shift), counts
    )
    keys.sort()
    order = (keys & np.uint64(2**shift - 1)).astype(np.int64)
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return Ordered(entries[order] % scores.shape[1], starts, places, entries)


def number_descending(scores: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Number scores (N,) below 2^32 so that better ones come first and equal ones are equal."""
    # Adding 0 makes -0 and 0 the same bits.
    bits = (scores + np.float32(0)).view(np.int32)
    # The bits of floats order like whole numbers once negative ones are turned round.
    descending = ~(bits ^ ((bits >> 31) & 0x7FFFFFFF)) ^ np.int32(-(2**31))
    return descending.view(np.uint32).astype(np.uint64)


def count_rows(columns: int) -> int:
    """Give how many rows of so many columns `order_rows` should get at once.

    They fit into a processor's cache, and their entries into the keys.
    """
    return max(1, min(1024, 2**20 // max(1, columns)))
