"""Market-1501's layout: three folders of pictures whose names say who was seen and where.

bounding_box_train/0002_c1s1_000451_03.jpg      person 2, camera 1
query/0001_c12s1_001051_00.png                  person 1, camera 12
bounding_box_test/-1_c1s1_000401_03.jpg.jpg     junk: kept in the list, never scored
bounding_box_test/0000_c3s2_000301_01.jpg       a distractor: nobody's picture, scored
"""

from __future__ import annotations

import re
from pathlib import Path

from reidkit.datasets.folders import MARKET_FOLDERS, ThreeFolders, load_folders
from reidkit.datasets.folders import SUFFIXES as SUFFIXES
from reidkit.datasets.folders import natural_key as natural_key
from reidkit.records import Dataset

FOLDERS = MARKET_FOLDERS
"""The folder of each split."""

_NAME = re.compile(r"(-1|\d{1,18})_c(\d{1,18})(?!\d)", re.ASCII)

EXPECTED = f"PERSON_cCAMERA..., as in 0002_c1s1_000451_03.jpg, ending in {', '.join(SUFFIXES)}"
"""What names `parse_name` takes, in words."""


def load(root: Path) -> Dataset:
    """Load the three splits, each in natural order of the file names.

    Person and camera come from the file's name alone, as they stand in it: cameras count from 1,
    -1 is junk and 0 a distractor. `Thumbs.db`, dot files and folders are ignored.

    Raises:
        DatasetError: a split folder is missing, holds files that are no pictures or whose names
            do not parse, or is empty (that of training may be: scoring does not need it).
    """
    return load_folders(root, LAYOUT)


def recognise(root: Path) -> bool:
    """Tell whether any of the split folders is there; sets that follow Market-1501 have them."""
    return any((root / folder).is_dir() for folder in FOLDERS.values())


def parse_name(name: str) -> tuple[int, int] | None:
    """Give the person and camera of a file's name, `None` where it says neither.

    The name starts with the person's number (-1 for junk), `_c` and the camera's number.
    """
    found = _NAME.match(name)
    if found is None or not name.lower().endswith(SUFFIXES):
        return None
    return int(found[1]), int(found[2])


LAYOUT = ThreeFolders("market1501", FOLDERS, parse_name, EXPECTED)
"""The layout as a value."""
