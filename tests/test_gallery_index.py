"""The in-memory index and its first pass, against scoring everything and sorting."""

from __future__ import annotations

import dataclasses
import functools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit.gallery import _screening, _searching
from reidkit.gallery._index import Index, Known, Snapshot
from reidkit.gallery._searching import find_best, find_people
from reidkit.gallery._values import Where

KINDS = ["random", "clustered", "repeated", "near", "zeros", "spiked"]
SEEDS = st.integers(0, 2**32 - 1)


def draw_vectors(
    random: np.random.Generator, count: int, size: int, kind: str = "random"
) -> NDArray[np.float32]:
    """Draw unit vectors, and vectors of zeros."""
    vectors = random.standard_normal((count, size))
    if kind == "clustered":
        vectors = vectors[random.integers(0, max(1, count // 10), count)] + 0.1 * vectors
    elif kind == "repeated":
        vectors = vectors[random.integers(0, max(1, count // 10), count)]
    elif kind == "near":
        vectors = vectors[:1] + 1e-4 * vectors
    elif kind == "spiked":
        vectors = vectors * 1e-4 + np.eye(size)[random.integers(0, size, count)]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    if kind == "zeros":
        vectors[random.random(count) < 0.5] = 0
    return vectors.astype(np.float32)


def make_known(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> Known:
    return Known(
        ids,
        [f"p{crop % 7}" for crop in ids.tolist()],
        [f"c{crop % 3}" for crop in ids.tolist()],
        np.where(ids % 5 == 0, math.nan, ids.astype(np.float64)),
        ids.astype(np.float64),
        vectors,
    )


def find_naively(
    ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    count: int,
) -> tuple[list[list[int]], NDArray[np.float32]]:
    found = np.full((len(queries), count), -1, np.int64)
    best = np.full((len(queries), count), -np.inf, np.float32)
    scores = np.array(
        [(vectors.astype(np.float64) @ query) for query in queries.astype(np.float64)]
    )
    # Products of equal vectors may differ in their last bits: the same rows get the same score.
    if len(ids):
        _, first, same = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
        scores = scores[:, first[same]].astype(np.float32)
    for row, own in enumerate(scores):
        order = np.lexsort((ids, -own))[:count]
        found[row, : len(order)], best[row, : len(order)] = ids[order], own[order]
    return found.tolist(), best


def fetch(
    ids: NDArray[np.int64], vectors: NDArray[np.float32], wanted: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    rows = np.searchsorted(ids, wanted)
    return vectors[rows]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every loop over blocks take several steps."""
    monkeypatch.setattr(_searching, "_SCORES", 2**9)
    monkeypatch.setattr(_searching, "_QUERIES", 24)
    monkeypatch.setattr(_searching, "_RESCORED", 2**9)
    monkeypatch.setattr(_screening, "_BLOCK", 2**9)
    monkeypatch.setattr(_screening, "_DECODED", 2**9)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=SEEDS,
    kind=st.sampled_from(KINDS),
    size=st.sampled_from([1, 3, 16, 70]),
    asked=st.sampled_from([1, 2, 15, 16, 50]),
    count=st.integers(0, 30),
    memory=st.sampled_from([0, 2**30]),
)
def test_search_is_exact(
    small_blocks: None, seed: int, kind: str, size: int, asked: int, count: int, memory: int
) -> None:
    random = np.random.default_rng(seed)
    vectors = draw_vectors(random, int(random.integers(1, 300)), size, kind)
    ids = np.cumsum(random.integers(1, 4, len(vectors)))
    index = Index(size, memory=memory)
    for part in np.array_split(np.arange(len(ids)), int(random.integers(1, 5))):
        index.append(make_known(ids[part], vectors[part]))
    gone = ids[random.random(len(ids)) < random.choice([0, 0.1, 0.6])]
    index.drop(gone)
    snapshot = index.snapshot()
    where = Where(cameras=("c1", "c9") if random.random() < 0.5 else None, without=(1, 4, 10**9))
    meant = ~np.isin(ids, [*gone.tolist(), 1, 4])
    if where.cameras:
        meant &= ids % 3 == 1
    queries = draw_vectors(random, asked, size, kind)
    queries[: asked // 2] = vectors[random.integers(0, len(vectors), asked // 2)]
    searched = snapshot.view(functools.partial(fetch, ids, vectors))
    found = find_best(searched, queries, count, snapshot.choose(where, None))
    expected, scores = find_naively(ids[meant], vectors[meant], queries, count)
    assert found is not None
    np.testing.assert_allclose(found.scores, scores, atol=2e-7)
    # Where two ways of adding up round differently, neighbours may change places.
    differ = found.ids != np.array(expected).reshape(found.ids.shape)
    if differ.any():
        lookup = dict(zip(ids.tolist(), vectors.astype(np.float64), strict=True))
        for row, column in np.argwhere(differ).tolist():
            exact = float(lookup[int(found.ids[row, column])] @ queries[row].astype(np.float64))
            assert exact == pytest.approx(float(scores[row, column]), abs=1.2e-7)
    assert all(len(set(row) - {-1}) == sum(x != -1 for x in row) for row in found.ids.tolist())


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=SEEDS,
    kind=st.sampled_from(KINDS),
    size=st.sampled_from([1, 3, 16, 70]),
    count=st.integers(0, 9),
    memory=st.sampled_from([0, 2**30]),
)
def test_people_are_ranked_exactly(
    small_blocks: None, seed: int, kind: str, size: int, count: int, memory: int
) -> None:
    """Against the order of all rows: whoever comes first in it is first, and so on."""
    random = np.random.default_rng(seed)
    vectors = draw_vectors(random, int(random.integers(1, 300)), size, kind)
    ids = np.arange(1, len(vectors) + 1)
    index = Index(size, memory=memory)
    index.append(make_known(ids, vectors))
    index.drop(ids[random.random(len(ids)) < random.choice([0, 0.1, 0.6])])
    snapshot = index.snapshot()
    where = [Where(), Where(cameras=("c1",)), Where(without=(1, 3)), Where(people=("p5", "p2"))]
    mask = snapshot.choose(where[random.integers(4)], None)
    query = vectors[0] if random.random() < 0.5 else draw_vectors(random, 1, size)[0]
    searched = snapshot.view(functools.partial(fetch, ids, vectors))
    everything = find_best(searched, query[None], len(ids), mask)
    assert everything is not None
    found = everything.ids[0][everything.ids[0] >= 0]
    owners = snapshot.people[np.searchsorted(snapshot.ids, found)].tolist()
    ranked = find_people(searched, query, count, mask, people=snapshot.people)
    assert ranked == list(dict.fromkeys(owners))[:count]


def test_of_a_person_with_many_crops_few_are_looked_at_again() -> None:
    random = np.random.default_rng(0)
    vectors = draw_vectors(random, 6000, 64)
    vectors[:5000] = vectors[0] + 0.5 * vectors[:5000]
    vectors[:5000] /= np.linalg.norm(vectors[:5000], axis=1, keepdims=True)
    known = make_known(np.arange(1, 6001), vectors)
    known = dataclasses.replace(known, people=["many"] * 5000 + known.people[5000:])
    index = Index(64, memory=0)
    index.append(known)
    read = []

    def count_read(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        read.append(len(ids))
        return vectors[ids - 1]

    snapshot = index.snapshot()
    searched = snapshot.view(count_read)
    ranked = find_people(searched, vectors[9], 8, None, people=snapshot.people)
    assert ranked is not None
    assert len(ranked) == 8
    assert ranked[0] == snapshot.people_names["many"]
    assert sum(read) < 200


@given(seed=SEEDS, kind=st.sampled_from(KINDS), size=st.sampled_from([1, 2, 33, 128]))
@settings(max_examples=40, deadline=None)
def test_products_are_within_their_bounds(seed: int, kind: str, size: int) -> None:
    random = np.random.default_rng(seed)
    vectors, queries = draw_vectors(random, 50, size, kind), draw_vectors(random, 20, size, kind)
    codes, coded = _screening.encode(vectors), _screening.encode(queries)
    restored = codes.values.astype(np.float64) * codes.scales.astype(np.float64)[:, None]
    lost = np.linalg.norm(vectors - restored, axis=1)
    assert np.all(lost <= codes.errors)
    assert np.all(codes.errors <= 0.6 * math.sqrt(size) * codes.scales + 1e-5)
    exact = queries.astype(np.float64) @ vectors.astype(np.float64).T
    rounding = (size + 32) * 2.0**-24 * 1.1
    bounds = 1.001 * codes.errors + 1.1 * coded.errors[:, None] + rounding
    assert np.all(np.abs(_screening.multiply_codes(coded, codes) - exact) <= bounds)
    wrong = np.abs(_screening.multiply_decoded(queries, codes) - exact)
    assert np.all(wrong <= 1.001 * codes.errors + rounding)


@pytest.mark.parametrize("asked", [1, 32])
@pytest.mark.parametrize("memory", [0, 2**30])
def test_equal_vectors_are_in_the_order_of_their_ids(asked: int, memory: int) -> None:
    random = np.random.default_rng(0)
    one = draw_vectors(random, 1, 96)
    vectors = draw_vectors(random, 500, 96)
    vectors[3::7] = one
    ids = np.arange(1, 501)
    index = Index(96, memory=memory)
    index.append(make_known(ids, vectors))
    searched = index.snapshot().view(functools.partial(fetch, ids, vectors))
    found = find_best(searched, np.repeat(one, asked, axis=0), 20, None)
    assert found is not None
    assert found.ids.tolist() == [ids[3::7][:20].tolist()] * asked
    assert len(set(found.scores.ravel().tolist())) == 1


def test_few_rows_are_looked_at_again() -> None:
    random = np.random.default_rng(0)
    vectors = draw_vectors(random, 4000, 256, "clustered")
    ids = np.arange(1, 4001)
    index = Index(256, memory=0)
    index.append(make_known(ids, vectors))
    read: list[int] = []

    def count_read(wanted: NDArray[np.int64]) -> NDArray[np.float32] | None:
        read.append(len(wanted))
        return fetch(ids, vectors, wanted)

    for asked in (1, 20):
        read.clear()
        assert find_best(index.snapshot().view(count_read), vectors[:asked], 10, None) is not None
        assert sum(read) < 60 * asked


def test_a_row_erased_meanwhile_ends_the_search() -> None:
    vectors = draw_vectors(np.random.default_rng(0), 50, 8)
    index = Index(8, memory=0)
    index.append(make_known(np.arange(1, 51), vectors))
    snapshot = index.snapshot()
    searched = snapshot.view(lambda ids: None)
    assert find_best(searched, vectors[:1], 3, None) is None
    assert find_people(searched, vectors[0], 3, None, people=snapshot.people) is None


def choose(snapshot: Snapshot, where: Where, tagged: list[int] | None = None) -> list[int]:
    mask = snapshot.choose(where, None if tagged is None else np.array(tagged, np.int64))
    ids: list[int] = (snapshot.ids if mask is None else snapshot.ids[mask]).tolist()
    return ids


def test_filters_mark_the_rows_that_are_meant() -> None:
    index = Index(2, memory=2**20)
    ids = np.arange(1, 22)
    index.append(make_known(ids, np.zeros((21, 2), np.float32)))
    snapshot = index.snapshot()
    assert snapshot.choose(Where(), None) is None
    assert choose(snapshot, Where(people=("p3", "nobody"))) == [3, 10, 17]
    assert choose(snapshot, Where(people=("nobody",))) == []
    assert choose(snapshot, Where(people=())) == choose(snapshot, Where(cameras=())) == []
    assert choose(snapshot, Where(since=3, until=7)) == [3, 4, 6]
    assert choose(snapshot, Where(until=7)) == [1, 2, 3, 4, 6]
    assert choose(snapshot, Where(added_before=3)) == [1, 2]
    assert choose(snapshot, Where(tags=("t",)), [2, 99, 4]) == [2, 4]
    assert choose(snapshot, Where(tags=("t",)), []) == []
    assert choose(snapshot, Where(people=("p3",), cameras=("c1",))) == [10]
    index.drop(np.array([10, 77]))
    assert choose(index.snapshot(), Where(people=("p3",))) == [3, 17]
    assert choose(snapshot, Where(people=("p3",))) == [3, 10, 17]


def test_a_snapshot_outlives_what_comes_after() -> None:
    random = np.random.default_rng(0)
    index = Index(4, memory=2**20)
    index.append(make_known(np.arange(1, 11), draw_vectors(random, 10, 4)))
    early = index.snapshot()
    copied = early.ids.copy(), early.codes.values.copy(), early.alive.copy()
    for start in range(11, 211, 20):
        index.append(make_known(np.arange(start, start + 20), draw_vectors(random, 20, 4)))
        index.drop(np.arange(start - 10, start - 2))
    assert np.array_equal(early.ids, copied[0])
    assert np.array_equal(early.codes.values, copied[1])
    assert np.array_equal(early.alive, copied[2])
    assert len(index.snapshot().ids[index.snapshot().alive]) == 210 - 80


def test_memory_stays_in_the_budget() -> None:
    random = np.random.default_rng(0)
    index = Index(64, memory=100 * (41 + 5 * 64))
    for start in range(0, 150, 10):
        index.append(make_known(np.arange(start + 1, start + 11), draw_vectors(random, 10, 64)))
        assert index.held == (start + 10 <= 100)
        assert index.held == (index.snapshot().vectors is not None)
    assert index.memory == 150 * (41 + 64)


def test_searches_run_beside_changes() -> None:
    random = np.random.default_rng(0)
    vectors = draw_vectors(random, 400, 32)
    ids = np.arange(1, 401)
    index = Index(32, memory=2**20)
    index.append(make_known(ids[:100], vectors[:100]))

    def search(_: int) -> bool:
        snapshot = index.snapshot()
        length = len(snapshot.ids)
        searched = snapshot.view(functools.partial(fetch, ids, vectors))
        found = find_best(searched, vectors[:1], 5, None)
        expected, _scores = find_naively(ids[:length], vectors[:length], vectors[:1], 5)
        return found is not None and found.ids.tolist() == expected

    with ThreadPoolExecutor(3) as pool:
        searches = [pool.submit(search, 0) for _ in range(20)]
        for start in range(100, 400, 10):
            index.append(make_known(ids[start : start + 10], vectors[start : start + 10]))
            searches.append(pool.submit(search, 0))
        assert all(one.result() for one in searches)
