"""What a gallery takes for a name, a tag, a source and a moment."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError

LONGEST_NAME = 200
"""The most characters of a person's, a camera's or a tag's name."""

LONGEST_SOURCE = 4096
MOST_TAGS = 32

EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_799.0
"""The years 1 to 9999, in seconds since 1970 (UTC)."""

_INVISIBLE = frozenset("\u200b\u200e\u200f\u2060\ufeff\u00ad\u061c") | frozenset(
    map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)
"""Zero-width spaces and what changes the direction of writing. Joiners are parts of words."""


def check_name(text: object, what: str) -> str:
    """Give a name without blanks around it, in Unicode's composed form (NFC).

    Raises:
        ArgumentError: not a text, longer than 200 characters, or with control characters.
    """
    if not isinstance(text, str):
        raise ArgumentError(f"{what}: {text!r} is no text")
    text = unicodedata.normalize("NFC", text.strip())
    if len(text) > LONGEST_NAME:
        raise ArgumentError(f"{what}: {len(text)} characters are too long, at most {LONGEST_NAME}")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ArgumentError(f"{what}: {text!r} holds control characters")
    if not _INVISIBLE.isdisjoint(text):
        raise ArgumentError(
            f"{what}: {text!r} holds characters that are not seen, or that turn the writing "
            "round: two names could look alike"
        )
    return text


def check_tags(tags: object) -> tuple[str, ...]:
    """Give tags as a sorted tuple of different names.

    Raises:
        ArgumentError: not a sequence of names, an empty one, or more than 32.
    """
    if isinstance(tags, str) or not isinstance(tags, Sequence):
        raise ArgumentError(f"tags are {tags!r}, expected a sequence of names")
    names = tuple(sorted({check_name(tag, "tags") for tag in tags}))
    if "" in names or len(names) > MOST_TAGS:
        raise ArgumentError(f"tags are {names}, expected at most {MOST_TAGS}, none empty")
    return names


def check_source(source: object) -> None:
    """Refuse what no store can keep; file names that are not Unicode are kept as they are.

    Raises:
        ArgumentError: not a text, longer than 4,096 characters, or with a NUL.
    """
    if not isinstance(source, str):
        raise ArgumentError(f"a source is {source!r}, expected a text")
    if len(source) > LONGEST_SOURCE or "\0" in source:
        raise ArgumentError(
            f"a source of {len(source)} characters: at most {LONGEST_SOURCE}, none of them NUL"
        )


def check_moments(seconds: NDArray[np.float64], what: str) -> None:
    """Refuse moments (N,), in seconds since 1970 (UTC), that no calendar has; NaN is unknown.

    Raises:
        ArgumentError: see above.
    """
    known = seconds[~np.isnan(seconds)]
    if len(known) and not (known.min() >= EARLIEST and known.max() <= LATEST):
        raise ArgumentError(f"{what}: a moment lies beyond the years 1 to 9999")
