"""Blocks of scores, their order and the best of them, against plain sorting and multiplying."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit import comparing
from reidkit.comparing import (
    Ordered,
    Rows,
    VectorComparison,
    _blocks,
    _prepared,
    _rows,
    choose_comparison,
    count_rows,
    find_nearest,
    measure_squares,
    order_rows,
    prepare,
    split_range,
    spread,
)
from reidkit.errors import ArgumentError

METRICS = ["cosine", "euclidean"]
SEEDS = st.integers(0, 2**32 - 1)
VALUES = np.array(
    [-np.inf, -3e38, -2.5, -1.0, -1e-45, -0.0, 0.0, 1e-45, 0.5, np.nextafter(0.5, 1), 1, 3e38],
    np.float32,
)
"""Both zeros are one score; the neighbours of 0 and 0.5 are others."""


def draw_scores(random: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    return random.choice(VALUES, (rows, columns))


# The order of scores.


def sort_naively(line: list[float], bound: float) -> list[int]:
    """List the columns that reach the bound, best first, equal ones by column."""
    reached = [j for j, score in enumerate(line) if score >= bound and score > -math.inf]
    return sorted(reached, key=lambda j: (-line[j], j))


def assert_ordered(
    found: Ordered, scores: NDArray[np.float32], bounds: NDArray[np.float32]
) -> None:
    expected = [
        sort_naively(line, bound)
        for line, bound in zip(scores.tolist(), bounds.tolist(), strict=True)
    ]
    assert np.diff(found.starts).tolist() == [len(columns) for columns in expected]
    assert found.starts[0] == 0
    assert found.columns.tolist() == [column for columns in expected for column in columns]
    # `places` says where each entry stands, entries being in the order of rows and columns.
    width = scores.shape[1]
    positions = [row * width + j for row, columns in enumerate(expected) for j in columns]
    assert found.entries.tolist() == sorted(positions)
    assert [positions[place] for place in found.places] == sorted(positions)


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 9), columns=st.integers(1, 20))
def test_order_equals_sorting_each_row(seed: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    scores, bounds = draw_scores(random, rows, columns), draw_scores(random, 1, rows)[0]
    assert_ordered(order_rows(scores, bounds), scores, bounds)


@pytest.mark.parametrize("rows", [1, 2, 3, 511, 512, 513, 1023, 1024])
def test_order_holds_at_the_edges_of_the_keys(rows: int) -> None:
    """At powers of two the bits for the rows run out."""
    columns = min(37, 2**20 // rows)
    random = np.random.default_rng(rows)
    scores = draw_scores(random, rows, columns)
    bounds = np.full(rows, -np.inf, np.float32)
    assert_ordered(order_rows(scores, bounds), scores, bounds)


@pytest.mark.parametrize("columns", [2**20, 2**20 + 4099])
def test_order_holds_in_rows_beyond_2_to_the_20(columns: int) -> None:
    assert count_rows(columns) == 1
    random = np.random.default_rng(columns)
    scores = random.integers(-300, 300, (1, columns)).astype(np.float32)
    scores[0, ::7] *= np.float32(-0.0)
    found = order_rows(scores, np.full(1, -np.inf, np.float32))
    np.testing.assert_array_equal(found.columns, np.argsort(-scores[0], kind="stable"))
    np.testing.assert_array_equal(found.columns[found.places], np.arange(columns))


def test_a_single_row_has_all_the_bits_of_its_key() -> None:
    columns = 2**22 + 5
    found = order_rows(np.zeros((1, columns), np.float32), np.zeros(1, np.float32))
    np.testing.assert_array_equal(found.columns, np.arange(columns))


@pytest.mark.parametrize("columns", [0, 1, 1000, 2**10, 2**19 + 1, 2**20, 2**21, 2**31])
def test_rows_at_once_fit_into_the_keys(columns: int) -> None:
    rows = count_rows(columns)
    assert 1 <= rows <= 1024
    assert rows * columns <= 2**20 or rows == 1
    # A row's number, and the place of any entry, get by on 32 bits together.
    assert (rows - 1).bit_length() + (rows * columns - 1).bit_length() <= 32


# The best of each row.


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 9), columns=st.integers(1, 30), count=st.integers(1, 40))
def test_nearest_are_the_first_of_the_sorted_row(
    seed: int, rows: int, columns: int, count: int
) -> None:
    scores = draw_scores(np.random.default_rng(seed), rows, columns)
    before = scores.copy()
    found, best = find_nearest(scores, count)
    assert found.shape == best.shape == (rows, count)
    for row, line in enumerate(scores.tolist()):
        expected = sort_naively(line, -math.inf)[:count]
        assert found[row].tolist() == expected + [-1] * (count - len(expected))
        values = [line[j] for j in expected]
        assert best[row].tolist() == values + [-math.inf] * (count - len(expected))
    np.testing.assert_array_equal(scores, before)


def test_nearest_of_no_rows_or_nothing_left() -> None:
    found, best = find_nearest(np.empty((0, 4), np.float32), 3)
    assert found.shape == best.shape == (0, 3)
    found, best = find_nearest(np.full((2, 5), -np.inf, np.float32), 3)
    assert (found == -1).all()
    assert (best == -np.inf).all()


@pytest.mark.parametrize("value", [-7.5, 0.0, 1.0])
def test_nearest_of_equal_scores_are_the_first_columns(value: float) -> None:
    found, best = find_nearest(np.full((3, 5000), value, np.float32), 40)
    assert found.tolist() == [list(range(40))] * 3
    assert (best == value).all()


def test_nearest_in_rows_beyond_2_to_the_20() -> None:
    random = np.random.default_rng(1)
    scores = random.integers(0, 2**17, (2, 2**20 + 9)).astype(np.float32)
    scores[:, [3, 2**20 + 8, 2**20]] = 2**18
    found, _ = find_nearest(scores, 50)
    for row in range(2):
        np.testing.assert_array_equal(found[row], np.argsort(-scores[row], kind="stable")[:50])
        assert found[row, :3].tolist() == [3, 2**20, 2**20 + 8]


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, columns=st.integers(1, 60), count=st.integers(1, 70))
def test_enough_scores_reach_the_bound(seed: int, columns: int, count: int) -> None:
    scores = draw_scores(np.random.default_rng(seed), 5, columns)
    bounds = _blocks.bound_best(scores, count)
    reached = (scores >= bounds[:, None]).sum(axis=1)
    assert (reached >= min(count, columns)).all()


# Rows.


def test_rows_are_read_in_their_own_order(tmp_path: Path) -> None:
    vectors = np.arange(40, dtype=np.float32).reshape(10, 4)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    for source in (vectors, mapped, np.asfortranarray(vectors), np.repeat(vectors, 2, 0)[::2]):
        rows = Rows(source, np.array([7, 0, 7, 3]))
        assert (len(rows), rows.dimension) == (4, 4)
        assert rows.read(1, 4)[:, 0].tolist() == [0, 28, 12]
        assert rows.select(np.array([3, 0])).read(0, 2)[:, 0].tolist() == [12, 28]
        assert rows.read(2, 2).shape == (0, 4)


def test_reading_copies_and_changes_the_copy_only() -> None:
    vectors = np.ones((1000, 3), np.float32)

    def double(part: NDArray[np.float32]) -> None:
        part *= 2

    copy = Rows.all_of(vectors).read(0, 1000, double)
    assert (copy == 2).all()
    assert (vectors == 1).all()


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, 500), most=st.integers(-1, 600))
def test_a_range_is_split_into_nearly_equal_parts(length: int, most: int) -> None:
    parts = split_range(length, most)
    assert [place for start, stop in parts for place in range(start, stop)] == list(range(length))
    widths = [stop - start for start, stop in parts]
    assert all(1 <= width <= max(1, most) for width in widths)
    assert not widths or max(widths) - min(widths) <= 1


# Work spread over threads.


@pytest.mark.parametrize("cores", [1, 2, 64])
@pytest.mark.parametrize("length", [0, 1, 5, 100])
def test_every_part_is_worked_on_once(
    length: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rows, "available_cores", lambda: cores)
    seen = np.zeros(length, np.int64)

    def work(start: int, stop: int) -> None:
        seen[start:stop] += 1

    spread(work, length, step=3)
    assert (seen == 1).all()


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("failing", [0, 4, 9])
def test_errors_in_threads_reach_the_caller(
    failing: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rows, "available_cores", lambda: cores)

    def work(start: int, stop: int) -> None:
        if start <= failing < stop:
            raise ArgumentError(f"row {failing} is bad")

    with pytest.raises(ArgumentError, match=f"row {failing} is bad"):
        spread(work, 10, step=1)


def test_threads_are_used_where_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rows, "available_cores", lambda: 2)
    meeting = threading.Barrier(2, timeout=20)

    def work(start: int, stop: int) -> None:
        meeting.wait()

    spread(work, 2, step=1)


def test_an_error_while_vectors_are_read_reaches_the_caller() -> None:
    def fail(part: NDArray[np.float32]) -> None:
        raise ArgumentError("cannot change these")

    with pytest.raises(ArgumentError, match="cannot change these"):
        Rows.all_of(np.ones((1000, 2), np.float32)).read(0, 1000, fail)


# Vectors made ready.


def test_squares_are_added_up_in_float64() -> None:
    vectors = np.array([[3, 4], [1e20, 1e20], [2**12, 1e-3], [0, -0.0]], np.float32)
    expected = [sum(float(x) ** 2 for x in row) for row in vectors.tolist()]
    np.testing.assert_allclose(measure_squares(vectors), expected, rtol=1e-15)
    assert measure_squares(np.empty((0, 3), np.float32)).shape == (0,)


@pytest.mark.parametrize("held", [True, False])
def test_cosine_rows_have_unit_length(held: bool) -> None:
    vectors = np.array([[3, 4], [0, 0], [-0.0, 0], [1e30, 0], [1e-20, 0], [1, 1]], np.float32)
    ready = prepare(Rows.all_of(vectors), "cosine", memory=10**6 if held else 1)
    assert (ready.held is not None) is held
    assert ready.middle is None
    assert ready.half_squares is None
    half = math.sqrt(0.5)
    rows = [[0.6, 0.8], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1e-8, 0.0], [half, half]]
    expected = np.array(rows)
    np.testing.assert_allclose(ready.read(0, 6), expected, rtol=1e-6)
    np.testing.assert_allclose(ready.read(3, 5), expected[3:5], rtol=1e-6)
    assert not np.signbit(ready.read(0, 6)).any()
    assert (ready.copies.tolist(), ready.originals.tolist()) == ([2], [1])


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 30))
def test_copies_are_the_rows_seen_before(metric: str, seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.integers(-1, 2, (size, 3)).astype(np.float32)
    vectors[random.random((size, 3)) < 0.2] = -0.0
    if metric == "cosine":
        vectors *= np.exp2(random.integers(-2, 3, (size, 1)))
    # Directions as whole numbers: cosine knows no lengths.
    keys = [tuple(float(x) for x in (np.sign(v) if metric == "cosine" else v)) for v in vectors]
    expected = {row: keys.index(key) for row, key in enumerate(keys) if keys.index(key) != row}
    for memory in (1, 10**6):
        ready = prepare(Rows.all_of(vectors), metric, memory=memory)
        copies = dict(zip(ready.copies.tolist(), ready.originals.tolist(), strict=True))
        assert copies == expected


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, shift=st.integers(-10_000, 10_000))
def test_the_middle_keeps_whole_numbers_whole(seed: int, shift: int) -> None:
    random = np.random.default_rng(seed)
    vectors = (random.integers(-3, 4, (20, 5)) + shift).astype(np.float32)
    for memory in (1, 10**6):
        ready = prepare(Rows.all_of(vectors), "euclidean", memory=memory)
        assert ready.middle is not None
        assert ready.half_squares is not None
        rows = ready.read(0, 20)
        # Nothing is rounded: distances are those of the vectors as they came.
        np.testing.assert_array_equal(rows.astype(np.float64) + ready.middle, vectors)
        squares = (rows.astype(np.float64) ** 2).sum(axis=1)
        np.testing.assert_allclose(ready.half_squares, squares / 2, rtol=1e-7)
        assert np.abs(rows).max() < 16


def test_a_cloud_far_away_is_moved_to_the_origin() -> None:
    random = np.random.default_rng(0)
    vectors = (1e4 + random.standard_normal((500, 8))).astype(np.float32)
    ready = prepare(Rows.all_of(vectors), "euclidean", memory=10**6)
    assert np.linalg.norm(ready.read(0, 500).mean(axis=0)) < 1.5


@pytest.mark.parametrize("side", ["gallery", "queries"])
def test_vectors_whose_squares_overflow_are_refused(side: str) -> None:
    long, short = np.array([[2e18, 0], [0, 1]], np.float32), np.eye(2, dtype=np.float32)
    queries, gallery = (long, short) if side == "queries" else (short, long)
    blocks = VectorComparison("euclidean").score_blocks(
        Rows.all_of(queries), Rows.all_of(gallery), asked=np.arange(2), memory=2**20
    )
    with pytest.raises(ArgumentError, match="use the cosine metric"):
        list(blocks)


# Products in blocks.


def multiply_all(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], metric: str, memory: int
) -> NDArray[np.float32]:
    """Put the blocks together, which must follow each other."""
    parts: list[NDArray[np.float32]] = []
    blocks = VectorComparison(metric).score_blocks(
        Rows.all_of(queries), Rows.all_of(gallery), asked=np.arange(len(queries)), memory=memory
    )
    for start, block in blocks:
        assert start == sum(map(len, parts))
        assert block.dtype == np.float32
        parts.append(block.copy())
        block[:] = np.nan  # may be changed by whoever gets it
    return np.concatenate(parts)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=50, deadline=None)
@given(
    seed=SEEDS,
    queries=st.integers(1, 20),
    rows=st.integers(1, 60),
    memory=st.sampled_from([64, 500, 3000, 10**6]),
)
def test_blocks_are_the_scores_of_every_pair(
    metric: str, seed: int, queries: int, rows: int, memory: int
) -> None:
    """Budgets from nearly nothing, where the gallery is made ready a few rows at a time."""
    random = np.random.default_rng(seed)
    q = random.integers(-4, 5, (queries, 6)).astype(np.float32)
    g = random.integers(-4, 5, (rows, 6)).astype(np.float32)
    found = multiply_all(q, g, metric, memory)
    worded = VectorComparison(metric).word_scores(found)
    for i in range(queries):
        for j in range(rows):
            if metric == "euclidean":
                assert worded[i, j] == np.float32(-math.dist(q[i].tolist(), g[j].tolist()))
            else:
                lengths = math.hypot(*q[i].tolist()) * math.hypot(*g[j].tolist())
                cosine = float(q[i] @ g[j]) / max(lengths, 1e-12)
                assert worded[i, j] == pytest.approx(cosine, abs=3e-7)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("memory", [5000, 2**20])
def test_equal_vectors_have_equal_scores_to_the_bit(metric: str, memory: int) -> None:
    random = np.random.default_rng(4)
    g = random.standard_normal((301, 37)).astype(np.float32)
    g[[5, 100, 299, 300]] = g[0]
    g[17:60] = g[16]
    q = random.standard_normal((33, 37)).astype(np.float32)
    found = multiply_all(q, g, metric, memory)
    assert (found[:, [5, 100, 299, 300]] == found[:, :1]).all()
    assert (found[:, 17:60] == found[:, 16:17]).all()


def test_only_the_queries_asked_are_scored() -> None:
    vectors = np.eye(5, dtype=np.float32)
    blocks = VectorComparison().score_blocks(
        Rows.all_of(vectors),
        Rows(vectors, np.array([4, 2])),
        asked=np.array([2, 0, 4]),
        memory=2**20,
    )
    ((start, block),) = ((start, block.tolist()) for start, block in blocks)
    assert (start, block) == (0, [[0, 1], [0, 0], [1, 0]])


def test_blocks_keep_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.ones((1000, 8), np.float32)

    def longest(memory: int) -> int:
        blocks = VectorComparison().score_blocks(
            Rows.all_of(vectors), Rows.all_of(vectors), asked=np.arange(1000), memory=memory
        )
        return max(block.nbytes for _, block in blocks)

    assert longest(2**20) <= 2**18
    assert longest(2**18) <= 2**17
    monkeypatch.setattr(_blocks, "LONGEST_BLOCK", 3)
    assert longest(2**30) <= 3 * 4000


def test_more_threads_than_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rows, "available_cores", lambda: 16)
    monkeypatch.setattr(_rows, "_STEP", 1)
    vectors = np.array([[3, 4], [4, 3], [5, 0]], np.float32)
    found = multiply_all(vectors, vectors, "euclidean", 2**20)
    assert (-2 * found).round(3).tolist() == [[0, 2, 20], [2, 0, 10], [20, 10, 0]]
    np.testing.assert_allclose(multiply_all(vectors, vectors, "cosine", 2**20)[2], [0.6, 0.8, 1])


def test_a_gallery_larger_than_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(6)
    vectors = random.integers(-3, 4, (90, 5)).astype(np.float32)
    whole = multiply_all(vectors, vectors, "euclidean", 2**20)
    monkeypatch.setattr(_prepared, "_STEP", 7)
    np.testing.assert_array_equal(multiply_all(vectors, vectors, "euclidean", 2**20), whole)


def test_scores_are_worded_as_people_read_them() -> None:
    scores = np.array([[-8, 1e-7, -np.inf]], np.float32)
    assert VectorComparison("euclidean").word_scores(scores).tolist() == [[-4, 0, -np.inf]]
    assert VectorComparison("cosine").word_scores(scores).tolist() == scores.tolist()


def test_comparisons_are_chosen_by_name() -> None:
    assert choose_comparison("euclidean") == VectorComparison("euclidean")
    own = VectorComparison()
    assert choose_comparison(own) is own
    with pytest.raises(ArgumentError, match="metric is 'dot', expected one of cosine, euclidean"):
        choose_comparison("dot")


def test_a_budget_is_checked_in_bytes() -> None:
    comparing.check_memory(2**20)
    with pytest.raises(ArgumentError, match="memory is 1048575 bytes"):
        comparing.check_memory(2**20 - 1)
