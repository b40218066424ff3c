"""Street scenes: the backgrounds that people walk past, drawn from polygons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reidkit.datasets.drawn._people import between
from reidkit.datasets.drawn._raster import (
    SUPERSAMPLING,
    Canvas,
    Colour,
    Picture,
    Shape,
    box,
    colours_of,
    compose,
    ellipse,
    fill,
    material_number,
    polygon,
)

SCENE_WIDTH, SCENE_HEIGHT = 512, 272
GROUND_ROW = 218
"""The scene's row, in pixels, where people put their feet."""

_WIDE, _TALL = SCENE_WIDTH * SUPERSAMPLING, SCENE_HEIGHT * SUPERSAMPLING
_WALLS: tuple[Colour, ...] = (
    (168, 120, 96),
    (188, 180, 164),
    (140, 146, 152),
    (196, 170, 130),
    (150, 98, 84),
    (206, 204, 198),
    (122, 128, 118),
)
_GROUNDS: tuple[Colour, ...] = (
    (146, 144, 140),
    (118, 120, 124),
    (172, 160, 142),
    (134, 124, 114),
    (160, 164, 166),
)
_GLASS: tuple[Colour, ...] = ((84, 104, 122), (60, 72, 84), (150, 172, 184), (212, 200, 150))
_LEAVES: tuple[Colour, ...] = ((74, 104, 60), (96, 122, 66), (58, 84, 58), (122, 130, 70))
_PAINTS: tuple[Colour, ...] = (
    (150, 52, 48),
    (52, 78, 122),
    (204, 204, 204),
    (58, 58, 62),
    (190, 150, 70),
    (70, 112, 96),
)


def draw_scene(kind: str, stream: np.random.Generator) -> Picture:
    """Draw a scene of one of the `SCENES`, (SCENE_HEIGHT, SCENE_WIDTH, 3) uint8."""
    canvas = np.zeros((_TALL, _WIDE), np.uint8)
    colours = _pick_colours(stream)
    horizon = between(stream, 128, 172) * SUPERSAMPLING
    _KINDS[kind](canvas, stream, horizon)
    empty = np.full((SCENE_HEIGHT, SCENE_WIDTH, 3), (186, 204, 220), np.uint8)
    return compose(canvas, colours_of(colours, shade=84), empty)


# The places of a scene's materials: walls 0-3, ground 4, glass 5-6, leaves 7-8, paints 9-11.
_WALL, _GROUND, _WINDOW, _LEAF, _PAINT = 0, 4, 5, 7, 9


def _pick_colours(stream: np.random.Generator) -> list[tuple[Colour, Colour]]:
    groups = (*(_WALLS,) * 4, _GROUNDS, *(_GLASS,) * 2, *(_LEAVES,) * 2, *(_PAINTS,) * 3)
    chosen = [group[int(stream.integers(len(group)))] for group in groups]
    return [(colour, colour) for colour in chosen]


def _put(canvas: Canvas, place: int, left: int, top: int, size: tuple[int, int]) -> None:
    fill(canvas, Shape(box(left, top, left + size[0], top + size[1]), material_number(place), 0))


def _pave(canvas: Canvas, stream: np.random.Generator, horizon: int) -> None:
    """Lay the ground: joints that come closer with distance, and lines towards the horizon."""
    _put(canvas, _GROUND, 0, horizon, (_WIDE, _TALL))
    joint = material_number(_GROUND) + 1
    row, step = horizon, between(stream, 5, 12)
    while row < _TALL:
        fill(canvas, Shape(box(0, row, _WIDE, row + 1 + step // 16), joint, 0))
        row, step = row + step, step * 3 // 2
    gap = between(stream, 50, 110)
    for column in range(-_WIDE, 2 * _WIDE, gap):
        far = _WIDE // 2 + (column - _WIDE // 2) // 3
        corners = ((far, horizon), (far + 1, horizon), (column + 3, _TALL), (column, _TALL))
        fill(canvas, Shape(polygon(corners), joint, 0))


def _street(canvas: Canvas, stream: np.random.Generator, horizon: int) -> None:
    _pave(canvas, stream, horizon)
    left = -between(stream, 0, 80)
    while left < _WIDE:
        width = between(stream, 130, 260)
        _put(canvas, _WALL + between(stream, 0, 3), left, 0, (width, horizon))
        _windows(canvas, stream, (left, width), horizon)
        left += width
    for column in range(between(stream, 20, 120), _WIDE, between(stream, 230, 380)):
        _put(canvas, _PAINT, column, 40, (10, horizon + 16))


def _windows(
    canvas: Canvas, stream: np.random.Generator, house: tuple[int, int], horizon: int
) -> None:
    left, width = house
    count, glass = between(stream, 2, 4), _WINDOW + between(stream, 0, 1)
    pitch = width // count
    for row in range(horizon - 130, -60, -90):
        for column in range(count):
            start = left + column * pitch + pitch // 4
            _put(canvas, glass, start, row - 50, (pitch // 2, 62))
    door = left + pitch * between(stream, 0, count - 1) + pitch // 5
    _put(canvas, _PAINT + between(stream, 0, 2), door, horizon - 104, (pitch * 3 // 5, 104))


def _park(canvas: Canvas, stream: np.random.Generator, horizon: int) -> None:
    _pave(canvas, stream, horizon)
    left = between(stream, -60, 40)
    while left < _WIDE:
        trunk, top = between(stream, 12, 22), horizon - between(stream, 120, 220)
        _put(canvas, _WALL, left, top, (trunk, horizon - top))
        for _ in range(5):
            x, y = left + between(stream, -60, 60), top - between(stream, -20, 110)
            leaf = material_number(_LEAF + between(stream, 0, 1))
            size = between(stream, 34, 64)
            fill(canvas, Shape(ellipse(x, y, size, size * 4 // 5), leaf, 35))
        left += between(stream, 120, 230)
    fill(canvas, Shape(box(0, horizon - 34, _WIDE, horizon + 8), material_number(_LEAF), 0))


def _shops(canvas: Canvas, stream: np.random.Generator, horizon: int) -> None:
    _pave(canvas, stream, horizon)
    _put(canvas, _WALL, 0, 0, (_WIDE, horizon))
    left = -between(stream, 0, 60)
    while left < _WIDE:
        width = between(stream, 120, 220)
        _put(canvas, _WINDOW + between(stream, 0, 1), left + 8, horizon - 150, (width - 16, 140))
        _put(canvas, _PAINT + between(stream, 0, 2), left, horizon - 196, (width - 6, 44))
        _put(canvas, _WALL + 1, left + width // 2, horizon - 150, (6, 140))
        left += width


def _yard(canvas: Canvas, stream: np.random.Generator, horizon: int) -> None:
    _pave(canvas, stream, horizon)
    _put(canvas, _WALL, 0, 0, (_WIDE, horizon - 40))
    _put(canvas, _WALL + 1, 0, horizon - 60, (_WIDE, 60))
    for row in range(10, horizon - 60, 26):
        fill(canvas, Shape(box(0, row, _WIDE, row + 2), material_number(_WALL) + 1, 0))
    for start in range(between(stream, 0, 120), _WIDE, between(stream, 240, 330)):
        _car(canvas, _PAINT + between(stream, 0, 2), start, horizon + 14)


def _car(canvas: Canvas, paint: int, left: int, bottom: int) -> None:
    cabin = ((left + 40, bottom - 84), (left + 130, bottom - 84), (left + 165, bottom - 48))
    number = material_number(paint)
    fill(canvas, Shape(polygon((*cabin, (left + 12, bottom - 48))), number + 1, 0))
    _put(canvas, _WINDOW, left + 44, bottom - 76, (82, 26))
    _put(canvas, paint, left, bottom - 50, (190, 42))
    for wheel in (40, 150):
        dark = material_number(_WINDOW) + 1
        fill(canvas, Shape(ellipse(left + wheel, bottom - 8, 20, 20), dark, 0))


def _hall(canvas: Canvas, stream: np.random.Generator, horizon: int) -> None:
    _pave(canvas, stream, horizon)
    _put(canvas, _WALL + 1, 0, 0, (_WIDE, horizon))
    _put(canvas, _WALL + 2, 0, horizon - 26, (_WIDE, 26))
    for column in range(between(stream, 0, 100), _WIDE, between(stream, 150, 240)):
        fill(canvas, Shape(box(column, 0, column + 46, horizon + 20), material_number(_WALL), 40))
        _put(canvas, _PAINT, column + 70, horizon - 170, (56, 76))


_KINDS: dict[str, Callable[[Canvas, np.random.Generator, int], None]] = {
    "street": _street,
    "park": _park,
    "shops": _shops,
    "yard": _yard,
    "hall": _hall,
}
SCENES = tuple(_KINDS)
