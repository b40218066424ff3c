"""Vectors as a good ReID network gives them, of any number, drawn from a seed.

Every vector is its person's centre, plus what all pictures have in common, plus noise of its own,
of which some pictures have more than others: most queries are easy and their last right answers
are far down, as in the published data sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit.records import Embeddings, Samples

_STEP = 4096


class People:
    """Vectors (N, D), labels (N, 2) person and camera ids, the queries first, and both sides."""

    def __init__(
        self, vectors: NDArray[np.float32], labels: NDArray[np.int64], queries: int
    ) -> None:
        self.vectors, self.labels, self.queries = vectors, labels, queries
        self.query = self._take(slice(0, queries))
        self.gallery = self._take(slice(queries, len(labels)))

    def _take(self, rows: slice) -> Embeddings:
        """Give some of them, as a view."""
        names = [f"{row}.jpg" for row in range(*rows.indices(len(self.labels)))]
        people, cameras = self.labels[rows].T
        return Embeddings(self.vectors[rows], Samples.from_columns(names, people, cameras))


@dataclass(frozen=True)
class Size:
    """How many of what; `distractors` of the gallery's pictures show person 0."""

    queries: int
    gallery: int
    people: int
    cameras: int
    distractors: int = 0
    dimension: int = 2048
    noise: float = 2.7
    spread: float = 0.12
    mapped: bool = False


def draw_people(folder: Path, size: Size) -> None:
    """Write `vectors.npy` (N, D) and `labels.npy` (N, 2): queries first; seeded."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((size.people + 1, size.dimension), np.float32)
    centres[0] = 0
    common = random.standard_normal(size.dimension, np.float32)
    people = random.integers(1, size.people + 1, size.queries + size.gallery)
    strangers = size.queries + random.permutation(size.gallery)[: size.distractors]
    people[strangers] = 0
    cameras = random.integers(1, size.cameras + 1, len(people))
    folder.mkdir(parents=True)
    np.save(folder / "labels.npy", np.stack((people, cameras), axis=1))
    shape = (len(people), size.dimension)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, shape)
    for start in range(0, len(people), _STEP):
        shown = people[start : start + _STEP]
        part = random.standard_normal((len(shown), size.dimension), np.float32)
        length = size.noise * np.exp(size.spread * random.standard_normal(len(shown)))
        part *= length.astype(np.float32)[:, None]
        # A stranger is like nobody: noise alone has no centre, so give it one more.
        part[shown == 0] *= np.float32(np.sqrt(1 + size.noise**-2))
        part += centres[shown]
        part += common
        vectors[start : start + _STEP] = part
    vectors.flush()


def load_people(folder: Path, size: Size) -> People:
    """Read what `draw_people` wrote; vectors stay on disk where the size says so."""
    path = folder / "vectors.npy"
    vectors = np.load(path, mmap_mode="r") if size.mapped else np.load(path)
    return People(vectors, np.load(folder / "labels.npy"), size.queries)


def draw_few(dimension: int) -> People:
    """Draw 90 pictures of 30 people, one in each of three cameras."""
    vectors = np.random.default_rng(0).standard_normal((90, dimension), np.float32)
    return People(vectors, np.stack((np.arange(90) % 30, np.arange(90) // 30), axis=1), 30)
