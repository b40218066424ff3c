"""Crops as they lie in files: one by one, in tar shards, in Parquet shards.

A piece is what one task reads. Opening happens inside the task: the engine hands round names, not
pictures.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from reidkit import preprocess
from reidkit.datasets.images import SUFFIXES
from reidkit.distributed._arrow import arrow, parquet
from reidkit.distributed._places import Place
from reidkit.errors import DatasetError, ImageError
from reidkit.records import JUNK

PERSON, CAMERA = "person_id", "camera_id"

_AT_ONCE = 16
"""Files of an object store that a task reads at once: each makes it wait."""

_BUFFER = 2**22
"""Bytes of a tar file that are asked for at once."""

_BATCH = 64
"""Rows of a Parquet file that are in memory at once."""


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


def read_crops(piece: Piece) -> Iterator[Crop]:
    """Give the crops of a piece in order; what cannot be read is a crop with a fault.

    A shard that ends early or is damaged gives a last crop under its own name, whose fault says
    so, after those that could be read.

    Raises:
        StoreError: a file system failed: trying again may help.
    """
    match piece:
        case Pictures():
            places = [_find_picture(piece.root, name) for name in piece.names]
            yield from _open_all(places, piece.person_ids, piece.camera_ids)
        case TarShard():
            yield from _read_tar(piece.place)
        case ParquetShard():
            yield from _read_parquet(piece)


def _find_picture(root: str, name: str) -> Place:
    return Place(root, name) if root else Place(name)


def _open_all(
    places: Sequence[Place], person_ids: Sequence[int], camera_ids: Sequence[int]
) -> Iterator[Crop]:
    """Read picture files, those of an object store several at once."""
    columns = (places, person_ids, camera_ids)
    if all(place.local is not None for place in places):
        yield from map(_open, *columns)
        return
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="reidkit-reader") as pool:
        for start in range(0, len(places), 4 * _AT_ONCE):
            yield from pool.map(_open, *(each[start : start + 4 * _AT_ONCE] for each in columns))


def _open(place: Place, person_id: int, camera_id: int) -> Crop:
    data, fault = b"", ""
    try:
        path = place.local
        data = place.read_bytes() if path is None else preprocess.read_bytes(path)
    except ImageError as error:
        fault = error.reason
    except FileNotFoundError:
        fault = "No such file"
    return Crop(str(place), person_id, camera_id, data, fault)


def _read_tar(place: Place) -> Iterator[Crop]:
    """Read a tar file from front to back, sample by sample."""
    sample: dict[str, bytes] = {}
    key = ""
    try:
        with (
            place.open() as raw,
            io.BufferedReader(raw, _BUFFER) as file,
            tarfile.open(fileobj=file, mode="r:") as archive,
        ):
            for member in archive:
                if member.isfile() and _is_wanted(member.name):
                    if _find_key(member.name) != key:
                        yield from _take_sample(place, sample)
                        sample, key = {}, _find_key(member.name)
                    found = archive.extractfile(member)
                    sample[member.name] = found.read() if found is not None else b""
            fault = _find_fault_behind(archive, file)
    except FileNotFoundError:
        fault = "No such file"
    except (tarfile.TarError, EOFError) as error:
        fault = f"the shard is damaged: {error}"
    yield from _take_sample(place, sample)
    if fault:
        yield _blame(place, fault)


def _is_wanted(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name[:1] != "." and path.suffix.lower() in SUFFIXES | {".json"}


def _find_key(name: str) -> str:
    """Give what the files of one sample share: the name up to its first dot."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _take_sample(place: Place, sample: dict[str, bytes]) -> Iterator[Crop]:
    """Give the pictures of a sample, with the ids that its .json file says."""
    ids = next((data for name, data in sample.items() if name.endswith(".json")), b"{}")
    try:
        said = json.loads(ids)
        person, camera = (_as_id(said.get(name, JUNK)) for name in (PERSON, CAMERA))
        fault = ""
    except (ValueError, AttributeError) as error:
        person, camera, fault = JUNK, JUNK, f"its .json file is damaged: {error}"
    for name, data in sample.items():
        if not name.endswith(".json"):
            yield Crop(f"{place}/{name}", person, camera, data, fault)


def _as_id(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _find_fault_behind(archive: tarfile.TarFile, file: io.BufferedReader) -> str:
    """Say what is wrong where reading ended: tarfile takes damage for the end of the file."""
    file.seek(archive.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        return "the shard is damaged: it was cut off"
    return "" if block.count(0) == len(block) else "the shard is damaged: no tar header"


def _read_parquet(shard: ParquetShard) -> Iterator[Crop]:
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
        yield _blame(shard.place, "No such file")
    except arrow().ArrowException as error:
        yield _blame(shard.place, f"the shard is damaged: {error}")


def _blame(place: Place, fault: str) -> Crop:
    return Crop(str(place), JUNK, JUNK, fault=fault, of_shard=True)


def _find_columns(place: Place, schema: Any) -> list[str]:
    if not {"image", "path"} & set(schema.names):
        raise DatasetError(
            f"{place} has the columns {', '.join(schema.names)}: expected `image` (a picture "
            "file's bytes) or `path`, and perhaps person_id and camera_id"
        )
    return [name for name in ("image", "path", PERSON, CAMERA) if name in schema.names]


def _take_rows(place: Place, batch: Any, first: int) -> Iterator[Crop]:
    columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    nobody = [JUNK] * batch.num_rows
    ids = [
        [JUNK if value is None else int(value) for value in columns.get(name, nobody)]
        for name in (PERSON, CAMERA)
    ]
    names = columns.get("path") or [None] * batch.num_rows
    if "image" not in columns:
        yield from _open_all([place.beside(name or "") for name in names], *ids)
        return
    for row, image in enumerate(columns["image"]):
        name = names[row] or f"{place}#{first + row}"
        data = image.get("bytes") if isinstance(image, dict) else image
        fault = "" if data else "the row holds no picture"
        yield Crop(str(name), ids[0][row], ids[1][row], data or b"", fault)
