"""Vectors of people as a good network gives them, and who is truly most like whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery import Binding, Crops

CAMERAS = 8
BEST = 10
CROPS_EACH = 20
BINDING = Binding("a" * 64, "b" * 64, 512)
_COMMON, _CENTRE = 0.14, 0.53
"""Shares of the squared length: what all have in common, and what a person's crops have. Crops of
one person have a mean cosine of about 0.67, of two 0.14."""

_STEP = 65536

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """N crops, vectors (N, D) float32 of unit length, and queries (Q, D) of the same people."""

    vectors: Vectors
    people: NDArray[np.int64]
    cameras: NDArray[np.int64]
    queries: Vectors
    wanted: NDArray[np.int64]
    """(Q,) whom the queries show."""


def draw_people(count: int, *, queries: int, dimension: int = 512) -> People:
    """Draw crops, 20 of each person, in an order without rule; the same ones every time."""
    random = np.random.default_rng(0)
    known = max(2, count // CROPS_EACH)
    centres = _draw_units(random, known, dimension)
    common = _draw_units(random, 1, dimension)[0]
    people = random.permutation(count) % known
    vectors = np.empty((count, dimension), np.float32)
    for start in range(0, count, _STEP):
        shown = people[start : start + _STEP]
        vectors[start : start + _STEP] = _draw_crops(random, centres[shown], common)
    wanted = random.integers(0, known, queries)
    drawn = _draw_crops(random, centres[wanted], common)
    return People(vectors, people, random.integers(0, CAMERAS, count), drawn, wanted)


def describe_likeness(people: People) -> dict[str, float]:
    """Give the mean cosines of queries with crops of the same person and of others."""
    few = slice(0, min(20000, len(people.vectors)))
    scores = people.queries @ people.vectors[few].T
    same = people.wanted[:, None] == people.people[few]
    return {"same": float(scores[same].mean()), "different": float(scores[~same].mean())}


def list_parts(people: People, step: int = 10_000) -> Iterator[tuple[Crops, Vectors]]:
    """Give the crops with their vectors as a store takes them, some at a time."""
    names = np.array([f"person {number}" for number in range(people.people.max() + 1)], np.object_)
    cameras = np.array([f"camera {number}" for number in range(CAMERAS)], np.object_)
    for start in range(0, len(people.vectors), step):
        rows = slice(start, min(start + step, len(people.vectors)))
        crops = Crops.make(
            rows.stop - start,
            people=names[people.people[rows]].tolist(),
            cameras=cameras[people.cameras[rows]].tolist(),
            times=np.arange(start, rows.stop, dtype=np.float64).tolist(),
            digests=[f"{row:064x}" for row in range(start, rows.stop)],
        )
        yield crops, people.vectors[rows]


def find_truth(people: People, count: int, mask: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Give the score of the tenth best crop in the mask (N,) for each of `count` queries (Q,).

    By brute force in float64.
    """
    queries = people.queries[:count].astype(np.float64)
    best = np.full((count, BEST), -np.inf)
    for start in range(0, len(people.vectors), _STEP):
        rows = slice(start, start + _STEP)
        scores = queries @ people.vectors[rows].astype(np.float64).T
        if mask is not None:
            scores[:, ~mask[rows]] = -np.inf
        joined = np.concatenate([best, scores], axis=1)
        best = np.partition(joined, -BEST, axis=1)[:, -BEST:]
    tenth: NDArray[np.float64] = best.min(axis=1)
    return tenth


def measure_recall(
    people: People, found: NDArray[np.int64], tenth: NDArray[np.float64], mask: NDArray[np.bool_]
) -> float:
    """Give the share of the true ten best among rows found (Q, 10), -1 being none.

    A row is right where the mask has it and its score, in float64, reaches the tenth best; what
    float32 cannot tell apart (1e-7) counts as reaching it.
    """
    right = 0
    for query, rows, least in zip(people.queries, found, tenth, strict=False):
        rows = np.unique(rows[rows >= 0])
        rows = rows[mask[rows]]
        scores = people.vectors[rows].astype(np.float64) @ query.astype(np.float64)
        right += int((scores >= least - 1e-7).sum())
    return right / (BEST * len(found))


def search_plainly(
    vectors: Vectors, queries: Vectors, mask: NDArray[np.bool_] | None
) -> NDArray[np.intp]:
    """Find the ten best rows as a short numpy script does: (10,) or (Q, 10), in no order."""
    scores = vectors @ queries if queries.ndim == 1 else queries @ vectors.T
    if mask is not None:
        scores[..., ~mask] = -np.inf
    found: NDArray[np.intp] = np.argpartition(-scores, BEST, axis=-1)[..., :BEST]
    return found


def _draw_units(random: np.random.Generator, count: int, dimension: int) -> Vectors:
    return _to_unit(random.standard_normal((count, dimension), np.float32))


def _draw_crops(random: np.random.Generator, centres: Vectors, common: Vectors) -> Vectors:
    noise = _draw_units(random, *centres.shape)
    noise *= np.exp(0.12 * random.standard_normal((len(noise), 1))).astype(np.float32)
    noise *= np.float32(np.sqrt(1 - _COMMON - _CENTRE))
    noise += np.float32(np.sqrt(_CENTRE)) * centres
    noise += np.float32(np.sqrt(_COMMON)) * common
    return _to_unit(noise)


def _to_unit(vectors: Vectors) -> Vectors:
    units: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units
