"""Parquet files of pictures, or of their paths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reidkit.distributed._arrow import arrow, parquet
from reidkit.distributed._pictures import open_pictures
from reidkit.distributed._pieces import CAMERA, PERSON, Crop, ParquetShard, blame
from reidkit.distributed._places import Place
from reidkit.errors import DatasetError
from reidkit.records import JUNK

_BATCH = 64
"""Rows that become crops at once. The column of a row group is read whole."""


def read_table(shard: ParquetShard) -> Iterator[Crop]:
    """Read a row group, some rows at a time."""
    try:
        with shard.place.open() as file:
            table = parquet().ParquetFile(file)
            columns = _find_columns(shard.place, table.schema_arrow)
            batches = table.iter_batches(_BATCH, row_groups=[shard.group], columns=columns)
            row = sum(table.metadata.row_group(n).num_rows for n in range(shard.group))
            for batch in batches:
                yield from _take_rows(shard.place, batch, row)
                row += batch.num_rows
    except FileNotFoundError:
        yield blame(shard.place, "No such file")
    except (OSError, arrow().ArrowException) as error:
        yield blame(shard.place, f"the shard is damaged: {error}")


def _find_columns(place: Place, schema: Any) -> list[str]:
    names, types = set(schema.names), arrow().types
    if "vector" in names or not {"image", "path"} & names:
        raise DatasetError(
            f"{place} has the columns {', '.join(schema.names)}: expected `image` (a picture "
            "file's bytes) or `path`, perhaps person_id and camera_id, and no `vector`"
        )
    for name in {PERSON, CAMERA} & names:
        if not types.is_integer(schema.field(name).type):
            raise DatasetError(f"{place}: {name} is {schema.field(name).type}, not whole numbers")
    if "path" in names and not _is_text(schema.field("path").type):
        raise DatasetError(f"{place}: path is {schema.field('path').type}, not text")
    return [name for name in ("image", "path", PERSON, CAMERA) if name in schema.names]


def _is_text(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _take_rows(table: Place, batch: Any, first: int) -> Iterator[Crop]:
    """Give the pictures of some rows, of which `first` is the first one's number."""
    columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    nobody = [JUNK] * batch.num_rows
    ids = [
        [JUNK if value is None else int(value) for value in columns.get(name, nobody)]
        for name in (PERSON, CAMERA)
    ]
    names = columns.get("path") or [None] * batch.num_rows
    pictures = [_find_picture_of(table, cell) for cell in columns.get("image", names)]
    beside = [row for row, picture in enumerate(pictures) if isinstance(picture, Place)]
    opened = open_pictures(
        [picture for picture in pictures if isinstance(picture, Place)],
        *([column[row] for row in beside] for column in ids),
    )
    for row, picture in enumerate(pictures):
        if isinstance(picture, Place):
            yield next(opened)
            continue
        name = names[row] or f"{table}#{first + row}"
        fault = "" if picture else "the row holds no picture"
        yield Crop(name, ids[0][row], ids[1][row], picture or b"", fault)


def _find_picture_of(table: Place, cell: object) -> bytes | Place | None:
    """Give what a cell of a table holds: a picture file's bytes, or where the file is."""
    if isinstance(cell, dict):  # as Hugging Face's data sets have it
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, str) and cell:
        return table.beside(cell)
    return cell if isinstance(cell, bytes) and cell else None
