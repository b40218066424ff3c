"""A side of an evaluation that lies in parts, and how to tell one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reidkit.distributed._folder import MANIFEST, PLAN
from reidkit.distributed._places import is_uri
from reidkit.records import JUNK, Embeddings, Samples

_SIZE = 4096
"""Rows of a part of embeddings that are in one piece."""


class Parts(Protocol):
    """Embeddings in parts, such as a `DataSet`: parts that are read where they are used."""

    @property
    def rows(self) -> tuple[int, ...]:
        """How many rows each part has."""

    @property
    def dimension(self) -> int:
        """The length D of each vector."""

    @property
    def model_sha256(self) -> str | None:
        """What made the vectors, as `Embeddings` say it."""

    @property
    def contract_sha256(self) -> str | None:
        """What made the pictures ready for it."""

    def read(self, part: int) -> Embeddings:
        """Read one part, (n, D); only its vectors and ids are used."""


@dataclass(frozen=True, slots=True, eq=False)
class CutEmbeddings:
    """Embeddings that are in one piece, perhaps mapped from disk, as parts of `size` rows.

    Sent to other processes, it is copied whole, but for the pictures' paths, which it leaves out.
    """

    vectors: NDArray[np.float32]
    person_ids: NDArray[np.int64]
    camera_ids: NDArray[np.int64]
    model_sha256: str | None
    contract_sha256: str | None
    size: int

    @classmethod
    def cut(cls, embeddings: Embeddings, size: int = _SIZE) -> CutEmbeddings:
        """Cut embeddings, whose vectors stay where they are."""
        return cls(
            np.asarray(embeddings.vectors),  # no longer a kind of array that is pickled slowly
            embeddings.samples.person_ids,
            embeddings.samples.camera_ids,
            embeddings.model_sha256,
            embeddings.contract_sha256,
            size,
        )

    @property
    def rows(self) -> tuple[int, ...]:
        """How many rows each part has."""
        length = len(self.vectors)
        return tuple(min(self.size, length - start) for start in range(0, length, self.size))

    @property
    def dimension(self) -> int:
        """The length D of each vector."""
        return int(self.vectors.shape[1])

    def read(self, part: int) -> Embeddings:
        """Give one part, of which no paths are known."""
        rows = slice(part * self.size, (part + 1) * self.size)
        return Embeddings(
            self.vectors[rows],
            without_paths(self.person_ids[rows], self.camera_ids[rows]),
            self.model_sha256,
            self.contract_sha256,
        )


def without_paths(person_ids: NDArray[np.int64], camera_ids: NDArray[np.int64]) -> Samples:
    """Make samples of ids (N,) alone: scores need no paths."""
    return Samples.from_columns([""] * len(person_ids), person_ids, camera_ids)


def describe_side(parts: Parts) -> Embeddings:
    """Say what made the vectors of a side, as embeddings without a row."""
    nothing = np.empty((0, parts.dimension), np.float32)
    return Embeddings(nothing, Samples.from_paths([]), parts.model_sha256, parts.contract_sha256)


def read_kept(parts: Parts, numbers: Sequence[int]) -> tuple[Embeddings, NDArray[np.intp]]:
    """Read some parts as one, and tell which of its rows are no junk."""
    found = [parts.read(number) for number in numbers]
    vectors = [part.vectors for part in found]
    people = np.concatenate([part.samples.person_ids for part in found])
    cameras = np.concatenate([part.samples.camera_ids for part in found])
    whole = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
    return Embeddings(whole, without_paths(people, cameras)), np.flatnonzero(people != JUNK)


def is_data_set(address: str | Path) -> bool:
    """Tell an embeddings data set, finished or not, from an embeddings folder.

    An object store holds data sets only; a folder is told by its manifest or plan.
    """
    if is_uri(str(address)):
        return True
    for name, field in ((MANIFEST, "parts"), (PLAN, "pieces")):
        try:
            value = json.loads((Path(address) / name).read_bytes())
        except (OSError, ValueError):
            continue
        return isinstance(value, dict) and field in value
    return False
