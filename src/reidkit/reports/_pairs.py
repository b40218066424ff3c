"""The geometry of the scores of pairs: of the same person, and of different people."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.reports._axes import (
    BOTTOM,
    LEFT,
    RIGHT,
    Frame,
    Mark,
    Scale,
    Tick,
    choose_step,
    list_ticks,
    word_tick,
)
from reidkit.reports._wording import word_threshold
from reidkit.scoring import Verification

TOP = 64
"""Lower than elsewhere: the threshold is written above the plot."""

STEPS = 5
JOINED = 2
"""How many of the measured bins make one that is drawn."""

NARROWEST = 1e-6
"""The narrowest axis, as a share of its scores: below this only rounding shows."""


@dataclass(frozen=True, slots=True)
class PairHistogram:
    """Both histograms ready to draw: `same` and `different` are data of closed SVG paths."""

    frame: Frame
    same: str
    different: str
    threshold: Mark


def plan_pairs(found: Verification, threshold: float) -> PairHistogram:
    """Lay out the histograms of both kinds of pairs, each in per cent of its own pairs.

    More alike is to the right: a Euclidean axis runs from far to near. The `threshold`, a score
    as people read it, becomes a line, at the edge where it lies outside the plot.
    """
    starts = np.arange(0, len(found.same_counts), JOINED)
    edges = np.append(found.edges[:-1][starts], found.edges[-1])
    shares = [
        100 * np.add.reduceat(counts, starts) / max(pairs, 1)
        for counts, pairs in (
            (found.same_counts, found.same),
            (found.different_counts, found.different),
        )
    ]
    across = _span_scores(float(edges[0]), float(edges[-1]))
    step = choose_step(float(max(share.max() for share in shares)), STEPS)
    top = step * math.ceil(max(share.max() for share in shares) / step - 1e-9)
    upwards = Scale(0, top, BOTTOM, TOP)
    same, different = (_draw_steps(edges, share, across, upwards) for share in shares)
    ticks = tuple(Tick(upwards.place(n), word_tick(n, step)) for n in list_ticks(0, top, step))
    frame = Frame(across=_place_scores(across, found.metric), upwards=ticks, top=TOP)
    return PairHistogram(frame, same, different, _place_threshold(across, threshold, found.metric))


def _span_scores(low: float, high: float) -> Scale:
    middle = (low + high) / 2
    half = max((high - low) / 2, NARROWEST * max(abs(middle), NARROWEST))
    return Scale(middle - half, middle + half, LEFT, RIGHT)


def _place_scores(across: Scale, metric: str) -> tuple[Tick, ...]:
    step = choose_step(across.high - across.low, STEPS)
    # Scores of distances are below 0, people read distances above it.
    sign = -1 if metric == "euclidean" else 1
    ticks = list_ticks(across.low, across.high, step)
    return tuple(
        Tick(across.place(tick), word_tick(sign * tick, step).replace("-", "−")) for tick in ticks
    )


def _draw_steps(
    edges: NDArray[np.float64], shares: NDArray[np.float64], across: Scale, upwards: Scale
) -> str:
    """Draw the outline of bars that touch each other."""
    ends = [across.place(edge) for edge in edges.tolist()]
    heights = [upwards.place(share) for share in shares.tolist()]
    steps = "".join(f"V{y}H{x}" for x, y in zip(ends[1:], heights, strict=True))
    return f"M{ends[0]},{BOTTOM}{steps}V{BOTTOM}Z"


def _place_threshold(across: Scale, threshold: float, metric: str) -> Mark:
    x = across.place(min(max(threshold, across.low), across.high))
    room = 90
    anchor = "start" if x < LEFT + room else "end" if x > RIGHT - room else "middle"
    return Mark(x, TOP, f"threshold {word_threshold(threshold, metric)}", x, TOP - 8, anchor)
