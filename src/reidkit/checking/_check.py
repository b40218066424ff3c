"""The check: load, look at every picture, compare, and say it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reidkit.checking._duplicates import find_duplicates, find_near
from reidkit.checking._findings import list_findings
from reidkit.checking._looking import Looks, look_at
from reidkit.checking._people import (
    find_repeated_names,
    find_shared_people,
    find_single_camera,
    find_unscored,
)
from reidkit.checking._rows import Pictures, list_rows
from reidkit.checking._values import DatasetCheck, SmallPicture
from reidkit.datasets import find_layout, load_dataset
from reidkit.datasets.published import compare_sizes
from reidkit.records import Progress
from reidkit.scoring import MARKET1501, Protocol

SMALLEST_WIDTH, SMALLEST_HEIGHT = 16, 32
"""Pictures narrower or lower than this are named, in pixels."""


def check_dataset(
    root: str | Path,
    layout: str | None = None,
    *,
    protocol: Protocol = MARKET1501,
    progress: Progress | None = None,
) -> DatasetCheck:
    """Check a data set: each picture is decoded once, in threads.

    `layout` is one of `datasets.LAYOUTS`, found out where it is `None`; `protocol` says which
    queries have an answer. It takes about 0.5 kB of
    memory a picture. Scores are said to be wrong where pictures cannot be read, people are in
    training and in the test, equal pictures are in training and in the test, belong to different
    people or give a query a hit by another camera, or no query has an answer.

    Raises:
        DatasetError: `root` has not the layout, or none or several layouts fit it.
    """
    root = Path(root)
    layout = layout or find_layout(root)
    dataset = load_dataset(layout, root)
    rows = list_rows(dataset)
    looks = look_at(rows.samples.paths, progress)
    unscored = find_unscored(dataset, protocol)
    check = DatasetCheck(
        root=str(root),
        layout=layout,
        sizes=compare_sizes(dataset),
        scored_queries=len(dataset.query) - len(unscored),
        unreadable=looks.unreadable,
        shared_people=find_shared_people(rows),
        duplicates=find_duplicates(looks, rows),
        near=find_near(looks, rows),
        unscored=unscored,
        single_camera=find_single_camera(rows),
        repeated_names=find_repeated_names(rows),
        small=_find_small(looks, rows),
        findings=(),
    )
    return list_findings(check)


def _find_small(looks: Looks, rows: Pictures) -> tuple[SmallPicture, ...]:
    height, width = looks.shapes.T
    small = looks.readable & ((height < SMALLEST_HEIGHT) | (width < SMALLEST_WIDTH))
    return tuple(
        SmallPicture(rows.picture(row), int(width[row]), int(height[row]))
        for row in np.flatnonzero(small).tolist()
    )
