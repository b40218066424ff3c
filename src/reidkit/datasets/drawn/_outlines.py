"""A person about to be drawn, and the outlines that its parts are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reidkit.datasets.drawn._bodies import Body, Point, View
from reidkit.datasets.drawn._people import Look
from reidkit.datasets.drawn._raster import Points, Shape, ellipse, material_number, polygon

SKIN, HAIR, HAT, UPPER, INNER, LOWER, SHOES, BAG, LOGO, SCARF, DARK = range(11)
MATERIALS = 11

IN_SHADE = 100
"""The `Shape.shade` of what lies in shade as a whole."""


class Figure(NamedTuple):
    """All that is needed to draw one person once; `first` is its first material's place."""

    look: Look
    body: Body
    view: View
    first: int = 0

    def number(self, material: int) -> int:
        """Give a material's number on the canvas."""
        return material_number(self.first + material)


Part = tuple[int, Shape]
"""How near the camera a shape is, in body units, and the shape."""


def sheet(figure: Figure, levels: Sequence[tuple[int, int, int]]) -> Points:
    """Give the outline of a trunk: levels are height, half width and half depth, downwards."""
    view, girth = figure.view, figure.look.girth
    left, right = [], []
    for height, wide, deep in levels:
        x, y = view.see(raised(figure, 0, height, 0))
        half = view.half_width(wide * girth // 100, deep * girth // 100)
        left.append((x - half, y))
        right.append((x + half, y))
    return polygon(left + right[::-1])


def raised(figure: Figure, x: int, y: int, z: int) -> Point:
    """Give a place of the trunk, which the pose lifts."""
    return Point(x, y + figure.body.lift, z)


def ball(disc: tuple[int, int, int], number: int, shade: int) -> Shape:
    """Give a disc on the canvas, x, y, radius, filled with a material."""
    x, y, radius = disc
    return Shape(ellipse(x, y, radius, radius), number, shade)


def rounded(left: int, top: int, right: int, bottom: int, corner: int) -> Points:
    """Give an upright rectangle with cut corners."""
    return polygon(
        (
            (left + corner, top),
            (right - corner, top),
            (right, top + corner),
            (right, bottom - corner),
            (right - corner, bottom),
            (left + corner, bottom),
            (left, bottom - corner),
            (left, top + corner),
        )
    )
