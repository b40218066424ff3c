"""DukeMTMC-reID's layout: Market-1501's folders, and the frame in each picture's name.

bounding_box_train/0001_c2_f0046182.jpg     person 1, camera 2, frame 46182
query/0005_c2_f0046985.jpg
bounding_box_test/0002_c1_f0044158.jpg

Its authors withdrew the pictures in 2019: copies are still around, and the numbers of many papers
rest on them. Occluded-Duke has the same layout.
"""

from __future__ import annotations

import re
from pathlib import Path

from reidkit.datasets.folders import (
    MARKET_FOLDERS,
    SUFFIXES,
    ThreeFolders,
    load_folders,
    show_names,
)
from reidkit.records import Dataset

_NAME = re.compile(r"(\d{1,18})_c(\d{1,18})_f\d+", re.ASCII)


def load(root: Path) -> Dataset:
    """Load the three splits, each in natural order of the file names.

    Person and camera come from the file's name, as they stand in it. There is no junk; 408
    people of the gallery are never asked for.

    Raises:
        DatasetError: a split folder is missing, holds files that are no pictures or whose names
            do not parse, or is empty (that of training may be).
    """
    return load_folders(root, LAYOUT)


def recognise(root: Path) -> bool:
    """Tell whether the pictures of Market-1501's folders are named like DukeMTMC-reID's."""
    names = show_names(root)
    return bool(names) and all(parse_name(name) for name in names)


def parse_name(name: str) -> tuple[int, int] | None:
    """Give the person and camera of a name such as `0001_c2_f0046182.jpg`, or `None`."""
    found = _NAME.match(name)
    if found is None or not name.lower().endswith(SUFFIXES):
        return None
    return int(found[1]), int(found[2])


LAYOUT = ThreeFolders(
    "dukemtmc",
    MARKET_FOLDERS,
    parse_name,
    f"PERSON_cCAMERA_fFRAME, as in 0001_c2_f0046182.jpg, ending in {', '.join(SUFFIXES)}",
)
"""The layout as a value."""
