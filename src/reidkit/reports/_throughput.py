"""How fast source and compiled package are, side by side: tables and a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reidkit.benchmarking import STAGES, BatchSpeed, Speed
from reidkit.reports._axes import (
    BOTTOM,
    TOP,
    Frame,
    Mark,
    Scale,
    Tick,
    choose_step,
    list_ticks,
    word_tick,
)

LEFT, RIGHT = 92, 510
"""Room on the left for `100,000`, on the right for the names of the lines."""

DIGIT = 12
"""The width of a digit where text is largest, on a phone."""

LINE = 22
"""How near the names of two lines may stand."""

Dots = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """One batch size; a side that was not measured at it is `None`, as is then the ratio."""

    batch: int
    source: BatchSpeed | None
    compiled: BatchSpeed | None
    engine_ratio: float | None
    end_to_end_ratio: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One side's rates: `points` for a polyline, each of `dots` a batch size, and its name."""

    name: str
    points: str
    dots: tuple[tuple[float, float], ...]
    label: Mark


@dataclass(frozen=True, slots=True)
class RatePlot:
    """Pictures a second by batch size, ready to draw."""

    frame: Frame
    source: Line
    compiled: Line


@dataclass(frozen=True, slots=True)
class Stage:
    """The time of one stage, seconds a picture; the shares are of the longest of all."""

    name: str
    source: float | None
    compiled: float | None
    source_share: float
    compiled_share: float


def list_speeds(source: Speed, compiled: Speed) -> list[SpeedRow]:
    """Give a row for each batch size that either side was measured at, smallest first."""
    ours = {speed.batch: speed for speed in source.batches}
    theirs = {speed.batch: speed for speed in compiled.batches}
    return [_pair(batch, ours.get(batch), theirs.get(batch)) for batch in sorted({*ours, *theirs})]


def list_stages(source: Speed, compiled: Speed) -> list[Stage]:
    """Give the stages that either side has, each side at its best batch size."""
    ours, theirs = (dict(speed.at(speed.best_batch).stages) for speed in (source, compiled))
    longest = max((*ours.values(), *theirs.values()), default=0) or 1
    return [
        Stage(
            name,
            ours.get(name),
            theirs.get(name),
            ours.get(name, 0) / longest,
            theirs.get(name, 0) / longest,
        )
        for name in STAGES
        if name in ours or name in theirs
    ]


def plan_rates(source: Speed, compiled: Speed) -> RatePlot:
    """Lay out pictures a second of the engine alone over the batch size, which doubles evenly."""
    speeds = (*source.batches, *compiled.batches)
    batches = sorted({speed.batch for speed in speeds})
    across = Scale(math.log2(batches[0]), math.log2(batches[-1]), LEFT, RIGHT)
    highest = max(speed.engine_rate for speed in speeds) or 1.0
    step = choose_step(highest, 5)
    upwards = Scale(0, math.ceil(highest * 1.02 / step) * step, BOTTOM, TOP)
    ours, theirs = (_place_line(side, across, upwards) for side in (source, compiled))
    marks = place_names(ours, theirs)
    return RatePlot(
        Frame(
            across=_place_batches(across, batches),
            upwards=tuple(
                Tick(upwards.place(rate), word_tick(rate, step))
                for rate in list_ticks(0, upwards.high, step)
            ),
            left=LEFT,
            right=RIGHT,
        ),
        _draw_line("source", ours, marks[0]),
        _draw_line("compiled", theirs, marks[1]),
    )


def place_names(ours: Dots, theirs: Dots) -> tuple[Mark, Mark]:
    """Place the names of two lines: beside their ends, or above or below one that ends early."""
    (our_x, our_y), (their_x, their_y) = ours[-1], theirs[-1]
    if our_x == their_x:
        our_y, their_y = spread_apart(our_y, their_y)
    return (
        _place_name("source", ours[-1], our_y, theirs),
        _place_name("compiled", theirs[-1], their_y, ours),
    )


def spread_apart(first: float, second: float, distance: float = LINE) -> tuple[float, float]:
    """Move two heights apart, each by as much, where they are nearer than `distance`."""
    missing = distance - abs(first - second)
    if missing <= 0:
        return first, second
    move = missing / 2 if first > second else -missing / 2
    # Not below the frame, where the batch sizes stand.
    surplus = max(0.0, max(first + move, second - move) - BOTTOM)
    return first + move - surplus, second - move - surplus


def _pair(batch: int, source: BatchSpeed | None, compiled: BatchSpeed | None) -> SpeedRow:
    if source is None or compiled is None:
        return SpeedRow(batch, source, compiled, None, None)
    return SpeedRow(
        batch,
        source,
        compiled,
        _divide(compiled.engine_rate, source.engine_rate),
        _divide(compiled.end_to_end_rate, source.end_to_end_rate),
    )


def _divide(new: float, old: float) -> float | None:
    return new / old if old else None


def _place_line(side: Speed, across: Scale, upwards: Scale) -> Dots:
    speeds = sorted(side.batches, key=lambda speed: speed.batch)
    return [
        (across.place(math.log2(speed.batch)), upwards.place(speed.engine_rate)) for speed in speeds
    ]


def _draw_line(name: str, dots: Dots, label: Mark) -> Line:
    return Line(name, " ".join(f"{x},{y}" for x, y in dots), tuple(dots), label)


def _place_name(name: str, end: tuple[float, float], height: float, other: Dots) -> Mark:
    x, y = end
    if x >= other[-1][0]:
        return Mark(x, y, name, x + 14, round(height, 1), "start")
    # The other line goes on to the right: step out of its way.
    middle = sum(each for _, each in other) / len(other)
    above = y <= middle or y > BOTTOM - 32
    return Mark(x, y, name, x, round(y - 20 if above else y + 20, 1), "middle")


def _place_batches(across: Scale, batches: Sequence[int]) -> tuple[Tick, ...]:
    """Label the batch sizes from the left, leaving out those too near to the one before."""
    ticks: list[Tick] = []
    for batch in batches:
        tick = Tick(across.place(math.log2(batch)), f"{batch:,}")
        if not ticks or tick.at - ticks[-1].at >= measure_room(ticks[-1].label, tick.label):
            ticks.append(tick)
    return tuple(ticks)


def measure_room(left: str, right: str) -> float:
    """Give the distance that two centred labels need between their middles."""
    return DIGIT * (len(left) + len(right) + 1) / 2
