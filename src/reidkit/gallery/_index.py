"""What a gallery holds in memory to be searched: columns that grow, and snapshots of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery import _screening
from reidkit.gallery._screening import Codes
from reidkit.gallery._searching import Searched
from reidkit.gallery._values import Where

_ROW = 41
"""Bytes of a row besides its vector: ids, codes of names, times, scale, error, whether it lives."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """N crops as the database gives them, by id: what filters ask for, and the vectors (N, D)."""

    ids: NDArray[np.int64]
    people: list[str]
    cameras: list[str]
    times: NDArray[np.float64]
    added: NDArray[np.float64]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The index at one moment, which nothing changes any more.

    Columns:
        ids: (N,) int64, ascending.
        people, cameras: (N,) int32, numbers of the names in `people_names` and `camera_names`,
            which may know later names too.
        times, added: (N,) float64.
        alive: (N,) bool, false where the crop was erased.
        codes: the vectors in eight bits.
        vectors: (N, D) float32; `None` where they are not held in memory.
    """

    ids: NDArray[np.int64]
    people: NDArray[np.int32]
    cameras: NDArray[np.int32]
    times: NDArray[np.float64]
    added: NDArray[np.float64]
    alive: NDArray[np.bool_]
    codes: Codes
    vectors: NDArray[np.float32] | None
    longest: float
    all_alive: bool
    people_names: dict[str, int]
    camera_names: dict[str, int]

    def choose(self, where: Where, tagged: NDArray[np.int64] | None) -> NDArray[np.bool_] | None:
        """Mark the rows that are meant, (N,); `None` where all are.

        `tagged` are the ids of the crops that have the tags of `where`.
        """
        parts: list[NDArray[np.bool_]] = [] if self.all_alive else [self.alive]
        for names, column, wanted in (
            (self.people_names, self.people, where.people),
            (self.camera_names, self.cameras, where.cameras),
        ):
            if wanted is not None:
                numbers = [names[name] for name in wanted if name in names]
                table = np.zeros(len(names) + 1, np.bool_)
                table[numbers] = True
                parts.append(table[column])
        # Nothing is before or after a time that is unknown (NaN).
        if where.since is not None:
            parts.append(self.times >= where.since)
        if where.until is not None:
            parts.append(self.times < where.until)
        if where.added_before is not None:
            parts.append(self.added < where.added_before)
        if tagged is not None:
            parts.append(self._mark(tagged))
        if where.without:
            parts.append(~self._mark(np.array(where.without, np.int64)))
        return np.logical_and.reduce(parts) if parts else None

    def view(self, read: Callable[[NDArray[np.int64]], NDArray[np.float32] | None]) -> Searched:
        """Give what is searched; `read` gives vectors by id where they are not held in memory."""
        held = self.vectors

        def read_rows(rows: NDArray[np.intp]) -> NDArray[np.float32] | None:
            return read(self.ids[rows]) if held is None else held[rows]

        return Searched(self.ids, self.codes, held, self.longest, read_rows)

    def _mark(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        marked = np.zeros(len(self.ids), np.bool_)
        if len(self.ids):
            rows = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
            marked[rows[self.ids[rows] == ids]] = True
        return marked


class Index:
    """Columns that grow by doubling. Whoever changes it holds a lock; snapshots need none.

    A row once written is never changed, so that a snapshot is the columns and a length. Erased
    rows are marked in a new column, and left behind once they are a quarter of all.
    """

    def __init__(self, dimension: int, *, memory: int) -> None:
        self.dimension = dimension
        self._memory = memory
        self._length = 0
        self._dead = 0
        self._longest = 0.0
        self._names: dict[str, dict[str, int]] = {"people": {}, "cameras": {}}
        self._columns: dict[str, NDArray[Any]] = {
            "ids": np.empty(0, np.int64),
            "people": np.empty(0, np.int32),
            "cameras": np.empty(0, np.int32),
            "times": np.empty(0, np.float64),
            "added": np.empty(0, np.float64),
            "alive": np.empty(0, np.bool_),
            "values": np.empty((0, dimension), np.int8),
            "scales": np.empty(0, np.float32),
            "errors": np.empty(0, np.float32),
            "vectors": np.empty((0, dimension), np.float32),
        }

    @property
    def held(self) -> bool:
        """Whether float32 vectors are held, besides those in eight bits."""
        return "vectors" in self._columns

    @property
    def memory(self) -> int:
        """Bytes that the rows take up."""
        return self._length * self._row_bytes()

    def reserve(self, rows: int) -> None:
        """Make room for so many rows at once, and give up float32 vectors that will not fit."""
        self._fit(rows)
        self._widen(rows)

    def append(self, known: Known) -> None:
        """Add crops, all with higher ids than those that are there."""
        first, last = self._length, self._length + len(known)
        self._fit(last)
        if last > len(self._columns["ids"]):
            self._widen(max(last, 2 * first, 64))
        codes = _screening.encode(known.vectors)
        added: dict[str, Any] = {
            "ids": known.ids,
            "people": _number(known.people, self._names["people"]),
            "cameras": _number(known.cameras, self._names["cameras"]),
            "times": known.times,
            "added": known.added,
            "alive": True,
            "values": codes.values,
            "scales": codes.scales,
            "errors": codes.errors,
            "vectors": known.vectors,
        }
        for name, column in self._columns.items():
            column[first:last] = added[name]
        if len(known):
            squares = np.einsum("ij,ij->i", known.vectors, known.vectors)
            longest = float(np.sqrt(squares.max()) + codes.errors.max()) * 1.001
            self._longest = max(self._longest, longest)
        self._length = last

    def drop(self, ids: NDArray[np.int64]) -> None:
        """Take out crops that were erased; those that are not there are passed over."""
        snapshot = self.snapshot()
        gone = snapshot._mark(ids) & snapshot.alive
        if not gone.any():
            return
        alive = self._columns["alive"].copy()
        alive[: self._length][gone] = False
        self._columns["alive"] = alive
        self._dead += int(np.count_nonzero(gone))
        if self._dead * 4 > self._length:
            self.tidy()

    def tidy(self) -> None:
        """Leave erased rows behind, in new columns."""
        if self._dead:
            kept = self._columns["alive"][: self._length].astype(np.bool_)
            for name, column in self._columns.items():
                self._columns[name] = column[: self._length][kept]
            self._length, self._dead = self._length - self._dead, 0

    def snapshot(self) -> Snapshot:
        """Give the index as it is now."""
        part: dict[str, Any] = {"vectors": None}
        part |= {name: column[: self._length] for name, column in self._columns.items()}
        return Snapshot(
            codes=Codes(part.pop("values"), part.pop("scales"), part.pop("errors")),
            **part,
            longest=self._longest,
            all_alive=self._dead == 0,
            people_names=self._names["people"],
            camera_names=self._names["cameras"],
        )

    def _fit(self, rows: int) -> None:
        if self.held and rows * self._row_bytes() > self._memory:
            del self._columns["vectors"]

    def _widen(self, rows: int) -> None:
        for name, column in self._columns.items():
            if len(column) < rows:
                larger = np.empty((rows, *column.shape[1:]), column.dtype)
                larger[: self._length] = column[: self._length]
                self._columns[name] = larger

    def _row_bytes(self) -> int:
        return _ROW + (5 if self.held else 1) * self.dimension


def _number(texts: list[str], names: dict[str, int]) -> NDArray[np.int32]:
    """Number names, new ones with the next numbers."""
    return np.array([names.setdefault(text, len(names)) for text in texts], np.int32)
