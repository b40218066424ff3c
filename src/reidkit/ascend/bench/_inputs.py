"""Files in their order, and which of them go into which run."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from reidkit.errors import AscendError

SUFFIXES = (".npy", ".NPY", ".bin", ".BIN")
"""The files that count in a folder."""

Row = TypeVar("Row")

PURE = "pure_infer_data"
"""What stands for a file in pure inference."""


@dataclass(frozen=True, slots=True)
class Share:
    """The part of the files that one of several devices gets, counted from 0."""

    index: int
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Which files go into which run.

    Fields:
        files: for each input its N files, in order.
        per_run: files that a run takes of each input.
        pure: there are no files: `files` holds a stand-in.
    """

    files: tuple[tuple[str, ...], ...]
    per_run: int
    pure: bool = False

    @property
    def count(self) -> int:
        """The number of files of each input."""
        return len(self.files[0])

    @property
    def runs(self) -> int:
        """The number of runs; the last one may be padded."""
        return -(-self.count // self.per_run)

    def take(self, run: int) -> tuple[tuple[str, ...], ...]:
        """Give, for each input, the files of a run, without padding."""
        part = slice(run * self.per_run, (run + 1) * self.per_run)
        return tuple(files[part] for files in self.files)


def plan_pure(inputs: int) -> Plan:
    """Plan one run without files."""
    return Plan(((PURE,),) * inputs, per_run=1, pure=True)


def find_files(given: Sequence[str], inputs: int) -> tuple[tuple[str, ...], ...]:
    """Give the files of each of a model's inputs.

    The first of `given` decides: a folder means that there is a folder for each input, a file that
    all are files, those of the first input first.

    Raises:
        AscendError: neither a file nor a folder, another number of folders than inputs, a folder
            without usable files, or files that cannot be divided among the inputs.
    """
    for name in given:
        if not name or not Path(name).exists():  # an empty name would be the current folder
            raise AscendError(f"Invalid args. {name}  of --input is invalid: there is no such file")
    if Path(given[0]).is_dir():
        return _find_in_folders(given, inputs)
    folders = [name for name in given if Path(name).is_dir()]
    if folders:
        raise AscendError(
            f"Invalid args. {folders[0]}  of --input is invalid: it is a folder, but {given[0]} is "
            "a file; give files only or folders only"
        )
    return _divide(given, inputs)


def sort_naturally(paths: Sequence[str]) -> list[str]:
    """Sort paths so that numbers in them count as numbers and case does not matter.

    Paths that are equal in this are in plain order.
    """
    return sorted(sorted(paths), key=_natural_key)


def limit_files(
    files: tuple[tuple[str, ...], ...], limit: int | None
) -> tuple[tuple[str, ...], ...]:
    """Take the first `limit` files of each input."""
    return tuple(names[:limit] for names in files)


def share_files(
    files: tuple[tuple[str, ...], ...], share: Share | None
) -> tuple[tuple[str, ...], ...]:
    """Take a device's share of the files of each input.

    All shares have ceil(N / devices) files but the last ones, which may have fewer or none.
    """
    if share is None:
        return files
    size = -(-len(files[0]) // share.count)
    return tuple(names[share.index * size : (share.index + 1) * size] for names in files)


def pad(rows: list[Row], per_run: int) -> list[Row]:
    """Fill up a run with its own first file."""
    return rows + rows[:1] * (per_run - len(rows))


def _natural_key(path: str) -> list[str | int]:
    # Text and numbers take turns, text first, so that like is compared with like.
    parts = re.split(r"(\d+)", path)
    return [int(part) if place % 2 else part.lower() for place, part in enumerate(parts)]


def _find_in_folders(folders: Sequence[str], inputs: int) -> tuple[tuple[str, ...], ...]:
    if len(folders) != inputs:
        raise AscendError(
            f"Invalid args. args input dir num:{len(folders)} not equal to model inputs "
            f"num:{inputs}"
        )
    files = tuple(tuple(_list_folder(folder)) for folder in folders)
    for folder, names in zip(folders, files, strict=True):
        if len(names) != len(files[0]):
            raise AscendError(
                f"{folder} holds {len(names)} files, but {folders[0]} holds {len(files[0])}: each "
                "run takes one of each"
            )
    return files


def _list_folder(folder: str) -> list[str]:
    if not Path(folder).is_dir():
        raise AscendError(f"Invalid args. {folder}  of --input is invalid: it is not a folder")
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.endswith(SUFFIXES)]
    if not names:
        raise AscendError(
            f"{folder} of input args not find valid file,valid file format:"
            f"[{' '.join('*' + suffix for suffix in SUFFIXES)}]"
        )
    # A Path would drop a leading ./, and the summary names files as they were given.
    return sort_naturally([os.path.join(folder, name) for name in names])  # noqa: PTH118


def _divide(names: Sequence[str], inputs: int) -> tuple[tuple[str, ...], ...]:
    size = len(names) // inputs
    chunks = -(-len(names) // size) if size else 0
    if chunks != inputs:
        raise AscendError(
            f"fileslist:{chunks} intensor:{inputs} not match: {len(names)} files cannot be divided "
            f"among {inputs} inputs"
        )
    return tuple(tuple(names[i * size : (i + 1) * size]) for i in range(inputs))
