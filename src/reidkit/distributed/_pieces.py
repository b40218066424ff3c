"""What one task reads, and the crops that come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from reidkit.distributed._places import Place
from reidkit.records import JUNK

PERSON, CAMERA = "person_id", "camera_id"


class Crop(NamedTuple):
    """A picture file's bytes, or why there are none; `of_shard` where a whole shard has a fault."""

    name: str
    person_id: int
    camera_id: int
    data: bytes = b""
    fault: str = ""
    of_shard: bool = False


@dataclass(frozen=True, slots=True)
class Pictures:
    """Picture files, one by one: `names` are paths, or lie below the address `root`."""

    root: str
    names: tuple[str, ...]
    person_ids: tuple[int, ...]
    camera_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TarShard:
    """A tar file of pictures; `NAME.json` beside a picture NAME may hold its ids.

    That is WebDataset's layout: files of one sample follow each other and differ in suffix.
    """

    place: Place


@dataclass(frozen=True, slots=True)
class ParquetShard:
    """A row group of a Parquet file.

    Its columns: `image` (bytes, or a struct with `bytes`) or `path` (files to open, relative ones
    from the file's folder), and if known `person_id` and `camera_id`.
    """

    place: Place
    group: int


Piece = Pictures | TarShard | ParquetShard


def blame(place: Place, fault: str) -> Crop:
    """Give the crop that stands for what is wrong with a whole shard."""
    return Crop(str(place), JUNK, JUNK, fault=fault, of_shard=True)
