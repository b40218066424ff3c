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

import json
import re
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from reidkit import store
from reidkit.distributed._parts import UNREADABLE, VECTORS, PartFacts, PartPlan, count_part
from reidkit.distributed._places import Place
from reidkit.errors import FormatError, MismatchError, StoreError

FORMAT = 1
"""The number of the data set's format that this version writes and reads."""

PLAN, MANIFEST = "plan.json", "manifest.json"

_NAME = re.compile(r"part-(\d{6,})-(\d{4,})(-last)?\.parquet")

_AT_ONCE = 16
"""Files whose ends are read at once: an object store makes each wait."""

_DIFFERENCES = store.DIFFERENCES | {
    "size": "parts of another size",
    "pieces": store.OTHER_PICTURES,
    "source_sha256": store.OTHER_PICTURES,
}


def begin(out: Place, plan: PartPlan) -> None:
    """Write the plan of a new data set, or check that an older one is of the same plan.

    Raises:
        MismatchError: it was begun for something else.
        StoreError: the place holds other things, or cannot be written.
    """
    if not (out / PLAN).exists():
        if other := out.list_files():
            raise StoreError(f"{out} holds other things ({other[0].below}): choose another place")
        (out / PLAN).write_bytes(_as_json({"format": FORMAT} | asdict(plan)))
    found = _read_json(out / PLAN)
    _check_format(out, found)
    for name, value in asdict(plan).items():
        if found.get(name) != value:
            raise MismatchError(
                f"{out} was begun for embeddings with {_DIFFERENCES[name]}: choose another place, "
                "or delete all of it"
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


def count_parts(out: Place, plan: PartPlan) -> list[PartFacts]:
    """Read of each part that is there how much it holds, from the files' ends.

    Raises:
        MismatchError: one is of another run.
        StoreError: one is damaged.
    """
    wanted = [
        (piece, section, last)
        for piece, sections in sorted(list_done(out).items())
        for section, last in sorted(sections.items())
    ]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="reidkit-reader") as pool:
        return list(pool.map(lambda each: count_part(out, plan, *each), wanted))


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
    _sweep(out, {part.name for part in parts})
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
    _check_format(out, manifest)
    return manifest


def _check_format(out: Place, found: Mapping[str, object]) -> None:
    if found.get("format") != FORMAT:
        raise FormatError(
            f"{out} has data set format {found.get('format')}, this reidkit reads {FORMAT}: use "
            "the reidkit that made it, or embed again"
        )


def _sweep(out: Place, names: Collection[str]) -> None:
    """Delete parts that are none any more, and what killed writers left behind."""
    for folder in (out / VECTORS, out / UNREADABLE):
        for file in folder.list_files():
            if file.below.rpartition("/")[2] not in names:
                file.delete()
        if folder.local is not None:
            for left in folder.local.glob(".*.partial"):
                left.unlink(missing_ok=True)


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
