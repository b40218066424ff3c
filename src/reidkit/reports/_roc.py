"""The receiver operating characteristic: a plot and a table of thresholds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reidkit.reports._axes import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Frame,
    Mark,
    Scale,
    Tick,
    place_powers,
)
from reidkit.reports._plots import Curve, place_mark
from reidkit.reports._wording import NONE, format_percent, word_figure, word_threshold
from reidkit.scoring import Verification

LOWEST = -6
"""The power of ten where the axis starts, if the pairs reach as far down."""


@dataclass(frozen=True, slots=True)
class RateRow:
    """A false-positive rate, and in words its threshold and the true-positive rate there.

    `few` is true where the pairs are too few to tell.
    """

    rate: str
    threshold: str
    found: str
    few: bool


def plan_roc(found: Verification) -> Curve:
    """Lay out the ROC: false-positive rate on a logarithmic axis, true-positive rate upwards.

    The axis starts at 10⁻⁶, or where one pair of all would be the only false positive. The rates
    that were asked for become marks, if they lie on it and the pairs can tell.
    """
    across = Scale(_find_start(found.different), 0, LEFT, RIGHT)
    upwards = Scale(0, 1, BOTTOM, TOP)
    false, true = found.roc.T
    # What lies left of the axis is drawn at its start: the highest rate that was reached there.
    limit = 10**across.low * (1 + 1e-9)
    first = max(int(np.searchsorted(false, limit, side="right")) - 1, 0)
    points = [
        (_place_rate(across, rate), upwards.place(share))
        for rate, share in zip(false[first:].tolist(), true[first:].tolist(), strict=True)
    ]
    return Curve(
        frame=Frame(
            across=place_powers(across, 6),
            upwards=tuple(Tick(upwards.place(n / 100), str(n)) for n in range(0, 101, 20)),
        ),
        points=" ".join(f"{x},{y}" for x, y in points),
        marks=tuple(
            _mark_rate(across, upwards, rate, share)
            for rate, share in _list_known(found)
            if limit <= rate * (1 + 2e-9) and rate <= 1
        ),
    )


def list_rates(found: Verification) -> list[RateRow]:
    """Give the table of the false-positive rates asked for."""
    columns = (found.false_positive_rates, found.thresholds, found.true_positive_rates)
    return [
        RateRow(
            f"{word_figure(100 * rate)}",
            word_threshold(threshold, found.metric),
            NONE if math.isnan(share) else format_percent(share),
            math.isnan(threshold),
        )
        for rate, threshold, share in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _find_start(different: int) -> float:
    # One decade at the least, however few the pairs are.
    return min(max(-math.log10(max(different, 1)), LOWEST), -1)


def _place_rate(across: Scale, rate: float) -> float:
    return across.place(max(math.log10(rate), across.low)) if rate > 0 else across.start


def _list_known(found: Verification) -> list[tuple[float, float]]:
    known = ~np.isnan(found.true_positive_rates)
    rates, shares = found.false_positive_rates[known], found.true_positive_rates[known]
    return list(zip(rates.tolist(), shares.tolist(), strict=True))


def _mark_rate(across: Scale, upwards: Scale, rate: float, share: float) -> Mark:
    return place_mark(_place_rate(across, rate), upwards.place(share), format_percent(share))
