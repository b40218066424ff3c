"""A finished embeddings data set, which may be far larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reidkit.distributed._folder import read_manifest
from reidkit.distributed._parts import read_part, read_unreadable
from reidkit.distributed._places import Place, find_place
from reidkit.errors import MismatchError, StoreError, UnreadableImage
from reidkit.records import Embeddings, Samples


@dataclass(frozen=True, slots=True)
class DataSet:
    """Embeddings in parts; they are read where they are used.

    Fields:
        place: where it is.
        parts: the files' names, `rows` of each and how many pictures were `left_out` there; (P,).
        dimension: the length D of each vector.
        model_sha256, contract_sha256: what made the vectors.
    """

    place: Place
    parts: tuple[str, ...]
    rows: tuple[int, ...]
    left_out: tuple[int, ...]
    dimension: int
    model_sha256: str | None
    contract_sha256: str | None

    def __len__(self) -> int:
        return sum(self.rows)

    @property
    def unreadable(self) -> int:
        """How many pictures were left out."""
        return sum(self.left_out)

    def read(self, part: int) -> Embeddings:
        """Read one part, (n, D), and check it.

        Raises:
            StoreError: it is missing or damaged.
            IntegrityError: its rows were changed.
            MismatchError: it is of another model or contract.
        """
        found = read_part(self.place, self.parts[part])
        shape = (self.rows[part], self.dimension)
        if found.vectors.shape != shape:
            raise StoreError(
                f"{self.place}: {self.parts[part]} holds {found.vectors.shape}, the manifest says "
                f"{shape}"
            )
        if (found.model_sha256, found.contract_sha256) != (self.model_sha256, self.contract_sha256):
            raise MismatchError(f"{self.place}: {self.parts[part]} is of another model or contract")
        return found

    def list_unreadable(self) -> Iterator[UnreadableImage]:
        """Give the pictures that were left out, and why."""
        pairs = zip(self.parts, self.left_out, strict=True)
        return read_unreadable(self.place, [name for name, count in pairs if count])

    def collect(self) -> Embeddings:
        """Read all of it into memory, as `embed` would have given it."""
        vectors = np.empty((len(self), self.dimension), np.float32)
        paths: list[str] = []
        people = np.empty(len(self), np.int64)
        cameras = np.empty(len(self), np.int64)
        row = 0
        for part in range(len(self.parts)):
            found = self.read(part)
            rows = slice(row, row + len(found))
            vectors[rows] = found.vectors
            paths += found.samples.paths.tolist()
            people[rows], cameras[rows] = found.samples.person_ids, found.samples.camera_ids
            row = rows.stop
        return Embeddings(
            vectors,
            Samples.from_columns(paths, people, cameras),
            self.model_sha256,
            self.contract_sha256,
            tuple(self.list_unreadable()),
        )


def open_data_set(address: str | Path | Place) -> DataSet:
    """Open a finished data set.

    Raises:
        StoreError: not a data set, an unfinished or a damaged one.
        FormatError: written in another format number.
    """
    place = address if isinstance(address, Place) else find_place(address)
    manifest = read_manifest(place)
    try:
        return DataSet(
            place,
            tuple(str(name) for name, _, _ in manifest["parts"]),
            tuple(int(rows) for _, rows, _ in manifest["parts"]),
            tuple(int(count) for _, _, count in manifest["parts"]),
            int(manifest["dimension"]),
            manifest["model_sha256"],
            manifest["contract_sha256"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{place} is damaged ({error!r}); embed again") from error
