"""Pictures on their way into a gallery: read once, known by their hash, kept without metadata."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.embedding import choose_batch
from reidkit.errors import EngineError
from reidkit.gallery._values import KeptPictures
from reidkit.models import Model, to_unit_length


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One decoded picture.

    Fields:
        name: what errors call it.
        pixels: (h, w, 3) uint8, RGB.
        digest: the sha256 of the file's bytes.
    """

    name: str
    pixels: NDArray[np.uint8]
    digest: str


def read_picture(path: str | Path) -> Picture:
    """Read and decode a picture file.

    Raises:
        ImageError: it cannot be read or decoded.
    """
    return decode_picture(preprocess.read_bytes(path), str(path))


def decode_picture(data: bytes, name: str) -> Picture:
    """Decode a picture file held in memory; `name` is for errors.

    Raises:
        ImageError: it cannot be decoded.
    """
    pixels = preprocess.decode_bytes(data, name)
    return Picture(name, pixels, hashlib.sha256(data).hexdigest())


def keep_picture(pixels: NDArray[np.uint8], kept: KeptPictures) -> bytes | None:
    """Give the PNG file that is kept of a crop, or `None` where none is.

    It holds exactly these pixels, or fewer where there are more than may be kept, and nothing
    else of the file they came from: no place, no camera's serial number, nothing hidden.
    """
    if not kept.keep:
        return None
    height, width = pixels.shape[:2]
    if height * width > kept.largest:
        ratio = math.sqrt(kept.largest / (height * width))
        pixels = preprocess.resize_to(
            pixels, max(1, int(height * ratio)), max(1, int(width * ratio))
        )
    return preprocess.encode_png(pixels)


def embed_pictures(
    model: Model, pictures: Sequence[Picture], *, batch: int | None = None
) -> NDArray[np.float32]:
    """Turn decoded pictures into vectors, (N, D) float32 of unit length.

    Raises:
        EngineError: the engine failed, or gave NaN or infinity.
    """
    size, takes = choose_batch(model, batch), model.runtime.takes
    vectors = np.empty((len(pictures), model.spec.embedding_size), np.float32)
    rows = preprocess.empty_batch(min(size, len(pictures)), model.contract, takes)
    for start in range(0, len(pictures), size):
        part = pictures[start : start + size]
        for picture, row in zip(part, rows, strict=False):
            preprocess.prepare_into(row, picture.pixels, model.contract, takes=takes)
        vectors[start : start + size] = model.embed(rows[: len(part)])
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise EngineError(
            f"the model gave NaN or infinity for {len(bad)} pictures, first "
            f"{pictures[bad[0]].name}: the engine file or its precision is at fault"
        )
    return to_unit_length(vectors)
