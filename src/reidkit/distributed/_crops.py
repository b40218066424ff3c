"""Crops as they lie in files: one by one, in tar shards, in Parquet shards.

Opening happens inside the task: the engine hands round names, not pictures.
"""

from __future__ import annotations

from collections.abc import Iterator

from reidkit.distributed._pictures import read_pictures
from reidkit.distributed._pieces import Crop, ParquetShard, Pictures, Piece, TarShard
from reidkit.distributed._tables import read_table
from reidkit.distributed._tar import read_tar


def read_crops(piece: Piece) -> Iterator[Crop]:
    """Give the crops of a piece in order; what cannot be read is a crop with a fault.

    A shard that ends early or is damaged gives a last crop under its own name, whose fault says
    so, after those that could be read.

    Raises:
        StoreError: a file system failed: trying again may help.
    """
    match piece:
        case Pictures():
            return read_pictures(piece)
        case TarShard():
            return read_tar(piece.place)
        case ParquetShard():
            return read_table(piece)
