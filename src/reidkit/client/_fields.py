"""Pictures, crops and questions as the fields of a form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from reidkit import preprocess
from reidkit.errors import ArgumentError
from reidkit.gallery import Asking, Crops, Picture, format_time

MOST_PICTURES = 16
"""How many pictures one request carries; more go in several requests."""

_MOST_BYTES = 2**24
"""About how many bytes of pictures one request carries."""

Form = Mapping[str, Sequence[str]]


class File(NamedTuple):
    """A picture as it is sent: what it is called there, what it is here, and the bytes."""

    name: str
    source: str
    data: bytes


def read_files(pictures: Sequence[str | Path | Picture]) -> list[File]:
    """Read pictures to be sent.

    Raises:
        ImageError: one that cannot be read.
    """
    return [read_file(picture) for picture in pictures]


def read_file(picture: str | Path | Picture) -> File:
    """Read a picture to be sent; of its path only the last part goes out."""
    if isinstance(picture, Picture):
        source, data = picture.name, preprocess.encode_png(picture.pixels)
    else:
        source, data = str(picture), preprocess.read_bytes(picture)
    return File(Path(source).name, source, data)


def find_place(name: str) -> int:
    """Tell which picture of a request, counted from 0, a service means.

    Raises:
        ValueError: none.
    """
    found = re.match(r"pictures\[(\d+)\]", name)
    if found is None:
        raise ValueError(f"{name!r} names no picture")
    return int(found[1])


def group_crops(crops: Crops) -> Iterator[list[int]]:
    """Give the rows of crops that go together in a request: of one person, camera, time, tags."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for row in range(len(crops)):
        known = (crops.people[row], crops.cameras[row], str(crops.times[row]), crops.tags[row])
        groups.setdefault(known, []).append(row)
    for rows in groups.values():
        together: list[int] = []
        total = 0
        for row in rows:
            size = _find_size(crops.sources[row])
            if together and (len(together) == MOST_PICTURES or total + size > _MOST_BYTES):
                yield together
                together, total = [], 0
            together.append(row)
            total += size
        yield together


def crop_form(crops: Crops, row: int) -> Form:
    """Give what is known of a crop."""
    moment = format_time(float(crops.times[row]))
    return _without_empty(
        {
            "person": [crops.people[row]],
            "camera": [crops.cameras[row]],
            "time": [moment or ""],
            "tag": list(crops.tags[row]),
        }
    )


def asking_form(asking: Asking) -> Form:
    """Give what is asked for.

    Raises:
        ArgumentError: it limits by what a service cannot be asked for.
    """
    where = asking.where
    if where.without or where.added_before is not None:
        raise ArgumentError("a service cannot be asked with `without` or `added_before`")
    times = {"since": where.since, "until": where.until}
    return _without_empty(
        {
            "people": [str(asking.people)],
            "crops": [str(asking.crops)],
            "person": list(where.people or ()),
            "camera": list(where.cameras or ()),
            "tag": list(where.tags),
            **{name: [format_time(t) or ""] for name, t in times.items() if t is not None},
        }
    )


def quote_name(name: str) -> str:
    """Encode a name for a path; `.` and `..` too, which would be steps in it."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")


def _without_empty(form: dict[str, list[str]]) -> Form:
    return {name: kept for name, values in form.items() if (kept := [v for v in values if v])}


def _find_size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return 0  # reading it says what is wrong
