"""The embeddings data set: an embeddings folder in parts, which many processes can write.

    plan.json                   what determines the vectors; written first
    vectors/part-P-S.parquet    the rows of piece P, section S; the piece's last part is called
                                part-P-S-last.parquet
    unreadable/part-P-S.parquet what could not be decoded there, if anything
    manifest.json               counts and the list of parts; written last: it marks completeness

A part appears whole or not at all, and writing it again gives the same file: work that is done
twice, after a worker died, leaves nothing twice.
"""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.distributed._arrow import arrow, parquet
from reidkit.distributed._places import Place
from reidkit.distributed._sections import SectionNames
from reidkit.errors import FormatError, IntegrityError, MismatchError, StoreError, UnreadableImage
from reidkit.records import Embeddings, Samples

FORMAT = 1
"""The number of the data set's format that this version writes and reads."""

PLAN, MANIFEST = "plan.json", "manifest.json"
VECTORS, UNREADABLE = "vectors", "unreadable"

_NAME = re.compile(r"part-(\d{6,})-(\d{4,})(-last)?\.parquet")
_CHECKSUM, _UNREADABLE = b"reidkit.crc32", b"reidkit.unreadable"

_AT_ONCE = 16
"""Files whose ends are read at once: an object store makes each wait."""

_DIFFERENCES = {
    "model_sha256": "another model",
    "contract_sha256": "another input contract",
    "dimension": "another vector length",
    "batch": "another batch size",
    "runtime": "another runtime",
    "device": "another device",
    "size": "parts of another size",
    "source_sha256": "other pictures or ids",
}


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


def begin(out: Place, plan: PartPlan) -> None:
    """Write the plan of a new data set, or check that an older one is of the same plan.

    Raises:
        MismatchError: it was begun for something else.
        StoreError: the place holds other things, or cannot be written.
    """
    if not (out / PLAN).exists():
        other = [file for file in out.list_files() if not file.below.startswith(f"{VECTORS}/")]
        if other:
            raise StoreError(f"{out} holds other things ({other[0].below}): choose another place")
        (out / PLAN).write_bytes(_as_json({"format": FORMAT} | asdict(plan)))
        return
    found = _read_json(out / PLAN)
    for name, value in asdict(plan).items():
        if found.get(name) != value:
            what = _DIFFERENCES.get(name, f"another {name}")
            raise MismatchError(
                f"{out} was begun for embeddings with {what}: choose another place, or delete it"
            )


def list_done(out: Place) -> dict[int, dict[int, bool]]:
    """List the parts that are there: piece -> section -> whether it is the piece's last."""
    done: dict[int, dict[int, bool]] = {}
    for file in (out / VECTORS).list_files():
        if found := _NAME.fullmatch(file.below.rpartition("/")[2]):
            done.setdefault(int(found[1]), {})[int(found[2])] = found[3] is not None
    return done


def is_whole(sections: Mapping[int, bool]) -> bool:
    """Tell whether a piece has all its parts: 0 to the one that is marked as the last."""
    lasts = [section for section, last in sections.items() if last]
    return bool(lasts) and all(section in sections for section in range(lasts[0]))


def write_part(out: Place, about: SectionNames, vectors: NDArray[np.float32]) -> PartFacts:
    """Write the parts of one section: what was unreadable first, then the vectors (N, D).

    The vectors' file says how many were unreadable: it is what makes the part complete.
    """
    table = _make_table(about, vectors)
    name = name_part(about.piece, about.section, last=about.last)
    errors = out / UNREADABLE / name
    if about.unreadable:
        paths, reasons = zip(*about.unreadable, strict=True)
        errors.write_bytes(_as_parquet(arrow().table({"path": paths, "reason": reasons})))
    (out / VECTORS / name).write_bytes(_as_parquet(table))
    if not about.unreadable:
        errors.delete()  # of an earlier run, when something could not be read
    return PartFacts(about.piece, about.section, about.last, table.num_rows, len(about.unreadable))


def read_part(out: Place, name: str) -> Embeddings:
    """Read one part; which model made it is not said.

    Raises:
        StoreError: it is missing or damaged.
        IntegrityError: its vectors are not those that were written.
    """
    place = out / VECTORS / name
    table = _read_table(place)
    try:
        column = table.column("vector").combine_chunks()
        vectors = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
        samples = Samples.from_columns(
            table.column("path").to_pylist(),
            table.column("person_id").to_numpy(),
            table.column("camera_id").to_numpy(),
        )
    except (KeyError, ValueError, AttributeError, arrow().ArrowException) as error:
        raise StoreError(f"{place} is no part of an embeddings data set: {error}") from error
    recorded = (table.schema.metadata or {}).get(_CHECKSUM)
    if recorded is not None and int(recorded) != zlib.crc32(vectors.tobytes()):
        raise IntegrityError(f"{place} was changed after it was written: delete it and embed again")
    return Embeddings(vectors, samples)


def read_unreadable(out: Place, names: Iterable[str]) -> Iterator[UnreadableImage]:
    """Give all pictures of these parts that could not be decoded, and why, in order."""
    for name in names:
        table = _read_table(out / UNREADABLE / name)
        columns = (table.column(column).to_pylist() for column in ("path", "reason"))
        yield from itertools.starmap(UnreadableImage, zip(*columns, strict=True))


def count_parts(out: Place) -> list[PartFacts]:
    """Read of each part that is there how much it holds, from the files' ends."""
    wanted = [
        (piece, section, last)
        for piece, sections in sorted(list_done(out).items())
        for section, last in sorted(sections.items())
    ]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="reidkit-reader") as pool:
        return list(pool.map(lambda each: _count_part(out, *each), wanted))


def finish(out: Place, plan: PartPlan, parts: Iterable[PartFacts]) -> None:
    """Write the manifest, which marks the data set as complete.

    Raises:
        StoreError: parts are missing.
    """
    parts = sorted(parts, key=lambda part: (part.piece, part.section))
    sections: dict[int, dict[int, bool]] = {}
    for part in parts:
        sections.setdefault(part.piece, {})[part.section] = part.last
    missing = [n for n in range(plan.pieces) if not is_whole(sections.get(n, {}))]
    if missing:
        raise StoreError(f"{out} still lacks parts of {len(missing)} of {plan.pieces} pieces")
    manifest = {
        "format": FORMAT,
        "rows": sum(part.rows for part in parts),
        "dimension": plan.dimension,
        "model_sha256": plan.model_sha256,
        "contract_sha256": plan.contract_sha256,
        "unreadable": sum(part.unreadable for part in parts),
        "parts": [[part.name, part.rows, part.unreadable] for part in parts],
        "made_by": asdict(plan),
    }
    (out / MANIFEST).write_bytes(_as_json(manifest))


def read_manifest(out: Place) -> dict[str, Any]:
    """Read the manifest of a finished data set.

    Raises:
        StoreError: not a data set, or an unfinished one.
        FormatError: written in another format number.
    """
    if not (out / MANIFEST).exists():
        if (out / PLAN).exists():
            raise StoreError(f"{out} is unfinished: run the same reidkit embed again to go on")
        raise StoreError(f"{out} is no embeddings data set (no {MANIFEST})")
    manifest = _read_json(out / MANIFEST)
    if manifest.get("format") != FORMAT or "parts" not in manifest:
        raise FormatError(
            f"{out} has data set format {manifest.get('format')}, this reidkit reads {FORMAT}"
        )
    return manifest


def _make_table(about: SectionNames, vectors: NDArray[np.float32]) -> Any:
    pa = arrow()
    keep = np.ones(len(about.names), np.bool_)
    keep[list(about.rows)] = False
    rows = np.flatnonzero(keep).tolist()
    kept = np.ascontiguousarray(vectors[keep], "<f4")
    values = pa.array(kept.ravel(), pa.float32())
    columns = {
        "path": pa.array([about.names[row] for row in rows], pa.string()),
        "person_id": pa.array([about.person_ids[row] for row in rows], pa.int64()),
        "camera_id": pa.array([about.camera_ids[row] for row in rows], pa.int64()),
        "vector": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1]),
    }
    facts = {_CHECKSUM: zlib.crc32(kept.tobytes()), _UNREADABLE: len(about.unreadable)}
    said = {name: str(value).encode() for name, value in facts.items()}
    return pa.table(columns).replace_schema_metadata(said)


def _as_parquet(table: Any) -> bytes:
    """Give a Parquet file's bytes; vectors hardly shrink, so only names are packed."""
    sink = arrow().BufferOutputStream()
    names = [name for name in table.schema.names if name != "vector"]
    packed = dict.fromkeys(names, "zstd") | {"vector.list.element": "none"}
    parquet().write_table(table, sink, compression=packed, use_dictionary=names)
    return bytes(sink.getvalue())


def _read_table(place: Place) -> Any:
    try:
        return parquet().read_table(arrow().BufferReader(place.read_bytes()))
    except FileNotFoundError as error:
        raise StoreError(f"{place} is missing: embed again to make it") from error
    except arrow().ArrowException as error:
        raise StoreError(f"{place} is damaged ({error}): delete it and embed again") from error


def _count_part(out: Place, piece: int, section: int, last: bool) -> PartFacts:
    place = out / VECTORS / name_part(piece, section, last=last)
    try:
        with place.open() as file:
            found = parquet().ParquetFile(file).metadata
        unreadable = int(found.metadata[_UNREADABLE])
    except (KeyError, TypeError, ValueError, FileNotFoundError, arrow().ArrowException) as error:
        raise StoreError(f"{place} is damaged ({error}): delete it and embed again") from error
    return PartFacts(piece, section, last, found.num_rows, unreadable)


def _as_json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _read_json(place: Place) -> dict[str, Any]:
    try:
        value = json.loads(place.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise StoreError(
            f"{place} is damaged ({error}): delete the data set and embed again"
        ) from error
    return value
