"""The axes that all plots share: scales, ticks, and the frame that a template draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reidkit.reports._wording import word_power

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 48, 616, 40, 304
"""The edges of the plotted area inside WIDTH x HEIGHT, in SVG user units."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A gridline at `at` units from the left (or from the top) and what is written beside it."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a plot with a text; the text starts, ends or is centred at `text_x`, `text_y`."""

    x: float
    y: float
    label: str
    text_x: float
    text_y: float
    anchor: str


@dataclass(frozen=True, slots=True)
class Frame:
    """The plotted area with its gridlines: `across` stand along the bottom, `upwards` left."""

    across: tuple[Tick, ...]
    upwards: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


@dataclass(frozen=True, slots=True)
class Scale:
    """A straight line from values to units: `low` lies at `start`, `high` at `end`.

    Where `low` and `high` are equal, everything lies in the middle.
    """

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Give the place of a value, to a tenth of a unit."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return round(self.start + (self.end - self.start) * share, 1)


def choose_step(span: float, count: int) -> float:
    """Give the smallest of 1, 2, 5 times a power of ten that fits at most `count` times."""
    power = 10.0 ** math.floor(math.log10(span / count))
    # A hair of room: 0.3 / 0.1 is a little more than 3 in binary.
    return next(n * power for n in (1, 2, 5, 10) if span / (n * power) <= count * (1 + 1e-9))


def list_ticks(low: float, high: float, step: float) -> list[float]:
    """Give the multiples of `step` from `low` to `high`, both included."""
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [number * step for number in range(first, last + 1)]


def word_tick(value: float, step: float) -> str:
    """Word a tick with the decimals that its step needs: 0.9998 in steps of 0.0001."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value + 0.0:,.{decimals}f}"


def place_powers(scale: Scale, count: int) -> tuple[Tick, ...]:
    """Give at most `count` + 1 ticks at powers of ten on a scale of logarithms to base ten."""
    first, last = math.ceil(scale.low - 1e-9), math.floor(scale.high + 1e-9)
    stride = max(1, math.ceil((last - first) / count))
    # From the top: the largest power is the one that readers look for.
    powers = range(last, first - 1, -stride)
    return tuple(Tick(scale.place(power), word_power(power)) for power in powers)
