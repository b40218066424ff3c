"""The geometry of the embedding map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.reports._axes import Frame
from reidkit.reports._map import EmbeddingMap

FRAME = Frame(across=(), upwards=(), height=440, left=1, right=639, top=1, bottom=439)
MARGIN = 16
"""Between the frame and the outermost marks' centres."""

HUES = 7
"""How many colours the page has for people; the same colour in another shape is another person."""

SMALL, LARGE = 4.0, 5.5
"""Half the size of the mark of a gallery picture and of a query."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A person's marks: `gallery` and `queries` are data of SVG paths, empty where none is.

    `sample` is one mark in the middle of a square of 16 x 16, for the legend.
    """

    person_id: int
    hue: int
    pictures: int
    gallery: str
    queries: str
    sample: str


@dataclass(frozen=True, slots=True)
class MapPlot:
    """An embedding map ready to draw."""

    frame: Frame
    people: tuple[Marked, ...]


def plan_map(found: EmbeddingMap) -> MapPlot:
    """Lay out an embedding map: one scale for both directions, in the middle of the frame."""
    places = place_points(found.points)
    people = np.unique(found.person_ids).tolist()
    return MapPlot(
        FRAME, tuple(_mark_person(found, places, person, n) for n, person in enumerate(people))
    )


def place_points(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the places of (N, 2) points in SVG units; upwards is the second one's positive side."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.array([FRAME.right - FRAME.left, FRAME.bottom - FRAME.top]) - 2 * MARGIN
    spans = high - low
    # Points that all lie on a line, or in one place, leave a direction free.
    unit = (room[spans > 0] / spans[spans > 0]).min(initial=np.inf)
    unit = unit if np.isfinite(unit) else 1.0
    middle = np.array([FRAME.left + FRAME.right, FRAME.top + FRAME.bottom]) / 2
    places: NDArray[np.float64] = middle + (points - (low + high) / 2) * unit * (1, -1)
    return places.round(1)


def _mark_person(
    found: EmbeddingMap, places: NDArray[np.float64], person: int, number: int
) -> Marked:
    own = found.person_ids == person
    shape = number // HUES
    return Marked(
        person,
        number % HUES,
        int(own.sum()),
        _draw(places[own & ~found.queried], shape, SMALL),
        _draw(places[own & found.queried], shape, LARGE),
        _draw(np.array([[8.0, 8.0]]), shape, LARGE),
    )


def _draw(places: NDArray[np.float64], shape: int, half: float) -> str:
    """Draw one mark at each of (N, 2) places: a circle, a square, or a triangle."""
    left, whole = -half, 2 * half
    start, outline = (
        ((left, 0), f"a{half:g},{half:g} 0 1 0 {whole:g},0a{half:g},{half:g} 0 1 0 {-whole:g},0z"),
        ((left, left), f"h{whole:g}v{whole:g}h{-whole:g}z"),
        ((left, half), f"h{whole:g}l{-half:g},{-whole:g}z"),
    )[shape % 3]
    return "".join(f"M{x:g},{y:g}{outline}" for x, y in (places + start).tolist())
