"""Moments as people and programs write them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from reidkit.errors import ArgumentError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PERIOD = re.compile(r"(\d{1,9})\s*([smhdw])")


def parse_time(text: str | float) -> float:
    """Give seconds since 1970 (UTC) of an ISO 8601 text, or of such seconds.

    A text without an offset is in UTC.

    Raises:
        ArgumentError: it is neither, or lies beyond the years 1 to 9999.
    """
    try:
        seconds = float(text)
    except (TypeError, ValueError):
        pass
    else:
        if not math.isfinite(seconds):
            raise ArgumentError(f"{text!r} is no time")
        format_time(seconds)
        return seconds
    try:
        moment = datetime.fromisoformat(str(text).strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ArgumentError(
            f"{text!r} is no time: write it as 2026-11-24T20:00:00Z, or as seconds since 1970"
        ) from error


def format_time(seconds: float | None) -> str | None:
    """Give a moment as ISO 8601 in UTC, `None` where it is unknown (`None` or NaN).

    Raises:
        ArgumentError: it lies beyond the years 1 to 9999.
    """
    if seconds is None or math.isnan(seconds):
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ArgumentError(f"{seconds} seconds since 1970 is no time within our era") from error
    return moment.isoformat().replace("+00:00", "Z")


def parse_period(text: str) -> float:
    """Give the seconds of a period such as `30d`, `12h`, `90m`, `45s` or `2w`.

    Raises:
        ArgumentError: something else, or no time at all.
    """
    found = _PERIOD.fullmatch(text.strip().lower())
    if found is None or int(found[1]) == 0:
        raise ArgumentError(
            f"{text!r} is no period: give a whole number and a unit, such as 30d, 12h or 90m"
        )
    return float(int(found[1]) * _UNITS[found[2]])
