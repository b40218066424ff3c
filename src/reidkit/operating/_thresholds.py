"""From counted scores to operating points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import CalibrationError
from reidkit.operating._grid import Grid, count_reaching, find_equal_error, find_threshold
from reidkit.operating._points import EqualError, OperatingPoint, Population, Unsupported
from reidkit.operating._resampling import (
    Accepted,
    correct,
    estimate_accepts,
    estimate_share,
    make_rate,
    vary_share,
)
from reidkit.operating._supporting import explain_nothing, find_missing

_WINDOW = 1.5
"""The error rates between which the slopes at the equal error are taken: times and through."""


@dataclass(frozen=True, slots=True)
class Places:
    """Places on the grid: of the thresholds at the rates asked for, and of the equal error."""

    points: tuple[int, ...]
    equal_error: int

    @property
    def listed(self) -> list[int]:
        """All of them, as `AtThresholds.divide` takes what was found there."""
        return [*self.points, self.equal_error]


@dataclass(frozen=True, slots=True, eq=False)
class AtThresholds:
    """What the thresholds accept: those at the rates asked for, and that of the equal error."""

    points: tuple[Accepted, ...]
    equal_error: Accepted

    @classmethod
    def divide(cls, found: Sequence[Accepted]) -> AtThresholds:
        """Take what was found at the places `Places.listed`, in their order."""
        return cls(tuple(found[:-1]), found[-1])


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The scores of all pairs, counted.

    Columns:
        genuine, impostor: (length,) int64, pairs by the place of their score on the grid.
        genuine_pairs: (U,) int64, genuine pairs of each unit.
    """

    grid: Grid
    genuine: NDArray[np.int64]
    impostor: NDArray[np.int64]
    genuine_pairs: NDArray[np.int64]

    def choose_places(self, rates: Sequence[float]) -> Places:
        """Give the places of the thresholds at some false-accept rates, and of the equal error."""
        reaching = count_reaching(self.impostor)
        return Places(
            tuple(find_threshold(reaching, rate) for rate in rates),
            find_equal_error(count_reaching(self.genuine), reaching)[0],
        )

    def rates(self, places: Sequence[int]) -> list[float]:
        """Give the shares of impostor pairs that thresholds accept."""
        reaching = count_reaching(self.impostor)
        return [float(reaching[place] / reaching[0]) for place in places]


def measure(
    scored: Scored,
    rates: Sequence[float],
    accepted: AtThresholds,
    *,
    weights: NDArray[np.float32],
    population: Population,
    labelled: bool,
) -> tuple[tuple[OperatingPoint, ...], tuple[Unsupported, ...], EqualError]:
    """Give the points at the rates, the rates that are not supported, and the equal error.

    `accepted` are what the thresholds of `Scored.choose_places` accept.

    Raises:
        CalibrationError: no rate is supported.
    """
    points, unsupported = [], []
    places = scored.choose_places(rates).points
    for rate, place, found in zip(rates, places, accepted.points, strict=True):
        missing = find_missing(rate, population, found, labelled=labelled)
        if missing is not None:
            unsupported.append(missing)
            continue
        points.append(
            OperatingPoint(
                rate,
                scored.grid.threshold(place),
                FAR=estimate_accepts(found, population.impostor_pairs, population.people),
                TAR=estimate_share(found.genuine, scored.genuine_pairs, weights),
            )
        )
    if not points:
        raise CalibrationError(explain_nothing(unsupported))
    equal_error = _measure_equal_error(scored, accepted.equal_error, weights, population)
    return tuple(points), tuple(unsupported), equal_error


def _measure_equal_error(
    scored: Scored, accepted: Accepted, weights: NDArray[np.float32], population: Population
) -> EqualError:
    """Give the equal error rate; both curves move as people are drawn again.

    Where they then cross follows from their slopes: a flat curve hardly moves with the threshold.
    """
    genuine, impostor = count_reaching(scored.genuine), count_reaching(scored.impostor)
    place, rate = find_equal_error(genuine, impostor)
    low = find_threshold(impostor, min(1.0, rate * _WINDOW)) - 1
    high = find_threshold(impostor, rate / _WINDOW)
    falling = (impostor[low] - impostor[high]) / impostor[0]
    rising = (genuine[low] - genuine[high]) / genuine[0]
    share = rising / (falling + rising) if falling + rising > 0 else 0.5
    refused = -vary_share(accepted.genuine, scored.genuine_pairs, weights)
    moved = share * accepted.deviations + (1 - share) * refused
    variance = correct(float(moved.var()), share**2 * accepted.surplus)
    people = min(population.people, int(np.count_nonzero(scored.genuine_pairs)))
    return EqualError(
        scored.grid.threshold(place),
        make_rate(rate, variance, most=population.impostor_pairs, freedom=max(1, people - 1)),
    )
