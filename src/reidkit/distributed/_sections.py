"""Crops made ready in tasks: sections of a piece, each of which becomes one part of the result."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.distributed._crops import read_crops
from reidkit.distributed._pieces import Crop, Piece
from reidkit.errors import ImageError, UnreadableImage
from reidkit.package import InputSpec


@dataclass(frozen=True, slots=True)
class SectionNames:
    """Which crops a section holds.

    Fields:
        piece, section: its numbers; `last` where the piece ends with it.
        names, person_ids, camera_ids: of its N crops.
        unreadable: those that cannot be decoded.
        rows: (U,) where they are among the N; a shard's own fault has no row.
    """

    piece: int
    section: int
    last: bool
    names: tuple[str, ...]
    person_ids: tuple[int, ...]
    camera_ids: tuple[int, ...]
    unreadable: tuple[UnreadableImage, ...] = ()
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """The crops of a section, resized: `pixels` are (N, H, W, 3) uint8 RGB."""

    about: SectionNames
    pixels: NDArray[np.uint8]


def read_sections(
    number: int, piece: Piece, contract: InputSpec, *, size: int, done: Collection[int] = ()
) -> Iterator[Section]:
    """Read a piece in sections of `size` crops, the last one of fewer; at least one.

    Sections that are `done` are passed over: their crops are read, but not decoded.

    Raises:
        StoreError: a file system failed.
        DatasetError: a shard is of another kind.
    """
    crops = read_crops(piece)
    upcoming = list(itertools.islice(crops, size))
    for section in itertools.count():
        current, upcoming = upcoming, list(itertools.islice(crops, size))
        while upcoming and all(crop.of_shard for crop in upcoming):
            current, upcoming = current + upcoming, list(itertools.islice(crops, size))
        if section not in done:
            yield _decode(number, section, not upcoming, current, contract)
        if not upcoming:
            return


def _decode(
    piece: int, section: int, last: bool, crops: list[Crop], contract: InputSpec
) -> Section:
    pictures = [crop for crop in crops if not crop.of_shard]
    pixels = np.zeros((len(pictures), contract.height, contract.width, 3), np.uint8)
    unreadable, rows = [], []
    for row, crop in enumerate(pictures):
        try:
            if crop.fault:
                raise ImageError(crop.name, crop.fault)
            pixels[row] = preprocess.resize(preprocess.decode_bytes(crop.data, crop.name), contract)
        except ImageError as error:
            unreadable.append(UnreadableImage(crop.name, error.reason))
            rows.append(row)
    unreadable += [UnreadableImage(crop.name, crop.fault) for crop in crops if crop.of_shard]
    columns = zip(*(crop[:3] for crop in pictures), strict=True)
    names, people, cameras = tuple(columns) or ((), (), ())
    about = SectionNames(
        piece, section, last, names, people, cameras, tuple(unreadable), tuple(rows)
    )
    return Section(about, pixels)
