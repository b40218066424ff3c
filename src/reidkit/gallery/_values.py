"""The values of a gallery: crops and what is known of them, filters, what was found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError, ShapeError
from reidkit.gallery._names import check_moments, check_name, check_source, check_tags

_COLUMNS = {
    "ids": np.int64,
    "people": np.object_,
    "cameras": np.object_,
    "times": np.float64,
    "sources": np.object_,
    "tags": np.object_,
    "digests": np.object_,
    "added": np.float64,
}


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """N crops and what is known of each.

    Columns:
        ids: (N,) int64, given by the store and never used twice; -1 before.
        people: (N,) object, each a `str`: whom the crop shows.
        cameras: (N,) object, each a `str`; empty where unknown.
        times: (N,) float64, seconds since 1970 (UTC) when it was taken; NaN where unknown.
        sources: (N,) object, each a `str`: the path or address it came from; may be empty.
        tags: (N,) object, each a sorted `tuple` of different `str`.
        digests: (N,) object, each a `str`: the sha256 of the picture file, or of the vector where
            there was no file. A person's crop is known by it.
        added: (N,) float64, seconds since 1970 (UTC) when the gallery took it.
    """

    ids: NDArray[np.int64]
    people: NDArray[np.object_]
    cameras: NDArray[np.object_]
    times: NDArray[np.float64]
    sources: NDArray[np.object_]
    tags: NDArray[np.object_]
    digests: NDArray[np.object_]
    added: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name, dtype in _COLUMNS.items():
            column = getattr(self, name)
            if column.dtype != dtype or column.shape != self.ids.shape or column.ndim != 1:
                raise ShapeError(
                    f"Crops.{name} is {column.dtype} {column.shape}, expected "
                    f"{np.dtype(dtype)} {self.ids.shape}"
                )

    @classmethod
    def make(cls, count: int, **columns: object) -> Crops:
        """Make crops from sequences of `count` values each; a column left out is unknown.

        Raises:
            ArgumentError: a name, source, tag or time that no gallery takes.
        """
        unknown: dict[str, object] = {
            "ids": -1,
            "people": "",
            "cameras": "",
            "times": math.nan,
            "sources": "",
            "tags": (),
            "digests": "",
            "added": math.nan,
        }
        made: dict[str, Any] = {}
        for name, dtype in _COLUMNS.items():
            values = columns.pop(name, None)
            made[name] = _fill_column(count, dtype, unknown[name] if values is None else values)
        if columns:
            raise ArgumentError(f"Crops has no columns {', '.join(columns)}")
        made["tags"][:] = [check_tags(tags) for tags in made["tags"]]
        for name in ("people", "cameras"):
            made[name][:] = [check_name(text, name) for text in made[name]]
        for source in made["sources"]:
            check_source(source)
        for name in ("times", "added"):
            check_moments(made[name], name)
        return cls(**made)

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Crops:
        """Take some of the crops: `rows` is an index array, a mask (N,) or a slice."""
        return Crops(*(getattr(self, name)[rows] for name in _COLUMNS))

    def with_ids(self, ids: NDArray[np.int64]) -> Crops:
        """Give these crops their ids."""
        return dataclasses.replace(self, ids=ids)


def join_crops(parts: Sequence[Crops]) -> Crops:
    """Put crops one after the other."""
    if not parts:
        return Crops.make(0)
    return Crops(*(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))


@dataclass(frozen=True, slots=True)
class Where:
    """Which crops are meant; what is `None` limits nothing.

    Fields:
        people, cameras: any of these; none of them where the tuple is empty.
        since, until: taken at or after, and before; seconds since 1970 (UTC). A crop of unknown
            time is then not meant.
        tags: all of these.
        without: crop ids that are not meant.
        added_before: taken into the gallery before; seconds since 1970 (UTC).
    """

    people: tuple[str, ...] | None = None
    cameras: tuple[str, ...] | None = None
    since: float | None = None
    until: float | None = None
    tags: tuple[str, ...] = ()
    without: tuple[int, ...] = ()
    added_before: float | None = None

    def __post_init__(self) -> None:
        for name in ("people", "cameras", "tags"):
            names = getattr(self, name)
            if names is not None:
                object.__setattr__(self, name, tuple(check_name(each, name) for each in names))
        for name in ("since", "until", "added_before"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ArgumentError(f"{name} is {value}, expected seconds since 1970")
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ArgumentError(f"since ({self.since}) is later than until ({self.until})")


EVERYTHING = Where()


def replace_people(where: Where, people: tuple[str, ...]) -> Where:
    """Mean crops of these people only, else the same ones."""
    return dataclasses.replace(where, people=people)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The K most similar crops to each of Q vectors, best first.

    Columns:
        ids: (Q, K) int64 crop ids; -1 where there are fewer than K.
        scores: (Q, K) float32 cosines; -inf where `ids` is -1.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Binding:
    """What a gallery's vectors are of: one model behind one input contract.

    `package` is the model package's folder when the gallery was made, or moved to this model.
    """

    model_sha256: str
    contract_sha256: str
    dimension: int
    package: str = ""

    def same_vectors(self, other: Binding) -> bool:
        """Tell whether two bindings give vectors that may be compared."""
        return dataclasses.replace(self, package="") == dataclasses.replace(other, package="")


@dataclass(frozen=True, slots=True)
class Person:
    """A person in the gallery: how many crops, by which cameras, and when taken."""

    name: str
    crops: int
    cameras: tuple[str, ...]
    first: float | None = None
    last: float | None = None


@dataclass(frozen=True, slots=True)
class AuditLine:
    """Who did what when, and to how many crops; never to whom.

    `action` is `create`, `enrol`, `search`, `read`, `erase`, `retention`, `export`, `compact`,
    `reembed` or `index`.
    """

    time: float
    actor: str
    action: str
    count: int


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What a store says of itself.

    Fields:
        name: `sqlite` or `postgres`.
        disk: bytes on disk.
        memory: bytes of vectors held in memory.
        search: in words, how it searches, such as `exact, float32`.
        recall: share of the true ten best crops found, when last measured against exact search
            on this gallery; `None` where it was not, or where search is exact by construction.
    """

    name: str
    disk: int
    memory: int
    search: str
    recall: float | None = None


@dataclass(frozen=True, slots=True)
class KeptPictures:
    """Whether crops are kept beside their vectors.

    Pictures with more than `largest` pixels are shrunk to that many before they are kept.
    """

    keep: bool = True
    largest: int = 2**17

    def __post_init__(self) -> None:
        if self.largest < 1024:
            raise ArgumentError(f"largest is {self.largest} pixels, expected at least 1024")


def _fill_column(count: int, dtype: type, values: object) -> NDArray[np.generic]:
    column: NDArray[np.generic] = np.empty(count, dtype)
    if isinstance(values, str | int | float) or (isinstance(values, tuple) and not values):
        values = [values] * count
    elif len(values) != count:  # type: ignore[arg-type]
        raise ShapeError(f"a column of crops has {len(values)} values, expected {count}")  # type: ignore[arg-type]
    if dtype is np.object_:
        for row, value in enumerate(values):  # type: ignore[arg-type,var-annotated]
            column[row] = value
    else:
        column[:] = np.asarray(values, dtype)
    return column
