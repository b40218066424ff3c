"""The table of scores of each pair of cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.reports._wording import NONE, format_count, format_percent
from reidkit.scoring import CameraScores

CAMERAS = 40
"""How many cameras a side has at most; of more, those with the most queries are shown."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A pair of cameras: mAP in words, its shade from 0 to 1, and more to be read.

    Where no query could be scored, `shade` is `None`.
    """

    text: str
    shade: float | None
    details: str
    weakest: bool = False


@dataclass(frozen=True, slots=True)
class CameraRow:
    """The queries of one camera."""

    camera: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Weakest:
    """The pair of cameras with the lowest mAP; `queries` is how many it stands on."""

    query_camera: int
    gallery_camera: int
    mAP: float
    queries: int


@dataclass(frozen=True, slots=True)
class CameraTable:
    """The table ready to write; `lowest` and `highest` mAP have the shades 0 and 1.

    `query_cameras` and `gallery_cameras` are how many there are, shown or not. `gaps` tells whether
    a pair shown has no query to score.
    """

    columns: tuple[int, ...]
    rows: tuple[CameraRow, ...]
    lowest: float
    highest: float
    weakest: Weakest | None
    query_cameras: int
    gallery_cameras: int
    gaps: bool


def plan_cameras(found: CameraScores) -> CameraTable:
    """Lay out the table: a row for each camera of the queries, a column for each of the gallery.

    Shades run from the lowest mAP of the table to its highest; where they are equal, all are
    halfway. The weakest pair is not singled out then.
    """
    rows, columns = (_choose_cameras(found.queries, axis) for axis in (1, 0))
    shown = found.mAP[np.ix_(rows, columns)]
    counted = shown[~np.isnan(shown)]
    lowest, highest = (
        (float(counted.min()), float(counted.max())) if len(counted) else (math.nan, math.nan)
    )
    weakest = None
    if lowest < highest:
        row, column = np.unravel_index(int(np.nanargmin(shown)), shown.shape)
        weakest = (int(rows[row]), int(columns[column]))
    return CameraTable(
        tuple(found.gallery_cameras[columns].tolist()),
        tuple(_plan_row(found, row, columns.tolist(), weakest, (lowest, highest)) for row in rows),
        lowest,
        highest,
        _describe(found, weakest) if weakest else None,
        len(found.query_cameras),
        len(found.gallery_cameras),
        len(counted) < shown.size,
    )


def _choose_cameras(queries: NDArray[np.int64], axis: int) -> NDArray[np.intp]:
    """Give the places of the cameras with the most queries, in their own order."""
    return np.sort(np.argsort(-queries.sum(axis=axis), kind="stable")[:CAMERAS])


def _plan_row(
    found: CameraScores,
    row: int,
    columns: Sequence[int],
    weakest: tuple[int, int] | None,
    range_of_mAP: tuple[float, float],
) -> CameraRow:
    cells = []
    for column in columns:
        mAP, count = float(found.mAP[row, column]), int(found.queries[row, column])
        if math.isnan(mAP):
            cells.append(Cell(NONE, None, "no query can be scored"))
            continue
        lowest, highest = range_of_mAP
        shade = (mAP - lowest) / (highest - lowest) if highest > lowest else 0.5
        rank1 = format_percent(float(found.rank1[row, column]))
        queries = f"{format_count(count)} {'query' if count == 1 else 'queries'}"
        details = f"Rank-1 {rank1} %, {queries}"
        cells.append(Cell(format_percent(mAP), shade, details, (row, column) == weakest))
    return CameraRow(int(found.query_cameras[row]), tuple(cells))


def _describe(found: CameraScores, place: tuple[int, int]) -> Weakest:
    row, column = place
    return Weakest(
        int(found.query_cameras[row]),
        int(found.gallery_cameras[column]),
        float(found.mAP[place]),
        int(found.queries[place]),
    )
