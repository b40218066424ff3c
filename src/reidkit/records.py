"""The values that cross module boundaries: frozen, columnar, checked when made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reidkit.errors import ArgumentError, MismatchError, ShapeError, UnreadableImage

Progress = Callable[[int, int], None]
"""Called with the number of things done and their total."""

JUNK = -1
"""The person id of a picture that is never scored (a bad detection, in Market-1501)."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """N pictures and whom they show.

    Columns:
        paths: (N,) object, each a `str` that opens as a file.
        person_ids: (N,) int64; -1 marks junk, which is never scored.
        camera_ids: (N,) int64.
    """

    paths: NDArray[np.object_]
    person_ids: NDArray[np.int64]
    camera_ids: NDArray[np.int64]

    def __post_init__(self) -> None:
        _check_column("Samples.paths", self.paths, np.object_, (len(self.paths),))
        _check_column("Samples.person_ids", self.person_ids, np.int64, self.paths.shape)
        _check_column("Samples.camera_ids", self.camera_ids, np.int64, self.paths.shape)

    @classmethod
    def from_columns(
        cls, paths: list[str], person_ids: ArrayLike, camera_ids: ArrayLike
    ) -> Samples:
        """Make samples from any sequences of one length N; ids must be whole numbers."""
        column = np.empty(len(paths), dtype=np.object_)
        column[:] = paths
        return cls(
            column,
            _whole_numbers("person_ids", person_ids),
            _whole_numbers("camera_ids", camera_ids),
        )

    @classmethod
    def from_paths(cls, paths: list[str]) -> Samples:
        """Make samples of unknown people: person id -1, camera id -1."""
        unknown = np.full(len(paths), JUNK, np.int64)
        return cls.from_columns(paths, unknown, unknown)

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Samples:
        """Take some of the samples: `rows` is an index array, a mask (N,) or a slice."""
        return Samples(self.paths[rows], self.person_ids[rows], self.camera_ids[rows])

    def find_readable(self, unreadable: Iterable[UnreadableImage]) -> NDArray[np.bool_]:
        """Mark the samples that are not among the unreadable pictures: a mask (N,)."""
        lost = {image.path for image in unreadable}
        return np.array([path not in lost for path in self.paths], np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A data set: its layout's name and the three splits of the field's protocol."""

    name: str
    train: Samples
    query: Samples
    gallery: Samples

    @property
    def scored_gallery(self) -> Samples:
        """The gallery without junk, which no score looks at."""
        return self.gallery.select(self.gallery.person_ids != JUNK)

    def split(self, name: str) -> Samples:
        """Give the split called `train`, `query` or `gallery`."""
        splits = {"train": self.train, "query": self.query, "gallery": self.gallery}
        return splits[name]


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """The vectors that one model gave for N pictures, row by row.

    Columns:
        vectors: (N, D) float32, finite; of unit length where the model's contract says so.
        samples: the N pictures.

    `model_sha256` and `contract_sha256` say which model and which preprocessing made the
    vectors; `None` means unknown (vectors made by another tool). `unreadable` are pictures that
    were asked for and left out.
    """

    vectors: NDArray[np.float32]
    samples: Samples
    model_sha256: str | None = None
    contract_sha256: str | None = None
    unreadable: tuple[UnreadableImage, ...] = ()

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.shape[1] == 0:
            raise ShapeError(
                f"Embeddings.vectors has shape {self.vectors.shape}, expected (N, D) with D >= 1"
            )
        shape = (len(self.samples), self.vectors.shape[1])
        _check_column("Embeddings.vectors", self.vectors, np.float32, shape)
        bad = _find_bad_rows(self.vectors)
        if len(bad):
            raise ShapeError(
                f"Embeddings.vectors holds NaN or infinity in {len(bad)} of {shape[0]} rows, "
                f"first in row {bad[0]} ({self.samples.paths[bad[0]]})"
            )

    def __len__(self) -> int:
        return len(self.samples)

    def select(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Embeddings:
        """Take some of the rows: `rows` is an index array, a mask (N,) or a slice."""
        return Embeddings(
            self.vectors[rows],
            self.samples.select(rows),
            self.model_sha256,
            self.contract_sha256,
        )


def check_same_model(first: Embeddings, second: Embeddings) -> None:
    """Refuse embeddings of two models, or of one model behind two kinds of preprocessing.

    Raises:
        MismatchError: models, contracts or vector lengths differ.
    """
    pairs = {
        "vector length": (first.vectors.shape[1], second.vectors.shape[1]),
        "model (sha256)": (first.model_sha256, second.model_sha256),
        "input contract (sha256)": (first.contract_sha256, second.contract_sha256),
    }
    for name, (a, b) in pairs.items():
        if a != b:
            raise MismatchError(
                f"these embeddings cannot be compared: their {name} differs ({a} and {b}); "
                "embed both sides with the same model package"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The K best gallery rows of each of Q queries, best first.

    Columns:
        rows: (Q, K) int64, indices into the gallery; -1 where there are fewer than K.
        scores: (Q, K) float32, higher is more alike; -inf where `rows` is -1.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.rows.ndim != 2:
            raise ShapeError(f"Matches.rows has shape {self.rows.shape}, expected (Q, K)")
        _check_column("Matches.rows", self.rows, np.int64, self.rows.shape)
        _check_column("Matches.scores", self.scores, np.float32, self.rows.shape)


@dataclass(frozen=True, slots=True, eq=False)
class DroppedQueries:
    """How many queries were left out of the scores, by reason."""

    junk: int = 0
    """The query itself has person id -1."""
    person_absent: int = 0
    """The gallery holds no picture of this person."""
    same_camera_only: int = 0
    """The gallery holds this person only from the query's own camera."""

    @property
    def total(self) -> int:
        """All queries left out."""
        return self.junk + self.person_absent + self.same_camera_only

    def describe(self) -> str:
        """Say the counts that are not 0 in words."""
        reasons = {
            "junk": self.junk,
            "of people not in the gallery": self.person_absent,
            "of people only seen by the query's own camera": self.same_camera_only,
        }
        return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What an evaluation found; every figure is a fraction, 1 is perfect.

    Fields:
        mAP: mean average precision (mean over queries of the precision at each hit).
        mINP: mean inverse negative penalty (positives / rank of the last positive).
        cmc: (K,) float32, share of queries with a hit within the first k places, rank 1 first.
        queries: number of queries scored.
        gallery: number of gallery pictures scored against (junk left out).
        dropped: queries left out, by reason.
        metric: `cosine` or `euclidean`, or the name of another comparison.
        precision: (K,) float32, mean share of hits within the first k places.
        mAP_trapezoid: mAP with precision averaged by trapezoids, as some published tables have
            it; for comparing with those only.
        protocol: the name of the evaluation protocol.
    """

    mAP: float
    mINP: float
    cmc: NDArray[np.float32]
    queries: int
    gallery: int
    metric: str
    dropped: DroppedQueries = field(default_factory=DroppedQueries)
    precision: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    mAP_trapezoid: float = math.nan
    protocol: str = "market1501"

    def __post_init__(self) -> None:
        _check_column("Scores.cmc", self.cmc, np.float32, (len(self.cmc),))
        _check_column("Scores.precision", self.precision, np.float32, (len(self.precision),))

    def rank(self, k: int) -> float:
        """Give the Rank-k accuracy; beyond the gallery's size it is that of the last rank.

        Raises:
            ArgumentError: the curve was cut off (`max_rank`) before rank k.
        """
        if not self.covers(k):
            raise ArgumentError(f"Rank-{k} is not in a CMC curve cut off at rank {len(self.cmc)}")
        return float(self.cmc[min(k, len(self.cmc)) - 1])

    def covers(self, k: int) -> bool:
        """Tell whether the CMC curve reaches rank k, or all of a smaller gallery."""
        return k >= 1 and (k <= len(self.cmc) or self.gallery <= len(self.cmc))


def _find_bad_rows(vectors: NDArray[np.float32]) -> NDArray[np.intp]:
    """Find the rows with NaN or infinity, a part of the matrix at a time."""
    step = max(1, 2**22 // vectors.shape[1])
    parts = [
        start + np.flatnonzero(~np.isfinite(vectors[start : start + step]).all(axis=1))
        for start in range(0, len(vectors), step)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.intp)


def _check_column(name: str, column: object, dtype: type, shape: tuple[int, ...]) -> None:
    if not isinstance(column, np.ndarray):
        raise ShapeError(f"{name} is a {type(column).__name__}, expected a numpy array")
    if column.dtype != dtype:
        raise ShapeError(f"{name} has dtype {column.dtype}, expected {np.dtype(dtype)}")
    if column.shape != shape:
        raise ShapeError(f"{name} has shape {column.shape}, expected {shape}")


def _whole_numbers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    column: NDArray[Any] = np.asarray(values)
    if column.dtype.kind not in "iu" and column.size:
        raise ShapeError(f"{name} has dtype {column.dtype}, expected whole numbers")
    if column.size and int(column.max()) > np.iinfo(np.int64).max:
        raise ShapeError(f"{name} holds {column.max()}, which does not fit into int64")
    return column.astype(np.int64)
