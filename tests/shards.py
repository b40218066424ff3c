"""Shards of pictures as other tools write them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reidkit.records import Samples


def write_tar(path: Path, samples: Samples, *, ids: bool = True) -> None:
    """Write pictures as WebDataset does: NAME.jpg, then NAME.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, person, camera in rows(samples):
            _add(archive, Path(name).name, Path(name).read_bytes())
            if ids:
                said = {"person_id": person, "camera_id": camera}
                _add(archive, Path(name).with_suffix(".json").name, json.dumps(said).encode())


def write_parquet(path: Path, samples: Samples, *, group: int, pictures: bool = True) -> None:
    """Write pictures, or their paths only, as rows in groups of `group`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names, people, cameras = zip(*rows(samples), strict=True)
    columns: dict[str, Any] = {"path": names, "person_id": people, "camera_id": cameras}
    if pictures:
        columns = {"image": [Path(name).read_bytes() for name in names], **columns}
    pq.write_table(pa.table(columns), path, row_group_size=group)


def rows(samples: Samples) -> list[tuple[str, int, int]]:
    """Give the samples as rows."""
    columns = (samples.paths, samples.person_ids, samples.camera_ids)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
