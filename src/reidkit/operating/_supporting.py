"""Whether the data supports a rate: nothing is extrapolated.

Doddington's rule of 30 (Doddington, Przybocki, Martin and Reynolds, "The NIST speaker recognition
evaluation", Speech Communication, 2000): an error rate is known to 30 % with 90 % confidence from
30 errors on. It counts independent trials, and all pictures of two persons make many pairs that
go wrong together; so the false accepts must come from some pairs of persons, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from reidkit.errors import ArgumentError
from reidkit.operating._points import Population, Unsupported
from reidkit.operating._resampling import Accepted

EXPECTED = 30
"""False accepts that must be expected."""

FEWEST_PEOPLE = 20
FEWEST_COUPLES = 10
"""Pairs of different people that the false accepts must come from."""


def check_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """Give the rates in order, each once.

    Raises:
        ArgumentError: there are none, or one is not between 0 and 1.
    """
    for rate in rates:
        if not 0 < rate < 1:
            raise ArgumentError(
                f"the false-accept rate {rate:g} was asked for, expected numbers between 0 and 1, "
                "such as 0.001"
            )
    if not len(rates):
        raise ArgumentError("no false-accept rate was asked for: give some, such as 0.001")
    return tuple(sorted({float(rate) for rate in rates}))


def find_missing(
    rate: float, population: Population, accepted: Accepted, *, labelled: bool
) -> Unsupported | None:
    """Say what the data lacks for a rate, or give `None` where it supports it."""
    what = "people" if labelled else "tracks"
    pairs, people = population.impostor_pairs, population.people
    expected, found = pairs * rate, round(pairs * accepted.rate)
    growth = 1.0
    if people < FEWEST_PEOPLE:
        reason = f"{people} {what} are fewer than {FEWEST_PEOPLE}"
    elif expected < EXPECTED:
        reason = (
            f"{pairs:,} impostor pairs give {expected:.2g} false accepts, and it takes {EXPECTED}"
        )
    elif found < expected / 2:
        reason = (
            "too many impostor pairs have equal scores: the threshold above them accepts "
            f"{found:,} pairs where {expected:,.0f} were asked for"
        )
    elif accepted.couples < FEWEST_COUPLES:
        reason = (
            f"its {found:,} false accepts come from {accepted.couples} pairs of {what}, and it "
            f"takes {FEWEST_COUPLES}"
        )
        growth = FEWEST_COUPLES / accepted.couples
    else:
        return None
    growth = max(growth, EXPECTED / expected)
    # All people are compared with each other, but tracks only with those beside them.
    larger = math.sqrt(growth) if labelled else growth
    return Unsupported(
        rate,
        reason,
        pairs_needed=math.ceil(max(pairs * growth, EXPECTED / rate)),
        people_needed=max(FEWEST_PEOPLE, math.ceil(people * larger)),
    )


def explain_nothing(unsupported: Sequence[Unsupported]) -> str:
    """Say why no rate that was asked for is supported."""
    reasons = "; ".join(
        f"{each.asked:g}: {each.reason} (about {each.people_needed:,} would do)"
        for each in unsupported
    )
    return (
        f"the data supports none of the false-accept rates asked for: {reasons}. Calibrate on "
        "more people, or ask for a higher rate"
    )
