"""A gallery's crops as files: an embeddings folder, a table, and pictures where they are kept."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import numpy as np

from reidkit import disk, store
from reidkit.errors import GalleryError
from reidkit.gallery._stores import Store
from reidkit.gallery._times import format_time
from reidkit.gallery._values import Crops, Where, join_crops
from reidkit.records import Embeddings, Samples

TABLE = "crops.csv"
COLUMNS = ("crop", "person", "camera", "time", "tags", "source", "sha256", "added", "picture")


def export(kept: Store, folder: Path, *, where: Where, pictures: bool, actor: str) -> int:
    """Write `embeddings/`, `crops.csv` and perhaps `pictures/`, whole or not at all.

    The ids of people and cameras in the embeddings folder number their names in sorted order;
    row by row they are those of the table.
    """
    with disk.new_folder(folder, marker=TABLE) as temporary:
        temporary.chmod(0o700)
        binding = kept.binding()
        parts = list(kept.export(where))
        if not kept.binding().same_vectors(binding):
            raise GalleryError("the gallery was moved to another model meanwhile: export it again")
        crops = join_crops([part for part, _ in parts])
        # First: an export that is killed from here on may have left files behind.
        kept.note("export", len(crops), actor=actor)
        dimension = binding.dimension
        vectors = np.concatenate([np.empty((0, dimension), np.float32), *(v for _, v in parts)])
        names = _write_pictures(kept, crops, temporary / "pictures") if pictures else {}
        _write_table(temporary / TABLE, crops, names)
        store.write_embeddings(
            temporary / "embeddings",
            Embeddings(vectors, _as_samples(crops), binding.model_sha256, binding.contract_sha256),
        )
    return len(crops)


def _as_samples(crops: Crops) -> Samples:
    people = {name: number for number, name in enumerate(sorted(set(crops.people)), 1)}
    cameras = {name: number for number, name in enumerate(sorted(set(crops.cameras)), 1)}
    return Samples.from_columns(
        [source or f"crop {crop}" for source, crop in zip(crops.sources, crops.ids, strict=True)],
        np.array([people[name] for name in crops.people], np.int64),
        np.array([cameras[name] for name in crops.cameras], np.int64),
    )


def _write_pictures(kept: Store, crops: Crops, folder: Path) -> dict[int, str]:
    folder.mkdir()
    names = {}
    for crop in crops.ids.tolist():
        data = kept.picture(crop)
        if data is not None:
            names[crop] = f"pictures/{crop}.png"
            (folder / f"{crop}.png").write_bytes(data)
    return names


def _write_table(path: Path, crops: Crops, pictures: dict[int, str]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for row, crop in enumerate(crops.ids.tolist()):
            rows.writerow(
                (
                    crop,
                    crops.people[row],
                    crops.cameras[row],
                    format_time(float(crops.times[row])) or "",
                    shlex.join(crops.tags[row]),
                    crops.sources[row],
                    crops.digests[row],
                    format_time(float(crops.added[row])) or "",
                    pictures.get(crop, ""),
                )
            )
