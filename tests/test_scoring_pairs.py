"""Verification, pairs of cameras and single queries against loops over all pairs of pictures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit import scoring
from reidkit.comparing import Rows
from reidkit.errors import ArgumentError, MismatchError
from reidkit.records import Embeddings
from reidkit.reranking import KReciprocal
from reidkit.scoring import (
    Protocol,
    Verification,
    _ranking,
    _verifying,
    evaluate,
    find_scored,
    measure_pairs,
    score_cameras,
    score_queries,
)
from tests.naive_scoring import (
    GivenScores,
    Problem,
    average_precision,
    embeddings,
    evaluate_naively,
    find_answers,
    list_ranks,
    meets,
    random_problem,
    trapezoid_precision,
)

LISTED = [protocol for protocol in scoring.PROTOCOLS.values() if not protocol.trials]
METRICS = ["cosine", "euclidean"]
SEEDS = st.integers(0, 2**32 - 1)


def name_protocol(protocol: Protocol) -> str:
    return protocol.name


# Single queries.


@pytest.mark.parametrize("route", ["sorted", "counted"])
@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, protocol=st.sampled_from(LISTED))
def test_ranks_of_single_queries_equal_the_loops_either_way(
    metric: str, route: str, seed: int, protocol: Protocol
) -> None:
    problem = random_problem(seed, metric)
    query, gallery = problem.query.samples, problem.gallery.samples
    expected = list_ranks(problem.table(), protocol, query, gallery)
    if not expected:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranking, "_ENTRY_COST", 0.0 if route == "sorted" else 1e18)
        scores = score_queries(problem.query, problem.gallery, metric=metric, protocol=protocol)
    asked = [i for i in range(len(query)) if find_answers(protocol, query, i, gallery)]
    assert len(scores) == len(expected)
    assert scores.queries.tolist() == asked
    found = [scores.ranks[a:b].tolist() for a, b in pairwise(scores.starts.tolist())]
    assert found == expected
    assert scores.first_hits.tolist() == [ranks[0] for ranks in expected]
    precisions = [float(average_precision(ranks)) for ranks in expected]
    np.testing.assert_allclose(scores.average_precisions, precisions, rtol=1e-12)
    penalties = [len(ranks) / ranks[-1] for ranks in expected]
    np.testing.assert_allclose(scores.inverse_penalties, penalties, rtol=1e-12)


def test_each_route_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patch above chooses the route: here each is broken in turn."""
    problem = random_problem(3, "cosine", queries=20, rows=90)

    def broken(*_: object) -> NDArray[np.int64]:
        raise ZeroDivisionError

    for cost, name in ((0.0, "_sort_ranks"), (1e18, "count_before")):
        with monkeypatch.context() as patch:
            patch.setattr(_ranking, "_ENTRY_COST", cost)
            patch.setattr(_ranking, name, broken)
            with pytest.raises(ZeroDivisionError):
                evaluate(problem.query, problem.gallery, protocol=scoring.ANY)


@pytest.mark.parametrize("cost", [0.0, 1e18])
def test_both_routes_agree_on_a_gallery_beyond_2_to_the_20(
    cost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the keys of the sort hold one row and more than 20 bits of columns."""
    random = np.random.default_rng(0)
    columns = 2**20 + 77
    # Distances 1, 2, 3 ... to either side in random order: every rank but one is shared by two.
    places = random.permutation(columns) - columns // 2
    gallery = Embeddings(
        np.stack((places, np.ones(columns)), axis=1).astype(np.float32),
        embeddings(np.zeros((1, 1)), [2], [2]).samples.select(np.zeros(columns, np.int64)),
    )
    hits = np.array([0, 5, 2**20 - 1, 2**20, columns - 1])
    people = np.full(columns, 2)
    people[hits] = 1
    samples = dataclasses.replace(gallery.samples, person_ids=people)
    gallery = dataclasses.replace(gallery, samples=samples)
    query = embeddings([[0, 1], [0, 1]], [1, 1], [1, 2])
    table = -np.abs(places).astype(np.float32)
    order = np.argsort(-table, kind="stable")
    expected = np.sort(np.flatnonzero(np.isin(order, hits)) + 1)
    monkeypatch.setattr(_ranking, "_ENTRY_COST", cost)
    comparison = GivenScores(np.tile(table, (2, 1)))
    found = score_queries(query, gallery, metric=comparison, protocol=scoring.ANY)
    assert found.ranks.reshape(2, -1).tolist() == [expected.tolist()] * 2


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, step=st.integers(1, 8), cost=st.sampled_from([0.0, 50.0, 1e18]))
def test_any_finite_scores_are_ranked(seed: int, step: int, cost: float) -> None:
    """Zeros of either sign tie; the largest and the smallest numbers keep their order."""
    random = np.random.default_rng(seed)
    values = [-0.0, 0.0, 1.0, -1.0, 1e-45, -1e-45, 3e38, -3e38, 0.5, np.nextafter(0.5, 1)]
    problem = random_problem(seed, "cosine")
    shape = (len(problem.query), len(problem.gallery))
    table = random.choice(np.array(values, np.float32), shape)
    query, gallery = problem.query.samples, problem.gallery.samples
    expected = list_ranks(table.tolist(), scoring.MARKET1501, query, gallery)
    if not expected:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranking, "_ENTRY_COST", cost)
        scores = score_queries(problem.query, problem.gallery, metric=GivenScores(table, step))
    assert scores.ranks.tolist() == [rank for ranks in expected for rank in ranks]


def test_single_queries_average_to_the_evaluation() -> None:
    problem = random_problem(13, "euclidean", queries=40, rows=200)
    for protocol in LISTED:
        scores = evaluate(problem.query, problem.gallery, metric="euclidean", protocol=protocol)
        single = score_queries(
            problem.query, problem.gallery, metric="euclidean", protocol=protocol
        )
        assert single.average_precisions.mean() == pytest.approx(scores.mAP, abs=1e-12)
        assert single.inverse_penalties.mean() == pytest.approx(scores.mINP, abs=1e-12)
        assert (single.first_hits == 1).mean() == pytest.approx(scores.rank(1), abs=1e-6)
        assert len(single) == scores.queries


# Precision at k and the trapezoid form, by hand.


def worked_scores(hits: list[int], count: int) -> tuple[Embeddings, Embeddings, GivenScores]:
    """A query whose right answers have the ranks `hits` among `count` gallery pictures."""
    people = [1 if rank in hits else 2 for rank in range(1, count + 1)]
    table = -np.arange(count, dtype=np.float32)[None]
    query = embeddings([[1.0]], [1], [1])
    return query, embeddings(np.ones((count, 1)), people, [2] * count), GivenScores(table)


def test_precision_at_k_by_hand() -> None:
    query, gallery, comparison = worked_scores([2, 3, 6], 7)
    scores = evaluate(query, gallery, metric=comparison, max_rank=6)
    np.testing.assert_allclose(scores.precision, [0, 1 / 2, 2 / 3, 2 / 4, 2 / 5, 3 / 6], atol=1e-6)
    assert scores.metric == "given"


def test_trapezoid_by_hand() -> None:
    query, gallery, comparison = worked_scores([1, 3], 4)
    scores = evaluate(query, gallery, metric=comparison)
    # (1 + 1) / 2 up to the first hit, then 1/2 just before the third place and 2/3 at it.
    assert scores.mAP_trapezoid == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)
    assert scores.mAP == pytest.approx((1 + 2 / 3) / 2)
    query, gallery, comparison = worked_scores([4], 4)
    assert evaluate(query, gallery, metric=comparison).mAP_trapezoid == pytest.approx(1 / 8)


@settings(max_examples=40, deadline=None)
@given(hits=st.sets(st.integers(1, 30), min_size=1))
def test_trapezoid_is_the_area_under_the_curve(hits: set[int]) -> None:
    query, gallery, comparison = worked_scores(sorted(hits), 30)
    found = evaluate(query, gallery, metric=comparison).mAP_trapezoid
    assert found == pytest.approx(float(trapezoid_precision(sorted(hits))), abs=1e-12)
    # Walk down the list, adding a slice of the area at each step of recall.
    area, recall, precision = 0.0, 0.0, 1.0
    for place in range(1, 31):
        so_far = sum(rank <= place for rank in hits)
        area += (so_far / len(hits) - recall) * (so_far / place + precision) / 2
        recall, precision = so_far / len(hits), so_far / place
    assert found == pytest.approx(area, abs=1e-12)


# Pairs of cameras.


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, protocol=st.sampled_from(LISTED))
def test_camera_pairs_equal_evaluations_of_their_own(
    metric: str, seed: int, protocol: Protocol
) -> None:
    problem = random_problem(seed, metric)
    if evaluate_naively(problem, protocol, 1) is None:
        with pytest.raises((ArgumentError, MismatchError)):
            score_cameras(problem.query, problem.gallery, metric=metric, protocol=protocol)
        return
    found = score_cameras(problem.query, problem.gallery, metric=metric, protocol=protocol)
    query, gallery = problem.query.samples, problem.gallery.samples
    assert found.query_cameras.tolist() == sorted(set(query.camera_ids.tolist()))
    present = gallery.camera_ids[gallery.person_ids != -1]
    assert found.gallery_cameras.tolist() == sorted(set(present.tolist()))
    for a, asking in enumerate(found.query_cameras):
        for b, given_by in enumerate(found.gallery_cameras):
            part = Problem(
                problem.query.select(np.flatnonzero(query.camera_ids == asking)),
                problem.gallery.select(np.flatnonzero(gallery.camera_ids == given_by)),
                metric,
            )
            expected = evaluate_naively(part, protocol, 1)
            assert found.queries[a, b] == (expected.queries if expected else 0)
            if expected:
                assert found.mAP[a, b] == pytest.approx(expected.mAP, abs=1e-12)
                assert found.rank1[a, b] == pytest.approx(expected.cmc[0], abs=1e-12)
            else:
                assert math.isnan(found.mAP[a, b])
                assert math.isnan(found.rank1[a, b])


def test_one_camera_gives_one_figure() -> None:
    both = embeddings(np.eye(4), [1, 1, 2, 2], [9, 9, 9, 9])
    found = score_cameras(both, both, protocol=scoring.ANY)
    assert (found.mAP.shape, found.queries.tolist()) == ((1, 1), [[4]])
    with pytest.raises(MismatchError, match="own camera only"):
        score_cameras(both, both)


# Verification.


def list_pairs(problem: Problem, protocol: Protocol) -> tuple[list[float], list[float]]:
    """List the scores of same and of different people's pairs, junk on neither side."""
    query, gallery, table = problem.query.samples, problem.gallery.samples, problem.table()
    same: list[float] = []
    different: list[float] = []
    for i in range(len(query)):
        for j in range(len(gallery)):
            if query.person_ids[i] != -1 and meets(protocol, query, i, gallery, j):
                alike = query.person_ids[i] == gallery.person_ids[j]
                (same if alike else different).append(table[i][j])
    return same, different


def share(values: list[float], threshold: float) -> float:
    return sum(value >= threshold for value in values) / len(values)


def assert_verified(found: Verification, same: list[float], different: list[float]) -> None:
    """Compare with counts over all pairs, at every score there is."""
    assert (found.same, found.different) == (len(same), len(different))
    levels = [*sorted({*same, *different}), math.inf]
    # The scores are far wider apart than the bins.
    room = (levels[-2] - levels[0]) / 1e5 + 1e-9
    rates = zip(
        found.false_positive_rates, found.thresholds, found.true_positive_rates, strict=True
    )
    for rate, threshold, true in rates:
        if rate * len(different) < 1 - 1e-9:
            assert math.isnan(threshold)
            assert math.isnan(true)
            continue
        level = next(at for at in levels if share(different, at) <= rate + 1e-12)
        assert true == pytest.approx(share(same, level), abs=1e-12)
        assert share(different, threshold + room) <= rate + 1e-12
        # The lowest: it lies above the score before, and no higher than this one.
        assert threshold <= level + room
        below = [at for at in levels if at < level]
        assert not below or threshold >= below[-1] - room
    crossing = next(at for at in levels if share(different, at) <= 1 - share(same, at))
    errors = (share(different, crossing) + 1 - share(same, crossing)) / 2
    assert found.equal_error_rate == pytest.approx(errors, abs=1e-12)
    assert found.equal_error_threshold <= crossing + room
    assert found.same_counts.sum() == len(same)
    assert found.different_counts.sum() == len(different)
    assert (np.diff(found.edges) > 0).all()
    assert found.edges[0] - room <= levels[0]
    assert levels[-2] <= found.edges[-1] + room
    points = {(share(different, at), share(same, at)) for at in levels}
    for false, true in found.roc.tolist():
        assert any(abs(false - a) + abs(true - b) < 1e-12 for a, b in points)
    assert (np.diff(found.roc, axis=0) >= 0).all()
    assert found.roc[0, 0] == 0
    assert found.roc[-1].tolist() == [1, 1]


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=20, deadline=None)
@given(
    seed=SEEDS,
    protocol=st.sampled_from(LISTED),
    rates=st.lists(st.floats(0.01, 1), min_size=1, max_size=4),
)
def test_verification_equals_counting_all_pairs(
    metric: str, seed: int, protocol: Protocol, rates: list[float]
) -> None:
    problem = random_problem(seed, metric)
    same, different = list_pairs(problem, protocol)
    arguments = {"metric": metric, "protocol": protocol, "rates": tuple(rates)}
    if not same or not different:
        with pytest.raises((ArgumentError, MismatchError)):
            measure_pairs(problem.query, problem.gallery, **arguments)  # type: ignore[arg-type]
        return
    found = measure_pairs(problem.query, problem.gallery, **arguments)  # type: ignore[arg-type]
    assert found.false_positive_rates.tolist() == rates
    assert (found.metric, found.protocol) == (metric, protocol.name)
    assert_verified(found, same, different)


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, step=st.integers(1, 5))
def test_the_range_grows_with_the_blocks(seed: int, step: int) -> None:
    """Each block's scores lie elsewhere: bins are joined upwards and downwards."""
    random = np.random.default_rng(seed)
    people = random.integers(1, 4, 12)
    query = embeddings(np.ones((12, 1)), people, [1] * 12)
    gallery = embeddings(np.ones((8, 1)), random.permutation(np.arange(8) % 3 + 1), [2] * 8)
    centres = random.integers(-50, 51, (12, 1)) * 2.0 ** random.integers(-3, 4, (12, 1))
    table = (centres + random.integers(-9, 10, (12, 8))).astype(np.float32)
    found = measure_pairs(
        query, gallery, metric=GivenScores(table, step), rates=(0.05, 0.2, 0.5, 1.0)
    )
    alike = people[:, None] == gallery.samples.person_ids
    assert_verified(found, table[alike].tolist(), table[~alike].tolist())


@pytest.mark.parametrize("metric", METRICS)
def test_d_prime_by_its_definition(metric: str) -> None:
    problem = random_problem(7, metric, queries=30, rows=80)
    for protocol in LISTED:
        same, different = list_pairs(problem, protocol)
        variance = (np.var(same) + np.var(different)) / 2
        expected = (np.mean(same) - np.mean(different)) / math.sqrt(variance)
        found = measure_pairs(problem.query, problem.gallery, metric=metric, protocol=protocol)
        assert found.d_prime == pytest.approx(float(expected), rel=1e-5)


def test_verification_by_hand() -> None:
    people = [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    table = np.array([[9, 5, 7, 6, 5, 4, 3, 2, 1, 0, -1, -2]], np.float32)
    query = embeddings([[1.0]], [1], [1])
    gallery = embeddings(np.ones((12, 1)), people, [2] * 12)
    found = measure_pairs(query, gallery, metric=GivenScores(table), rates=(0.05, 0.1, 0.25, 0.3))
    assert (found.same, found.different) == (2, 10)
    # One of ten may pass at 0.1: 7; two at 0.25: 7 and 6; three at 0.3: 5 too, with a true one.
    np.testing.assert_array_equal(found.true_positive_rates, [np.nan, 0.5, 0.5, 1])
    assert 6 < found.thresholds[1] + 1e-4 <= 7 + 2e-4
    assert 4 < found.thresholds[3] + 1e-4 <= 5 + 2e-4
    # From above 5 up to 6: 2 of 10 pass wrongly, 1 of 2 is missed.
    assert found.equal_error_rate == pytest.approx((0.2 + 0.5) / 2)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_equal_vectors_tell_nobody_apart(metric: str, value: float) -> None:
    gallery = embeddings(np.full((40, 8), value), [1, 2] * 20, [1, 1, 2, 2] * 10)
    found = measure_pairs(gallery, gallery, metric=metric)
    assert found.equal_error_rate == 0.5
    assert found.true_positive_rates[2:].tolist() == [0, 0]
    assert found.roc.tolist() == [[0, 0], [1, 1]]
    assert found.d_prime == pytest.approx(0, abs=1e-6)
    assert np.isfinite(found.edges).all()
    assert found.same_counts.sum() == found.same == 400


def test_perfect_vectors_make_no_errors() -> None:
    gallery = embeddings(np.repeat(np.eye(4), 4, axis=0), np.repeat(range(4), 4), [1, 2, 3, 4] * 4)
    for metric in METRICS:
        found = measure_pairs(gallery, gallery, metric=metric, rates=(0.01, 0.1))
        assert found.equal_error_rate == 0
        assert found.true_positive_rates.tolist() == [1, 1]
        assert found.d_prime > 1000


def test_only_pairs_of_one_person_are_refused() -> None:
    gallery = embeddings(np.eye(3), [1, 1, 1], [1, 2, 3])
    with pytest.raises(MismatchError, match="all 6 pairs show the same person"):
        measure_pairs(gallery, gallery)
    with pytest.raises(ArgumentError, match="expected at least 1048576"):
        measure_pairs(gallery, gallery, memory=5)


@pytest.mark.parametrize("different", [3, 49, 98, 1000])
def test_a_rate_of_one_pair_can_just_be_told(different: int) -> None:
    query = embeddings([[1.0]], [1], [1])
    gallery = embeddings(np.ones((different + 1, 1)), [1] + [2] * different, [2] * (different + 1))
    comparison = GivenScores(np.arange(different + 1, dtype=np.float32)[None])
    found = measure_pairs(query, gallery, metric=comparison, rates=(1 / different, 0.9 / different))
    # The lowest that leaves one: just above the second best.
    assert found.thresholds[0] == pytest.approx(different - 1, abs=2e-6 * different)
    assert math.isnan(found.thresholds[1])


@pytest.mark.parametrize("rate", [-0.1, 1.5, math.nan, math.inf])
def test_rates_outside_their_range_are_refused(rate: float) -> None:
    both = embeddings(np.eye(3), [1, 1, 2], [1, 2, 1])
    with pytest.raises(ArgumentError, match="rate"):
        measure_pairs(both, both, rates=(0.5, rate))


@pytest.mark.parametrize("score", [measure_pairs, score_cameras, score_queries])
def test_single_shot_protocols_are_refused_where_one_list_is_asked_for(
    score: Callable[..., object],
) -> None:
    both = embeddings(np.eye(3), [1, 1, 2], [1, 2, 1])
    with pytest.raises(ArgumentError, match="cuhk03-classic draws 100 galleries"):
        score(both, both, protocol=scoring.CUHK03_CLASSIC)


def test_threads_count_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of one query each, more than there are cores."""
    problem = random_problem(21, "euclidean", queries=60, rows=60)
    whole = measure_pairs(problem.query, problem.gallery, metric="euclidean")
    monkeypatch.setattr(_verifying, "_PART", 1)
    monkeypatch.setattr(_verifying, "_BINS", 2**10)
    parts = measure_pairs(problem.query, problem.gallery, metric="euclidean")
    assert (parts.same, parts.different) == (whole.same, whole.different)
    np.testing.assert_array_equal(parts.true_positive_rates, whole.true_positive_rates)
    assert parts.equal_error_rate == whole.equal_error_rate


def test_cameras_restrict_the_ranking_that_is_scored() -> None:
    """Re-ranking looks at the whole gallery, not at one camera's pictures of it."""
    random, metric = np.random.default_rng(5), KReciprocal(5, 3)
    query, gallery = (
        embeddings(
            random.standard_normal((size, 8)),
            random.integers(-1, 6, size),
            random.integers(1, 4, size),
        )
        for size in (15, 60)
    )
    found = score_cameras(query, gallery, metric=metric)
    kept = np.flatnonzero(gallery.samples.person_ids != -1)
    blocks = metric.score_blocks(
        Rows.all_of(query.vectors),
        Rows(gallery.vectors, kept),
        asked=np.arange(len(query)),
        memory=2**20,
    )
    scores = np.concatenate([block.copy() for _, block in blocks])
    for column, camera in enumerate(found.gallery_cameras):
        rows = np.flatnonzero(gallery.samples.camera_ids[kept] == camera)
        part = gallery.select(kept[rows])
        given = GivenScores(scores[:, rows])
        scored = find_scored(query.samples, part.samples)
        assert found.queries[:, column].sum() == scored.sum()
        if scored.any():
            expected = evaluate(query, part, metric=given).mAP
            counts = found.queries[:, column]
            assert np.nansum(found.mAP[:, column] * counts) / counts.sum() == pytest.approx(
                expected
            )
