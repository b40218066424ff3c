"""Sightings: where and when each crop of own footage was taken, and in which track.

    path,camera,frame,track
    crops/000017_3.jpg,north door,17,3
    crops/000017_4.jpg,north door,17,4

Paths are relative to the CSV file's folder, or absolute. In place of `frame`, a whole number,
there may be `time`: seconds, or a date and time such as 2026-03-01T12:00:07.25. A track is one
person followed by one camera; its name may come again at another camera, and is empty for a crop
that no tracker followed. The columns may be in any order, others and blank lines are ignored.
UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import datetime
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import DatasetError, ShapeError, name_some

UNTRACKED = -1
"""The track of a crop that no tracker followed."""

_COLUMNS = ("path", "camera", "track")
_MOMENTS = ("frame", "time")


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """S crops: by which camera, when, and in which track.

    Columns:
        paths: (S,) object, each a `str`, no two alike.
        cameras: (S,) int64.
        moments: (S,) float64, seconds or frame numbers; equal ones of a camera are one frame.
        tracks: (S,) int64, numbers that no two cameras share; -1 where nobody was followed.
    """

    paths: NDArray[np.object_]
    cameras: NDArray[np.int64]
    moments: NDArray[np.float64]
    tracks: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("cameras", "moments", "tracks"):
            shape = getattr(self, name).shape
            if shape != self.paths.shape:
                raise ShapeError(f"Sightings.{name} has shape {shape}, expected {self.paths.shape}")
        _check_once(self.paths.tolist())
        wrong = np.flatnonzero(~np.isfinite(self.moments))
        if len(wrong):
            raise ShapeError(
                f"Sightings.moments holds NaN or infinity in {len(wrong)} rows, first in row "
                f"{wrong[0]} ({self.paths[wrong[0]]})"
            )

    def __len__(self) -> int:
        return len(self.paths)


def _check_once(paths: list[str]) -> None:
    first: dict[str, int] = {}
    for row, path in enumerate(paths):
        earlier = first.setdefault(path, row)
        if earlier != row:
            raise ShapeError(
                f"Sightings.paths names a picture twice: {path} in the rows {earlier} and {row}"
            )


class _Row(NamedTuple):
    path: str
    camera: str
    moment: float
    track: str


def read_sightings(path: str | Path) -> Sightings:
    """Read sightings from a CSV file; whether the pictures exist is not checked.

    Raises:
        DatasetError: no such file, columns are missing, it is not UTF-8 text, or rows have an
            empty field, a frame or time that is none, or a picture that came before: with line
            numbers.
    """
    file = Path(path)
    if not file.is_file():
        raise DatasetError(
            f"{file} does not exist: give a CSV file with the columns path, camera, track and "
            "frame or time"
        )
    rows = _read_rows(file)
    paths = np.empty(len(rows), np.object_)
    paths[:] = [row.path for row in rows]
    tracked = [(row.camera, row.track) for row in rows]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(tracked)) if key[1]}
    cameras = {name: number for number, name in enumerate(dict.fromkeys(r.camera for r in rows))}
    return Sightings(
        paths,
        np.array([cameras[row.camera] for row in rows], np.int64),
        np.array([row.moment for row in rows], np.float64),
        np.array([numbers.get(key, UNTRACKED) for key in tracked], np.int64),
    )


def _read_rows(file: Path) -> list[_Row]:
    rows: dict[str, _Row] = {}
    lines: dict[str, int] = {}
    faults: list[str] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            places = _find_columns(file, next(reader, []))
            for fields in reader:
                if not any(field.strip() for field in fields):
                    continue
                row = _parse(fields, places, str(file.parent))
                if isinstance(row, _Row) and row.path in rows:
                    row = f"{row.path} came before, in line {lines[row.path]}"
                if isinstance(row, _Row):
                    rows[row.path], lines[row.path] = row, reader.line_num
                else:
                    faults.append(f"line {reader.line_num}: {row}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} is not a CSV file in UTF-8: {error}") from error
    if faults:
        raise DatasetError(
            f"{len(faults)} rows of {file} cannot be used: {name_some(faults)}. Correct or "
            "remove them"
        )
    if not rows:
        raise DatasetError(f"{file} holds no rows under its header: there are no crops")
    return list(rows.values())


def _find_columns(file: Path, header: list[str]) -> dict[str, int]:
    """Give the place of each column; of `frame` and `time` the first that there is."""
    places = {name.strip(): place for place, name in reversed(list(enumerate(header)))}
    missing = [name for name in _COLUMNS if name not in places]
    moments = [name for name in _MOMENTS if name in places]
    if not moments:
        missing.append("frame or time")
    if missing:
        named = ", ".join(reversed(places)) or "nothing"
        raise DatasetError(
            f"{file} lacks the columns {', '.join(missing)}: its first line must name path, "
            f"camera, track and frame or time, and it names {named}"
        )
    return {name: places[name] for name in (*_COLUMNS, moments[0])}


def _parse(fields: list[str], places: dict[str, int], folder: str) -> _Row | str:
    """Give one row, or what is wrong with it."""
    if len(fields) <= max(places.values()):
        return f"{len(fields)} fields, expected at least {max(places.values()) + 1}"
    values = {name: fields[place].strip() for name, place in places.items()}
    empty = [name for name, value in values.items() if not value and name != "track"]
    if empty:
        return f"the {empty[0]} is empty"
    name = "frame" if "frame" in values else "time"
    moment = _parse_moment(values[name], whole=name == "frame")
    if moment is None:
        expected = "a whole number" if name == "frame" else "seconds, or a date and time"
        return f"the {name} is {values[name]!r}, expected {expected}"
    # Path.resolve would ask the disk for each.
    path = os.path.abspath(os.path.join(folder, values["path"]))  # noqa: PTH100, PTH118
    return _Row(path, values["camera"], moment, values["track"])


def _parse_moment(text: str, *, whole: bool) -> float | None:
    """Give a frame's number or a time in seconds, `None` where it is neither."""
    try:
        moment = int(text) if whole else float(text)
        return float(moment) if math.isfinite(moment) and abs(moment) < 2**53 else None
    except (ValueError, OverflowError):
        pass
    if whole:
        return None
    try:
        date = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    # A clock without a time zone is taken as it is: only equality and order matter.
    return (date if date.tzinfo else date.replace(tzinfo=datetime.UTC)).timestamp()
