"""Pictures -> one `.bin` a picture, as the guide's inference tool reads them.

A file holds the raw bytes of the network's input for one picture, made by `preprocess` and
nothing else. A file appears whole or not at all, and the manifest that says that all are there
is written last.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import os
import shutil
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from reidkit import disk, preprocess
from reidkit.ascend.manifests import BinKind, Manifest, PreparedFile, make_way, write_manifest
from reidkit.datasets.market1501 import natural_key, parse_name
from reidkit.errors import (
    ArgumentError,
    AscendError,
    DatasetError,
    ImageError,
    UnreadableImage,
    UnreadableImagesError,
)
from reidkit.machine import available_cores
from reidkit.package import InputSpec, Takes
from reidkit.records import JUNK, Progress

PICTURES_A_TASK = 8
"""Pictures that a thread prepares between two looks at whether it should stop."""


@dataclass(frozen=True, slots=True)
class BinSpec:
    """What a file holds.

    `float32`: the normalised picture, (3, H, W) in the contract's colour order. `uint8`: its
    resized pixels, (H, W, 3) RGB, for a model that normalises by itself.
    """

    contract: InputSpec = field(default_factory=InputSpec)
    dtype: Literal["float32", "uint8"] = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "uint8"):
            raise ArgumentError(f"dtype is {self.dtype!r}, expected float32 or uint8")

    @property
    def takes(self) -> Takes:
        """What a runtime for these files takes."""
        return "tensor" if self.dtype == "float32" else "pixels"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one picture."""
        height, width = self.contract.height, self.contract.width
        return (3, height, width) if self.takes == "tensor" else (height, width, 3)

    @property
    def kind(self) -> BinKind:
        """What the manifest says of all files.

        The hash is that of the contract with its output half (neck, flip, unit length) as it is
        by default, since that half makes no difference to a picture.
        """
        pictures = dataclasses.replace(self.contract, neck="after", flip=False, unit_length=True)
        return BinKind(pictures.sha256, self.dtype, self.shape)

    @property
    def file_size(self) -> int:
        """The bytes of one file."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class SourcePictures:
    """The pictures of one or more folders.

    Fields:
        folders: where they lie.
        pictures: name of the prepared file -> path of the picture, in natural order.
        junk: pictures of person id -1 that were left out.
        skipped: names of what was not taken for a picture: dot files, `.db` files and folders.
    """

    folders: tuple[Path, ...]
    pictures: Mapping[str, str]
    junk: int = 0
    skipped: tuple[str, ...] = ()


def find_pictures(folders: Sequence[str | Path], *, skip_junk: bool = False) -> SourcePictures:
    """List the pictures of folders: whatever lies there, but for what the guide's script skips.

    `skip_junk` leaves out what market1501's rules call person -1.

    Raises:
        DatasetError: a folder does not exist, is none, or holds no pictures.
        ArgumentError: no folder, or one given twice.
        AscendError: two pictures would be prepared as one file.
    """
    paths = tuple(map(Path, folders))
    _check_sources(paths)
    pictures: dict[str, str] = {}
    skipped: list[str] = []
    junk = 0
    for folder in paths:
        with os.scandir(folder) as entries:
            listed = {entry.name: _is_skipped(entry) for entry in entries}
        skipped += sorted(name for name, is_skipped in listed.items() if is_skipped)
        names = sorted((name for name, skip in listed.items() if not skip), key=natural_key)
        if not names:
            raise DatasetError(f"{folder} holds no pictures: {len(listed)} other files and folders")
        kept = [name for name in names if not (skip_junk and _is_junk(name))]
        junk += len(names) - len(kept)
        _add_pictures(pictures, folder, kept)
    if not pictures:
        raise DatasetError(f"there is nothing to prepare: all {junk} pictures are junk")
    return SourcePictures(paths, pictures, junk, tuple(skipped))


def cut_name(name: str) -> str:
    """Give a file's name up to its first dot, which is how the guide's steps know a picture."""
    return name.partition(".")[0]


def write_bins(
    found: SourcePictures,
    folder: str | Path,
    *,
    spec: BinSpec | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Write one file for each picture, and a manifest when all are there.

    An existing folder is added to; files of the same names are replaced. `workers` threads
    prepare pictures (None: one a core). The same call again finishes what a killed run began.

    Raises:
        UnreadableImagesError: naming every picture that could not be decoded; all others are
            written, and no manifest lists them.
        ArgumentError: `folder` is a source or no folder, or `workers` is below 1.
        MismatchError: the folder holds prepared pictures of another kind.
        AscendError: a file could not be written.
    """
    folder, spec = Path(folder), spec or BinSpec()
    if workers is not None and workers < 1:
        raise ArgumentError(f"workers is {workers}, expected at least 1")
    _check_destination(folder, found.folders)
    try:
        with disk.hold(folder / ".preparing.lock", f"preparing pictures into {folder}"):
            return _write_all(found, folder, spec, workers=workers, progress=progress)
    except OSError as error:
        raise AscendError(
            _explain_failed_writing(error, folder, len(found.pictures), spec)
        ) from error


def _write_all(
    found: SourcePictures,
    folder: Path,
    spec: BinSpec,
    *,
    workers: int | None,
    progress: Progress | None,
) -> Manifest:
    """Write all files and then the manifest, into a folder that nobody else writes into."""
    files: dict[str, PreparedFile] = {}
    unreadable: list[UnreadableImage] = []
    total = len(found.pictures)
    make_way(folder, found.pictures.keys(), spec.kind)
    with closing(
        _prepare_all(found.pictures, folder, spec, workers or available_cores())
    ) as preparing:
        for prepared in preparing:
            files |= prepared.files
            unreadable += prepared.unreadable
            if progress is not None:
                progress(len(files) + len(unreadable), total)
    if unreadable:
        raise UnreadableImagesError(unreadable, total, " and prepare them again")
    manifest = Manifest(spec.kind, files, found.junk, len(found.skipped))
    write_manifest(folder, manifest)
    return manifest


class _Prepared(NamedTuple):
    files: dict[str, PreparedFile]
    unreadable: list[UnreadableImage]


def _prepare_all(
    pictures: Mapping[str, str], folder: Path, spec: BinSpec, workers: int
) -> Generator[_Prepared]:
    """Prepare pictures in threads; each holds one picture at a time. Results come in order."""
    items = list(pictures.items())
    starts = range(0, len(items), PICTURES_A_TASK)
    tasks = (items[start : start + PICTURES_A_TASK] for start in starts)
    # Named after the files, so that the same call again removes what a killed one had begun.
    staging = folder / f".preparing-{disk.sha256_json(list(pictures))[:12]}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    prepare = functools.partial(_prepare_some, folder=folder, staging=staging, spec=spec)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reidkit-preprocess")
    try:
        yield from pool.map(prepare, tasks)
    finally:
        # What was not begun never is: an interruption ends within a few pictures.
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(staging, ignore_errors=True)


def _prepare_some(
    items: Iterable[tuple[str, str]], folder: Path, staging: Path, spec: BinSpec
) -> _Prepared:
    # Threads that write into one folder wait for each other: each has one of its own.
    staging = staging / threading.current_thread().name
    staging.mkdir(exist_ok=True)
    (row,) = preprocess.empty_batch(1, spec.contract, spec.takes)
    done = _Prepared({}, [])
    for name, path in items:
        try:
            preprocess.load_image(path, spec.contract, row, takes=spec.takes)
        except ImageError as error:
            (folder / name).unlink(missing_ok=True)  # an older picture's
            done.unreadable.append(UnreadableImage(path, error.reason))
            continue
        _write(folder / name, staging / name, row.data)
        sha256 = hashlib.sha256(row.data).hexdigest()
        done.files[name] = PreparedFile(row.nbytes, sha256, Path(path).name)
    return done


def _write(path: Path, temporary: Path, data: memoryview) -> None:
    """Write a file whole or not at all, but without waiting for the disk, unlike `disk`."""
    with temporary.open("wb") as file:
        file.write(data)
    temporary.replace(path)


def _check_sources(folders: Sequence[Path]) -> None:
    if not folders:
        raise ArgumentError("no folder of pictures was given")
    for folder in folders:
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            raise DatasetError(f"{folder} {what}: give a folder of pictures")
    seen: dict[str, Path] = {}
    for folder in folders:
        first = seen.setdefault(os.path.realpath(folder), folder)
        if first is not folder:
            raise ArgumentError(f"{first} and {folder} are the same folder: give it once")


def _check_destination(folder: Path, sources: Sequence[Path]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ArgumentError(f"{folder} is not a folder: the prepared pictures need one")
    if any(folder.samefile(source) for source in sources):
        raise ArgumentError(
            f"{folder} is a folder of pictures to prepare: write the prepared ones to another"
        )


def _is_skipped(entry: os.DirEntry[str]) -> bool:
    return entry.name.startswith(".") or ".db" in entry.name.lower() or entry.is_dir()


def _is_junk(name: str) -> bool:
    parsed = parse_name(name)
    return parsed is not None and parsed[0] == JUNK


def _add_pictures(pictures: dict[str, str], folder: Path, names: Iterable[str]) -> None:
    for name in names:
        bin_name, path = f"{cut_name(name)}.bin", f"{folder}{os.sep}{name}"
        first = pictures.setdefault(bin_name, path)
        if first != path:
            raise AscendError(
                f"{first} and {path} would both be prepared as {bin_name}, and one of them would "
                "be lost: rename one (names are cut at the first dot)"
            )


def _explain_failed_writing(error: OSError, folder: Path, count: int, spec: BinSpec) -> str:
    what = f"{error.filename or folder} could not be written: {error.strerror or error}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return what
    return (
        f"{what}. {count:,} pictures of {spec.file_size:,} bytes take up "
        f"{count * spec.file_size / 1e9:.2f} GB; run it again when there is room"
    )
