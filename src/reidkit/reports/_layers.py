"""The error of each layer: a plot, and the worst ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reidkit.certifying import Divergence, LayerError
from reidkit.reports._axes import (
    BOTTOM,
    RIGHT,
    TOP,
    Frame,
    Mark,
    Scale,
    Tick,
    choose_step,
    list_ticks,
    place_powers,
    word_tick,
)

LEFT = 72
WORST = 10
DECADES = 8
"""How far down the axis goes below the largest error; smaller ones lie on the bottom."""

DOTTED = 120
"""Up to this many layers, each is drawn as a dot."""


@dataclass(frozen=True, slots=True)
class RankedLayer:
    """One layer; `place` is its place in the order of the graph, the first is 1."""

    place: int
    layer: str
    operator: str
    error: float
    diverges: bool


@dataclass(frozen=True, slots=True)
class LayerPlot:
    """The errors ready to draw: `points` for a polyline, `dots` where there are few."""

    frame: Frame
    points: str
    dots: tuple[tuple[float, float], ...]
    limit: Mark
    first: Mark | None


def find_worst(divergence: Divergence, count: int = WORST) -> list[RankedLayer]:
    """Give the layers with the largest errors, the largest first; no number is the largest."""
    layers = [
        RankedLayer(
            place, each.layer, each.operator, each.error, not each.error <= divergence.limit
        )
        for place, each in enumerate(divergence.layers, 1)
    ]
    return sorted(layers, key=lambda layer: (-_order(layer.error), layer.place))[:count]


def find_place(divergence: Divergence, wanted: LayerError) -> int | None:
    """Give the place of a layer in the order of the graph, the first is 1."""
    places = (place for place, each in enumerate(divergence.layers, 1) if each == wanted)
    return next(places, None)


def plan_layers(divergence: Divergence) -> LayerPlot | None:
    """Lay out the error of each layer in the order of the graph; `None` where there is none."""
    errors = [_order(each.error) for each in divergence.layers]
    if not errors:
        return None
    across = Scale(1, len(errors), LEFT, RIGHT)
    upwards = _plan_errors(errors, divergence.limit)
    dots = tuple(
        (across.place(place), _place_error(upwards, error)) for place, error in enumerate(errors, 1)
    )
    place = find_place(divergence, divergence.first) if divergence.first else None
    limit = _place_error(upwards, divergence.limit)
    return LayerPlot(
        Frame(across=_place_numbers(across), upwards=place_powers(upwards, 6), left=LEFT),
        " ".join(f"{x},{y}" for x, y in dots),
        dots if len(dots) <= DOTTED else (),
        Mark(LEFT, limit, "limit", LEFT + 6, limit - 6, "start"),
        _place_first(*dots[place - 1], place) if place else None,
    )


def _order(error: float) -> float:
    return math.inf if math.isnan(error) else error


def _plan_errors(errors: list[float], limit: float) -> Scale:
    """Span the finite errors and the limit; the logarithms are to base ten."""
    seen = [math.log10(error) for error in (*errors, limit) if 0 < error < math.inf]
    highest = math.ceil(max(seen, default=0) + 0.1)
    lowest = math.floor(max(min(seen, default=-1) - 0.1, highest - DECADES))
    return Scale(lowest, highest, BOTTOM, TOP)


def _place_error(upwards: Scale, error: float) -> float:
    if error <= 0:
        return upwards.start
    if error == math.inf:
        return upwards.end
    return upwards.place(min(max(math.log10(error), upwards.low), upwards.high))


def _place_numbers(across: Scale) -> tuple[Tick, ...]:
    if across.high == 1:
        return (Tick(across.place(1), "1"),)
    step = max(1.0, choose_step(across.high - 1, 6))
    # The first layer is 1, not 0; the tick after it is far enough away.
    numbers = [1.0, *(n for n in list_ticks(step, across.high, step) if n > 1)]
    return tuple(Tick(across.place(n), word_tick(n, 1)) for n in numbers)


def _place_first(x: float, y: float, place: int) -> Mark:
    """Name the first layer to its left, where all errors are small; else to its right."""
    anchor, shift = ("end", -12) if x > LEFT + 150 else ("start", 12)
    return Mark(x, y, f"first: layer {place:,}", x + shift, max(y - 8, TOP - 4), anchor)
