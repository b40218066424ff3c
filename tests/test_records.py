from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reidkit.errors import ArgumentError, MismatchError, ShapeError, UnreadableImage
from reidkit.records import (
    DroppedQueries,
    Embeddings,
    Matches,
    Samples,
    Scores,
    check_same_model,
)


def samples(count: int = 3) -> Samples:
    names = [f"{i}.jpg" for i in range(count)]
    return Samples.from_columns(names, np.arange(count), np.ones(count, np.int64))


def embeddings(count: int = 3, size: int = 4, model: str | None = "m") -> Embeddings:
    return Embeddings(np.ones((count, size), np.float32), samples(count), model, "c")


def test_samples_take_plain_lists() -> None:
    made = Samples.from_columns(["a", "b"], [1, -1], [3, 4])
    assert made.person_ids.dtype == np.int64
    assert made.paths.tolist() == ["a", "b"]
    assert len(made) == 2


def test_samples_may_be_empty() -> None:
    assert len(Samples.from_columns([], [], [])) == 0
    assert len(Samples.from_paths([])) == 0


def test_samples_of_unknown_people_are_junk() -> None:
    assert Samples.from_paths(["a", "b"]).person_ids.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("person_ids", "message"),
    [
        ([1], r"person_ids has shape \(1,\), expected \(2,\)"),
        ([1.5, 2.0], "person_ids has dtype float64, expected whole numbers"),
        (["1", "2"], "expected whole numbers"),
    ],
)
def test_samples_name_the_wrong_column(person_ids: list[int], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Samples.from_columns(["a", "b"], person_ids, [1, 1])


def test_samples_refuse_other_dtypes_when_made_directly() -> None:
    good = samples(2)
    with pytest.raises(ShapeError, match="person_ids has dtype int32, expected int64"):
        dataclasses.replace(good, person_ids=good.person_ids.astype(np.int32))


@pytest.mark.parametrize("rows", [slice(1, 3), np.array([1, 2]), np.array([False, True, True])])
def test_select_keeps_columns_together(rows: slice) -> None:
    picked = samples(3).select(rows)
    assert picked.paths.tolist() == ["1.jpg", "2.jpg"]
    assert picked.person_ids.tolist() == [1, 2]


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        samples().paths = np.array([])  # type: ignore[misc]


def test_embeddings_check_their_shape() -> None:
    with pytest.raises(ShapeError, match=r"shape \(2, 4\), expected \(3, 4\)"):
        Embeddings(np.ones((2, 4), np.float32), samples(3))
    with pytest.raises(ShapeError, match="dtype float64, expected float32"):
        Embeddings(np.ones((3, 4)), samples(3))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"expected \(N, D\)"):
        Embeddings(np.ones(3, np.float32), samples(3))


def test_embeddings_name_the_picture_with_nan() -> None:
    vectors = np.ones((3, 4), np.float32)
    vectors[1, 2] = np.nan
    with pytest.raises(ShapeError, match=r"NaN or infinity in 1 of 3 rows, first in row 1 \(1.jpg"):
        Embeddings(vectors, samples(3))


def test_two_models_never_mix() -> None:
    check_same_model(embeddings(), embeddings(count=5))
    with pytest.raises(MismatchError, match="model"):
        check_same_model(embeddings(), embeddings(model="other"))
    with pytest.raises(MismatchError, match="model"):
        check_same_model(embeddings(), embeddings(model=None))
    with pytest.raises(MismatchError, match=r"vector length differs \(4 and 5\)"):
        check_same_model(embeddings(), embeddings(size=5))
    other = dataclasses.replace(embeddings(), contract_sha256="d")
    with pytest.raises(MismatchError, match="input contract"):
        check_same_model(embeddings(), other)


def test_matches_check_their_columns() -> None:
    with pytest.raises(ShapeError, match=r"scores has shape \(2, 3\), expected \(2, 2\)"):
        Matches(np.zeros((2, 2), np.int64), np.zeros((2, 3), np.float32))
    with pytest.raises(ShapeError, match=r"expected \(Q, K\)"):
        Matches(np.zeros(2, np.int64), np.zeros(2, np.float32))


def test_rank_beyond_a_small_gallery_is_the_last_one() -> None:
    scores = Scores(0.5, 0.5, np.array([0.25, 0.75], np.float32), 4, 2, "cosine")
    assert scores.rank(1) == 0.25
    assert scores.rank(10) == 0.75


def test_dropped_queries_add_up() -> None:
    dropped = DroppedQueries(junk=1, person_absent=2, same_camera_only=4)
    assert dropped.total == 7
    text = dropped.describe()
    assert "1 junk, 2 of people not in the gallery, 4 of people" in text
    assert DroppedQueries(junk=3).describe() == "3 junk"


def test_a_rank_beyond_a_curve_that_was_cut_off_is_refused() -> None:
    scores = Scores(0.5, 0.5, np.array([0.25, 0.75], np.float32), 4, 100, "cosine")
    assert scores.rank(2) == 0.75
    assert not scores.covers(5)
    with pytest.raises(ArgumentError, match="Rank-5 is not in a CMC curve cut off at rank 2"):
        scores.rank(5)
    with pytest.raises(ArgumentError, match="Rank-0"):
        scores.rank(0)


def test_ids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="does not fit into int64"):
        Samples.from_columns(["a"], np.array([2**63], np.uint64), [1])


def test_unreadable_pictures_are_marked() -> None:
    mask = samples(3).find_readable([UnreadableImage("1.jpg", "truncated")])
    assert mask.tolist() == [True, False, True]
