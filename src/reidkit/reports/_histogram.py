"""The geometry of the histogram of cosines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
from reidkit.reports._wording import word_cosine

LEFT = 72
STEPS = 5
BINS = 40
NARROWEST = 1e-6
"""The narrowest axis: float32 cosines near 1 lie 6e-8 apart, and below this only rounding shows."""

SMALLEST_BAR = 0.01
"""Counts go on a logarithmic axis where a bar would be lower than this share of the highest."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, its upper left corner first."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram ready to draw; `logarithmic` is about the counts."""

    frame: Frame
    bars: tuple[Bar, ...]
    percentile: Mark
    logarithmic: bool


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """How many cosines lie in each of B bins of one width; `edges` (B + 1,), `counts` (B,).

    `step` is the distance of the ticks, a whole number of bins.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    step: float


def count_cosines(cosines: NDArray[np.float32]) -> Counts:
    """Count cosines in bins from a round number below the smallest one up to 1.

    Args:
        cosines: (N,), N >= 1, finite; rounding may have put some a little above 1.
    """
    values = np.minimum(cosines.astype(np.float64), 1)
    step = choose_step(max(1 - float(values.min()), NARROWEST), STEPS)
    # Counted from 1 downwards: 1 is a multiple of every step below it.
    steps = max(1, math.ceil((1 - float(values.min())) / step - 1e-6))
    bins = steps * max(1, BINS // steps)
    edges = np.linspace(1 - steps * step, 1, bins + 1)
    counts, _ = np.histogram(np.maximum(values, edges[0]), edges)
    return Counts(edges, counts.astype(np.int64), step)


def plan_histogram(cosines: NDArray[np.float32], percentile: float) -> Histogram:
    """Lay out a histogram of (N,) cosines, N >= 1; the `percentile` becomes a line."""
    found = count_cosines(cosines)
    across = Scale(float(found.edges[0]), 1, LEFT, RIGHT)
    highest = int(found.counts.max())
    logarithmic = int(found.counts[found.counts > 0].min()) < SMALLEST_BAR * highest
    upwards, ticks = _plan_powers(highest) if logarithmic else _plan_counts(highest)
    bars = [
        _place_bar(across, left, right, upwards.place(math.log10(n) if logarithmic else n))
        for left, right, n in zip(
            found.edges[:-1].tolist(), found.edges[1:].tolist(), found.counts.tolist(), strict=True
        )
        if n
    ]
    return Histogram(
        Frame(across=_place_cosines(across, found.step), upwards=ticks, left=LEFT),
        tuple(bars),
        _place_percentile(across, percentile),
        logarithmic,
    )


def _place_bar(across: Scale, left: float, right: float, top: float) -> Bar:
    x, end = across.place(left), across.place(right)
    # A gap between bars, but never at the cost of the bar.
    return Bar(x, top, round(max(end - x - 1, 1), 1), round(BOTTOM - top, 1))


def _place_cosines(across: Scale, step: float) -> tuple[Tick, ...]:
    ticks = [1 - distance for distance in reversed(list_ticks(0, 1 - across.low, step))]
    labels = [*(word_tick(tick, step) for tick in ticks[:-1]), "1"]
    return tuple(Tick(across.place(tick), label) for tick, label in zip(ticks, labels, strict=True))


def _plan_counts(highest: int) -> tuple[Scale, tuple[Tick, ...]]:
    step = max(1.0, choose_step(highest, STEPS))
    top = math.ceil(highest / step) * step
    scale = Scale(0, top, BOTTOM, TOP)
    return scale, tuple(Tick(scale.place(n), word_tick(n, step)) for n in list_ticks(0, top, step))


def _plan_powers(highest: int) -> tuple[Scale, tuple[Tick, ...]]:
    # From below 1, so that a single picture has a bar.
    scale = Scale(math.log10(0.5), math.log10(highest * 1.3), BOTTOM, TOP)
    return scale, place_powers(scale, 6)


def _place_percentile(across: Scale, percentile: float) -> Mark:
    x = across.place(min(max(percentile, across.low), 1))
    label = f"1 % lie below {word_cosine(percentile)}"
    to_right = x < (LEFT + RIGHT) / 2
    return Mark(
        x, TOP, label, x + 6 if to_right else x - 6, TOP + 8, "start" if to_right else "end"
    )
