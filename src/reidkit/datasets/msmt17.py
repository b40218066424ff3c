"""MSMT17's layout: four lists, and the pictures of each person in a folder of its own.

list_train.txt      0000/0000_000_01_0303morning_0015_0.jpg 0       picture and person
list_val.txt        one picture in 13 of the training people
list_query.txt      list_gallery.txt
train/  test/                           version 1
mask_train_v2/  mask_test_v2/           version 2: the same pictures with the faces hidden

The camera, 01 to 15, is the third part of a picture's name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from reidkit.datasets.folders import (
    check_listed,
    check_repeated,
    check_root,
    find_below,
    list_contents,
    list_ten,
    read_lines,
)
from reidkit.errors import DatasetError
from reidkit.records import Dataset, Samples

LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
"""The four lists, beside the folders of pictures."""

VERSIONS = {"msmt17-v1": ("train", "test"), "msmt17-v2": ("mask_train_v2", "mask_test_v2")}
"""The folders of each version: of training, and of query and gallery."""

TRAIN_FROM = 10_000
"""Added to the numbers of training people: the lists number both halves from 0."""

_LINE = re.compile(r"(\S.*\S)\s+(\d{1,9})\s*", re.ASCII)
_NAME = re.compile(r"\d+_\d+_(\d{1,9})_", re.ASCII)


def load_v1(root: Path) -> Dataset:
    """Load version 1 as `load_version` does."""
    return load_version(root, "msmt17-v1")


def load_v2(root: Path) -> Dataset:
    """Load version 2 (hidden faces) as `load_version` does."""
    return load_version(root, "msmt17-v2")


def load_version(root: Path, version: str) -> Dataset:
    """Load what the lists name, in their order.

    Training is `list_train.txt` and then `list_val.txt`, which are the same people: most readers
    of the field train on both (32,621 pictures; some on the first alone, 30,248). The lists
    number training people and test people from 0 each, although they are different people: here
    the training people count from 10,000, so that a number means one person.

    Raises:
        DatasetError: lists or folders are missing, lines do not parse, or pictures are missing.
    """
    training, testing = VERSIONS[version]
    _check_contents(root, version)
    train = _read_list(root, "list_train.txt", training)
    validation = _read_list(root, "list_val.txt", training)
    check_repeated(root / "list_val.txt", [*train.paths, *validation.paths])
    query = _read_list(root, "list_query.txt", testing)
    gallery = _read_list(root, "list_gallery.txt", testing)
    for name, samples in (("list_query.txt", query), ("list_gallery.txt", gallery)):
        if not len(samples):
            raise DatasetError(f"{root / name} is empty: the split has no pictures")
    return Dataset(version, _join_training(train, validation), query, gallery)


def recognise_v1(root: Path) -> bool:
    """Tell whether lists stand beside version 1's folders."""
    return _recognise(root, "msmt17-v1")


def recognise_v2(root: Path) -> bool:
    """Tell whether lists stand beside version 2's folders."""
    return _recognise(root, "msmt17-v2")


def _recognise(root: Path, version: str) -> bool:
    listed = any((root / name).is_file() for name in LISTS)
    return listed and any((root / folder).is_dir() for folder in VERSIONS[version])


def _check_contents(root: Path, version: str) -> None:
    expected = (*LISTS, *VERSIONS[version])
    check_root(root, ", ".join(expected), version)
    missing = [name for name in expected if not (root / name).exists()]
    if missing:
        below = find_below(root, lambda folder: _recognise(folder, version))
        raise DatasetError(
            f"{root} lacks {', '.join(missing)} (layout {version}): it holds "
            f"{list_contents(root)}{below}"
        )


def _read_list(root: Path, file: str, folder: str) -> Samples:
    names: list[str] = []
    ids: list[tuple[int, int]] = []
    faults: list[str] = []
    for number, line in enumerate(read_lines(root / file), 1):
        found = _LINE.fullmatch(line)
        name = found[1].replace("\\", "/") if found else ""
        named = _NAME.match(name.rpartition("/")[2])
        if found is None or named is None:
            faults.append(f"line {number}: {line[:100]}")
            continue
        names.append(name)
        ids.append((int(found[2]), int(named[1])))
    if faults:
        raise DatasetError(
            f"{len(faults)} lines of {root / file} cannot be used:{list_ten(faults)}\n"
            "Expected a picture and its person, as in 0000/0000_000_01_0303morning_0015_0.jpg 0"
        )
    check_listed(root / file, root / folder, names)
    paths = [f"{root}{os.sep}{folder}{os.sep}{name}" for name in names]
    return Samples.from_columns(paths, [who for who, _ in ids], [where for _, where in ids])


def _join_training(train: Samples, validation: Samples) -> Samples:
    return Samples.from_columns(
        [*train.paths, *validation.paths],
        [TRAIN_FROM + int(who) for part in (train, validation) for who in part.person_ids],
        [int(where) for part in (train, validation) for where in part.camera_ids],
    )
