"""What layouts share: folders of pictures whose names say who was seen, and lists of pictures.

Most data sets of the field are three folders, one a split, and each picture's name carries the
person and the camera; what differs is how the folders and the pictures are named.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reidkit.errors import DatasetError, name_some
from reidkit.records import Dataset, Samples

MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
"""The folder of each split in Market-1501 and the sets that follow it."""

SUFFIXES = (".jpg", ".jpeg", ".png")

_SHOWN = 100
"""A set is known by this many of its names."""

_RUNS = re.compile(r"(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ThreeFolders:
    """A layout of three folders, one a split.

    `name` is the layout's; `folders` gives the folder of `train`, `query` and `gallery`; `parse`
    the person and camera of a file's name, `None` where it says neither; `expected` says in
    words what names `parse` takes, with an example.
    """

    name: str
    folders: Mapping[str, str]
    parse: Callable[[str], tuple[int, int] | None]
    expected: str

    def describe(self) -> str:
        """Name the split folders, for messages."""
        return ", ".join(self.folders.values())


def load_folders(root: Path, layout: ThreeFolders) -> Dataset:
    """Load the three splits, each in natural order of the file names.

    `Thumbs.db`, dot files and folders are ignored.

    Raises:
        DatasetError: a split folder is missing, holds files that are no pictures or whose names
            do not parse, or is empty (that of training may be: scoring does not need it).
    """
    check_folders(root, layout)
    splits = {split: read_split(root / name, layout) for split, name in layout.folders.items()}
    for split in ("query", "gallery"):
        if not len(splits[split]):
            place = root / layout.folders[split]
            raise DatasetError(f"{place} is empty: the split has no pictures")
    return Dataset(layout.name, **splits)


def check_folders(root: Path, layout: ThreeFolders) -> None:
    """Refuse a root that lacks one of the split folders.

    Raises:
        DatasetError: saying what is there instead, and whether a folder below is the right one.
    """
    check_root(root, layout.describe(), layout.name)
    missing = [name for name in layout.folders.values() if not (root / name).is_dir()]
    if missing:

        def holds_all(folder: Path) -> bool:
            return all((folder / name).is_dir() for name in layout.folders.values())

        raise DatasetError(
            f"{root} lacks {', '.join(missing)} (layout {layout.name}): it holds "
            f"{list_contents(root)}{find_below(root, holds_all)}"
        )


def check_root(root: Path, expected: str, layout: str) -> None:
    """Refuse a root that is not a folder; `expected` names what it should hold.

    Raises:
        DatasetError: no such folder.
    """
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DatasetError(
            f"{root} {what}: give the folder that holds {expected} (layout {layout})"
        )


def read_split(folder: Path, layout: ThreeFolders) -> Samples:
    """Read one folder of named pictures, in natural order of the names.

    Raises:
        DatasetError: files are no pictures, or their names do not parse.
    """
    return read_names(folder, list_files(folder), layout)


def read_names(folder: Path, names: Sequence[str], layout: ThreeFolders) -> Samples:
    """Make samples of pictures in one folder, in the order given.

    Raises:
        DatasetError: names do not parse.
    """
    parsed = [layout.parse(name) for name in names]
    bad = [name for name, ids in zip(names, parsed, strict=True) if ids is None]
    if bad:
        raise DatasetError(
            f"{len(bad)} of {len(names)} files in {folder} have names that do not parse:"
            f"{list_ten(bad)}\nExpected {layout.expected}: rename or remove them"
        )
    ids = np.array([found for found in parsed if found], np.int64).reshape(-1, 2)
    return Samples.from_columns([f"{folder}{os.sep}{name}" for name in names], *ids.T)


def list_files(folder: Path) -> list[str]:
    """List a folder's files in natural order, without dot files, `Thumbs.db` and folders."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not (_is_ignored(e.name) or _is_folder(e))]
    return sorted(names, key=natural_key)


def show_names(root: Path) -> list[str]:
    """Give some names of the first of Market-1501's folders that holds pictures, queries first."""
    for split in ("query", "gallery", "train"):
        folder = root / MARKET_FOLDERS[split]
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            pictures = (e.name for e in entries if e.name.lower().endswith(SUFFIXES))
            names = list(itertools.islice((n for n in pictures if n[0] != "."), _SHOWN))
        if names:
            return names
    return []


def check_listed(source: Path, folder: Path, names: Iterable[str]) -> None:
    """Refuse a list that names pictures which are not there, or one of them twice.

    `names` are paths relative to `folder`, with `/` between their parts. Each folder that they
    lie in is read once, which is quicker than asking for each of 100,000 files.

    Raises:
        DatasetError: naming the pictures, how many they are, and the list `source`.
    """
    names = list(names)
    outside = [n for n in names if n.startswith("/") or ".." in n.split("/")]
    if outside:
        raise DatasetError(
            f"{source} names {len(outside)} of {len(names)} pictures that lie outside {folder}:"
            f"{list_ten(outside)}\nTake the list of this data set"
        )
    check_repeated(source, names)
    present: dict[str, set[str]] = {}
    missing: list[str] = []
    for name in names:
        below, _, file = name.rpartition("/")
        if below not in present:
            present[below] = _list_names(folder / below)
        if file not in present[below]:
            missing.append(name)
    if missing:
        raise DatasetError(
            f"{source} names {len(missing)} of {len(names)} pictures that are not in {folder}:"
            f"{list_ten(missing)}\nUnpack the data set again, or take the list of this version"
        )


def check_repeated(source: Path, names: Sequence[str]) -> None:
    """Refuse a list that names a picture twice: it would be counted twice.

    Raises:
        DatasetError: naming the pictures and how often each is there.
    """
    repeated = [f"{name}: {n} times" for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise DatasetError(
            f"{source} names {len(repeated)} pictures more than once within a split:"
            f"{list_ten(repeated)}\nRemove the repeated lines: they would be counted twice"
        )


def read_lines(file: Path) -> list[str]:
    """Read the lines of a list, without blank ones at its end.

    Raises:
        DatasetError: the file is not UTF-8 text.
    """
    try:
        return file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is not a list in UTF-8: {error}") from error


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Give the key that sorts names by their numbers: `2_c1` before `10_c1`.

    Digit runs count as numbers; names that differ in leading zeros only go by their plain text.
    """
    runs = _RUNS.split(name)
    runs[1::2] = [int(run) for run in runs[1::2]]
    return list(runs), name


def list_ten(lines: Sequence[str]) -> str:
    """Put at most ten lines below a message, and how many more there are."""
    more = f"\n  ... and {len(lines) - 10} more" if len(lines) > 10 else ""
    return "".join(f"\n  {line}" for line in lines[:10]) + more


def list_contents(root: Path) -> str:
    """Name some of what a folder holds, for messages."""
    names = sorted(entry.name + "/" * _is_folder(entry) for entry in os.scandir(root))
    return name_some(names) or "nothing"


def find_below(root: Path, wanted: Callable[[Path], bool]) -> str:
    """Say which folder just below `root` is the wanted one, for messages; empty if none.

    The usual slip is to name the folder that the downloaded archive was unpacked in.
    """
    if not root.is_dir():
        return ""
    for folder in sorted(entry.path for entry in os.scandir(root) if _is_folder(entry)):
        if wanted(Path(folder)):
            return f"; {folder} has them: did you mean that?"
    return ""


def _list_names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder; a link that leads round in circles is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() == "thumbs.db"
