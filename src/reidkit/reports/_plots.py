"""The geometry of the CMC curve in SVG user units; the template draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.reports._axes import BOTTOM, LEFT, RIGHT, TOP, Frame, Mark, Scale, Tick

LAST_RANK = 50
MARKED_RANKS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve ready to draw: `points` is the value of an SVG `polyline`'s attribute."""

    frame: Frame
    points: str
    marks: tuple[Mark, ...]


def plan_curve(cmc: NDArray[np.float32]) -> Curve:
    """Lay out a CMC curve: rank 1 to at most 50 from left to right, 0 to 100 % upwards.

    Args:
        cmc: (K,) fractions, rank 1 first, K >= 1.
    """
    shares: list[float] = cmc[:LAST_RANK].astype(np.float64).tolist()
    length = len(shares)
    across, upwards = Scale(1, max(length, 2), LEFT, RIGHT), Scale(0, 1, BOTTOM, TOP)
    points = [(across.place(rank), upwards.place(share)) for rank, share in enumerate(shares, 1)]
    return Curve(
        frame=Frame(
            across=tuple(Tick(across.place(rank), str(rank)) for rank in _choose_ranks(length)),
            upwards=tuple(Tick(upwards.place(n / 100), str(n)) for n in range(0, 101, 20)),
        ),
        points=" ".join(f"{x},{y}" for x, y in points),
        marks=tuple(
            place_mark(*points[rank - 1], f"{100 * shares[rank - 1]:.1f}")
            for rank in MARKED_RANKS
            if rank <= length
        ),
    )


def _choose_ranks(length: int) -> Sequence[int]:
    if length <= 10:
        return range(1, length + 1)
    return [1, 5, *range(10, length + 1, 10)]


def place_mark(x: float, y: float, label: str) -> Mark:
    """Write the value where a rising curve is not: below to the right, or above to the left."""
    if x > RIGHT - 60:
        return Mark(x, y, label, x - 7, y - 9, "end")
    return Mark(x, y, label, x + 7, y + 20 if y < BOTTOM - 26 else y - 9, "start")
