"""The evaluation against the reference's own figures and a loop worded like the paper."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from reidkit import scoring
from reidkit.comparing import _blocks, _prepared
from reidkit.errors import ArgumentError, MismatchError
from reidkit.records import DroppedQueries, Embeddings, Matches, Samples, Scores
from reidkit.scoring import evaluate, match

GOLDEN = Path(__file__).parent / "golden" / "metrics.npz"
CASES = ("clustered", "unnormalised", "distractors_invalid", "cross_camera")


def embeddings(
    vectors: ArrayLike, people: ArrayLike, cameras: ArrayLike, model: str | None = None
) -> Embeddings:
    rows = np.asarray(vectors, np.float32)
    samples = Samples.from_columns([f"{i}.jpg" for i in range(len(rows))], people, cameras)
    return Embeddings(rows, samples, model)


def column(values: list[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def random_side(
    seed: int, size: int, *, people: int = 12, dimensions: int = 16, junk: float = 0.0
) -> Embeddings:
    """Gaussian vectors around one centre a person: no two scores are equal but by accident."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((people, dimensions))
    person = random.integers(0, people, size)
    vectors = centres[person] + 1.2 * random.standard_normal((size, dimensions))
    person[random.random(size) < junk] = -1
    return embeddings(vectors, person, random.integers(1, 4, size))


def assert_equal_scores(actual: Scores, expected: Scores, *, tolerance: float = 1e-12) -> None:
    assert actual.mAP == pytest.approx(expected.mAP, abs=tolerance)
    assert actual.mINP == pytest.approx(expected.mINP, abs=tolerance)
    np.testing.assert_allclose(actual.cmc, expected.cmc, rtol=0, atol=max(tolerance, 1e-7))


# The paper, word for word, slowly.


@dataclass(frozen=True)
class NaiveQuery:
    """One query's gallery rows, best first, and the places of the hits among them."""

    order: list[int]
    scores: list[float]
    hits: list[int]
    reason: str


def similarity(q: NDArray[np.float32], g: NDArray[np.float32], metric: str) -> float:
    a, b = [float(x) for x in q], [float(x) for x in g]
    if metric == "euclidean":
        return -math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
    lengths = max(math.hypot(*a), 1e-12) * max(math.hypot(*b), 1e-12)
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths


def naive_query(query: Embeddings, gallery: Embeddings, i: int, metric: str) -> NaiveQuery:
    person, camera = query.samples.person_ids[i], query.samples.camera_ids[i]
    ranked, persons_rows = [], 0
    for j in range(len(gallery)):
        other, seen_by = gallery.samples.person_ids[j], gallery.samples.camera_ids[j]
        if other == -1:
            continue
        persons_rows += int(other == person)
        if other == person and seen_by == camera:
            continue
        ranked.append((-similarity(query.vectors[i], gallery.vectors[j], metric), j))
    ranked.sort()
    order = [j for _, j in ranked]
    hits = [k for k, j in enumerate(order, 1) if gallery.samples.person_ids[j] == person]
    reason = "" if hits else "same_camera_only" if persons_rows else "person_absent"
    return NaiveQuery(order, [-s for s, _ in ranked], hits, "junk" if person == -1 else reason)


def naive_evaluate(query: Embeddings, gallery: Embeddings, metric: str, max_rank: int) -> Scores:
    answers = [naive_query(query, gallery, i, metric) for i in range(len(query))]
    good = [answer for answer in answers if not answer.reason]
    kept = int((gallery.samples.person_ids != -1).sum())
    length = min(max_rank, kept)
    precisions = [
        sum(found / rank for found, rank in enumerate(a.hits, 1)) / len(a.hits) for a in good
    ]
    curve = [sum(a.hits[0] <= k for a in good) / len(good) for k in range(1, length + 1)]
    reasons = [answer.reason for answer in answers]
    return Scores(
        mAP=sum(precisions) / len(good),
        mINP=sum(len(a.hits) / a.hits[-1] for a in good) / len(good),
        cmc=np.array(curve, np.float32),
        queries=len(good),
        gallery=kept,
        metric=metric,
        dropped=DroppedQueries(
            *(reasons.count(name) for name in ("junk", "person_absent", "same_camera_only"))
        ),
    )


@st.composite
def sides(draw: st.DrawFn, metric: str) -> tuple[Embeddings, Embeddings]:
    """Two small sides full of exact ties.

    Euclidean: small whole numbers. Cosine: corners of a cube in 4 dimensions, whose length is 2,
    so that every cosine is exact, stretched by powers of two; and sometimes zeros.
    """

    def side(size: int) -> Embeddings:
        ids = st.lists(st.integers(-1, 4), min_size=size, max_size=size)
        cameras = st.lists(st.integers(1, 3), min_size=size, max_size=size)
        low, high = (-2, 2) if metric == "euclidean" else (0, 1)
        values = st.lists(st.integers(low, high), min_size=4 * size, max_size=4 * size)
        vectors = np.array(draw(values), np.float32).reshape(size, 4)
        if metric == "cosine":
            powers = draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size))
            vectors = (vectors * 2 - 1) * np.exp2(np.array(powers, np.float32))[:, None]
            vectors[
                np.array(draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))) == 0
            ] = 0
        return embeddings(vectors, column(draw(ids)), column(draw(cameras)))

    return side(draw(st.integers(1, 8))), side(draw(st.integers(1, 25)))


@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_implementation(case: str) -> None:
    names = ("q", "g", "qp", "gp", "qc", "gc", "norm", "cmc", "mAP")
    with np.load(GOLDEN) as arrays:
        parts = {name: arrays[f"{case}_{name}"] for name in names}
    query = embeddings(parts["q"], parts["qp"], parts["qc"])
    gallery = embeddings(parts["g"], parts["gp"], parts["gc"])
    scores = evaluate(query, gallery, metric="cosine" if parts["norm"] else "euclidean")
    np.testing.assert_allclose(scores.cmc, parts["cmc"], rtol=0, atol=1e-6)
    assert scores.mAP == pytest.approx(float(parts["mAP"]), abs=1e-6)
    assert scores.queries + scores.dropped.total == len(query)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_equals_the_naive_loop_with_ties(metric: str, data: st.DataObject) -> None:
    query, gallery = data.draw(sides(metric))
    max_rank = data.draw(st.integers(1, 60))
    assume((gallery.samples.person_ids != -1).any())
    reasons = [naive_query(query, gallery, i, metric).reason for i in range(len(query))]
    if all(reasons):
        with pytest.raises(MismatchError, match=f"none of the {len(query)} queries"):
            evaluate(query, gallery, metric=metric, max_rank=max_rank)
        return
    scores = evaluate(query, gallery, metric=metric, max_rank=max_rank)
    expected = naive_evaluate(query, gallery, metric, max_rank)
    assert_equal_scores(scores, expected)
    for name in ("junk", "person_absent", "same_camera_only"):
        assert getattr(scores.dropped, name) == getattr(expected.dropped, name)
    assert (scores.queries, scores.gallery) == (expected.queries, expected.gallery)
    assert scores.metric == metric


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_matches_are_the_naive_ranking(metric: str, data: st.DataObject) -> None:
    query, gallery = data.draw(sides(metric))
    count = data.draw(st.integers(1, 30))
    assume((gallery.samples.person_ids != -1).any())
    matches = match(query, gallery, metric=metric, count=count)
    assert matches.rows.shape == (len(query), count)
    for i in range(len(query)):
        naive = naive_query(query, gallery, i, metric)
        places = min(count, len(naive.order))
        assert matches.rows[i].tolist() == (naive.order + [-1] * count)[:count]
        np.testing.assert_allclose(matches.scores[i, :places], naive.scores[:places], atol=1e-6)
        assert (matches.scores[i, places:] == -np.inf).all()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equals_the_naive_loop_on_real_valued_vectors(metric: str) -> None:
    query, gallery = random_side(1, 60, junk=0.1), random_side(2, 300, junk=0.2)
    expected = naive_evaluate(query, gallery, metric, 50)
    scores = evaluate(query, gallery, metric=metric)
    assert_equal_scores(scores, expected)
    assert scores.dropped.junk == expected.dropped.junk > 0
    assert 0.1 < scores.mAP < 0.9
    assert scores.rank(1) == pytest.approx(float(expected.cmc[0]))


# A problem small enough to work out by hand.


def worked_problem() -> tuple[Embeddings, Embeddings]:
    """Query of person 5 at 0 on a line; the gallery lies at 1, 2, 3, 4, 5, 6."""
    query = embeddings([[0]], [5], [1])
    line = [[1], [2], [3], [4], [5], [6]]
    return query, embeddings(line, [5, 7, 5, -1, 7, 5], [1, 1, 2, 2, 2, 3])


def test_by_hand() -> None:
    # Left out: row 0 (same person and camera) and row 3 (junk). Ranking 7 [5] 7 [5].
    scores = evaluate(*worked_problem(), metric="euclidean")
    assert scores.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert scores.mINP == pytest.approx(2 / 4)
    # Five gallery pictures are scored; this query has four of them and stays at 1.
    assert scores.cmc.tolist() == [0, 1, 1, 1, 1]
    assert scores.gallery == 5
    assert scores.dropped.total == 0


def test_matches_by_hand() -> None:
    matches = match(*worked_problem(), metric="euclidean", count=6)
    assert matches.rows.tolist() == [[1, 2, 4, 5, -1, -1]]
    np.testing.assert_allclose(matches.scores, [[-2, -3, -5, -6, -np.inf, -np.inf]])


def test_person_0_is_an_ordinary_number() -> None:
    query = embeddings([[1.0, 0]], [0], [1])
    gallery = embeddings([[1.0, 0], [0, 1.0]], [0, 3], [2, 2])
    assert evaluate(query, gallery).mAP == 1


def test_distractors_are_scored() -> None:
    query = embeddings([[1.0, 0]], [1], [1])
    gallery = embeddings([[1.0, 0], [1.0, 0.1]], [0, 1], [1, 2])
    assert evaluate(query, gallery).mAP == pytest.approx(0.5)


def test_dropped_queries_are_counted_by_reason() -> None:
    query = embeddings(np.eye(5), [-1, 1, 2, 3, 3], [1, 1, 1, 1, 2])
    gallery = embeddings(np.eye(5)[:4], [-1, 2, 3, 3], [2, 1, 1, 1])
    scores = evaluate(query, gallery)
    counts = (scores.dropped.junk, scores.dropped.person_absent, scores.dropped.same_camera_only)
    assert counts == (1, 1, 2)
    assert scores.queries == 1


def test_cmc_is_as_long_as_asked_or_as_the_gallery() -> None:
    query, gallery = random_side(1, 20), random_side(2, 40)
    assert len(evaluate(query, gallery).cmc) == 40
    assert len(evaluate(query, gallery, max_rank=7).cmc) == 7
    full, short = evaluate(query, gallery), evaluate(query, gallery, max_rank=7)
    assert short.mAP == full.mAP
    np.testing.assert_array_equal(short.cmc, full.cmc[:7])


# Ties.


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("size", [3, 7, 33, 127, 1003])
def test_equal_vectors_rank_in_gallery_order(size: int, metric: str) -> None:
    # The lengths are such that BLAS alone gives the last columns other last bits.
    vector = np.random.default_rng(size).standard_normal(64).astype(np.float32)
    people = np.arange(1, size + 1)
    query = embeddings(np.stack([vector * 0.5 + 1] * 3), [1, size // 2 + 1, size], [1, 1, 1])
    gallery = embeddings(np.stack([vector] * size), people, np.full(size, 2))
    scores = evaluate(query, gallery, metric=metric, max_rank=size)
    ranks = np.array([1, size // 2 + 1, size])
    assert scores.mAP == pytest.approx((1 / ranks).mean(), abs=1e-12)
    found = [(ranks <= k).mean() for k in range(1, size + 1)]
    np.testing.assert_allclose(scores.cmc, found, atol=1e-6)
    rows = match(query, gallery, metric=metric, count=size).rows
    np.testing.assert_array_equal(rows, np.tile(np.arange(size), (3, 1)))


def test_one_repeated_vector_among_others_ties_everywhere() -> None:
    random = np.random.default_rng(5)
    vectors = random.standard_normal((501, 48)).astype(np.float32)
    repeated = np.array([3, 250, 498, 499, 500])
    vectors[repeated] = vectors[3]
    gallery = embeddings(vectors, np.arange(501), np.full(501, 2))
    query = embeddings(vectors[[3]], [500], [1])
    assert evaluate(query, gallery).mAP == pytest.approx(1 / 5)
    assert match(query, gallery, count=5).rows[0].tolist() == repeated.tolist()


def test_parallel_vectors_and_signed_zeros_tie() -> None:
    direction = np.array([3, -17, 0, 29], np.float32)
    parallel = np.outer([1, 3, 7, 0.5, 11, 12], direction).astype(np.float32)
    parallel[2, 2], parallel[4, 2] = -0.0, 0.0
    gallery = embeddings(parallel, np.arange(6), np.full(6, 2))
    query = embeddings([[1.3, -0.7, 2.1, 0.4]], [9], [1])
    matches = match(query, gallery, count=6)
    assert matches.rows.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert len(set(matches.scores[0].tolist())) == 1


@pytest.mark.parametrize("size", [3, 5, 7, 33])
def test_zeros_of_either_sign_are_the_same(size: int) -> None:
    random = np.random.default_rng(size)
    vectors = np.tile(random.standard_normal(64).astype(np.float32), (size, 1))
    vectors[:, 5] = 0.0
    vectors[-1, 5] = -0.0
    gallery = embeddings(vectors, np.arange(size), np.full(size, 2))
    for _ in range(20):
        query = embeddings(random.standard_normal((3, 64)), [99, 99, 99], [1, 1, 1])
        rows = match(query, gallery, count=size).rows
        np.testing.assert_array_equal(rows, np.tile(np.arange(size), (3, 1)))


def test_different_vectors_with_one_hash_stay_different(monkeypatch: pytest.MonkeyPatch) -> None:
    query = embeddings([[1.0, 2.0]], [1], [1])
    gallery = embeddings([[1.0, 3.0], [1.0, 2.0], [1.0, 3.0]], [2, 1, 3], [2, 2, 2])
    monkeypatch.setattr(_prepared, "hash", lambda _: 0, raising=False)
    assert match(query, gallery, metric="euclidean", count=3).rows.tolist() == [[1, 0, 2]]


def test_a_vector_of_zeros_scores_0_with_everything() -> None:
    query = embeddings([[0.0, 0.0], [1.0, 0.0]], [1, 1], [1, 1])
    gallery = embeddings([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], [2, 1, 3], [2, 2, 2])
    matches = match(query, gallery, count=3)
    assert matches.rows.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert matches.scores.tolist() == [[0, 0, 0], [1, 0, -1]]
    assert evaluate(query, gallery).mAP == pytest.approx(0.5)


def test_very_short_vectors_are_divided_by_the_shortest_length() -> None:
    query = embeddings([[1.0, 0.0]], [1], [1])
    gallery = embeddings([[1e-13, 0.0], [1.0, 1.0]], [1, 2], [2, 2])
    np.testing.assert_allclose(match(query, gallery, count=2).scores, [[0.5**0.5, 0.1]], rtol=1e-5)


# What must not matter.


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_gallerys_order_does_not_matter(metric: str, seed: int) -> None:
    query, gallery = random_side(1, 30), random_side(2, 200, junk=0.1)
    shuffled = gallery.select(np.random.default_rng(seed).permutation(200))
    before = evaluate(query, gallery, metric=metric)
    assert_equal_scores(evaluate(query, shuffled, metric=metric), before)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), extra=st.integers(1, 80))
def test_junk_in_the_gallery_does_not_matter(metric: str, seed: int, extra: int) -> None:
    query, gallery = random_side(1, 30), random_side(2, 150)
    random = np.random.default_rng(seed)
    places = np.sort(random.integers(0, 151, extra))
    # The hardest junk there is: the queries themselves.
    vectors = np.insert(gallery.vectors, places, query.vectors[random.integers(0, 30, extra)], 0)
    people = np.insert(gallery.samples.person_ids, places, -1)
    cameras = np.insert(gallery.samples.camera_ids, places, 2)
    littered = evaluate(query, embeddings(vectors, people, cameras), metric=metric)
    assert_equal_scores(littered, evaluate(query, gallery, metric=metric))
    assert littered.gallery == 150


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_lengths_do_not_matter_to_the_cosine(seed: int) -> None:
    query, gallery = random_side(1, 30), random_side(2, 200)
    random = np.random.default_rng(seed)

    def stretch(side: Embeddings) -> Embeddings:
        factors = np.exp(random.uniform(-9, 9, (len(side), 1)))
        vectors = (side.vectors * factors).astype(np.float32)
        return Embeddings(vectors, side.samples)

    assert_equal_scores(evaluate(stretch(query), stretch(gallery)), evaluate(query, gallery))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_rotation_does_not_matter(metric: str, seed: int) -> None:
    query, gallery = random_side(1, 30), random_side(2, 200)
    gaussian = np.random.default_rng(seed).standard_normal((16, 16))
    rotation = np.linalg.qr(gaussian)[0]

    def rotate(side: Embeddings) -> Embeddings:
        return Embeddings((side.vectors @ rotation).astype(np.float32), side.samples)

    rotated = evaluate(rotate(query), rotate(gallery), metric=metric)
    # Rotation rounds: one pair of near-equal scores in these 6000 may change places.
    assert_equal_scores(rotated, evaluate(query, gallery, metric=metric), tolerance=2e-3)


@settings(max_examples=25, deadline=None)
@given(shift=st.integers(-50, 50))
@example(shift=0)
def test_shifting_everything_does_not_matter_to_the_distance(shift: int) -> None:
    random = np.random.default_rng(4)
    query = embeddings(random.integers(-5, 6, (20, 8)), random.integers(0, 5, 20), [1] * 20)
    gallery = embeddings(random.integers(-5, 6, (90, 8)), random.integers(0, 5, 90), [2] * 90)
    moved = [
        Embeddings(side.vectors + np.float32(shift), side.samples) for side in (query, gallery)
    ]
    assert_equal_scores(
        evaluate(moved[0], moved[1], metric="euclidean"),
        evaluate(query, gallery, metric="euclidean"),
    )


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_asking_everything_twice_changes_nothing_but_the_count(metric: str) -> None:
    query, gallery = random_side(1, 33), random_side(2, 200)
    twice = query.select(np.tile(np.arange(33), 2))
    once = evaluate(query, gallery, metric=metric)
    scores = evaluate(twice, gallery, metric=metric)
    assert_equal_scores(scores, once)
    assert scores.queries == 2 * once.queries


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16, 39, 40, 41])
def test_the_blocks_size_does_not_matter(
    metric: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Corners of a cube in 16 dimensions have length 4: scores are exact, and many are equal.
    random = np.random.default_rng(3)
    query = embeddings(random.integers(0, 2, (40, 16)) * 2 - 1, np.arange(40) % 9, [1] * 40)
    corners = random.integers(0, 2, (310, 16)) * 2 - 1
    gallery = embeddings(corners, np.arange(310) % 11, np.arange(310) % 3)
    whole, ranking = evaluate(query, gallery, metric=metric), match(query, gallery, metric=metric)
    monkeypatch.setattr(_blocks, "LONGEST_BLOCK", rows)
    assert_equal_scores(evaluate(query, gallery, metric=metric), whole, tolerance=0)
    blocked = match(query, gallery, metric=metric)
    np.testing.assert_array_equal(blocked.rows, ranking.rows)
    np.testing.assert_array_equal(blocked.scores, ranking.scores)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_gallery_that_does_not_fit_into_the_budget_is_read_in_parts(metric: str) -> None:
    query = random_side(1, 40, dimensions=256)
    gallery = random_side(2, 3000, dimensions=256, junk=0.1)
    gallery.vectors[1000:2000:3] = gallery.vectors[:334]  # ties across the parts
    gallery.vectors[2500:2600] = gallery.vectors[0]
    assert gallery.vectors.nbytes > 2 * 2**20
    whole, ranking = evaluate(query, gallery, metric=metric), match(query, gallery, metric=metric)
    parts = evaluate(query, gallery, metric=metric, memory=2**20)
    assert_equal_scores(parts, whole)
    in_parts = match(query, gallery, metric=metric, memory=2**20)
    np.testing.assert_array_equal(in_parts.rows, ranking.rows)
    np.testing.assert_allclose(in_parts.scores, ranking.scores, rtol=1e-6)


def test_vectors_may_be_mapped_from_disk(tmp_path: Path) -> None:
    query, gallery = random_side(1, 20), random_side(2, 300, junk=0.2)
    np.save(tmp_path / "vectors.npy", gallery.vectors)
    mapped = Embeddings(np.load(tmp_path / "vectors.npy", mmap_mode="r"), gallery.samples)
    assert_equal_scores(evaluate(query, mapped), evaluate(query, gallery), tolerance=0)


def test_a_budget_too_small_to_work_in_is_refused() -> None:
    with pytest.raises(ArgumentError, match="expected at least 1048576"):
        evaluate(random_side(1, 5), random_side(2, 60), memory=2**20 - 1)


def test_the_embeddings_are_not_changed() -> None:
    query, gallery = random_side(1, 20), random_side(2, 50)
    before = query.vectors.copy(), gallery.vectors.copy()
    for metric in scoring.METRICS:
        evaluate(query, gallery, metric=metric)
        match(query, gallery, metric=metric)
    np.testing.assert_array_equal(query.vectors, before[0])
    np.testing.assert_array_equal(gallery.vectors, before[1])


def test_memory_stays_far_below_the_whole_matrix() -> None:
    query = random_side(1, 3000, people=300, dimensions=8)
    gallery = random_side(2, 6000, people=300, dimensions=8)
    matrix = 4 * len(query) * len(gallery)
    for score in (evaluate, match):
        tracemalloc.start()
        score(query, gallery, memory=2**21)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < matrix / 15


def test_the_best_rows_score_what_evaluate_ranks() -> None:
    query, gallery = random_side(1, 50), random_side(2, 200)
    matches: Matches = match(query, gallery, count=1)
    hits = gallery.samples.person_ids[matches.rows[:, 0]] == query.samples.person_ids
    scores = evaluate(query, gallery)
    assert scores.dropped.total == 0
    assert hits.mean() == pytest.approx(scores.rank(1))


# Refusals.


def test_nothing_to_score_says_why() -> None:
    query = embeddings(np.eye(4), [-1, 1, 2, 2], [1, 1, 1, 1])
    gallery = embeddings(np.eye(4), [2, 2, 3, -1], [1, 1, 1, 2])
    with pytest.raises(MismatchError) as caught:
        evaluate(query, gallery)
    message = str(caught.value)
    assert "none of the 4 queries can be scored" in message
    assert "1 are junk" in message
    assert "1 show a person who is absent" in message
    assert "2 one whom the gallery has from the query's own camera only" in message


@pytest.mark.parametrize("score", [evaluate, match])
def test_empty_sides_are_refused(score: object) -> None:
    function = evaluate if score is evaluate else match
    full = random_side(1, 4)
    empty = full.select(slice(0, 0))
    with pytest.raises(ArgumentError, match="no queries"):
        function(empty, full)
    with pytest.raises(ArgumentError, match="all 0 pictures"):
        function(full, empty)
    unknown = Embeddings(full.vectors, Samples.from_paths(["a", "b", "c", "d"]))
    with pytest.raises(ArgumentError, match="all 4 pictures of the gallery are junk"):
        function(full, unknown)


def test_unknown_people_can_be_looked_for() -> None:
    full = random_side(1, 4)
    unknown = Embeddings(full.vectors, Samples.from_paths(["a", "b", "c", "d"]))
    assert match(unknown, full, count=1).rows.ravel().tolist() == [0, 1, 2, 3]


def test_arguments_outside_their_range_are_refused() -> None:
    side = random_side(1, 4)
    with pytest.raises(ArgumentError, match="metric is 'manhattan', expected one of cosine, eucl"):
        evaluate(side, side, metric="manhattan")
    with pytest.raises(ArgumentError, match="metric is 'dot'"):
        match(side, side, metric="dot")
    with pytest.raises(ArgumentError, match="max_rank is 0"):
        evaluate(side, side, max_rank=0)
    with pytest.raises(ArgumentError, match="count is -1"):
        match(side, side, count=-1)


def test_embeddings_of_two_models_are_refused() -> None:
    one = embeddings([[1.0]], [1], [1], model="a" * 64)
    other = embeddings([[1.0]], [1], [2], model="b" * 64)
    with pytest.raises(MismatchError, match="model"):
        evaluate(one, other)
    with pytest.raises(MismatchError, match="model"):
        match(one, other)
    longer = embeddings([[1.0, 2.0]], [1], [2], model="a" * 64)
    with pytest.raises(MismatchError, match="vector length"):
        evaluate(one, longer)


def test_vectors_too_long_for_squares_are_refused_or_cosine() -> None:
    query = embeddings([[1e30, 0]], [1], [1])
    gallery = embeddings([[1.0, 0], [0, 1.0]], [1, 2], [2, 2])
    with pytest.raises(ArgumentError, match=r"1e\+30 long.*cosine"):
        evaluate(query, gallery, metric="euclidean")
    assert evaluate(query, gallery).mAP == 1


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_euclidean_far_from_the_origin_is_still_exact(offset: float) -> None:
    """In float32 the squares of such vectors leave no room for the distances between them."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((40, 64))
    people = np.arange(160) % 40
    vectors = centres[people] + 0.5 * random.standard_normal((160, 64)) + offset
    samples = Samples.from_columns([""] * 160, people, np.arange(160) // 80)
    both = Embeddings(vectors.astype(np.float32), samples)
    query, gallery = both.select(slice(0, 80)), both.select(slice(80, 160))
    found = evaluate(query, gallery, metric="euclidean")
    assert found.mAP == pytest.approx(naive_evaluate(query, gallery, "euclidean", 50).mAP, abs=1e-3)
    distances = -match(query, gallery, metric="euclidean", count=1).scores[:, 0]
    expected = np.linalg.norm(
        query.vectors[:, None].astype(np.float64) - gallery.vectors[None], axis=2
    )
    np.testing.assert_allclose(distances, expected.min(axis=1), rtol=1e-3)
