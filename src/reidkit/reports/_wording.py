"""Numbers in words for people, at the precision that a reader can use."""

from __future__ import annotations

import math

NONE = "–"
"""What stands in a table where there is no value."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_percent(fraction: float) -> str:
    """Word a fraction as per cent with one decimal, without the sign: 0.8567 -> `85.7`."""
    return f"{100 * fraction:.1f}"


def format_count(number: int) -> str:
    """Word a whole number with separated thousands: 19732 -> `19,732`."""
    return f"{number:,}"


def word_exact_percent(fraction: float) -> str:
    """Word a fraction as per cent with two decimals: differences of 0.1 points matter."""
    return f"{100 * fraction:.2f}"


def word_points(difference: float) -> str:
    """Word the difference of two fractions in percentage points: `+0.02`, `−0.31`, `0.00`."""
    text = f"{100 * difference:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def word_cosine(cosine: float) -> str:
    """Word a cosine: more decimals near 1, and `1` only for 1 itself and rounding above it."""
    if cosine >= 1:
        return "1"
    decimals = 4 if cosine < 0.99 else 6 if cosine < 0.9999 else 7
    # float32 cosines lie 6e-8 apart; closer to 1 than that still is not 1.
    return f"{min(cosine, 0.9999999):.{decimals}f}".replace("-", "−")


def word_figure(value: float | None) -> str:
    """Word any figure: whole numbers in full, others with five digits, more just below 1.

    `None` is a dash.
    """
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value == int(value) and abs(value) < 10**15:
        text = f"{int(value):,}"
    elif 1e5 <= abs(value) < 1e15:
        text = f"{value:,.0f}"
    elif 1e-4 <= abs(value) < 1e5:
        text = f"{value:.{8 if 0.99 <= value < 1 else 5}g}"
    else:
        digits, exponent = f"{value:.2e}".split("e")
        text = f"{digits} × {word_power(int(exponent), plain=False)}"
    return text.replace("-", "−")


def word_threshold(score: float, metric: str) -> str:
    """Word a score that decides, closer than others; of `euclidean`, the distance, not minus it."""
    if math.isnan(score):
        return NONE
    if metric == "cosine":
        return word_cosine(score)
    return word_figure(-score if metric == "euclidean" else score)


def word_power(exponent: int, *, plain: bool = True) -> str:
    """Word a power of ten: where `plain`, `0.001` to `10,000` in full; others as `10⁻⁵`."""
    if plain and -3 <= exponent <= 4:
        return f"{10**exponent:,}"
    return "10" + str(exponent).translate(SUPERSCRIPTS)


def word_rate(number: float) -> str:
    """Word a rate or a time with about three digits: `0.004`, `7.86`, `41.3`, `1,234`."""
    if number == 0 or not math.isfinite(number):
        return word_figure(number)
    steps = ((0, 99.95), (1, 9.995), (2, 0.0995))
    decimals = next((n for n, least in steps if number >= least), 3)
    return f"{number:,.{decimals}f}"


def word_milliseconds(seconds: float) -> str:
    """Word seconds as milliseconds, without the unit."""
    return word_rate(1000 * seconds)


def word_bytes(size: int) -> str:
    """Word a size in decimal units with three digits: 94_100_000 -> `94.1 MB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{_word_digits(size / factor)} {unit}"
    return f"{size} bytes"


def _word_digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"
