"""What workers need to embed: the package's files, and the vectors of one section."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.distributed._sections import Section
from reidkit.embedding import check_finite
from reidkit.models import Model, load_model
from reidkit.package import Package


def pack(package: Package) -> dict[str, bytes]:
    """Read a package's files, name -> bytes, to be sent to workers that share no disk."""
    return {path.name: path.read_bytes() for path in package.folder.iterdir() if path.is_file()}


@contextmanager
def unpacked(files: Mapping[str, bytes]) -> Iterator[Path]:
    """Give a folder that holds the files of a package, deleted when the block ends."""
    with tempfile.TemporaryDirectory(prefix="reidkit-package-") as name:
        for file, data in files.items():
            (Path(name) / file).write_bytes(data)
        yield Path(name)


def open_model(folder: Path, *, device: str | None, threads: int | None, flip: bool) -> Model:
    """Load a package for a worker; raises as `load_model`."""
    model = load_model(folder, device=device, threads=threads)
    return model.with_flip() if flip else model


def embed_section(model: Model, section: Section, *, batch: int) -> NDArray[np.float32]:
    """Turn a section's pixels into vectors, (N, D), in the batches that `embed` makes of them.

    Rows of pictures that could not be decoded are zero.

    Raises:
        EngineError: the engine failed, or gave NaN or infinity.
    """
    pixels, takes = section.pixels, model.runtime.takes
    names = np.array(section.about.names, np.object_)
    vectors = np.empty((len(pixels), model.spec.embedding_size), np.float32)
    unreadable = np.zeros(len(pixels), np.bool_)
    unreadable[list(section.about.rows)] = True
    buffer = preprocess.empty_batch(batch, model.contract, takes)
    for start in range(0, len(pixels), batch):
        part = slice(start, min(start + batch, len(pixels)))
        rows = buffer[: part.stop - start]
        for row, picture in zip(rows, pixels[part], strict=True):
            preprocess.fill(picture, model.contract, row, takes=takes)
        rows[unreadable[part]] = 0
        found = model.embed(rows)
        found[unreadable[part]] = 0
        check_finite(found, names[part])
        vectors[part] = found
    return vectors
