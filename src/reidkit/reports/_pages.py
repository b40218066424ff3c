"""From values to HTML: the one template environment, which escapes everything."""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from reidkit import disk
from reidkit.errors import ArgumentError
from reidkit.reports import _wording


def check_path(path: Path) -> None:
    """Refuse a folder where a page is to be written.

    Raises:
        ArgumentError: `path` is a folder.
    """
    if path.is_dir():
        raise ArgumentError(f"{path} is a folder: give the report a file name, such as report.html")


def write_page(path: Path, page: str) -> None:
    """Write a page whole or not at all; missing parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file name that is not valid UTF-8 holds lone surrogates, which no encoding takes.
    disk.write_bytes(path, page.encode("utf-8", "replace"))


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
    environment.filters |= {
        "percent": _wording.format_percent,
        "count": _wording.format_count,
        "exact": _wording.word_exact_percent,
        "points": _wording.word_points,
        "cosine": _wording.word_cosine,
        "figure": _wording.word_figure,
        "rate": _wording.word_rate,
        "milliseconds": _wording.word_milliseconds,
        "bytes": _wording.word_bytes,
    }
    return environment
