"""Joining the folders of all shards into the one that a run in one piece writes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reidkit import disk
from reidkit.errors import (
    ArgumentError,
    IntegrityError,
    MismatchError,
    StoreError,
    UnreadableImage,
    UnreadableImagesError,
    name_some,
)
from reidkit.records import Progress
from reidkit.store._folder import (
    MANIFEST,
    SAMPLES,
    VECTORS,
    array_header,
    read_manifest,
    samples_header,
)
from reidkit.store._journal import Stamp
from reidkit.store._plan import OTHER_PICTURES, Plan, find_difference
from reidkit.store._shards import Cut, Shard, find_cut

_BLOCK = 2**20
"""Bytes that are copied at a time."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merged folder holds: `rows` vectors of length `dimension`, out of `shards` shards."""

    rows: int
    dimension: int
    shards: int
    model_sha256: str
    contract_sha256: str
    unreadable: tuple[UnreadableImage, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """The folder of a shard as its manifest describes it."""

    folder: Path
    manifest: Mapping[str, Any]
    plan: Plan
    cut: Cut
    rows: int
    unreadable: tuple[UnreadableImage, ...]
    sha256: Mapping[str, str]
    stamp: Stamp


def merge_embeddings(
    folders: Iterable[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Merged:
    """Join the finished folders of all shards of a run, in any order, into the folder `out`.

    The bytes are those that the run writes in one piece, and the same run finds `out` finished.
    Each file is read once and checked meanwhile; no more than a block of it is in memory.
    `progress` gets rows. `out` is written whole or not at all.

    Raises:
        StoreError: a folder is not that of a shard, unfinished or damaged, or shards are missing.
        FormatError: a folder was written in another format number.
        IntegrityError: a file was changed after its folder was finished.
        MismatchError: folders are of different runs.
        ArgumentError: a shard is there twice, or `out` exists already and may not be replaced.
        UnreadableImagesError: not a single picture could be read.
    """
    parts = _order([_read_part(Path(folder)) for folder in folders])
    out = Path(out)
    for part in parts:
        if os.path.realpath(part.folder) == os.path.realpath(out):
            raise ArgumentError(f"{out} is one of the shards: choose another place")
    merged = _describe(parts)
    if merged.unreadable and not merged.rows:
        raise UnreadableImagesError(merged.unreadable, parts[0].cut.total)
    with disk.new_folder(out, marker=MANIFEST, overwrite=overwrite) as temporary:
        sha256 = {
            VECTORS: _join_vectors(parts, merged, temporary / VECTORS, progress),
            SAMPLES: _join_samples(parts, temporary / SAMPLES),
        }
        disk.write_json(temporary / MANIFEST, _join_manifests(parts, merged, sha256))
    return merged


def _read_part(folder: Path) -> _Part:
    """Read a manifest, and check all that can be checked without reading the vectors."""
    manifest = read_manifest(folder)
    cut = find_cut(manifest, folder)
    if cut is None:
        raise StoreError(f"{folder} is no shard: reidkit embed --shard makes what can be merged")
    try:
        part = _parse_part(folder, manifest, cut)
    except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise StoreError(f"{folder} is damaged ({error!r}); embed that shard again") from error
    for name in (VECTORS, SAMPLES):
        if not (folder / name).is_file():
            raise StoreError(f"{folder} is damaged: {name} is missing; embed that shard again")
    expected = len(_header(part)) + part.rows * part.plan.dimension * 4
    if (folder / VECTORS).stat().st_size != expected:
        raise _changed(folder / VECTORS)
    return part


def _parse_part(folder: Path, manifest: Mapping[str, Any], cut: Cut) -> _Part:
    made_by = manifest["made_by"]
    texts = {name: str(made_by[name]) for name in ("model_sha256", "contract_sha256")}
    texts |= {name: str(made_by[name]) for name in ("runtime", "device")}
    plan = Plan(dimension=int(made_by["dimension"]), batch=int(made_by["batch"]), **texts)
    part = _Part(
        folder,
        manifest,
        plan,
        cut,
        int(manifest["rows"]),
        tuple(UnreadableImage(*image) for image in manifest["unreadable"]),
        {name: str(manifest["sha256"][name]) for name in (VECTORS, SAMPLES)},
        Stamp(int(made_by["pictures"]), int(manifest["shard"]["stamped"])),
    )
    rows = cut.find_rows(plan.batch)
    lost = len(rows) - part.rows
    if rows.start != cut.first or lost < 0 or bool(lost) != bool(part.unreadable):
        raise ValueError(f"{part.rows} rows from row {cut.first} on, expected {rows}")
    if plan.dimension < 1:
        raise ValueError(f"dimension is {plan.dimension}")
    return part


def _order(parts: Sequence[_Part]) -> list[_Part]:
    """Put the shards in order; all must be there, once, and of one run."""
    if not parts:
        raise ArgumentError("no folders were given to merge")
    found: dict[int, _Part] = {}
    for part in parts:
        _check_same_run(parts[0], part)
        other = found.setdefault(part.cut.index, part)
        if other is not part:
            raise ArgumentError(
                f"{other.folder} and {part.folder} are both shard {part.cut.shard}: give one"
            )
    count = parts[0].cut.count
    missing = [str(Shard(n, count)) for n in range(1, count + 1) if n not in found]
    if missing:
        raise StoreError(
            f"of {count} shards these are missing: {name_some(missing)}; embed them, or give their "
            "folders too"
        )
    return [found[index] for index in sorted(found)]


def _check_same_run(first: _Part, part: _Part) -> None:
    problem = find_difference(asdict(first.plan), asdict(part.plan))
    cut, expected = part.cut, first.cut
    if problem is None and cut.count != expected.count:
        problem = f"another number of shards ({cut.count}, not {expected.count})"
    whole = (cut.total, cut.samples_sha256)
    if problem is None and whole != (expected.total, expected.samples_sha256):
        problem = OTHER_PICTURES
    if problem is not None:
        raise MismatchError(
            f"{part.folder} is a shard of a run with {problem}, compared with {first.folder}: "
            "merge the shards of one run"
        )


def _describe(parts: Sequence[_Part]) -> Merged:
    plan = parts[0].plan
    return Merged(
        sum(part.rows for part in parts),
        plan.dimension,
        len(parts),
        plan.model_sha256,
        plan.contract_sha256,
        tuple(image for part in parts for image in part.unreadable),
    )


def _join_vectors(
    parts: Sequence[_Part], merged: Merged, out: Path, progress: Progress | None
) -> str:
    def report(size: int) -> None:
        if progress is not None:
            progress(size // (4 * merged.dimension), merged.rows)

    sources = [(part, _header(part)) for part in parts]
    return _join(sources, VECTORS, array_header(merged.rows, merged.dimension), out, report)


def _join_samples(parts: Sequence[_Part], out: Path) -> str:
    header = samples_header()
    return _join([(part, header) for part in parts], SAMPLES, header, out, lambda _: None)


def _join(
    sources: Sequence[tuple[_Part, bytes]],
    name: str,
    header: bytes,
    out: Path,
    report: Callable[[int], None],
) -> str:
    """Write a header, and each shard's file without its own header; give the sha256 of it all."""
    digest, done = hashlib.sha256(header), 0
    report(done)
    with out.open("wb") as file:
        file.write(header)
        for part, own in sources:
            for block in _read_body(part.folder / name, own, part.sha256[name]):
                file.write(block)
                digest.update(block)
                done += len(block)
                report(done)
    return digest.hexdigest()


def _read_body(path: Path, header: bytes, sha256: str) -> Iterator[bytes]:
    """Give what follows a file's header, and find at its end whether the file is as recorded."""
    with path.open("rb") as file:
        start = file.read(len(header))
        digest = hashlib.sha256(start)
        while block := file.read(_BLOCK):
            digest.update(block)
            yield block
    if digest.hexdigest() != sha256:
        raise _changed(path)
    if start != header:
        raise StoreError(f"{path} is damaged: it begins otherwise; embed that shard again")


def _join_manifests(
    parts: Sequence[_Part], merged: Merged, sha256: Mapping[str, str]
) -> dict[str, object]:
    """Give the manifest of the run in one piece: a shard's with what is of the whole instead."""
    cut, stamp = parts[0].cut, Stamp(0, 0)
    for part in parts:
        stamp = stamp.followed_by(part.stamp)
    whole = {"samples_sha256": cut.samples_sha256, "pictures": stamp.number}
    manifest = dict(parts[0].manifest)
    del manifest["shard"]
    return manifest | {
        "rows": merged.rows,
        "sha256": dict(sha256),
        "made_by": manifest["made_by"] | whole,
        "unreadable": merged.unreadable,
    }


def _header(part: _Part) -> bytes:
    return array_header(part.rows, part.plan.dimension)


def _changed(path: Path) -> IntegrityError:
    return IntegrityError(f"{path} was changed after it was written; embed that shard again")
