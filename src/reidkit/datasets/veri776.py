"""VeRi-776's layout: vehicles, three folders of pictures whose names say which and where.

image_train/0001_c001_00016450_0.jpg        vehicle 1, camera 1
image_query/  image_test/
name_train.txt  name_query.txt  name_test.txt       one picture a line; read where they are

A vehicle takes the person's place throughout. Every query picture is in the test folder too: the
same vehicle seen by the same camera is never scored, so that this does no harm.
"""

from __future__ import annotations

from pathlib import Path

from reidkit.datasets import market1501
from reidkit.datasets.folders import (
    SUFFIXES,
    ThreeFolders,
    check_folders,
    check_listed,
    read_lines,
    read_names,
    read_split,
)
from reidkit.errors import DatasetError
from reidkit.records import Dataset, Samples

FOLDERS = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
"""The folder of each split."""

LISTS = {"train": "name_train.txt", "query": "name_query.txt", "gallery": "name_test.txt"}
"""The list of each split, where there is one."""

LAYOUT = ThreeFolders(
    "veri776",
    FOLDERS,
    market1501.parse_name,
    f"VEHICLE_cCAMERA_..., as in 0001_c001_00016450_0.jpg, ending in {', '.join(SUFFIXES)}",
)
"""The layout as a value."""


def load(root: Path) -> Dataset:
    """Load the three splits: what the list names, in its order, else the folder's pictures.

    Vehicle and camera come from the file's name, as they stand in it. Pictures that a list does
    not name are left out.

    Raises:
        DatasetError: a folder is missing, names do not parse, a list names pictures that are not
            there, or query or gallery is empty.
    """
    check_folders(root, LAYOUT)
    splits = {split: _read(root, split) for split in FOLDERS}
    for split in ("query", "gallery"):
        if not len(splits[split]):
            raise DatasetError(f"{root / FOLDERS[split]} is empty: the split has no pictures")
    return Dataset(LAYOUT.name, **splits)


def recognise(root: Path) -> bool:
    """Tell whether any of the split folders is there."""
    return any((root / folder).is_dir() for folder in FOLDERS.values())


def _read(root: Path, split: str) -> Samples:
    folder, file = root / FOLDERS[split], root / LISTS[split]
    if not file.is_file():
        return read_split(folder, LAYOUT)
    names = [line.strip() for line in read_lines(file) if line.strip()]
    check_listed(file, folder, names)
    return read_names(folder, names, LAYOUT)
