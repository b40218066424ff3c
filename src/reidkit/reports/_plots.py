"""The geometry of a plot in SVG user units; the template draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 48, 616, 40, 304
"""The edges of the plotted area inside WIDTH x HEIGHT."""

LAST_RANK = 50
MARKED_RANKS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Tick:
    """A gridline at `at` units from the left (or from the top) and what is written beside it."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of the curve with its value; the text starts or ends at `text_x`, `text_y`."""

    x: float
    y: float
    label: str
    text_x: float
    text_y: float
    anchor: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve ready to draw: `points` is the value of an SVG `polyline`'s attribute."""

    points: str
    ranks: tuple[Tick, ...]
    shares: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


def plan_curve(cmc: NDArray[np.float32]) -> Curve:
    """Lay out a CMC curve: rank 1 to at most 50 from left to right, 0 to 100 % upwards.

    Args:
        cmc: (K,) fractions, rank 1 first, K >= 1.
    """
    shares: list[float] = cmc[:LAST_RANK].astype(np.float64).tolist()
    length = len(shares)
    points = [
        (_place_rank(rank, length), _place_share(share)) for rank, share in enumerate(shares, 1)
    ]
    return Curve(
        points=" ".join(f"{x},{y}" for x, y in points),
        ranks=tuple(Tick(_place_rank(rank, length), str(rank)) for rank in _choose_ticks(length)),
        shares=tuple(Tick(_place_share(n / 100), str(n)) for n in range(0, 101, 20)),
        marks=tuple(
            _place_mark(*points[rank - 1], f"{100 * shares[rank - 1]:.1f}")
            for rank in MARKED_RANKS
            if rank <= length
        ),
    )


def _choose_ticks(length: int) -> Sequence[int]:
    if length <= 10:
        return range(1, length + 1)
    return [1, 5, *range(10, length + 1, 10)]


def _place_rank(rank: int, length: int) -> float:
    return round(LEFT + (RIGHT - LEFT) * (rank - 1) / max(length - 1, 1), 1)


def _place_share(share: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * share, 1)


def _place_mark(x: float, y: float, label: str) -> Mark:
    """Write the value where a rising curve is not: below to the right, or above to the left."""
    if x > RIGHT - 60:
        return Mark(x, y, label, x - 7, y - 9, "end")
    return Mark(x, y, label, x + 7, y + 20 if y < BOTTOM - 26 else y - 9, "start")
