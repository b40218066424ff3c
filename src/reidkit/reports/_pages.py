"""From values to HTML: the one template environment, which escapes everything."""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: object) -> str:
    """Fill in a template of this package; every text in `values` is escaped."""
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reidkit.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = format_percent
    environment.filters["count"] = format_count
    return environment


def format_percent(fraction: float) -> str:
    """Word a fraction as per cent with one decimal, without the sign: 0.8567 -> `85.7`."""
    return f"{100 * fraction:.1f}"


def format_count(number: int) -> str:
    """Word a whole number with separated thousands: 19732 -> `19,732`."""
    return f"{number:,}"
