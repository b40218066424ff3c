"""One part of an embeddings data set: a Parquet file, written whole, that knows what made it."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit import disk
from reidkit.distributed._arrow import arrow, parquet
from reidkit.distributed._places import Place
from reidkit.distributed._sections import SectionNames
from reidkit.errors import IntegrityError, MismatchError, StoreError, UnreadableImage
from reidkit.records import Embeddings, Samples

VECTORS, UNREADABLE = "vectors", "unreadable"

_CHECKSUM, _UNREADABLE, _RUN = b"reidkit.crc32", b"reidkit.unreadable", b"reidkit.plan"
_MADE_BY = {b"reidkit.model_sha256": "model_sha256", b"reidkit.contract_sha256": "contract_sha256"}


@dataclass(frozen=True, slots=True)
class PartPlan:
    """What determines the bytes of a data set; see `store.Plan`.

    `size` is the most pictures of a part, `pieces` how many tasks' worth of pictures there are,
    and `source_sha256` says which.
    """

    model_sha256: str
    contract_sha256: str
    dimension: int
    batch: int
    runtime: str
    device: str
    size: int
    pieces: int
    source_sha256: str

    @property
    def sha256(self) -> str:
        """One hash for all of it, which each part carries."""
        return disk.sha256_json(asdict(self))


@dataclass(frozen=True, slots=True)
class PartFacts:
    """What is known of a part: `rows` vectors, and `unreadable` pictures beside them."""

    piece: int
    section: int
    last: bool
    rows: int
    unreadable: int

    @property
    def name(self) -> str:
        """Its file's name."""
        return name_part(self.piece, self.section, last=self.last)


def name_part(piece: int, section: int, *, last: bool) -> str:
    """Give the name of a part's file; names sort as the parts do."""
    return f"part-{piece:06}-{section:04}{'-last' if last else ''}.parquet"


def write_part(
    out: Place, plan: PartPlan, about: SectionNames, vectors: NDArray[np.float32]
) -> PartFacts:
    """Write the parts of one section: what was unreadable first, then the vectors (N, D).

    The vectors' file says how many were unreadable: it is what makes the part complete.
    """
    table = _make_table(plan, about, vectors)
    name = name_part(about.piece, about.section, last=about.last)
    errors = out / UNREADABLE / name
    if about.unreadable:
        paths, reasons = zip(*about.unreadable, strict=True)
        errors.write_bytes(_as_parquet(arrow().table({"path": paths, "reason": reasons})))
    (out / VECTORS / name).write_bytes(_as_parquet(table))
    if not about.unreadable:
        errors.delete()  # of an earlier run, when something could not be read
    twin = name_part(about.piece, about.section, last=not about.last)
    for folder in (VECTORS, UNREADABLE):
        (out / folder / twin).delete()  # of an earlier run, when the shard ended elsewhere
    return PartFacts(about.piece, about.section, about.last, table.num_rows, len(about.unreadable))


def read_part(out: Place, name: str) -> Embeddings:
    """Read one part.

    Raises:
        StoreError: it is missing or damaged.
        IntegrityError: its rows are not those that were written.
    """
    place = out / VECTORS / name
    table = _read_table(place)
    said = table.schema.metadata or {}
    try:
        column = table.column("vector").combine_chunks()
        vectors = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
        samples = Samples.from_columns(
            table.column("path").to_pylist(),
            table.column("person_id").to_numpy(),
            table.column("camera_id").to_numpy(),
        )
        checksum = int(said[_CHECKSUM])
        model, contract = (said[key].decode() or None for key in _MADE_BY)
    except (KeyError, ValueError, AttributeError, arrow().ArrowException) as error:
        raise StoreError(f"{place} is no part of an embeddings data set: {error}") from error
    if checksum != _add_up(samples, vectors):
        raise IntegrityError(f"{place} was changed after it was written: delete it and embed again")
    return Embeddings(vectors, samples, model, contract)


def read_unreadable(out: Place, names: Iterable[str]) -> Iterator[UnreadableImage]:
    """Give all pictures of these parts that could not be decoded, and why, in order."""
    for name in names:
        table = _read_table(out / UNREADABLE / name)
        columns = (table.column(column).to_pylist() for column in ("path", "reason"))
        yield from itertools.starmap(UnreadableImage, zip(*columns, strict=True))


def count_part(out: Place, plan: PartPlan, piece: int, section: int, last: bool) -> PartFacts:
    """Read from a part's end how much it holds.

    Raises:
        MismatchError: it is of another run.
        StoreError: it is damaged.
    """
    place = out / VECTORS / name_part(piece, section, last=last)
    try:
        with place.open() as file:
            found = parquet().ParquetFile(file).metadata
        run, unreadable = found.metadata[_RUN], int(found.metadata[_UNREADABLE])
    except (KeyError, TypeError, ValueError, OSError, arrow().ArrowException) as error:
        raise StoreError(f"{place} is damaged ({error}): delete it and embed again") from error
    if run != plan.sha256.encode():
        raise MismatchError(f"{place} is of another run: delete it, or choose another place")
    return PartFacts(piece, section, last, found.num_rows, unreadable)


def _make_table(plan: PartPlan, about: SectionNames, vectors: NDArray[np.float32]) -> Any:
    pa = arrow()
    keep = np.ones(len(about.names), np.bool_)
    keep[list(about.rows)] = False
    samples = Samples.from_columns(list(about.names), about.person_ids, about.camera_ids)
    samples = samples.select(keep)
    kept = np.ascontiguousarray(vectors[keep], "<f4")
    values = pa.array(kept.ravel(), pa.float32())
    columns = {
        "path": pa.array(samples.paths.tolist(), pa.string()),
        "person_id": pa.array(samples.person_ids, pa.int64()),
        "camera_id": pa.array(samples.camera_ids, pa.int64()),
        "vector": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1]),
    }
    facts = {
        _CHECKSUM: _add_up(samples, kept),
        _UNREADABLE: len(about.unreadable),
        _RUN: plan.sha256,
        **{key: getattr(plan, name) or "" for key, name in _MADE_BY.items()},
    }
    said = {name: str(value).encode() for name, value in facts.items()}
    return pa.table(columns).replace_schema_metadata(said)


def _add_up(samples: Samples, vectors: NDArray[np.float32]) -> int:
    """Give a checksum of a part's rows."""
    names = "\n".join(samples.paths.tolist()).encode()
    ids = np.stack((samples.person_ids, samples.camera_ids)).astype("<i8")
    found = zlib.crc32(np.ascontiguousarray(vectors, "<f4").tobytes())
    return zlib.crc32(names, zlib.crc32(ids.tobytes(), found))


def _as_parquet(table: Any) -> bytes:
    """Give a Parquet file's bytes; vectors hardly shrink, so only names are packed."""
    sink = arrow().BufferOutputStream()
    names = [name for name in table.schema.names if name != "vector"]
    packed = dict.fromkeys(names, "zstd") | {"vector.list.element": "none"}
    parquet().write_table(table, sink, compression=packed, use_dictionary=names)
    return bytes(sink.getvalue())


def _read_table(place: Place) -> Any:
    try:
        data = place.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"{place} is missing: embed again to make it") from error
    try:
        return parquet().read_table(arrow().BufferReader(data))
    except (OSError, arrow().ArrowException) as error:
        raise StoreError(f"{place} is damaged ({error}): delete it and embed again") from error
