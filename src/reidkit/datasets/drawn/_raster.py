"""Filled polygons on a canvas of material numbers, in whole numbers only.

Pixels must be the same on every machine, so nothing here touches floating point: coordinates
are whole canvas pixels, angles are whole degrees with a rational sine, and rows are filled
between crossings found by integer division. A canvas is supersampled `SUPERSAMPLING` times in
both directions and averaged when colours are looked up.

A material takes four numbers in a row: its colour, the same in shade, the second colour of its
pattern, and that in shade. Number 0 is empty: the background shows through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SUPERSAMPLING = 2
UNIT = 1024
"""What `sine` and `cosine` call 1."""

NUMBERS_PER_MATERIAL = 4

Colour = tuple[int, int, int]
Canvas = NDArray[np.uint8]
Picture = NDArray[np.uint8]
Points = NDArray[np.int32]

_FAR = 1 << 30


class Pattern(NamedTuple):
    """Where a material shows its second colour; lengths in canvas pixels."""

    kind: str
    pitch: int
    x: int
    """The column the pattern is centred on."""
    y: int
    """The row the pattern starts at."""


class Shape(NamedTuple):
    """A polygon filled with a material."""

    points: Points
    material: int
    shade: int = 28
    """The share of each row, in per cent, that lies in shade; negative: on the left."""
    pattern: Pattern | None = None


def _bhaskara(angle: int) -> int:
    product = angle % 180 * (180 - angle % 180)
    value = 4 * product * UNIT // (40500 - product)
    return value if angle < 180 else -value


_SINES = tuple(_bhaskara(angle) for angle in range(360))


def sine(degrees: int) -> int:
    """Give the sine in 1/1024, at most 3 off, by Bhaskara's rational approximation."""
    return _SINES[degrees % 360]


def cosine(degrees: int) -> int:
    """Give the cosine in 1/1024, like `sine`."""
    return _SINES[(degrees + 90) % 360]


_CIRCLE = np.array([(cosine(angle), sine(angle)) for angle in range(0, 360, 24)], np.int32)
_CAP = np.array([(cosine(angle), sine(angle)) for angle in range(-90, 91, 36)], np.int32)


def polygon(points: Sequence[tuple[int, int]]) -> Points:
    """Give corners (N, 2) as x, y; each row may cross the outline only twice."""
    return np.array(points, np.int32)


def box(left: int, top: int, right: int, bottom: int) -> Points:
    """Give an upright rectangle's corners."""
    return polygon(((left, top), (right, top), (right, bottom), (left, bottom)))


def ellipse(x: int, y: int, half_width: int, half_height: int) -> Points:
    """Give an upright ellipse as a polygon of 15 corners."""
    return _CIRCLE * (half_width, half_height) // UNIT + (x, y)


def capsule(start: tuple[int, int, int], end: tuple[int, int, int]) -> Points:
    """Give a rounded bar between two discs, each x, y, radius."""
    x0, y0, radius0 = start
    x1, y1, radius1 = end
    x, y = x1 - x0, y1 - y0
    length = math.isqrt((x * x + y * y) * UNIT * UNIT)  # in parts of UNIT, or it would be too short
    x, y = (x * UNIT * UNIT // length, y * UNIT * UNIT // length) if length else (UNIT, 0)
    cap = _CAP @ np.array(((x, y), (-y, x)), np.int32) // UNIT
    corners = np.empty((2 * len(cap), 2), np.int32)
    corners[: len(cap)] = cap * radius1 // UNIT
    corners[len(cap) :] = -cap * radius0 // UNIT
    corners[: len(cap)] += np.array((x1, y1), np.int32)
    corners[len(cap) :] += np.array((x0, y0), np.int32)
    return corners


def fill(canvas: Canvas, shape: Shape) -> None:
    """Draw a shape on a canvas (H, W); what lies outside is cut off."""
    spans = _spans(shape.points, canvas.shape[0])
    if spans is None:
        return
    top, left, right = spans
    first, last = max(0, int(left.min())), min(canvas.shape[1], int(right.max()))
    if first >= last:
        return
    columns = np.arange(first, last, dtype=np.int32)
    left, right = left[:, None], right[:, None]
    inside = (columns >= left) & (columns < right)
    numbers = _shaded(columns, left, right, shape.shade) + np.uint8(shape.material)
    if shape.pattern is not None:
        rows = np.arange(top, top + len(left), dtype=np.int32)[:, None]
        numbers = numbers + pattern_mask(shape.pattern, rows, columns) * np.uint8(2)
    np.copyto(canvas[top : top + len(left), first:last], numbers, where=inside)


# Where the second colour is, by rows and columns counted from the place of the pattern.
_PATTERNS: dict[str, Callable[[Points, Points, int], NDArray[np.bool_]]] = {
    "stripes": lambda down, across, pitch: 2 * (down % pitch) < pitch,
    "pinstripes": lambda down, across, pitch: 3 * (across % pitch) < pitch,
    "checks": lambda down, across, pitch: (
        (2 * (down % pitch) < pitch) ^ (2 * (across % pitch) < pitch)
    ),
    "tartan": lambda down, across, pitch: (
        (3 * (down % pitch) < pitch) | (3 * (across % pitch) < pitch)
    ),
    "dots": lambda down, across, pitch: (
        (2 * (down % pitch) - pitch) ** 2 + (2 * (across % pitch) - pitch) ** 2 < pitch * pitch // 3
    ),
    "yoke": lambda down, across, pitch: down < 4 * pitch,
    "band": lambda down, across, pitch: (down > 4 * pitch) & (down < 7 * pitch),
    "halves": lambda down, across, pitch: across > pitch // 2,
    "diagonal": lambda down, across, pitch: (down + across) % (2 * pitch) < pitch,
}


def pattern_mask(pattern: Pattern, rows: Points, columns: Points) -> NDArray[np.bool_]:
    """Say where a pattern shows the second colour.

    Args:
        pattern: which pattern, and where it lies on the canvas.
        rows: (R, 1) canvas rows.
        columns: (C,) canvas columns.

    Returns:
        A mask that broadcasts to (R, C).
    """
    pitch = max(2, pattern.pitch)
    across = columns - pattern.x + pitch // 2
    return _PATTERNS[pattern.kind](rows - pattern.y, across, pitch)


def colours_of(materials: Sequence[tuple[Colour, Colour]], shade: int = 70) -> NDArray[np.uint8]:
    """Give the colour table (256, 3) of materials 1, 2, ...; shade is in per cent of the light."""
    table = np.zeros((256, 3), np.int32)
    for place, (first, second) in enumerate(materials):
        start = NUMBERS_PER_MATERIAL * (place + 1)
        table[start : start + 4 : 2] = first, second
    table[1::2] = table[::2] * shade // 100
    return table.astype(np.uint8)


def material_number(place: int) -> int:
    """Give the number of the material at a place of `colours_of`'s sequence."""
    return NUMBERS_PER_MATERIAL * (place + 1)


def compose(canvas: Canvas, colours: NDArray[np.uint8], background: Picture) -> Picture:
    """Colour a canvas over a background.

    Args:
        canvas: (H * SUPERSAMPLING, W * SUPERSAMPLING) uint8, numbers of materials.
        colours: (256, 3) uint8.
        background: (H, W, 3) uint8.

    Returns:
        (H, W, 3) uint8.
    """
    # Three sums and the number of covered samples ride in one 64-bit word: one look-up, not four.
    words = colours.astype(np.uint64) @ np.array([1, 1 << 16, 1 << 32], np.uint64)
    words[NUMBERS_PER_MATERIAL:] += np.uint64(1 << 48)
    samples = np.take(words, canvas)
    steps = range(SUPERSAMPLING)
    total = np.zeros(background.shape[:2], np.uint64)
    for row in steps:
        for column in steps:
            total += samples[row::SUPERSAMPLING, column::SUPERSAMPLING]
    fields = total.astype("<u8", copy=False).view("<u2").reshape(*total.shape, 4)
    empty = SUPERSAMPLING**2 - fields[:, :, 3:]
    return ((fields[:, :, :3] + empty * background) // SUPERSAMPLING**2).astype(np.uint8)


def _spans(points: Points, height: int) -> tuple[int, Points, Points] | None:
    x0, y0 = points[:, 0, None], points[:, 1, None]
    following = np.concatenate((points[1:], points[:1]))
    x1, y1 = following[:, 0, None], following[:, 1, None]
    top, bottom = max(0, int(y0.min())), min(height, int(y0.max()))
    if top >= bottom:
        return None
    # A row is sampled at its middle, hence the doubled heights.
    rows = np.arange(2 * top + 1, 2 * bottom, 2, dtype=np.int32)
    active = (rows > 2 * y0) != (rows > 2 * y1)
    drop = 2 * (y1 - y0)
    drop[drop == 0] = 1
    crossings = x0 + (x1 - x0) * (rows - 2 * y0) // drop
    left = np.minimum.reduce(crossings, axis=0, where=active, initial=_FAR)
    return top, left, np.maximum.reduce(crossings, axis=0, where=active, initial=-_FAR)


def _shaded(columns: Points, left: Points, right: Points, shade: int) -> NDArray[np.bool_]:
    if shade in (0, 100):
        return np.array(shade == 100)
    width = (right - left) * abs(shade) // 100
    return columns >= right - width if shade >= 0 else columns < left + width
