"""Market-1501's layout: three folders of pictures whose names say who was seen and where.

bounding_box_train/0002_c1s1_000451_03.jpg      person 2, camera 1
query/0001_c12s1_001051_00.png                  person 1, camera 12
bounding_box_test/-1_c1s1_000401_03.jpg.jpg     junk: kept in the list, never scored
bounding_box_test/0000_c3s2_000301_01.jpg       a distractor: nobody's picture, scored
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from reidkit.errors import DatasetError, name_some
from reidkit.records import Dataset, Samples

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
"""The folder of each split."""

SUFFIXES = (".jpg", ".jpeg", ".png")

_NAME = re.compile(r"(-1|\d{1,18})_c(\d{1,18})(?!\d)", re.ASCII)
_RUNS = re.compile(r"(\d+)", re.ASCII)


def load(root: Path) -> Dataset:
    """Load the three splits, each in natural order of the file names.

    Person and camera come from the file's name alone, as they stand in it: cameras count from 1,
    -1 is junk and 0 a distractor. `Thumbs.db`, dot files and folders are ignored.

    Raises:
        DatasetError: a split folder is missing, holds files that are no pictures or whose names
            do not parse, or is empty (that of training may be: scoring does not need it).
    """
    _check_folders(root)
    splits = {split: _read_split(root / folder) for split, folder in FOLDERS.items()}
    for split in ("query", "gallery"):
        if not len(splits[split]):
            raise DatasetError(f"{root / FOLDERS[split]} is empty: the split has no pictures")
    return Dataset("market1501", **splits)


def parse_name(name: str) -> tuple[int, int] | None:
    """Give the person and camera of a file's name, `None` where it says neither.

    The name starts with the person's number (-1 for junk), `_c` and the camera's number.
    """
    found = _NAME.match(name)
    if found is None or not name.lower().endswith(SUFFIXES):
        return None
    return int(found[1]), int(found[2])


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Give the key that sorts names by their numbers: `2_c1` before `10_c1`.

    Digit runs count as numbers; names that differ in leading zeros only go by their plain text.
    """
    runs = _RUNS.split(name)
    runs[1::2] = [int(run) for run in runs[1::2]]
    return list(runs), name


def list_folders() -> str:
    """Name the split folders, for messages."""
    return ", ".join(FOLDERS.values())


def find_below(root: Path) -> str:
    """Say where below `root` the split folders are, for messages; empty if nowhere.

    The usual slip is to name the folder that the downloaded archive was unpacked in.
    """
    if not root.is_dir():
        return ""
    folders = sorted(entry.path for entry in os.scandir(root) if entry.is_dir())
    for folder in folders:
        if all((Path(folder) / name).is_dir() for name in FOLDERS.values()):
            return f"; {folder} has them: did you mean that?"
    return ""


def _check_folders(root: Path) -> None:
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DatasetError(
            f"{root} {what}: give the folder that holds {list_folders()} (layout market1501)"
        )
    missing = [name for name in FOLDERS.values() if not (root / name).is_dir()]
    if missing:
        raise DatasetError(
            f"{root} lacks {', '.join(missing)} (layout market1501): it holds "
            f"{_list_contents(root)}{find_below(root)}"
        )


def _list_contents(root: Path) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(root))
    return name_some(names) or "nothing"


def _read_split(folder: Path) -> Samples:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not (_is_ignored(entry.name) or entry.is_dir())]
    names.sort(key=natural_key)
    parsed = [parse_name(name) for name in names]
    bad = [name for name, ids in zip(names, parsed, strict=True) if ids is None]
    if bad:
        raise DatasetError(_explain_bad_names(folder, bad, len(names)))
    ids = np.array([found for found in parsed if found], np.int64).reshape(-1, 2)
    return Samples.from_columns([f"{folder}{os.sep}{name}" for name in names], *ids.T)


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() == "thumbs.db"


def _explain_bad_names(folder: Path, bad: list[str], total: int) -> str:
    more = f"\n  ... and {len(bad) - 10} more" if len(bad) > 10 else ""
    return (
        f"{len(bad)} of {total} files in {folder} have names that do not parse:\n"
        + "\n".join(f"  {name}" for name in bad[:10])
        + f"{more}\nExpected PERSON_cCAMERA..., as in 0002_c1s1_000451_03.jpg, ending in "
        f"{', '.join(SUFFIXES)}: rename or remove them"
    )
