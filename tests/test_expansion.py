"""Embeddings made of embeddings, against loops worded like the definitions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit.errors import ArgumentError, MismatchError, UnreadableImage
from reidkit.records import Embeddings, Samples
from reidkit.reranking import augment_gallery, average_flips, expand_queries, pool_queries
from reidkit.scoring import evaluate


def side(seed: int, size: int, *, junk: float = 0.0, dimensions: int = 6) -> Embeddings:
    random = np.random.default_rng(seed)
    people = random.integers(0, 5, size)
    centres = np.random.default_rng(7).standard_normal((5, dimensions))
    vectors = (centres[people] + 0.9 * random.standard_normal((size, dimensions))) * 3
    people[random.random(size) < junk] = -1
    paths = [f"{seed}/{row}.jpg" for row in range(size)]
    samples = Samples.from_columns(paths, people, random.integers(1, 3, size))
    return Embeddings(vectors.astype(np.float32), samples, "model", "contract")


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    divided: NDArray[np.float64] = vectors / np.maximum(lengths, 1e-12)
    return divided


def naive_expansion(
    own: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    count: int,
    alpha: float,
    metric: str,
    itself: bool = False,
) -> NDArray[np.float64]:
    """Each vector's mean with its best others; `itself`: row i is not a neighbour of row i."""
    means = []
    for row, vector in enumerate(own):
        cosines = others @ vector
        closeness = cosines if metric == "cosine" else -np.linalg.norm(others - vector, axis=1)
        best = [j for j in np.argsort(-closeness) if not (itself and j == row)][:count]
        weights = [1.0 if alpha == 0 else max(cosines[j], 0.0) ** alpha for j in best]
        total = vector + sum(w * others[j] for w, j in zip(weights, best, strict=True))
        means.append(total / (1 + sum(weights)))
    return unit(np.array(means)) if metric == "cosine" else np.array(means)


@pytest.mark.parametrize(("metric", "alpha"), [("cosine", 0.0), ("cosine", 3.0), ("euclidean", 0)])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 12))
def test_expanded_queries_are_means_with_their_best(
    metric: str, alpha: float, seed: int, count: int
) -> None:
    query, gallery = side(seed, 9), side(seed + 1, 40, junk=0.3)
    expanded = expand_queries(query, gallery, count=count, alpha=alpha, metric=metric)
    kept = gallery.vectors[gallery.samples.person_ids != -1].astype(np.float64)
    own = query.vectors.astype(np.float64)
    if metric == "cosine":
        own, kept = unit(own), unit(kept)
    expected = naive_expansion(own, kept, count=count, alpha=alpha, metric=metric)
    np.testing.assert_allclose(expanded.vectors, expected, atol=2e-6 * np.abs(expected).max())
    assert expanded.samples is query.samples
    assert expanded.model_sha256 == "model"


@pytest.mark.parametrize(("metric", "alpha"), [("cosine", 0.0), ("cosine", 2.0), ("euclidean", 0)])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 50))
def test_an_augmented_gallery_is_means_with_the_nearest_others(
    metric: str, alpha: float, seed: int, count: int
) -> None:
    gallery = side(seed, 35, junk=0.2)
    augmented = augment_gallery(gallery, count=count, alpha=alpha, metric=metric)
    kept = gallery.samples.person_ids != -1
    vectors = gallery.vectors.astype(np.float64)
    vectors = unit(vectors) if metric == "cosine" else vectors
    expected = vectors.copy()
    expected[kept] = naive_expansion(
        vectors[kept], vectors[kept], count=count, alpha=alpha, metric=metric, itself=True
    )
    scale = np.abs(expected).max()
    np.testing.assert_allclose(augmented.vectors, expected, atol=5e-6 * scale)


def test_copies_are_neighbours_of_each_other() -> None:
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    samples = Samples.from_columns(list("abcd"), [1, 1, 1, 2], [1, 2, 3, 1])
    augmented = augment_gallery(Embeddings(vectors, samples), count=1)
    np.testing.assert_allclose(augmented.vectors[:3], vectors[:3])
    np.testing.assert_allclose(augmented.vectors[3], unit(np.array([[1.0, 1.0]]))[0], atol=1e-6)


def test_memory_does_not_change_the_result() -> None:
    query, gallery = side(1, 30, dimensions=300), side(2, 2000, dimensions=300)
    small = expand_queries(query, gallery, memory=2**20)
    np.testing.assert_allclose(small.vectors, expand_queries(query, gallery).vectors, atol=1e-6)
    parts = augment_gallery(gallery, memory=2**20)
    np.testing.assert_allclose(parts.vectors, augment_gallery(gallery).vectors, atol=1e-6)


def test_expansion_and_augmentation_help_where_people_form_clusters() -> None:
    query, gallery = side(3, 60, dimensions=12), side(4, 300, dimensions=12)
    plain = evaluate(query, gallery).mAP
    assert evaluate(expand_queries(query, gallery), gallery).mAP > plain + 0.02
    assert evaluate(query, augment_gallery(gallery)).mAP > plain + 0.02


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_pooled_queries_are_means_of_a_person_and_camera(metric: str) -> None:
    query = side(5, 40, junk=0.2)
    pooled = pool_queries(query, metric=metric)
    vectors = query.vectors.astype(np.float64)
    vectors = unit(vectors) if metric == "cosine" else vectors
    ids = list(zip(query.samples.person_ids, query.samples.camera_ids, strict=True))
    expected, rows, seen = [], [], set()
    for row, key in enumerate(ids):
        if key[0] == -1:
            group = [row]
        elif key in seen:
            continue
        else:
            group = [other for other, its in enumerate(ids) if its == key]
            seen.add(key)
        rows.append(row)
        expected.append(vectors[group].mean(axis=0))
    means = unit(np.array(expected)) if metric == "cosine" else np.array(expected)
    np.testing.assert_allclose(pooled.vectors, means, atol=2e-6 * np.abs(means).max())
    assert pooled.samples.paths.tolist() == query.samples.paths[rows].tolist()


def test_flip_averaging_is_the_mean_of_unit_vectors() -> None:
    plain = side(6, 20)
    mirrored = Embeddings(side(7, 20).vectors, plain.samples, "model", "contract")
    averaged = average_flips(plain, mirrored)
    a, b = plain.vectors.astype(np.float64), mirrored.vectors.astype(np.float64)
    np.testing.assert_allclose(averaged.vectors, unit(unit(a) + unit(b)), atol=1e-6)


def test_other_pictures_cannot_be_flip_averaged() -> None:
    with pytest.raises(MismatchError, match="same pictures in the same order"):
        average_flips(side(6, 20), side(7, 20))


def test_a_gallery_of_junk_or_of_one_picture_changes_nothing() -> None:
    query, junk = side(8, 5), side(9, 5, junk=1.0)
    assert expand_queries(query, junk) is query
    assert augment_gallery(junk) is junk
    assert augment_gallery(query.select(slice(1))).vectors.shape == (1, 6)


def test_bad_settings_are_refused() -> None:
    query, gallery = side(1, 5), side(2, 9)
    for message, settings_ in (
        ("count is 0", {"count": 0}),
        ("alpha is -1", {"alpha": -1.0}),
        ("alpha is 2.0 with euclidean", {"alpha": 2.0, "metric": "euclidean"}),
        ("metric is 'manhattan'", {"metric": "manhattan"}),
        ("memory is 5 bytes", {"memory": 5}),
    ):
        with pytest.raises(ArgumentError, match=message):
            expand_queries(query, gallery, **settings_)
        with pytest.raises(ArgumentError, match=message):
            augment_gallery(gallery, **settings_)
    other = Embeddings(gallery.vectors, gallery.samples, "other model", "contract")
    with pytest.raises(MismatchError, match="cannot be compared"):
        expand_queries(query, other)


def test_pooling_keeps_the_list_of_unreadable_pictures() -> None:
    query = dataclasses.replace(side(5, 12), unreadable=(UnreadableImage("lost.jpg", "empty"),))
    assert pool_queries(query).unreadable == query.unreadable


def test_a_vector_of_zeros_weighs_nothing_in_an_augmented_gallery() -> None:
    vectors = np.array([[1, 0], [0, 0], [0.8, 0.6]], np.float32)
    samples = Samples.from_columns(list("abc"), [1, 2, 3], [1, 1, 1])
    augmented = augment_gallery(Embeddings(vectors, samples), count=2, alpha=1)
    expected = unit(np.array([[1 + 0.8 * 0.8, 0.8 * 0.6]]))[0]
    np.testing.assert_allclose(augmented.vectors[0], expected, atol=1e-6)
