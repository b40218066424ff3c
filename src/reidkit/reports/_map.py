"""Embeddings in two dimensions: which pictures the network puts together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import MismatchError, ShapeError
from reidkit.records import JUNK, Embeddings, Samples, check_same_model
from reidkit.reports._ranked import spread_evenly

PEOPLE, PICTURES = 20, 1000
"""How many people are shown at most, and pictures of all of them."""

FEWEST = 16
"""UMAP looks at the 15 nearest neighbours: fewer pictures than this are left to PCA."""

NO_VARIANCE = 1e-12
"""Share of the vectors' squares below which what differs is float32 rounding."""

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingMap:
    """Pictures of some people, put where their vectors lie in a plane.

    Columns:
        points: (N, 2) float64, finite; their unit has no meaning.
        person_ids: (N,) int64.
        queried: (N,) bool, true for a query, false for a gallery picture.

    Fields:
        method: how the plane was found.
        share: for PCA, the part of the vectors' variance that the plane shows; `None` where
            the vectors do not differ, and for UMAP, which keeps no such thing.
        people: how many people there were to choose from.
    """

    points: Points
    person_ids: NDArray[np.int64]
    queried: NDArray[np.bool_]
    method: Literal["PCA", "UMAP"]
    share: float | None
    people: int

    def __post_init__(self) -> None:
        count = len(self.person_ids)
        if not count or self.points.shape != (count, 2) or self.queried.shape != (count,):
            raise ShapeError(
                f"EmbeddingMap has points {self.points.shape} and queried {self.queried.shape} "
                f"for {count} person ids, expected (N, 2), (N,) and N >= 1 of them"
            )
        if not np.isfinite(self.points).all():
            raise ShapeError("EmbeddingMap.points holds NaN or infinity")


def project_embeddings(
    query: Embeddings, gallery: Embeddings, *, metric: str = "cosine"
) -> EmbeddingMap:
    """Project pictures of at most 20 people, 1,000 in all, to two dimensions.

    The people are spread evenly over all that have a picture on both sides, by id, and each
    person's pictures evenly over theirs: always the same ones. (Q, D) and (G, D) vectors may be
    mapped from disk; those of the pictures chosen are read. They are divided by their length
    unless `metric` is `euclidean`.

    The plane is that of UMAP (McInnes et al., 2018) where `umap-learn` is installed, with a
    fixed seed; otherwise that of the two principal components.

    Raises:
        MismatchError: the embeddings are of two models, or have no person in common.
    """
    check_same_model(query, gallery)
    asked, answers, people = choose_pictures(query.samples, gallery.samples)
    vectors = np.concatenate((query.vectors[asked], gallery.vectors[answers])).astype(np.float64)
    if metric != "euclidean":
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, 1)
    points, share = project_linearly(vectors)
    curved = None if share is None else _project_by_umap(vectors, metric)
    ids = (query.samples.person_ids[asked], gallery.samples.person_ids[answers])
    return EmbeddingMap(
        points if curved is None else curved,
        np.concatenate(ids),
        np.arange(len(vectors)) < len(asked),
        "PCA" if curved is None else "UMAP",
        share if curved is None else None,
        people,
    )


def choose_pictures(
    query: Samples, gallery: Samples
) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Choose query rows and gallery rows to show, and count the people there are.

    Raises:
        MismatchError: nobody is on both sides.
    """
    # Distractors share the id 0 in many data sets, but nobody asks for them.
    shared = np.intersect1d(query.person_ids, gallery.person_ids)
    shared = shared[shared != JUNK]
    if not len(shared):
        raise MismatchError(
            "there is nobody to show: no person has a picture among both the queries and the "
            "gallery; give two sides that belong together"
        )
    people = shared[spread_evenly(len(shared), PEOPLE)]
    each = PICTURES // len(people)
    chosen = np.concatenate([_choose_rows(query, gallery, person, each) for person in people])
    queries = len(query.person_ids)
    asked, answers = chosen[chosen < queries], chosen[chosen >= queries] - queries
    return np.sort(asked), np.sort(answers), len(shared)


def project_linearly(vectors: NDArray[np.float64]) -> tuple[Points, float | None]:
    """Give the two principal components of (N, D) vectors, and their share of the variance.

    The components are those of the (N, N) products, which are the same as those of the (D, D)
    covariance. Vectors that do not differ give zeros and `None`.
    """
    centred = vectors - vectors.mean(axis=0)
    variance = float(np.square(centred).sum())
    if variance <= NO_VARIANCE * float(np.square(vectors).sum()):
        return np.zeros((len(vectors), 2)), None
    values, directions = np.linalg.eigh(centred @ centred.T)
    points = directions[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 0))
    # A direction has no sign of its own: its farthest point lies on the positive side.
    farthest = points[np.abs(points).argmax(axis=0), (0, 1)]
    return points * np.where(farthest < 0, -1, 1), float(min(values[-2:].sum() / variance, 1))


def _choose_rows(query: Samples, gallery: Samples, person: int, count: int) -> NDArray[np.intp]:
    """Spread `count` places over a person's rows; gallery rows are counted after the queries."""
    asked, answers = (np.flatnonzero(side.person_ids == person) for side in (query, gallery))
    rows = np.concatenate((asked, len(query.person_ids) + answers))
    return rows[spread_evenly(len(rows), count)]


def _project_by_umap(vectors: NDArray[np.float64], metric: str) -> Points | None:
    """Give UMAP's (N, 2) points; `None` where it is not installed or cannot place them all."""
    if len(vectors) < FEWEST:
        return None
    try:
        import umap  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    distance = "euclidean" if metric == "euclidean" else "cosine"
    # One job: with a seed it takes no more, and warns where it was not told so.
    plane = umap.UMAP(n_components=2, random_state=0, metric=distance, n_jobs=1)
    points = np.asarray(plane.fit_transform(vectors), np.float64)
    # It leaves pictures without neighbours at NaN.
    return points if np.isfinite(points).all() else None
