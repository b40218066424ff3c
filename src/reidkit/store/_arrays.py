"""Embeddings that another tool made, as arrays in an .npz file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import StoreError
from reidkit.records import Embeddings, Samples

_DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What numpy and zipfile raise for files that are no .npz, or damaged ones."""

_REQUIRED = ("vectors", "person_ids", "camera_ids")


def import_embeddings(path: str | Path) -> Embeddings:
    """Read embeddings from an .npz file.

    Its arrays: `vectors` (N, D) of any floating type, `person_ids` (N,) and `camera_ids` (N,)
    whole numbers, and optionally `paths` (N,) text. The model that made them stays unknown.

    Raises:
        StoreError: not such a file.
        ShapeError: arrays of unequal length, or NaN in the vectors.
    """
    arrays = _read_arrays(Path(path))
    missing = [name for name in _REQUIRED if name not in arrays]
    if missing:
        raise StoreError(
            f"{path} lacks the arrays {', '.join(missing)}; it holds {', '.join(arrays) or 'none'}"
        )
    vectors = arrays["vectors"]
    if vectors.dtype.kind not in "fiu" or vectors.ndim != 2:
        raise StoreError(
            f"{path}: vectors are {vectors.dtype} {vectors.shape}, expected numbers (N, D)"
        )
    names = _names(arrays.get("paths"), len(vectors), path)
    samples = Samples.from_columns(names, arrays["person_ids"], arrays["camera_ids"])
    return Embeddings(np.ascontiguousarray(vectors, np.float32), samples)


def _names(paths: NDArray[Any] | None, rows: int, path: str | Path) -> list[str]:
    if paths is None:
        return [f"row {row}" for row in range(rows)]
    if paths.dtype.kind not in "UT" or paths.shape != (rows,):
        raise StoreError(f"{path}: paths are {paths.dtype} {paths.shape}, expected text ({rows},)")
    return [str(name) for name in paths]


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise StoreError(f"{path} holds one array: save vectors and ids with numpy.savez")
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise StoreError(f"{path} does not exist") from error
    except _DAMAGE as error:
        raise StoreError(f"{path} is not an .npz file of plain arrays: {error}") from error
