"""What stands between a camera and a person: poles, railings, hedges, cars, passers-by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reidkit.datasets.drawn._people import CLOTHES, HAIRS, between, choose_colour
from reidkit.datasets.drawn._raster import (
    Colour,
    Shape,
    box,
    capsule,
    ellipse,
    material_number,
)

_MATERIALS: tuple[tuple[Colour, Colour], ...] = (
    ((92, 94, 98), (92, 94, 98)),
    ((78, 104, 62), (98, 122, 70)),
    ((58, 68, 80), (58, 68, 80)),
)
_METAL, _LEAVES, _GLASS, _CLOTH, _HAIR = range(5)

Numbers = Callable[[int], int]


def occluder_shapes(
    kind: str, stream: np.random.Generator, shape: tuple[int, ...], first: int
) -> tuple[list[Shape], list[tuple[Colour, Colour]]]:
    """Give an occluder's shapes on a canvas of some shape, and its materials.

    `first` is the place its first material will have.
    """
    cloth, hair = choose_colour(stream, CLOTHES), choose_colour(stream, HAIRS)
    materials = [*_MATERIALS, (cloth, cloth), (hair, hair)]
    shapes = _KINDS[kind](stream, shape[1], shape[0], lambda place: material_number(first + place))
    return shapes, materials


def _pole(stream: np.random.Generator, width: int, height: int, number: Numbers) -> list[Shape]:
    x, half = between(stream, 0, width), between(stream, 3, 8) * width // 128
    return [Shape(box(x - half, 0, x + half, height), number(_METAL), 40)]


def _bollard(stream: np.random.Generator, width: int, height: int, number: Numbers) -> list[Shape]:
    x, half = between(stream, 0, width), between(stream, 10, 18) * width // 128
    top = height * between(stream, 60, 80) // 100
    return [Shape(capsule((x, top, half), (x, height, half)), number(_METAL), 40)]


def _railing(stream: np.random.Generator, width: int, height: int, number: Numbers) -> list[Shape]:
    top = height * between(stream, 55, 75) // 100
    bar, gap = max(2, height // 85), width * between(stream, 14, 26) // 100
    start = -between(stream, 0, gap)
    posts = [
        Shape(box(x, top, x + bar, height), number(_METAL), 40) for x in range(start, width, gap)
    ]
    rails = [box(0, row, width, row + bar) for row in (top, (top + height) // 2)]
    return posts + [Shape(rail, number(_METAL), 0) for rail in rails]


def _hedge(stream: np.random.Generator, width: int, height: int, number: Numbers) -> list[Shape]:
    top = height * between(stream, 70, 88) // 100
    size = width * 22 // 100
    return [
        Shape(
            ellipse(x, height, size, height - top + between(stream, 0, size // 2)),
            number(_LEAVES) + 2 * (x // max(1, size) % 2),
            35,
        )
        for x in range(0, width + size, max(1, size))
    ]


def _car(stream: np.random.Generator, width: int, height: int, number: Numbers) -> list[Shape]:
    top = height * between(stream, 64, 78) // 100
    edge = width * between(stream, 20, 80) // 100
    left, right = (edge, 3 * width) if between(stream, 0, 1) else (-2 * width, edge)
    corner = height // 24
    body = capsule((left + corner, top + corner, corner), (right, top + corner, corner))
    lower = box(left, top + corner, right, height)
    glass = box(left + corner * 2, top + corner // 2, right - corner * 2, top + corner * 2)
    return [
        Shape(body, number(_CLOTH), 0),
        Shape(lower, number(_CLOTH), 0),
        Shape(glass, number(_GLASS), 0),
    ]


def _passer(stream: np.random.Generator, width: int, height: int, number: Numbers) -> list[Shape]:
    x = between(stream, -10, 14) * width // 100
    if between(stream, 0, 1):
        x = width - x
    top, half = height * between(stream, 30, 55) // 100, width * between(stream, 20, 28) // 100
    head = width * 11 // 100
    return [
        Shape(ellipse(x, top - head, head, head * 5 // 4), number(_HAIR), 35),
        Shape(capsule((x, top + half, half), (x, height, half)), number(_CLOTH), 35),
    ]


_KINDS: dict[str, Callable[[np.random.Generator, int, int, Numbers], list[Shape]]] = {
    "pole": _pole,
    "bollard": _bollard,
    "railing": _railing,
    "hedge": _hedge,
    "car": _car,
    "passer": _passer,
}
OCCLUDERS = tuple(_KINDS)
