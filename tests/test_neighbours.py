"""The nearest neighbours of every vector, against sorting each row of the whole matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit.comparing import (
    Joined,
    Neighbours,
    Prepared,
    Rows,
    _nearest,
    _neighbours,
    _rows,
    find_neighbours,
    prepare,
)

METRICS = ["cosine", "euclidean"]
SEEDS = st.integers(0, 2**32 - 1)
BUDGETS = [1, 2**9, 2**12, 2**24]
"""Bytes: from one score at a time to everything at once."""


def measure_all(vectors: NDArray[np.float32], metric: str) -> NDArray[np.float64]:
    """Give the (N, N) squared distances in float64, one pair like the other."""
    rows = vectors.astype(np.float64)
    if metric == "cosine":
        rows /= np.maximum(np.sqrt((rows**2).sum(axis=1)), 1e-12)[:, None]
    squares: NDArray[np.float64] = ((rows[:, None] - rows) ** 2).sum(axis=2)
    return squares


def sort_naively(squares: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Put each row itself first, then the nearest, equal ones by row; (N, count)."""
    own_first = squares - 1.0 * np.eye(len(squares))
    return np.argsort(own_first, axis=1, kind="stable")[:, :count]


def draw_ties(random: np.random.Generator, size: int, metric: str) -> NDArray[np.float32]:
    """Draw vectors whose distances float32 holds exactly: many are equal, some are 0.

    For cosine corners of a cube in 4 dimensions, of length 2, stretched by powers of two.
    """
    if metric == "euclidean":
        vectors = random.integers(-2, 3, (size, int(random.integers(1, 5))))
    else:
        vectors = (random.integers(0, 2, (size, 4)) * 2 - 1) * np.exp2(
            random.integers(-3, 4, (size, 1))
        )
    vectors[random.random(size) < 0.05] = 0
    return vectors.astype(np.float32)


def draw_apart(random: np.random.Generator, size: int, metric: str) -> NDArray[np.float32]:
    """Draw vectors whose distances differ by more than float32 rounds, or are exactly equal."""
    while True:
        vectors = random.standard_normal((size, 6)).astype(np.float32)
        if random.random() < 0.5:  # some vectors more than once
            vectors = vectors[random.integers(0, 1 + size // 2, size)]
        gaps = np.diff(np.sort(measure_all(vectors, metric), axis=1), axis=1)
        if gaps[gaps > 0].min(initial=1) > 5e-6:
            return vectors


def make_ready(
    source: Rows | Joined | NDArray[np.float32], metric: str, *, held: bool = True
) -> Prepared:
    rows = Rows.all_of(source) if isinstance(source, np.ndarray) else source
    prepared = prepare(rows, metric, memory=2**24 if held else 0)
    assert (prepared.held is not None) == held
    return prepared


def assert_nearest(
    found: Neighbours, vectors: NDArray[np.float32], metric: str, count: int
) -> None:
    squares = measure_all(vectors, metric)
    order = sort_naively(squares, count)
    np.testing.assert_array_equal(found.rows, order)
    expected = np.take_along_axis(squares, order, axis=1)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(found.farthest, squares.max(axis=1), rtol=1e-5, atol=2e-6)
    assert found.distances.min() >= 0
    assert found.rows.dtype == np.int32
    assert found.distances.dtype == found.farthest.dtype == np.float32


@pytest.mark.parametrize("draw", [draw_ties, draw_apart])
@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    size=st.integers(1, 60),
    count=st.integers(1, 70),
    metric=st.sampled_from(METRICS),
    memory=st.sampled_from(BUDGETS),
    held=st.booleans(),
)
def test_neighbours_are_the_first_of_each_sorted_row(
    draw: object, seed: int, size: int, count: int, metric: str, memory: int, held: bool
) -> None:
    assert callable(draw)
    vectors = draw(np.random.default_rng(seed), size, metric)
    found = find_neighbours(make_ready(vectors, metric, held=held), count, memory=memory)
    assert_nearest(found, vectors, metric, min(count, size))


@pytest.mark.parametrize("part", [1, 60, 500])
@pytest.mark.parametrize("metric", METRICS)
def test_blocks_are_looked_through_in_parts_by_threads(
    metric: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_nearest, "_PART", part)
    monkeypatch.setattr(_neighbours, "_BLOCK_ROWS", 16)
    monkeypatch.setattr(_rows, "available_cores", lambda: 3)
    for seed in range(4):
        vectors = draw_ties(np.random.default_rng(seed), 50, metric)
        assert_nearest(
            find_neighbours(make_ready(vectors, metric), 6, memory=2**20), vectors, metric, 6
        )


def draw_rising(random: np.random.Generator) -> NDArray[np.float32]:
    """Make unit vectors of which every one is more like a later row than an earlier one.

    Two have only their first number in common; the products of these are the similarities.
    """
    common = np.linspace(0.3, 0.9, 120)
    return np.column_stack((common, np.diag(np.sqrt(1 - common**2)))).astype(np.float32)


def draw_falling(random: np.random.Generator) -> NDArray[np.float32]:
    return draw_rising(random)[::-1].copy()


def draw_late_crowd(random: np.random.Generator) -> NDArray[np.float32]:
    """Put a crowd around the first ten rows, at the end, which is nearer than all before."""
    far = random.integers(50, 90, (300, 2)) * random.choice([-1, 1], (300, 2))
    return np.concatenate((np.eye(10, 2), far, random.integers(-5, 6, (200, 2)))).astype(np.float32)


ADVERSARIES = {
    "rising": (draw_rising, METRICS),
    "falling": (draw_falling, METRICS),
    "late crowd": (draw_late_crowd, ["euclidean"]),
}


@pytest.mark.parametrize("count", [1, 3, 17])
@pytest.mark.parametrize("memory", [2**11, 2**17, 2**24])
@pytest.mark.parametrize("name", ADVERSARIES)
def test_the_best_are_found_in_whatever_order_they_come(name: str, memory: int, count: int) -> None:
    draw, metrics = ADVERSARIES[name]
    vectors = draw(np.random.default_rng(0))
    for metric in metrics:
        found = find_neighbours(
            make_ready(vectors, metric, held=memory > 2**17), count, memory=memory
        )
        assert_nearest(found, vectors, metric, count)


@pytest.mark.parametrize("memory", [2**20, 2**30])
def test_ties_across_blocks_and_threads_go_by_row(memory: int) -> None:
    """More rows than a block of products; about 60 of them at each of few distances."""
    random = np.random.default_rng(3)
    corners = np.unique(random.integers(-3, 4, (4000, 5)), axis=0)
    vectors = random.permutation(corners)[:2200].astype(np.float32)
    prepared = make_ready(vectors, "euclidean")
    assert len(prepared.copies) == 0
    found = find_neighbours(prepared, 25, memory=memory)
    lengths = (vectors**2).sum(axis=1)
    squares = lengths[:, None] + lengths - 2 * vectors @ vectors.T
    order = sort_naively(squares, 25)
    np.testing.assert_array_equal(found.rows, order)
    np.testing.assert_array_equal(found.distances, np.take_along_axis(squares, order, axis=1))
    np.testing.assert_array_equal(found.farthest, squares.max(axis=1))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [0, 1, -2.5])
def test_equal_vectors_are_neighbours_by_row(metric: str, value: float) -> None:
    vectors = np.full((40, 4), value, np.float32)
    found = find_neighbours(make_ready(vectors, metric), 7, memory=2**20)
    assert found.rows[3].tolist() == [3, 0, 1, 2, 4, 5, 6]
    assert found.rows[39].tolist() == [39, 0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(np.sort(found.rows[:7], axis=1), np.tile(np.arange(7), (7, 1)))
    assert not found.distances.any()
    assert not found.farthest.any()


def test_copies_stand_beside_each_other_however_many() -> None:
    """Rows 0 and 2 are 1 away from the 30 copies between them and behind them."""
    vectors = np.zeros((33, 1), np.float32)
    vectors[[0, 2]] = [[-1], [1]]
    found = find_neighbours(make_ready(vectors, "euclidean"), 4, memory=2**20)
    assert found.rows[0].tolist() == [0, 1, 3, 4]
    assert found.rows[2].tolist() == [2, 1, 3, 4]
    assert found.rows[32].tolist() == [32, 1, 3, 4]
    assert found.distances[[0, 2, 32]].tolist() == [[0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert found.farthest[[0, 2, 32]].tolist() == [4, 4, 1]


def test_both_zeros_are_one_number() -> None:
    vectors = np.array([[0.0, 1], [5, 5], [-0.0, 1]], np.float32)
    for metric in METRICS:
        found = find_neighbours(make_ready(vectors, metric), 2, memory=2**20)
        assert found.rows[[0, 2]].tolist() == [[0, 2], [2, 0]]
        assert found.distances[0].tolist() == [0, 0]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("copies", [0, 10])
def test_a_vector_is_its_own_nearest_whatever_rounding_says(copies: int, metric: str) -> None:
    """Among vectors that differ by less than float32 rounds in their products."""
    random = np.random.default_rng(9)
    crowd = random.standard_normal(6) + 1e-4 * random.standard_normal((30, 6))
    far = random.standard_normal((10, 6))
    vectors = np.concatenate((crowd, crowd[:copies], far)).astype(np.float32)
    found = find_neighbours(make_ready(vectors, metric), 5, memory=2**20)
    np.testing.assert_array_equal(found.rows[:, 0], np.arange(40 + copies))
    assert not found.distances[:, 0].any()
    assert found.distances.min() >= 0
    assert (found.rows[: 30 + copies] < 30 + copies).all()


@pytest.mark.parametrize("offset", [0, 1000, -(2**18)])
def test_distances_far_from_the_origin_stay_exact(offset: int) -> None:
    vectors = np.random.default_rng(1).integers(-9, 10, (150, 6)).astype(np.float32)
    moved = vectors + np.float32(offset)
    found = find_neighbours(make_ready(moved, "euclidean"), 20, memory=2**16)
    assert_nearest(found, vectors, "euclidean", 20)


@pytest.mark.parametrize("metric", METRICS)
def test_vectors_mapped_from_disk(metric: str, tmp_path: Path) -> None:
    vectors = draw_apart(np.random.default_rng(5), 50, metric)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    for held in (False, True):
        found = find_neighbours(make_ready(mapped, metric, held=held), 9, memory=2**10)
        assert_nearest(found, vectors, metric, 9)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("held", [False, True])
def test_two_sides_are_joined_in_their_own_orders(metric: str, held: bool) -> None:
    random = np.random.default_rng(6)
    vectors = draw_ties(random, 60, metric)
    first, second = random.permutation(60)[:25], random.integers(0, 60, 30)
    joined = Joined(Rows(vectors, first), Rows(vectors, second))
    found = find_neighbours(make_ready(joined, metric, held=held), 12, memory=2**9)
    assert_nearest(found, vectors[np.concatenate((first, second))], metric, 12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("held", [False, True])
def test_pairs_are_measured_as_the_matrix_has_them(metric: str, held: bool) -> None:
    random = np.random.default_rng(7)
    vectors = random.standard_normal((40, 5)).astype(np.float32)
    joined = Joined(Rows(vectors, np.arange(15)), Rows(vectors, np.arange(15, 40)))
    rows, columns = np.sort(random.integers(0, 40, 300)), random.integers(0, 40, 300)
    squares = make_ready(joined, metric, held=held).measure_squares(rows, columns)
    np.testing.assert_allclose(squares, measure_all(vectors, metric)[rows, columns], atol=1e-5)
    assert not squares[rows == columns].any()


@pytest.mark.parametrize("held", [False, True])
def test_the_second_side_knows_its_own_copies(held: bool) -> None:
    """Vectors 0, 1, 2 | 1, 3, 1, 0, 3: of the copies of 1 the second side's first leads."""
    numbers = np.array([0, 1, 2, 1, 3, 1, 0, 3], np.float32)
    rows = Rows.all_of(np.column_stack((numbers, np.ones(8, np.float32))))
    joined = Joined(rows.select(np.arange(3)), rows.select(np.arange(3, 8)))
    second = make_ready(joined, "euclidean", held=held).select_last(5)
    assert len(second) == 5
    assert second.copies.tolist() == [2, 4]
    assert second.originals.tolist() == [0, 1]
    np.testing.assert_array_equal(np.diff(second.read(0, 5)[:, 0]), [2, -2, -1, 3])
