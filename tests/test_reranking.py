"""Re-ranking against the reference's own distances and the paper's formulas, worded plainly."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit import scoring
from reidkit.comparing import METRICS, Rows, _blocks, _rows
from reidkit.errors import ArgumentError, MismatchError
from reidkit.records import Embeddings, Samples
from reidkit.reranking import VARIANTS, KReciprocal, _encoding
from reidkit.scoring import ANY, CROSS_CAMERA, MARKET1501, VEHICLEID, Protocol
from tests.naive_scoring import embeddings, list_ranks, rank_gallery, summarise

GOLDEN = Path(__file__).parent / "golden" / "rerank.npz"
SEEDS = st.integers(0, 2**32 - 1)

Vectors = NDArray[np.float32]
Distances = NDArray[np.floating]


def rerank(
    queries: Vectors, gallery: Vectors, settings: KReciprocal, *, memory: int = 2**20
) -> Distances:
    """Give the final distances, (Q, G)."""
    everyone = np.arange(len(queries))
    blocks = settings.score_blocks(
        Rows.all_of(queries), Rows.all_of(gallery), asked=everyone, memory=memory
    )
    distances = np.full((len(queries), len(gallery)), np.nan)
    for start, scores in blocks:
        distances[start : start + len(scores)] = -settings.word_scores(scores)
    assert np.isfinite(distances).all()
    return distances


# The paper's formulas, slowly.


Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Makes original distances of squared distances and the largest of their rows."""


@dataclass(frozen=True)
class Rule:
    """What a project does in its own way, as `VARIANTS` describes it."""

    measure: Measure
    nearest: Callable[[int], int] = lambda k1: k1 + 1
    averaged: Callable[[int], int] = lambda k2: k2
    mixed: Measure | None = None


RULES = {
    "strong-baseline": Rule(lambda squares, largest: squares / largest),
    "torchreid": Rule(lambda squares, largest: squares**2 / largest**2),
    "layumi": Rule(lambda squares, largest: squares**2 / largest**2),
    "fast-reid": Rule(
        lambda squares, largest: squares,
        nearest=lambda k1: k1,
        mixed=lambda squares, largest: squares / 2,  # of unit vectors 1 - cosine
    ),
    "boxmot": Rule(
        lambda squares, largest: (squares / 2) / (largest / 2), averaged=lambda k2: k2 + 1
    ),
    "tao": Rule(lambda squares, largest: np.sqrt(squares) / np.sqrt(largest)),
}


def measure_all(vectors: Vectors, metric: str) -> NDArray[np.float64]:
    """Give the (N, N) squared distances in float64, one pair like the other."""
    rows = vectors.astype(np.float64)
    if metric == "cosine":
        rows /= np.maximum(np.sqrt((rows**2).sum(axis=1)), 1e-12)[:, None]
    squares: NDArray[np.float64] = ((rows[:, None] - rows) ** 2).sum(axis=2)
    return squares


def rerank_naively(queries: Vectors, gallery: Vectors, settings: KReciprocal) -> Distances:
    rule = RULES[settings.variant]
    squares = measure_all(np.concatenate((queries, gallery)), settings.metric)
    largest = squares.max(axis=1, keepdims=True)
    largest[largest == 0] = 1
    everyone = range(len(squares))
    # N(p, k): the picture itself, then the nearest, equal ones by row.
    keys = squares - np.eye(len(squares))
    order = [sorted(everyone, key=row.__getitem__) for row in keys.tolist()]

    def find_mutual(k: int) -> list[set[int]]:
        """R(p, k): who of the k nearest has p among its own k nearest."""
        near = [set(row[:k]) for row in order]
        return [{j for j in near[i] if i in near[j]} for i in everyone]

    k = rule.nearest(settings.k1)
    whole, half = find_mutual(k), find_mutual(min(k, round(settings.k1 / 2) + 1))
    original = rule.measure(squares, largest)
    weights = np.zeros(squares.shape)
    for i in everyone:
        joining = [half[j] for j in whole[i] if 3 * len(half[j] & whole[i]) > 2 * len(half[j])]
        expanded = sorted(whole[i].union(*joining))
        weights[i, expanded] = np.exp(-original[i, expanded])
        weights[i] /= weights[i].sum()
    if settings.k2 > 1:
        count = rule.averaged(settings.k2)
        weights = np.stack([weights[order[i][:count]].mean(axis=0) for i in everyone])
    jaccard = np.empty((len(queries), len(gallery)))
    for i, mine in enumerate(weights[: len(queries)]):
        theirs = weights[len(queries) :]
        common, total = np.minimum(mine, theirs), np.maximum(mine, theirs)
        jaccard[i] = 1 - common.sum(axis=1) / total.sum(axis=1)
    mixed = (rule.mixed or rule.measure)(squares, largest)[: len(queries), len(queries) :]
    return (1 - settings.weight) * jaccard + settings.weight * mixed


# Problems.


def draw_ties(random: np.random.Generator, size: int, metric: str) -> Vectors:
    """Draw vectors whose distances float32 holds exactly: many are equal, some are 0.

    For cosine corners of a cube in 4 dimensions, of length 2, stretched by powers of two.
    """
    if metric == "euclidean":
        vectors = random.integers(-2, 3, (size, int(random.integers(1, 5)))).astype(np.float32)
    else:
        vectors = (random.integers(0, 2, (size, 4)) * 2 - 1).astype(np.float32)
        vectors *= np.exp2(random.integers(-3, 4, (size, 1))).astype(np.float32)
    vectors[random.random(size) < 0.05] = 0
    return vectors


def draw_apart(random: np.random.Generator, size: int, metric: str) -> Vectors:
    """Draw vectors whose distances differ by more than float32 rounds.

    float32 rounds squares by about 1e-7 of the squared lengths. No distance is so near to 0,
    and none of the largest, that a root of them, or a share, would make 1e-5 of it.
    """
    while True:
        vectors = random.standard_normal((size, int(random.integers(3, 9)))).astype(np.float32)
        squares = measure_all(vectors, metric)
        length = 1.0 if metric == "cosine" else float((vectors**2).sum(axis=1).max())
        gaps = np.diff(np.sort(squares, axis=1), axis=1)
        near = squares[~np.eye(size, dtype=np.bool_)].min(initial=np.inf)
        far = squares.max(axis=1).min() if size > 1 else np.inf
        if gaps.min(initial=1) > 5e-6 and near > 2e-3 * length and far > 0.3 * length:
            return vectors


def draw_copies(random: np.random.Generator, size: int, metric: str) -> Vectors:
    """Draw few vectors, each many times."""
    vectors = draw_apart(random, int(random.integers(1, 1 + size // 2)), metric)
    return vectors[random.integers(0, len(vectors), size)]


DRAWS = {"ties": draw_ties, "apart": draw_apart, "copies": draw_copies}


def cut(random: np.random.Generator, vectors: Vectors) -> tuple[Vectors, Vectors]:
    """Cut vectors into queries and a gallery, neither empty."""
    queries = int(random.integers(1, len(vectors)))
    return vectors[:queries], vectors[queries:]


def draw_side(random: np.random.Generator, size: int, name: str, *, junk: float = 0) -> Embeddings:
    """Draw pictures of six people around one centre each, seen by three cameras."""
    centres = np.random.default_rng(99).standard_normal((6, 8))
    people = random.integers(0, 6, size)
    vectors = centres[people] + 0.9 * random.standard_normal((size, 8))
    people[random.random(size) < junk] = -1
    return embeddings(vectors, people, random.integers(0, 3, size), name=name)


@pytest.fixture(scope="module")
def sides() -> tuple[Embeddings, Embeddings]:
    random = np.random.default_rng(4)
    return draw_side(random, 20, "query"), draw_side(random, 120, "gallery", junk=0.2)


# Golden values.


@dataclass(frozen=True)
class Case:
    query: Embeddings
    gallery: Embeddings
    settings: KReciprocal
    distances: Vectors
    cmc: Vectors
    mAP: float


def read_case(number: int) -> Case:
    with np.load(GOLDEN) as file:
        part = {key.split("_")[1]: file[key] for key in file if key.startswith(f"case{number}_")}
    return Case(
        embeddings(part["q"], part["qp"], part["qc"]),
        embeddings(part["g"], part["gp"], part["gc"]),
        KReciprocal(k1=int(part["k1"]), k2=int(part["k2"]), weight=float(part["lam"])),
        part["dist"],
        part["cmc"],
        float(part["mAP"]),
    )


@pytest.mark.parametrize("memory", [2**20, 2**30])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_reference_found_the_same(number: int, memory: int) -> None:
    """The reference computes in float16, whose steps below 1 are up to 5e-4."""
    case = read_case(number)
    distances = rerank(case.query.vectors, case.gallery.vectors, case.settings, memory=memory)
    np.testing.assert_allclose(distances, case.distances, rtol=0, atol=2e-3)
    scores = scoring.evaluate(case.query, case.gallery, metric=case.settings, memory=memory)
    assert scores.mAP == pytest.approx(case.mAP, abs=5e-4)
    # Gallery pictures closer than those steps change places: that moves the first hit of at
    # most one of the 80 queries, at one or two of the 50 ranks.
    moved = np.abs(scores.cmc - case.cmc)
    assert moved.max() < 1.01 / scores.queries
    assert np.count_nonzero(moved > 1e-6) <= 2


# Random problems.


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    size=st.integers(2, 60),
    draw=st.sampled_from(sorted(DRAWS)),
    metric=st.sampled_from(METRICS),
    k1=st.integers(1, 7) | st.integers(1, 30),
    k2=st.integers(1, 8),
    weight=st.sampled_from([0, 0.3, 1]) | st.floats(0, 1),
)
def test_distances_are_those_of_the_formulas(
    variant: str, seed: int, size: int, draw: str, metric: str, k1: int, k2: int, weight: float
) -> None:
    random = np.random.default_rng(seed)
    queries, gallery = cut(random, DRAWS[draw](random, size, metric))
    chosen = KReciprocal(k1=k1, k2=k2, weight=weight, variant=variant, metric=metric)
    expected = rerank_naively(queries, gallery, chosen)
    np.testing.assert_allclose(rerank(queries, gallery, chosen), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("k1", [5, 7])
def test_more_pictures_than_are_worked_on_at_once(k1: int) -> None:
    """Half of k1 is rounded to the even number: 2.5 and 3.5 to 2 and 4."""
    vectors = np.random.default_rng(k1).integers(-4, 5, (420, 4)).astype(np.float32)
    chosen = KReciprocal(k1=k1, metric="euclidean")
    expected = rerank_naively(vectors[:30], vectors[30:], chosen)
    for memory in (2**20, 2**30):
        found = rerank(vectors[:30], vectors[30:], chosen, memory=memory)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_parts_are_encoded_by_threads(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_encoding, "_STEP", 7)
    monkeypatch.setattr(_rows, "available_cores", lambda: 3)
    random = np.random.default_rng(3)
    queries, gallery = cut(random, draw_ties(random, 50, metric))
    chosen = KReciprocal(k1=8, k2=3, metric=metric)
    expected = rerank_naively(queries, gallery, chosen)
    np.testing.assert_allclose(rerank(queries, gallery, chosen), expected, rtol=0, atol=1e-5)


def test_every_variant_has_a_rule() -> None:
    assert RULES.keys() == VARIANTS.keys()


# Degenerate problems.


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_query_and_one_picture(variant: str) -> None:
    queries, gallery = np.eye(2, dtype=np.float32)[:, None]
    chosen = KReciprocal(k2=1, variant=variant, weight=0.25)
    # Encodings (1, x) / (1 + x) and (x, 1) / (1 + x) have 2x / 2 in common.
    x = np.exp(-2.0 if variant == "fast-reid" else -1.0)
    expected = 0.75 * (1 - x) + 0.25
    assert rerank(queries, gallery, chosen) == pytest.approx(expected, abs=1e-6)
    # Averaged over both pictures the encodings are equal.
    chosen = KReciprocal(k2=6, variant=variant, weight=0.25)
    assert rerank(queries, gallery, chosen) == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["zeros", "ones", "far"])
@pytest.mark.parametrize("size", [2, 15, 22, 300])
def test_equal_vectors_are_found_by_row(size: int, kind: str, metric: str) -> None:
    """Also where there are more copies than neighbours, and where a part holds nothing else."""
    far = np.random.default_rng(0).standard_normal(7) + 1000
    vectors = np.tile({"zeros": 0 * far, "ones": far / far, "far": far}[kind], (size, 1))
    gallery = embeddings(vectors, [1] * size, [2] * size)
    query = gallery.select(slice(5))
    for variant in VARIANTS:
        chosen = KReciprocal(variant=variant, metric=metric)
        matches = scoring.match(query, gallery, metric=chosen, count=min(size, 9), protocol=ANY)
        np.testing.assert_array_equal(matches.rows - np.arange(min(size, 9)), 0)
        assert scoring.evaluate(query, gallery, metric=chosen, protocol=ANY).mAP == 1
        if len(query) + size <= chosen.k1:  # everybody is everybody's neighbour
            assert np.abs(matches.scores).max() < 1e-6


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_copy_of_the_query_is_at_distance_0(variant: str, metric: str) -> None:
    """A root would lift what float32 rounds, about 1e-7, to 3e-4."""
    vectors = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    chosen = KReciprocal(weight=1, variant=variant, metric=metric)
    assert np.abs(np.diag(rerank(vectors, vectors, chosen))).max() < 1e-5


def test_queries_and_gallery_may_be_the_same_pictures() -> None:
    gallery = draw_side(np.random.default_rng(8), 60, "gallery")
    chosen = KReciprocal(k1=6, k2=3)
    matches = scoring.match(gallery, gallery, metric=chosen, count=1, protocol=ANY)
    np.testing.assert_array_equal(matches.rows[:, 0], np.arange(60))


def test_one_camera_only(sides: tuple[Embeddings, Embeddings]) -> None:
    def watch(side: Embeddings) -> Embeddings:
        one = dataclasses.replace(side.samples, camera_ids=np.ones(len(side), np.int64))
        return dataclasses.replace(side, samples=one)

    query, gallery = map(watch, sides)
    with pytest.raises(MismatchError, match="camera"):
        scoring.evaluate(query, gallery, metric=KReciprocal())
    assert scoring.evaluate(query, gallery, metric=KReciprocal(), protocol=ANY).mAP > 0.5


# Properties.


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, variant=st.sampled_from(sorted(VARIANTS)), metric=st.sampled_from(METRICS))
def test_the_order_of_pictures_does_not_matter(seed: int, variant: str, metric: str) -> None:
    random = np.random.default_rng(seed)
    queries, gallery = cut(random, draw_apart(random, 40, metric))
    chosen = KReciprocal(k1=7, k2=3, variant=variant, metric=metric)
    distances = rerank(queries, gallery, chosen)
    rows, columns = random.permutation(len(queries)), random.permutation(len(gallery))
    permuted = rerank(queries[rows], gallery[columns], chosen)
    np.testing.assert_allclose(permuted, distances[np.ix_(rows, columns)], rtol=1e-6, atol=5e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_original_distance_alone_keeps_the_order(variant: str, metric: str) -> None:
    random = np.random.default_rng(10)
    vectors = draw_apart(random, 60, metric)
    query, gallery = (
        embeddings(part, [1] * len(part), [1] * len(part)) for part in (vectors[:15], vectors[15:])
    )
    chosen = KReciprocal(weight=1, variant=variant, metric=metric)
    plain = scoring.match(query, gallery, metric=metric, count=45, protocol=ANY)
    matches = scoring.match(query, gallery, metric=chosen, count=45, protocol=ANY)
    np.testing.assert_array_equal(matches.rows, plain.rows)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, variant=st.sampled_from(sorted(VARIANTS)), exact=st.booleans())
def test_cosine_does_not_see_lengths(seed: int, variant: str, exact: bool) -> None:
    random = np.random.default_rng(seed)
    vectors = draw_apart(random, 30, "cosine")
    factors = random.uniform(-10, 10, (30, 1))
    factors = np.exp2(np.rint(factors) if exact else factors)
    chosen = KReciprocal(k1=5, k2=2, variant=variant)
    distances = rerank(vectors[:9], vectors[9:], chosen)
    scaled = (vectors * factors).astype(np.float32)
    scaled_distances = rerank(scaled[:9], scaled[9:], chosen)
    np.testing.assert_allclose(scaled_distances, distances, rtol=0, atol=0 if exact else 5e-6)


def test_junk_changes_nothing(sides: tuple[Embeddings, Embeddings]) -> None:
    """Not even as a neighbour: it is left out of the graph."""
    query, gallery = sides
    kept = np.flatnonzero(gallery.samples.person_ids != -1)
    assert len(kept) < len(gallery)
    clean = gallery.select(kept)
    first, second = (scoring.evaluate(query, g, metric=KReciprocal()) for g in (gallery, clean))
    assert (first.mAP, first.mINP, first.gallery) == (second.mAP, second.mINP, second.gallery)
    np.testing.assert_array_equal(first.cmc, second.cmc)
    matches, fewer = (
        scoring.match(query, g, metric=KReciprocal(), count=30) for g in (gallery, clean)
    )
    np.testing.assert_array_equal(matches.rows, np.where(fewer.rows < 0, -1, kept[fewer.rows]))
    np.testing.assert_array_equal(matches.scores, fewer.scores)


def test_only_the_queries_asked_are_scored_and_all_take_part(
    monkeypatch: pytest.MonkeyPatch, sides: tuple[Embeddings, Embeddings]
) -> None:
    queries, gallery = (side.vectors for side in sides)
    distances = rerank(queries, gallery, KReciprocal())
    monkeypatch.setattr(_blocks, "LONGEST_BLOCK", 3)
    asked = np.array([1, 2, 5, 8, 13, 14, 15, 19])
    blocks = KReciprocal().score_blocks(
        Rows.all_of(queries), Rows.all_of(gallery), asked=asked, memory=2**20
    )
    starts, parts = zip(*[(start, scores.copy()) for start, scores in blocks], strict=True)
    assert starts == (0, 2, 5)
    np.testing.assert_allclose(-np.concatenate(parts), distances[asked], rtol=0, atol=1e-6)


# What is ranked by it.


@pytest.mark.parametrize("protocol", [MARKET1501, ANY, CROSS_CAMERA], ids=lambda p: p.name)
@pytest.mark.parametrize("variant", ["strong-baseline", "fast-reid"])
def test_scores_are_those_of_the_sorted_distances(
    variant: str, protocol: Protocol, sides: tuple[Embeddings, Embeddings]
) -> None:
    query, gallery = sides
    chosen = KReciprocal(k1=9, k2=4, variant=variant)
    kept = np.flatnonzero(gallery.samples.person_ids != -1)
    table = np.full((len(query), len(gallery)), -np.inf)
    table[:, kept] = -rerank_naively(query.vectors, gallery.vectors[kept], chosen)
    assert np.diff(np.sort(table[:, kept], axis=1), axis=1).min() > 1e-7
    ranks = list_ranks(table.tolist(), protocol, query.samples, gallery.samples)
    expected = summarise([dict(enumerate(ranks))], [], 40)
    scores = scoring.evaluate(query, gallery, metric=chosen, protocol=protocol, max_rank=40)
    assert (scores.mAP, scores.mINP) == pytest.approx((expected.mAP, expected.mINP), abs=1e-12)
    assert scores.cmc.tolist() == pytest.approx(expected.cmc, abs=1e-6)
    matches = scoring.match(query, gallery, metric=chosen, protocol=protocol, count=12)
    for i in range(len(query)):
        order = rank_gallery(table.tolist(), protocol, query.samples, i, gallery.samples)
        assert matches.rows[i].tolist() == order[:12]
        np.testing.assert_allclose(matches.scores[i], table[i, order[:12]], rtol=0, atol=1e-5)


def test_vectors_mapped_from_disk(tmp_path: Path, sides: tuple[Embeddings, Embeddings]) -> None:
    def put_on_disk(side: Embeddings, name: str) -> Embeddings:
        np.save(tmp_path / name, side.vectors)
        return dataclasses.replace(side, vectors=np.load(tmp_path / name, mmap_mode="r"))

    mapped = [put_on_disk(side, f"{i}.npy") for i, side in enumerate(sides)]
    first, second = (scoring.evaluate(*pair, metric=KReciprocal()) for pair in (sides, mapped))
    assert first.mAP == second.mAP


def test_a_draw_of_galleries_is_ranked_too(sides: tuple[Embeddings, Embeddings]) -> None:
    plain = scoring.evaluate(*sides, protocol=VEHICLEID)
    scores = scoring.evaluate(*sides, protocol=VEHICLEID, metric=KReciprocal())
    assert (scores.queries, scores.gallery) == (plain.queries, plain.gallery)
    assert 0 < scores.mAP <= 1


def test_scores_name_the_settings(sides: tuple[Embeddings, Embeddings]) -> None:
    scores = scoring.evaluate(*sides, metric=KReciprocal())
    assert scores.metric == "k-reciprocal (strong-baseline, k1=20, k2=6, weight=0.3)"
    chosen = KReciprocal(k1=5, k2=1, weight=0.125, variant="tao", metric="euclidean")
    scores = scoring.evaluate(*sides, metric=chosen)
    assert scores.metric == "k-reciprocal (tao, k1=5, k2=1, weight=0.125, euclidean)"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("k1", 0, "k1 is 0, expected a whole number"),
        ("k1", 2.5, "k1 is 2.5,"),
        ("k1", True, "k1 is True,"),
        ("k2", -3, "k2 is -3,"),
        ("k2", "6", "k2 is '6',"),
        ("weight", -0.1, "weight is -0.1, expected 0 to 1"),
        ("weight", 1.5, "weight is 1.5,"),
        ("weight", float("nan"), "weight is nan,"),
        ("variant", "paddle", "variant is 'paddle', expected one of strong-baseline, "),
        ("metric", "manhattan", "metric is 'manhattan', expected one of cosine, euclidean"),
    ],
)
def test_bad_settings_are_refused(name: str, value: object, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        KReciprocal(**{name: value})  # type: ignore[arg-type]


def measure_peak(size: int) -> int:
    """Give the most bytes that re-ranking so many vectors takes up at once."""
    vectors = np.random.default_rng(2).standard_normal((size, 16)).astype(np.float32)
    samples = Samples.from_columns([""] * size, np.arange(size) % 40, np.arange(size) % 7)
    everyone = Embeddings(vectors, samples)
    query, gallery = everyone.select(slice(100)), everyone.select(slice(100, None))
    tracemalloc.start()
    scoring.evaluate(query, gallery, metric=KReciprocal(), memory=2**21)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_grows_with_the_pictures_not_with_their_pairs() -> None:
    size = 3000
    peak = measure_peak(size)
    assert peak < 4 * size * size / 2  # about a third of one matrix, whose share falls with size
    assert peak < 2.5 * measure_peak(size // 2)
