"""The finished embeddings folder: write, read, check."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from reidkit import disk
from reidkit.errors import FormatError, IntegrityError, ReidkitError, StoreError, UnreadableImage
from reidkit.records import Embeddings, Samples

FORMAT = 1
"""The number of the folder format that this version writes and reads."""

MANIFEST = "manifest.json"
VECTORS = "vectors.npy"
SAMPLES = "samples.csv"
PLAN = "plan.json"

_COLUMNS = ["path", "person_id", "camera_id"]


def write_embeddings(
    folder: str | Path, embeddings: Embeddings, *, overwrite: bool = False
) -> None:
    """Write a finished embeddings folder, whole or not at all.

    Raises:
        ArgumentError: the folder exists already and may not be replaced.
    """
    with disk.new_folder(Path(folder), marker=MANIFEST, overwrite=overwrite) as temporary:
        np.save(temporary / VECTORS, embeddings.vectors)
        write_manifest(temporary, embeddings, None)


def read_embeddings(folder: str | Path, *, mapped: bool = False) -> Embeddings:
    """Read an embeddings folder and check it against its manifest.

    With `mapped` the vectors stay on disk and are read where they are used, so that they may be
    larger than memory; they cannot be changed.

    Raises:
        StoreError: not an embeddings folder, an unfinished or a damaged one.
        FormatError: written in another format number.
        IntegrityError: a file was changed after the folder was finished.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        for name, sha256 in manifest["sha256"].items():
            _check_file(folder, name, sha256)
        return Embeddings(
            np.load(folder / VECTORS, allow_pickle=False, mmap_mode="r" if mapped else None),
            _parse_samples((folder / SAMPLES).read_bytes()),
            manifest["model_sha256"],
            manifest["contract_sha256"],
            tuple(UnreadableImage(*image) for image in manifest["unreadable"]),
        )
    except ReidkitError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder} is damaged ({error!r}); embed again") from error


def write_manifest(
    folder: Path,
    embeddings: Embeddings,
    made_by: Mapping[str, object] | None,
    more: Mapping[str, object] | None = None,
) -> None:
    """Write `samples.csv` and then the manifest of a folder that holds the vectors already.

    `more` is what the manifest holds besides, for folders that are not like the rest.
    """
    disk.write_bytes(folder / SAMPLES, _format_samples(embeddings.samples))
    manifest = {
        "format": FORMAT,
        "rows": len(embeddings),
        "dimension": embeddings.vectors.shape[1],
        "model_sha256": embeddings.model_sha256,
        "contract_sha256": embeddings.contract_sha256,
        "sha256": {name: disk.sha256_file(folder / name) for name in (VECTORS, SAMPLES)},
        "made_by": made_by,
        "unreadable": embeddings.unreadable,
    }
    disk.write_json(folder / MANIFEST, manifest | dict(more or {}))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a finished folder; its format number is checked."""
    path = folder / MANIFEST
    if not path.is_file():
        if not folder.is_dir():
            raise StoreError(f"{folder} does not exist: reidkit embed makes an embeddings folder")
        if (folder / PLAN).exists():
            raise StoreError(f"{folder} is unfinished: run the same reidkit embed again to go on")
        raise StoreError(f"{folder} is not an embeddings folder (no {MANIFEST})")
    try:
        manifest = disk.read_json(path)
        number = manifest["format"]
    except (ValueError, KeyError) as error:
        raise StoreError(f"{path} is damaged ({error!r}); embed again") from error
    if number != FORMAT:
        raise FormatError(
            f"{path} has embeddings format {number}, this reidkit reads format {FORMAT}: "
            "read it with the reidkit that wrote it, or embed again"
        )
    return manifest


def read_plan(folder: Path) -> dict[str, Any]:
    """Read the plan of an unfinished folder; its format number is checked."""
    path = folder / PLAN
    try:
        plan = disk.read_json(path)
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}); delete the folder to start over") from error
    if plan.get("format") != FORMAT:
        raise FormatError(
            f"{path} has embeddings format {plan.get('format')}, this reidkit writes {FORMAT}: go "
            "on with the reidkit that began it, or delete the folder"
        )
    return plan


def array_header(rows: int, dimension: int) -> bytes:
    """Give the bytes that numpy's own format puts before the data of a (N, D) float32 array."""
    file = io.BytesIO()
    fields = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    npy.write_array_header_1_0(file, fields)
    return file.getvalue()


def samples_header() -> bytes:
    """Give the first line of `samples.csv`."""
    return _format_samples(Samples.from_paths([]))


def _check_file(folder: Path, name: str, sha256: str) -> None:
    path = folder / Path(name).name
    if not path.is_file():
        raise StoreError(f"{folder} is damaged: {name} is missing; embed again")
    if disk.sha256_file(path) != sha256:
        raise IntegrityError(f"{path} was changed after it was written; embed again")


def _format_samples(samples: Samples) -> bytes:
    text = io.StringIO(newline="")
    # Paths are quoted always, so that any character in a file name survives.
    rows = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    rows.writerow(_COLUMNS)
    columns = (samples.paths, samples.person_ids, samples.camera_ids)
    rows.writerows(zip(*(column.tolist() for column in columns), strict=True))
    return text.getvalue().encode(errors="surrogatepass")


def _parse_samples(data: bytes) -> Samples:
    text = io.StringIO(data.decode(errors="surrogatepass"), newline="")
    header, *rows = csv.reader(text)
    if header != _COLUMNS:
        raise ValueError(f"{SAMPLES} has columns {header}, expected {_COLUMNS}")
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    paths, person_ids, camera_ids = columns
    return Samples.from_columns(
        list(paths),
        np.array(person_ids, np.int64),
        np.array(camera_ids, np.int64),
    )
