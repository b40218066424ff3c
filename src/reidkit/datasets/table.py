"""A table of pictures: a CSV file with the columns `path, person_id, camera_id, split`.

    path,person_id,camera_id,split
    crops/a.jpg,17,3,query
    crops/b.jpg,17,5,gallery

Paths are relative to the CSV file's folder, or absolute. The split is `train`, `query` or
`gallery`; person id -1 is junk. Other columns and blank lines are ignored. UTF-8, with or without
a byte order mark.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import NamedTuple

from reidkit.datasets.folders import check_repeated, list_ten
from reidkit.errors import DatasetError
from reidkit.records import Dataset, Samples

FILE = "dataset.csv"
"""The name of the CSV file where a folder is given in its place."""

COLUMNS = ("path", "person_id", "camera_id", "split")
SPLITS = ("train", "query", "gallery")

_PERSON = re.compile(r"-1|\d{1,18}", re.ASCII)
_CAMERA = re.compile(r"-?\d{1,18}", re.ASCII)


class _Row(NamedTuple):
    path: str
    person_id: int
    camera_id: int
    split: str


def load(root: Path) -> Dataset:
    """Load a CSV file, or the `dataset.csv` of a folder; rows keep their order in each split.

    A split without rows is empty. Whether the pictures exist is not checked here.

    Raises:
        DatasetError: no such file, columns are missing, it is not UTF-8 text, or rows have an
            empty path, an id that is no whole number or an unknown split (with line numbers), or a
            split names a picture twice.
    """
    file = root / FILE if root.is_dir() else root
    if not file.is_file():
        raise DatasetError(
            f"{file} does not exist: give a CSV file with the columns {', '.join(COLUMNS)}, "
            f"or a folder that holds one called {FILE} (layout table)"
        )
    rows = _read_rows(file)
    for split in SPLITS:
        check_repeated(file, [row.path for row in rows if row.split == split])
    splits = {split: _select(rows, split) for split in SPLITS}
    return Dataset("table", **splits)


def recognise(root: Path) -> bool:
    """Tell whether `root` is a CSV file, or a folder that holds `dataset.csv`."""
    if root.is_file():
        return root.suffix.lower() == ".csv"
    return (root / FILE).is_file()


def _read_rows(file: Path) -> list[_Row]:
    rows: list[_Row] = []
    faults: list[str] = []
    folder = str(file.parent)
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            places = _find_columns(file, next(reader, []))
            for fields in reader:
                if not any(field.strip() for field in fields):
                    continue
                row = _parse(fields, places, folder)
                if isinstance(row, str):
                    faults.append(f"line {reader.line_num}: {row}")
                else:
                    rows.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} is not a CSV file in UTF-8: {error}") from error
    if faults:
        raise DatasetError(
            f"{len(faults)} rows of {file} cannot be used:{list_ten(faults)}\n"
            "Correct or remove them"
        )
    if not rows:
        raise DatasetError(f"{file} holds no rows under its header: there are no pictures")
    return rows


def _find_columns(file: Path, header: list[str]) -> list[int]:
    """Give the place of each of `COLUMNS` in the header."""
    names = [name.strip() for name in header]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise DatasetError(
            f"{file} lacks the columns {', '.join(missing)}: its first line must name "
            f"{', '.join(COLUMNS)}, and it names {', '.join(names) or 'nothing'}"
        )
    return [names.index(name) for name in COLUMNS]


def _parse(fields: list[str], places: list[int], folder: str) -> _Row | str:
    """Give one row, or what is wrong with it."""
    if len(fields) <= max(places):
        return f"{len(fields)} fields, expected at least {max(places) + 1}"
    path, person, camera, split = (fields[place].strip() for place in places)
    if not path:
        return "the path is empty"
    if not _PERSON.fullmatch(person):
        return f"person_id is {person!r}, expected a whole number, or -1 for junk"
    if not _CAMERA.fullmatch(camera):
        return f"camera_id is {camera!r}, expected a whole number"
    if split not in SPLITS:
        return f"split is {split!r}, expected one of {', '.join(SPLITS)}"
    return _Row(os.path.join(folder, path), int(person), int(camera), split)  # noqa: PTH118


def _select(rows: list[_Row], split: str) -> Samples:
    chosen = [row for row in rows if row.split == split]
    return Samples.from_columns(
        [row.path for row in chosen],
        [row.person_id for row in chosen],
        [row.camera_id for row in chosen],
    )
