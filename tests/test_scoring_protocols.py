"""Every protocol against loops worded like its definition."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit import scoring
from reidkit.errors import ArgumentError, MismatchError, ShapeError
from reidkit.records import Embeddings, Samples, Scores
from reidkit.scoring import Protocol, evaluate, find_scored, match
from tests.naive_scoring import (
    Figures,
    GivenScores,
    Problem,
    draw_naively,
    embeddings,
    evaluate_naively,
    find_answers,
    random_problem,
    rank_gallery,
)

LISTED = [protocol for protocol in scoring.PROTOCOLS.values() if not protocol.trials]
DRAWN = [
    dataclasses.replace(scoring.CUHK03_CLASSIC, trials=4),
    dataclasses.replace(scoring.VEHICLEID, trials=3),
    Protocol("own", trials=2, seed=11, own_picture=False),
    Protocol("any", removed="nothing", trials=5, seed=3),
]
METRICS = ["cosine", "euclidean"]
SEEDS = st.integers(0, 2**32 - 1)


def assert_figures(scores: Scores, expected: Figures) -> None:
    assert scores.queries == expected.queries
    assert scores.mAP == pytest.approx(expected.mAP, abs=1e-12)
    assert scores.mINP == pytest.approx(expected.mINP, abs=1e-12)
    assert scores.mAP_trapezoid == pytest.approx(expected.trapezoid, abs=1e-12)
    np.testing.assert_allclose(scores.cmc, expected.cmc, atol=1e-6)
    np.testing.assert_allclose(scores.precision, expected.precision, atol=1e-6)
    for name in ("junk", "person_absent", "same_camera_only"):
        assert getattr(scores.dropped, name) == expected.reasons.get(name, 0), name


def check(problem: Problem, protocol: Protocol, *, max_rank: int = 50) -> None:
    """Compare with the loops, refusals included."""
    kept = problem.gallery.samples.person_ids != -1
    naive = draw_naively if protocol.trials else evaluate_naively
    expected = naive(problem, protocol, max_rank) if kept.any() else None

    def score() -> Scores:
        return evaluate(
            problem.query,
            problem.gallery,
            metric=problem.metric,
            protocol=protocol,
            max_rank=max_rank,
        )

    if expected is None:
        with pytest.raises(
            (ArgumentError, MismatchError),
            match="junk" if not kept.any() else "no query can be asked|can be scored",
        ):
            score()
        return
    scores = score()
    assert_figures(scores, expected)
    # A single-shot gallery has one picture of each person.
    met = len(set(problem.gallery.samples.person_ids[kept].tolist()))
    assert scores.gallery == (met if protocol.trials else kept.sum())
    assert scores.covers(1000) is (scores.gallery <= max_rank)
    assert (scores.metric, scores.protocol) == (problem.metric, protocol.name)


def name_protocol(protocol: Protocol) -> str:
    return protocol.name


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("protocol", LISTED, ids=name_protocol)
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, max_rank=st.integers(1, 40))
def test_listed_protocols_equal_the_loops(
    protocol: Protocol, metric: str, seed: int, max_rank: int
) -> None:
    check(random_problem(seed, metric), protocol, max_rank=max_rank)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("protocol", DRAWN, ids=name_protocol)
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, max_rank=st.integers(1, 8))
def test_single_shot_protocols_equal_the_loops(
    protocol: Protocol, metric: str, seed: int, max_rank: int
) -> None:
    check(random_problem(seed, metric), protocol, max_rank=max_rank)


@pytest.mark.parametrize("protocol", [scoring.CUHK03_CLASSIC, scoring.VEHICLEID], ids=name_protocol)
def test_the_published_single_shot_protocols_in_full(protocol: Protocol) -> None:
    check(random_problem(5, "euclidean", queries=6, rows=40), protocol)


@pytest.mark.parametrize("protocol", LISTED, ids=name_protocol)
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_ranked_lists_follow_the_protocol(protocol: Protocol, seed: int) -> None:
    problem = random_problem(seed, "euclidean")
    query, gallery = problem.query.samples, problem.gallery.samples
    if (gallery.person_ids == -1).all():
        return
    rows = match(
        problem.query, problem.gallery, metric="euclidean", count=7, protocol=protocol
    ).rows
    table = problem.table()
    for i in range(len(query)):
        expected = rank_gallery(table, protocol, query, i, gallery)
        assert rows[i].tolist() == (expected + [-1] * 7)[:7]


@pytest.mark.parametrize("protocol", [*LISTED, *DRAWN], ids=name_protocol)
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_the_scored_queries_are_those_with_an_answer(protocol: Protocol, seed: int) -> None:
    problem = random_problem(seed, "cosine")
    query, gallery = problem.query.samples, problem.gallery.samples
    expected = [bool(find_answers(protocol, query, i, gallery)) for i in range(len(query))]
    assert find_scored(query, gallery, protocol).tolist() == expected


# Degenerate sides.


def side(people: list[int], cameras: list[int], *, name: str = "g") -> Embeddings:
    random = np.random.default_rng(len(people))
    return embeddings(random.integers(-2, 3, (len(people), 4)), people, cameras, name=name)


DEGENERATE = {
    "one camera": (side([1, 2, 3], [4, 4, 4], name="q"), side([1, 2, 2, 3, 1], [4] * 5)),
    "one person": (side([1, 1], [1, 2], name="q"), side([1] * 6, [1, 2, 3, 1, 2, 3])),
    "junk queries": (side([-1, -1], [1, 2], name="q"), side([1, 2], [1, 2])),
    "junk gallery": (side([1, 2], [1, 2], name="q"), side([-1, -1, -1], [1, 2, 3])),
    "gallery of one": (side([1, 2, 1], [1, 2, 2], name="q"), side([1], [1])),
    "its own gallery picture": (side([1], [1]), side([1], [1])),
    "nobody twice": (side([1, 2, 3], [1, 1, 1], name="q"), side([4, 5, 6], [2, 2, 2])),
    "two-digit cameras": (side([1, 1, 2], [11, 1, 101], name="q"), side([1, 1, 2], [1, 11, 10])),
    "large ids": (
        side([2**40, 2**62, 7], [2**33, 0, 1], name="q"),
        side([2**62, 7, 2**40, 2**40], [1, 2**33, 2**33, 5]),
    ),
}


@pytest.mark.parametrize("protocol", [*LISTED, *DRAWN], ids=name_protocol)
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_sides_equal_the_loops(case: str, protocol: Protocol) -> None:
    for metric in METRICS:
        vectors = [np.sign(part.vectors) for part in DEGENERATE[case]]
        if metric == "cosine":
            vectors = [np.where(part < 0, -1, 1) for part in vectors]
        query, gallery = (
            Embeddings(part.astype(np.float32), whole.samples)
            for part, whole in zip(vectors, DEGENERATE[case], strict=True)
        )
        check(Problem(query, gallery, metric), protocol)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5])
@pytest.mark.parametrize("protocol", [*LISTED, *DRAWN], ids=name_protocol)
def test_equal_vectors_go_by_gallery_row(protocol: Protocol, value: float) -> None:
    people, cameras = [1, 2, 3, 1, 2, 3, 1], [1, 2, 3, 2, 3, 1, 3]
    gallery = embeddings(np.full((7, 16), value), people, cameras)
    for metric in METRICS:
        check(Problem(gallery.select(slice(0, 4)), gallery, metric), protocol)


def test_a_querys_own_picture_is_met_only_under_any() -> None:
    both = embeddings(np.eye(4), [1, 1, 2, 2], [1, 2, 1, 2])
    assert match(both, both, count=1, protocol=scoring.ANY).rows.ravel().tolist() == [0, 1, 2, 3]
    for protocol in (scoring.MARKET1501, scoring.CROSS_CAMERA):
        assert all(
            row not in found
            for row, found in enumerate(match(both, both, count=4, protocol=protocol).rows.tolist())
        )


# Single-shot draws.


def test_a_query_is_not_asked_where_its_own_picture_was_drawn() -> None:
    both = embeddings([[0, 1], [1, 0], [1, 1]], [1, 1, 2], [1, 2, 1])
    protocol = Protocol("twice", removed="nothing", trials=40, own_picture=False)
    scores = evaluate(both, both, protocol=protocol)
    # The third person has one picture only: it is drawn whenever that person is asked for.
    assert (scores.queries, scores.dropped.person_absent) == (2, 1)
    alone = both.select(slice(2, 3))
    with pytest.raises(MismatchError, match="twice no query can be asked"):
        evaluate(alone, alone, protocol=protocol)


def test_the_own_picture_is_known_by_its_path() -> None:
    query = Embeddings(np.ones((1, 2), np.float32), Samples.from_columns(["a"], [1], [1]))
    # The picture is there twice, and one like it under another name.
    paths = ["a", "b", "a", "c"]
    samples = Samples.from_columns(paths, [1, 1, 1, 2], [1, 1, 1, 1])
    gallery = Embeddings(np.ones((4, 2), np.float32), samples)
    protocol = Protocol("own", removed="nothing", trials=30, own_picture=False)
    check(Problem(query, gallery, "cosine"), protocol)
    with pytest.raises(MismatchError, match="no query can be asked"):
        evaluate(query, gallery.select(np.array([0, 2, 3])), protocol=protocol)


def test_draws_depend_on_the_seed_only() -> None:
    problem = random_problem(8, "euclidean", queries=30, rows=120)

    def score(seed: int) -> float:
        protocol = Protocol("drawn", removed="nothing", trials=3, seed=seed)
        return evaluate(problem.query, problem.gallery, protocol=protocol).mAP

    assert score(1) == score(1)
    assert len({score(seed) for seed in range(6)}) > 1


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_draws_do_not_depend_on_the_blocks(step: int) -> None:
    problem = random_problem(8, "euclidean", queries=30, rows=60)
    table = np.array(problem.table(), np.float32)
    scores = evaluate(
        problem.query, problem.gallery, metric=GivenScores(table, step), protocol=DRAWN[1]
    )
    expected = draw_naively(problem, DRAWN[1], 50)
    assert expected is not None
    assert_figures(scores, expected)


# Sides larger than memory.


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "protocol", [scoring.CROSS_CAMERA, scoring.ANY, DRAWN[0], DRAWN[1]], ids=name_protocol
)
def test_a_mapped_gallery_beyond_the_budget_scores_the_same(
    protocol: Protocol, metric: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(2)
    # Of length 32, so that every product is exact, in whatever order it is summed up.
    vectors = (random.integers(0, 2, (1200, 1024)) * 2 - 1).astype(np.float32)
    vectors[300:900] = vectors[random.integers(0, 4, 600)]
    np.save(tmp_path / "vectors.npy", np.ascontiguousarray(vectors))
    people = random.integers(-1, 30, 1200)
    samples = Samples.from_columns(
        [str(i) for i in range(1200)], people, random.integers(1, 5, 1200)
    )
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    gallery = Embeddings(mapped, samples)
    assert mapped.nbytes > 2 * 2**20
    query = Embeddings(vectors, samples).select(slice(280, 330))
    whole = evaluate(query, gallery, metric=metric, protocol=protocol)
    parts = evaluate(query, gallery, metric=metric, protocol=protocol, memory=2**20)
    assert parts.mAP == pytest.approx(whole.mAP, abs=1e-12)
    assert parts.mINP == pytest.approx(whole.mINP, abs=1e-12)
    np.testing.assert_array_equal(parts.cmc, whole.cmc)
    np.testing.assert_array_equal(parts.precision, whole.precision)


# Refusals.


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused(value: float) -> None:
    vectors = np.zeros((3, 4), np.float32)
    vectors[1, 2] = value
    with pytest.raises(ShapeError, match="NaN or infinity in 1 of 3 rows, first in row 1"):
        embeddings(vectors, [1, 2, 3], [1, 1, 1])


def test_impossible_protocols_are_refused() -> None:
    with pytest.raises(ArgumentError, match="removed is 'persons', expected 'person and camera'"):
        Protocol("x", removed="persons")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="cannot remove whole cameras"):
        Protocol("x", removed="camera", trials=1)
    with pytest.raises(ArgumentError, match="trials is -1"):
        Protocol("x", trials=-1)


@pytest.mark.parametrize("protocol", [scoring.ANY, DRAWN[0]], ids=name_protocol)
def test_refusals_do_not_depend_on_the_protocol(protocol: Protocol) -> None:
    both = embeddings(np.eye(3), [1, 2, 2], [1, 1, 2])
    with pytest.raises(ArgumentError, match="expected at least 1048576"):
        evaluate(both, both, protocol=protocol, memory=2**20 - 1)
    with pytest.raises(ArgumentError, match="max_rank is 0"):
        evaluate(both, both, protocol=protocol, max_rank=0)
    with pytest.raises(ArgumentError, match="no queries"):
        evaluate(both.select(slice(0, 0)), both, protocol=protocol)


def test_protocols_are_listed_under_their_names() -> None:
    assert scoring.PROTOCOLS["vehicleid"] is scoring.VEHICLEID
    assert all(protocol.name == name for name, protocol in scoring.PROTOCOLS.items())
    assert scoring.CUHK03_CLASSIC.trials == 100


def test_a_trial_counts_once_however_many_queries_it_asks() -> None:
    """One identity of 2 pictures, never found, one of 10, always found: 9 of 10 queries a trial."""
    people = [1] * 2 + [2] * 10
    vectors = np.zeros((12, 3), np.float32)
    vectors[0, 0] = vectors[1, 1] = vectors[2:, 2] = 1
    vectors[:2, 2] = 0.5  # nearer to identity 2 than to each other
    samples = Samples.from_columns([f"{row}.jpg" for row in range(12)], people, [1] * 12)
    pictures = Embeddings(vectors, samples)
    scores = evaluate(pictures, pictures, protocol=scoring.VEHICLEID)
    assert scores.rank(1) == pytest.approx(0.9)
    assert scores.mAP == pytest.approx(0.9 + 0.1 / 2)
    assert scores.queries == 12
