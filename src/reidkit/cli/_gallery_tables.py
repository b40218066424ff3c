"""Tables of crops that `gallery add --csv` reads, and that an export of a gallery holds."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _gallery_options

if TYPE_CHECKING:
    from reidkit.gallery import Crops

_PATHS = ("path", "picture", "source")
"""The columns that may name a crop's file; the first that is filled in does."""

_SHA256 = re.compile("[0-9a-f]{64}")

Row = dict[str, str | None]


def read_table(file: Path) -> Crops:
    """Make crops of a CSV file with the columns `path` and `person`, `camera`, `time`, `tags`.

    Tags have blanks between them, and quotes around those with blanks inside, as in a shell. Paths
    are relative to the file's folder. The table that a gallery exports is read too: its paths are
    in `picture` or `source`.

    Raises:
        DatasetError: it is no such file, or rows are wrong, with their lines.
    """
    from reidkit.errors import ArgumentError, DatasetError

    def make(row: Row, _: int) -> Crops:
        path = next((row[name] for name in _PATHS if row.get(name)), None)
        if not path:
            raise ArgumentError("path is empty")
        return _make_crop(row, sources=[str(file.parent / path)])

    def check(names: Sequence[str]) -> None:
        if "person" not in names or not set(_PATHS) & set(names):
            raise DatasetError(f"{file} lacks a column: path and person are needed")

    return _read(file, check, make)


def read_rows(file: Path, paths: Sequence[str]) -> Crops:
    """Make crops of the table beside an embeddings folder, row by row those of its N `paths`.

    Sources are taken as they are, and `sha256` is what a crop is known by.

    Raises:
        DatasetError: it is no such file, rows are wrong, with their lines, or not the folder's.
    """
    from reidkit.errors import ArgumentError, DatasetError

    def make(row: Row, number: int) -> Crops:
        source, crop, digest = (row.get(name) or "" for name in ("source", "crop", "sha256"))
        # A source may be empty: an export then names the crop.
        if crop and number < len(paths) and paths[number] != (source or f"crop {crop}"):
            raise ArgumentError(f"{source or crop} is not what the vector there is of")
        if digest and not _SHA256.fullmatch(digest):
            raise ArgumentError(f"sha256 {digest!r} is not 64 hexadecimal digits")
        return _make_crop(row, sources=[source or row.get("path") or ""], digests=[digest])

    def check(names: Sequence[str]) -> None:
        if "person" not in names:
            raise DatasetError(f"{file} lacks the column person")

    crops = _read(file, check, make)
    if len(crops) != len(paths):
        raise DatasetError(f"{file} has {len(crops):,} rows for {len(paths):,} vectors")
    return crops


def _read(
    file: Path, check: Callable[[Sequence[str]], None], make: Callable[[Row, int], Crops]
) -> Crops:
    """Make a crop of each row, and complain of all wrong ones together."""
    from reidkit.errors import DatasetError, ReidkitError
    from reidkit.gallery import join_crops

    parts: list[Crops] = []
    faults: list[str] = []
    try:
        # An export writes the names of files that are no Unicode so.
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            check(reader.fieldnames or ())
            for number, row in enumerate(reader):
                try:
                    parts.append(make(row, number))
                except (ReidkitError, click.BadParameter) as error:
                    faults.append(f"line {reader.line_num}: {error}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{file} is not a CSV file in UTF-8 that can be read: {error}"
        ) from error
    if faults:
        more = f" and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise DatasetError(f"rows of {file} cannot be used: {'; '.join(faults[:10])}{more}")
    return join_crops(parts)


def _make_crop(row: Row, **columns: object) -> Crops:
    from reidkit.errors import ArgumentError
    from reidkit.gallery import Crops

    person, camera, time, tags = (
        (row.get(name) or "").strip() for name in ("person", "camera", "time", "tags")
    )
    if not person:
        raise ArgumentError("person is empty")
    try:
        names = tuple(shlex.split(tags))
    except ValueError as error:
        raise ArgumentError(f"tags {tags!r}: {error}") from error
    if time:
        columns["times"] = [_gallery_options.moment(time)]
    return Crops.make(1, people=[person], cameras=[camera], tags=[names], **columns)
