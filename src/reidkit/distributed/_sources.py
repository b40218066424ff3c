"""What is to be embedded, cut into the pieces that tasks read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reidkit.datasets.images import SUFFIXES
from reidkit.distributed._arrow import arrow, parquet
from reidkit.distributed._pieces import ParquetShard, Pictures, Piece, TarShard
from reidkit.distributed._places import Place, find_place, show_address
from reidkit.errors import DatasetError, name_some
from reidkit.records import JUNK, Samples

_SHARDS = frozenset({".tar", ".parquet"})

_AT_ONCE = 16
"""Shards that are looked at at once: an object store makes each wait."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be embedded: numbered pieces, in the order that their vectors will have.

    Fields:
        pieces: what tasks read.
        rows: the pictures in it; `None` where only reading the shards will tell.
        sha256: of the pictures' names and ids, or of the shards' names, sizes and times.
        folders: what was searched for them.
    """

    pieces: tuple[Piece, ...]
    rows: int | None
    sha256: str
    folders: tuple[str, ...] = ()


def find_source(addresses: Sequence[str], *, size: int) -> Source:
    """Find pictures and shards: files and folders on this machine or in an object store.

    A folder stands for the files below it, in sorted order: pictures, tar files (`.tar`), Parquet
    files (`.parquet`). Pictures are cut into pieces of `size`.

    Raises:
        DatasetError: an address does not exist, or a folder holds none of these.
        StoreError: the file system failed.
    """
    pieces: list[Piece] = []
    folders = []
    for address in addresses:
        place = find_place(address)
        if place.is_folder():
            folders.append(place.identity)
            files = place.list_files()
            if not files:
                raise DatasetError(f"{place} holds no files")
            pieces += _cut(place, files, size)
        elif not place.exists():
            raise DatasetError(f"{place} does not exist")
        elif place.suffix in _SHARDS:
            pieces += _cut(place, [place], size)
        else:  # who names a file means a picture, whatever it is called
            pieces += _cut_pictures([place], size)
    return dataclasses.replace(_describe(pieces), folders=tuple(folders))


def cut_samples(samples: Samples, *, size: int) -> Source:
    """Cut samples into pieces of `size` pictures.

    Raises:
        DatasetError: the name of a picture is not UTF-8, which Parquet demands.
    """
    paths = np.array([str(Path(path).absolute()) for path in samples.paths], np.object_)
    _check_names(paths.tolist())
    columns = (paths, samples.person_ids, samples.camera_ids)
    pieces: list[Piece] = []
    for start in range(0, len(samples), size):
        names, people, cameras = (column[start : start + size].tolist() for column in columns)
        pieces.append(Pictures("", tuple(names), tuple(people), tuple(cameras)))
    return _describe(pieces)


def _cut(place: Place, files: Sequence[Place], size: int) -> Iterator[Piece]:
    """Cut the files below an address; pictures between two shards stay in order."""
    pictures: list[Place] = []
    known = False
    for file in files:
        suffix = file.suffix
        if suffix in SUFFIXES:
            pictures.append(file)
        elif suffix in _SHARDS:
            yield from _cut_pictures(pictures, size)
            pictures = []
            yield from [TarShard(file)] if suffix == ".tar" else _cut_parquet(file)
        known = known or suffix in SUFFIXES | _SHARDS
    yield from _cut_pictures(pictures, size)
    if not known:
        kinds = ", ".join(sorted(SUFFIXES | _SHARDS))
        raise DatasetError(f"{place} holds neither pictures nor shards ({kinds})")


def _cut_pictures(pictures: Sequence[Place], size: int) -> Iterator[Pictures]:
    names = [place.below or place.address for place in pictures]
    _check_names(names)
    root = pictures[0].address if pictures and pictures[0].below else ""
    for start in range(0, len(names), size):
        part = tuple(names[start : start + size])
        nobody = (JUNK,) * len(part)
        yield Pictures(root, part, nobody, nobody)


def _cut_parquet(file: Place) -> Iterator[ParquetShard]:
    try:
        with file.open() as opened:
            groups = parquet().ParquetFile(opened).metadata.num_row_groups
    except (OSError, arrow().ArrowException):
        groups = 1  # a damaged file: its reader says so
    for group in range(groups):
        yield ParquetShard(file, group)


def _check_names(names: Sequence[str]) -> None:
    bad = [ascii(name) for name in names if not _is_utf8(name)]
    if bad:
        raise DatasetError(
            f"{len(bad)} file names are not UTF-8, which Parquet demands: rename {name_some(bad)}"
        )


def _is_utf8(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _describe(pieces: Sequence[Piece]) -> Source:
    """Count and hash; the hash says nothing of how pictures are cut, nor of options."""
    digest = hashlib.sha256()
    rows: int | None = 0
    shards = {piece.place for piece in pieces if not isinstance(piece, Pictures)}
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="reidkit-reader") as pool:
        stamps = dict(zip(shards, pool.map(Place.stamp, shards), strict=True))
    for piece in pieces:
        if isinstance(piece, Pictures):
            columns = (piece.names, piece.person_ids, piece.camera_ids)
            for name, person, camera in zip(*columns, strict=True):
                shown = [show_address(piece.root), name if piece.root else show_address(name)]
                digest.update(json.dumps([*shown, person, camera]).encode())
            rows = None if rows is None else rows + len(piece.names)
        else:
            group = piece.group if isinstance(piece, ParquetShard) else None
            shard = [str(piece.place), stamps[piece.place], group]
            digest.update(json.dumps(shard).encode())
            rows = None
    return Source(tuple(pieces), rows, digest.hexdigest())
