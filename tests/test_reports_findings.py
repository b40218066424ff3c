"""What the evaluation report shows of findings: pairs, ROC, cameras, map, worst queries."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from reidkit.errors import ArgumentError, MismatchError, ShapeError
from reidkit.records import Embeddings, Samples, Scores
from reidkit.reports import EmbeddingMap, Findings, project_embeddings, write_report
from reidkit.reports._axes import BOTTOM, LEFT, RIGHT, Scale
from reidkit.reports._axes import TOP as CURVE_TOP
from reidkit.reports._cameras import CAMERAS, plan_cameras
from reidkit.reports._map import PEOPLE, PICTURES, choose_pictures, project_linearly
from reidkit.reports._pairs import TOP, plan_pairs
from reidkit.reports._ranked import choose_worst, word_precision
from reidkit.reports._roc import list_rates, plan_roc
from reidkit.reports._scatter import FRAME, MARGIN, place_points, plan_map
from reidkit.reports._wording import word_threshold
from reidkit.scoring import (
    ANY,
    CROSS_CAMERA,
    CUHK03_CLASSIC,
    MARKET1501,
    CameraScores,
    Protocol,
    QueryScores,
    Verification,
    evaluate,
    match,
    measure_pairs,
    score_cameras,
    score_queries,
)
from tests.pages import HOSTILE, Page, words
from tests.pages import PICTURES as PHOTOGRAPHS

Side = list[tuple[int, int]]
CLEAN = dict.fromkeys(("queries", "cameras", "verification", "threshold", "embedding_map"))


def embed(people: Side, vectors: ArrayLike, paths: list[str] | None = None) -> Embeddings:
    names = paths or [PHOTOGRAPHS[row % len(PHOTOGRAPHS)] for row in range(len(people))]
    samples = Samples.from_columns(names, [p for p, _ in people], [c for _, c in people])
    return Embeddings(np.asarray(vectors, np.float32), samples)


def make_sides(
    *, people: int = 8, cameras: int = 3, noise: float = 1.0, size: int = 8
) -> tuple[Embeddings, Embeddings]:
    random = np.random.default_rng(7)
    centres = random.normal(size=(people, size))

    def make_side(each: int) -> Embeddings:
        who = [(p, c + 1) for p in range(people) for c in range(cameras) for _ in range(each)]
        spread = noise * random.normal(size=(len(who), size))
        return embed(who, centres[[p for p, _ in who]] + spread)

    return make_side(1), make_side(2)


def find_all(
    query: Embeddings,
    gallery: Embeddings,
    *,
    metric: str = "cosine",
    protocol: Protocol = MARKET1501,
    threshold: tuple[str, float] | None = None,
) -> Findings:
    options: dict[str, Any] = {"metric": metric, "protocol": protocol}
    return Findings(
        evaluate(query, gallery, **options),
        score_queries(query, gallery, **options),
        score_cameras(query, gallery, **options),
        measure_pairs(query, gallery, **options),
        threshold,
        project_embeddings(query, gallery, metric=metric),
    )


def write(path: Path, found: Scores | Findings, query: Embeddings, gallery: Embeddings) -> str:
    scores = found.scores if isinstance(found, Findings) else found
    matches = match(query, gallery, metric=scores.metric)
    write_report(path, found, query=query, gallery=gallery, matches=matches, facts={})
    return path.read_text("utf-8")


@pytest.fixture(scope="module", autouse=True)
def _without_umap() -> Iterator[None]:
    """Give the same pages whether or not UMAP is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)
        yield


@pytest.fixture(scope="module")
def sides() -> tuple[Embeddings, Embeddings]:
    return make_sides()


@pytest.fixture(scope="module")
def source(sides: tuple[Embeddings, Embeddings], tmp_path_factory: pytest.TempPathFactory) -> str:
    findings = find_all(*sides, threshold=("one stranger in 100", 0.625))
    return write(tmp_path_factory.mktemp("page") / "report.html", findings, *sides)


# --- the scores of pairs


def make_verification(**changes: Any) -> Verification:
    """Four bins from 0 to 1: four pairs of the same person, eight of different people."""
    values: dict[str, Any] = {
        "same": 4,
        "different": 8,
        "false_positive_rates": np.array([1e-4, 0.125, 0.5]),
        "thresholds": np.array([np.nan, 0.5, 0.25]),
        "true_positive_rates": np.array([np.nan, 0.75, 1.0]),
        "equal_error_rate": 0.2,
        "equal_error_threshold": 0.5,
        "d_prime": 1.5,
        "roc": np.array([[0, 0.25], [0.125, 0.75], [0.5, 1], [1, 1]]),
        "edges": np.linspace(0, 1, 5),
        "same_counts": np.array([0, 0, 1, 3]),
        "different_counts": np.array([6, 0, 2, 0]),
        "metric": "cosine",
        "protocol": "market1501",
    }
    return Verification(**values | changes)


def test_pairs_have_known_geometry() -> None:
    plan = plan_pairs(make_verification(), 0.5)
    # Bins are joined two by two: 0 and 100 % of the same, 75 and 25 % of the different pairs.
    assert plan.same == "M48.0,304V304.0H332.0V64.0H616.0V304Z"
    assert plan.different == "M48.0,304V124.0H332.0V244.0H616.0V304Z"
    assert [(tick.label, tick.at) for tick in plan.frame.upwards][::5] == [("0", 304), ("100", 64)]
    assert [tick.label for tick in plan.frame.across] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    mark = plan.threshold
    assert (mark.x, mark.label, mark.anchor) == (332, "threshold 0.5000", "middle")


def test_an_odd_number_of_bins_keeps_its_last() -> None:
    found = make_verification(
        edges=np.linspace(0, 1, 4),
        same_counts=np.array([0, 0, 4]),
        different_counts=np.array([4, 4, 0]),
    )
    plan = plan_pairs(found, 0.5)
    assert plan.same == "M48.0,304V304.0H426.7V64.0H616.0V304Z"
    assert plan.different == "M48.0,304V64.0H426.7V304.0H616.0V304Z"


def test_distances_are_read_from_far_to_near() -> None:
    found = make_verification(metric="euclidean", edges=np.linspace(-1, 0, 5))
    plan = plan_pairs(found, -0.25)
    assert [tick.label for tick in plan.frame.across] == ["1.0", "0.8", "0.6", "0.4", "0.2", "0.0"]
    assert [tick.at for tick in plan.frame.across][::5] == [48, 616]
    assert (plan.threshold.label, plan.threshold.x) == ("threshold 0.25", 474)


@pytest.mark.parametrize(("threshold", "x", "anchor"), [(-9, LEFT, "start"), (9, RIGHT, "end")])
def test_a_threshold_outside_stands_at_the_edge(threshold: float, x: float, anchor: str) -> None:
    mark = plan_pairs(make_verification(), threshold).threshold
    assert (mark.x, mark.anchor) == (x, anchor)


@settings(max_examples=16, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([1e-12, 1e-3, 1.0, 1e6]),
    metric=st.sampled_from(["cosine", "euclidean"]),
    equal=st.booleans(),
)
def test_pairs_of_any_scores_stay_inside(seed: int, size: float, metric: str, equal: bool) -> None:
    random = np.random.default_rng(seed)
    who = [(p, c) for p in range(3) for c in (1, 2)]
    query, gallery = (
        embed(who, np.full((6, 4), size) if equal else size * random.normal(size=(6, 4)))
        for _ in range(2)
    )
    found = measure_pairs(query, gallery, metric=metric)
    plan = plan_pairs(found, found.equal_error_threshold)
    for path in (plan.same, plan.different):
        numbers = [float(n) for n in re.findall(r"[VH]([\d.]+)", path)]
        tops, ends = numbers[:-1:2], numbers[1::2]
        assert all(TOP <= y <= BOTTOM for y in tops)
        assert ends == sorted(ends)
        assert all(LEFT <= x <= RIGHT for x in ends)
        assert min(tops) < BOTTOM
    assert LEFT <= plan.threshold.x <= RIGHT
    assert len(plan.frame.across) <= 7
    assert len(plan_roc(found).frame.across) >= 2


@pytest.mark.parametrize(
    ("score", "metric", "text"),
    [
        (0.51234, "cosine", "0.5123"),
        (0.995, "cosine", "0.995000"),
        (-0.25, "cosine", "−0.2500"),
        (-12.3456789, "euclidean", "12.346"),
        (0.0, "euclidean", "0"),
        (-0.75, "k-reciprocal", "−0.75"),
        (math.nan, "cosine", "–"),
    ],
)
def test_thresholds_are_worded_as_people_read_scores(score: float, metric: str, text: str) -> None:
    assert word_threshold(score, metric) == text


# --- ROC


def test_the_roc_has_known_geometry() -> None:
    curve = plan_roc(make_verification())
    across = Scale(-1, 0, LEFT, RIGHT)
    # One decade at the least: 1 in 8 would start at 0.125.
    middle = across.place(math.log10(0.125)), across.place(math.log10(0.5))
    assert curve.points == f"48,238.0 {middle[0]},106.0 {middle[1]},40.0 616.0,40.0"
    assert [tick.label for tick in curve.frame.across] == ["1", "0.1"]
    assert [(mark.x, mark.label) for mark in curve.marks] == [
        (middle[0], "75.0"),
        (middle[1], "100.0"),
    ]


def test_what_lies_before_the_axis_is_its_first_point() -> None:
    roc = np.array([[0, 0.1], [1e-8, 0.2], [1e-7, 0.3], [1e-3, 0.5], [1, 1]])
    found = make_verification(
        different=10**9,
        roc=roc,
        false_positive_rates=np.array([1e-7, 1e-6, 1e-3]),
        thresholds=np.array([0.9, 0.8, 0.7]),
        true_positive_rates=np.array([0.3, 0.3, 0.5]),
    )
    curve = plan_roc(found)
    assert curve.points.split() == ["48.0,224.8", "332.0,172.0", "616.0,40.0"]
    assert [tick.label for tick in curve.frame.across][-1] == "10⁻⁶"
    assert [mark.x for mark in curve.marks] == [48, 332]


@pytest.mark.parametrize("different", [1, 2, 50, 10**4, 10**12])
def test_the_axis_reaches_as_far_as_the_pairs(different: int) -> None:
    roc = np.array([[0, 0], [1 / different, 0.5], [1, 1]])
    points = plan_roc(make_verification(different=different, roc=roc)).points.split()
    assert points[-1] == "616.0,40.0"
    assert float(points[0].split(",")[0]) == LEFT


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 12))
def test_every_roc_stays_inside_and_rises(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    who = [(p, c) for p in range(count) for c in (1, 2)]
    query, gallery = (embed(who, random.normal(size=(2 * count, 3))) for _ in range(2))
    curve = plan_roc(measure_pairs(query, gallery))
    points = np.array([[float(n) for n in pair.split(",")] for pair in curve.points.split()])
    assert (points >= (LEFT, CURVE_TOP)).all()
    assert (points <= (RIGHT, BOTTOM)).all()
    assert (np.diff(points[:, 0]) >= 0).all()
    assert (np.diff(points[:, 1]) <= 0).all()


def test_rates_without_enough_pairs_are_said_to_be_so() -> None:
    rows = list_rates(make_verification())
    assert [(row.rate, row.threshold, row.found, row.few) for row in rows] == [
        ("0.01", "–", "–", True),
        ("12.5", "0.5000", "75.0", False),
        ("50", "0.2500", "100.0", False),
    ]


# --- cameras


def make_cameras(mAP: list[list[float]], queries: list[list[int]] | None = None) -> CameraScores:
    values = np.array(mAP)
    counts = np.array(queries) if queries else np.where(np.isnan(values), 0, 2)
    given = np.arange(1, 1 + max(values.shape))
    return CameraScores(given[: len(values)], given[: values.shape[1]], values, values, counts)


def test_shades_run_from_the_lowest_to_the_highest() -> None:
    table = plan_cameras(make_cameras([[math.nan, 0.5, 0.9], [0.6, math.nan, 0.7]]))
    assert table.columns == (1, 2, 3)
    texts = [[cell.text for cell in row.cells] for row in table.rows]
    assert texts == [["–", "50.0", "90.0"], ["60.0", "–", "70.0"]]
    shades = [cell.shade for row in table.rows for cell in row.cells]
    assert shades == [None, *(pytest.approx(n) for n in (0, 1, 0.25)), None, pytest.approx(0.5)]
    assert [cell.weakest for cell in table.rows[0].cells] == [False, True, False]
    assert table.rows[0].cells[1].details == "Rank-1 50.0 %, 2 queries"
    weakest = table.weakest
    assert weakest is not None
    assert dataclasses.astuple(weakest) == (1, 2, 0.5, 2)
    assert (table.lowest, table.highest, table.gaps) == (0.5, 0.9, True)


@pytest.mark.parametrize("mAP", [[[0.5]], [[0.25, 0.25], [0.25, 0.25]], [[math.nan]]])
def test_nothing_is_weakest_among_equals(mAP: list[list[float]]) -> None:
    table = plan_cameras(make_cameras(mAP))
    assert table.weakest is None
    assert {cell.shade for row in table.rows for cell in row.cells} <= {0.5, None}


def test_of_many_cameras_those_with_most_queries_are_shown() -> None:
    count = CAMERAS + 5
    queries = np.ones((count, 2), int)
    queries[:5] = 0
    mAP = np.where(queries > 0, 0.5, math.nan)
    mAP[7, 1] = 0.1
    table = plan_cameras(make_cameras(mAP.tolist(), queries.tolist()))
    assert [row.camera for row in table.rows] == list(range(6, count + 1))
    assert (table.query_cameras, len(table.rows)) == (count, CAMERAS)
    assert table.weakest is not None
    assert (table.weakest.query_camera, table.weakest.gallery_camera) == (8, 2)


# --- the map


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(3, 20), size=st.integers(1, 30))
def test_principal_components_are_those_of_a_decomposition(
    seed: int, count: int, size: int
) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, size))
    points, share = project_linearly(vectors)
    left, values, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    values = np.append(values, 0)
    assert share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum())
    for axis in range(min(2, size, count - 1)):
        expected = left[:, axis] * values[axis]
        farthest = np.abs(expected).argmax()
        assert points[:, axis] == pytest.approx(expected * np.sign(expected[farthest]), abs=1e-6)
        assert points[farthest, axis] > 0


@pytest.mark.parametrize("value", [0, 1, 1e-30, 3.3])
def test_vectors_that_do_not_differ_lie_in_one_place(value: float) -> None:
    query, gallery = (embed([(1, c), (2, c)], np.full((2, 3), value)) for c in (1, 2))
    for metric in ("cosine", "euclidean"):
        found = project_embeddings(query, gallery, metric=metric)
        assert (found.method, found.share) == ("PCA", None)
        assert not found.points.any()
        places = place_points(found.points)
        assert (places == (320, 220)).all()


def test_the_metric_decides_whether_lengths_count() -> None:
    query = embed([(1, 1), (2, 1)], [[1, 0], [0, 1]])
    gallery = embed([(1, 2), (2, 2)], [[9, 0], [0, 5]])
    by_angle = project_embeddings(query, gallery).points
    assert by_angle[:2] == pytest.approx(by_angle[2:])
    by_distance = project_embeddings(query, gallery, metric="euclidean").points
    assert np.abs(by_distance[:2] - by_distance[2:]).max() > 1


SIDE = st.lists(st.tuples(st.integers(-1, 40), st.integers(1, 3)), min_size=1, max_size=120)


@settings(max_examples=40, deadline=None)
@given(asked=SIDE, seen=SIDE)
def test_the_people_of_the_map_are_on_both_sides(asked: Side, seen: Side) -> None:
    query, gallery = (embed(side, np.ones((len(side), 1))).samples for side in (asked, seen))
    shared = ({p for p, _ in asked} & {p for p, _ in seen}) - {-1}
    if not shared:
        with pytest.raises(MismatchError, match="nobody to show"):
            choose_pictures(query, gallery)
        return
    rows, answers, count = choose_pictures(query, gallery)
    assert count == len(shared)
    shown = {*query.person_ids[rows].tolist(), *gallery.person_ids[answers].tolist()}
    assert shown <= shared
    assert len(shown) == min(len(shared), PEOPLE)
    assert len(rows) == sum(p in shown for p, _ in asked)
    assert len(answers) == sum(p in shown for p, _ in seen)
    assert rows.tolist() == sorted(set(rows.tolist()))


@pytest.mark.parametrize("people", [1, 3, 30])
def test_a_large_set_is_thinned_evenly(people: int) -> None:
    who = [(p, c) for p in range(people) for c in range(900)]
    query, gallery = (embed(side, np.ones((len(side), 1))) for side in (who[::9], who))
    rows, answers, _ = choose_pictures(query.samples, gallery.samples)
    shown = min(people, PEOPLE)
    each = PICTURES // shown
    assert len(rows) + len(answers) == shown * each
    ids = np.concatenate((query.samples.person_ids[rows], gallery.samples.person_ids[answers]))
    assert set(np.unique(ids, return_counts=True)[1].tolist()) == {each}
    assert len(rows) / (len(rows) + len(answers)) == pytest.approx(0.1, abs=0.02)


def test_mapped_vectors_give_the_same_map(
    sides: tuple[Embeddings, Embeddings], tmp_path: Path
) -> None:
    query, gallery = sides
    np.save(tmp_path / "vectors.npy", gallery.vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    found = project_embeddings(query, Embeddings(mapped, gallery.samples))
    expected = project_embeddings(query, gallery)
    assert (found.points == expected.points).all()
    assert found.share == expected.share


def test_a_map_of_two_models_is_refused(sides: tuple[Embeddings, Embeddings]) -> None:
    query, gallery = sides
    other = Embeddings(gallery.vectors, gallery.samples, model_sha256="b" * 64)
    with pytest.raises(MismatchError, match="model"):
        project_embeddings(query, other)


def install_umap(monkeypatch: pytest.MonkeyPatch, value: float) -> list[dict[str, Any]]:
    """Put a stand-in in UMAP's place, which puts every picture at `value` times its number."""
    calls: list[dict[str, Any]] = []

    class Stand:
        def __init__(self, **options: Any) -> None:
            calls.append(options)

        def fit_transform(self, vectors: NDArray[np.float64]) -> NDArray[np.float32]:
            calls[-1]["lengths"] = np.linalg.norm(vectors, axis=1)
            numbers = np.arange(len(vectors), dtype=np.float32) * np.float32(value)
            return np.stack((numbers, -numbers), axis=1)

    module = types.ModuleType("umap")
    module.UMAP = Stand  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", module)
    return calls


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "k-reciprocal"])
def test_umap_is_used_where_it_is_installed(
    metric: str,
    sides: tuple[Embeddings, Embeddings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    calls = install_umap(monkeypatch, 2)
    found = project_embeddings(*sides, metric=metric)
    (call,) = calls
    lengths = call.pop("lengths")
    assert (np.ptp(lengths) < 1e-6) == (metric != "euclidean")
    known = metric if metric == "euclidean" else "cosine"
    assert call == {"n_components": 2, "random_state": 0, "metric": known, "n_jobs": 1}
    assert (found.method, found.share) == ("UMAP", None)
    assert found.points[3].tolist() == [6, -6]
    findings = Findings(evaluate(*sides), embedding_map=found)
    text = words(write(tmp_path / "report.html", findings, *sides))
    assert "UMAP put them into the plane" in text
    assert "PCA" not in text


def test_pca_stands_in_where_umap_cannot_help(
    sides: tuple[Embeddings, Embeddings], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = project_embeddings(*sides)
    install_umap(monkeypatch, math.nan)
    lost = project_embeddings(*sides)
    for found in (absent, lost):
        assert found.method == "PCA"
        assert (found.points == absent.points).all()
        assert found.share == absent.share
    few = make_sides(people=2, cameras=2)
    calls = install_umap(monkeypatch, 1)
    assert project_embeddings(*few).method == "PCA"
    assert not calls


def test_a_map_whose_columns_do_not_fit_is_refused() -> None:
    ids, marks = np.arange(3), np.zeros(3, np.bool_)
    for points, text in (
        (np.zeros((2, 2)), "points"),
        (np.zeros((3, 3)), "points"),
        (np.full((3, 2), np.nan), "NaN"),
    ):
        with pytest.raises(ShapeError, match=text):
            EmbeddingMap(points, ids, marks, "PCA", 0.5, 3)
    with pytest.raises(ShapeError, match="N >= 1"):
        EmbeddingMap(np.zeros((0, 2)), ids[:0], marks[:0], "PCA", 0.5, 3)


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 2), min_size=1, max_size=30))
def test_points_keep_their_proportions_and_stay_inside(points: list[tuple[float, float]]) -> None:
    values = np.array(points, np.float64)
    places = place_points(values)
    assert (places >= (FRAME.left + MARGIN - 0.1, FRAME.top + MARGIN - 0.1)).all()
    assert (places <= (FRAME.right - MARGIN + 0.1, FRAME.bottom - MARGIN + 0.1)).all()
    span, drawn = np.ptp(values, axis=0), np.ptp(places, axis=0)
    # One scale for both directions, and all the room in one of them.
    assert drawn[0] * span[1] == pytest.approx(drawn[1] * span[0], abs=0.3 * span.max())
    room = np.array([FRAME.right - FRAME.left, FRAME.bottom - FRAME.top]) - 2 * MARGIN
    assert not span.any() or np.abs(drawn - room).min() <= 0.2


def test_people_differ_by_colour_or_shape() -> None:
    count = 20
    points = np.zeros((count, 2))
    points[:, 0] = np.arange(count)
    queried = np.arange(count) % 2 == 0
    plan = plan_map(EmbeddingMap(points, np.arange(count), queried, "PCA", 0.5, 99))
    looks = {(person.hue, person.sample) for person in plan.people}
    assert len(looks) == count
    assert [bool(person.queries) for person in plan.people] == queried.tolist()
    assert all(bool(person.queries) != bool(person.gallery) for person in plan.people)
    circle, square, triangle = (plan.people[n] for n in (0, 7, 14))
    assert circle.queries == "M11.5,220a5.5,5.5 0 1 0 11,0a5.5,5.5 0 1 0 -11,0z"
    assert re.fullmatch(r"M[\d.]+,216h8v8h-8z", square.gallery)
    assert triangle.queries.endswith("h11l-5.5,-11z")


# --- the worst queries


def make_queries(precisions: list[float], firsts: list[int]) -> QueryScores:
    count = len(precisions)
    return QueryScores(
        np.arange(count) * 3,
        np.array(precisions),
        np.array(precisions),
        np.array(firsts),
        np.array(firsts),
        np.arange(count + 1),
    )


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.25, 0.5, 1]), st.integers(1, 4)), max_size=50))
def test_the_worst_queries_are_those_of_lowest_precision(found: list[tuple[float, int]]) -> None:
    queries = make_queries([p for p, _ in found], [first for _, first in found])
    choice = choose_worst(queries, count=8)
    failed = [row for row, (precision, _) in enumerate(found) if precision < 1]
    failed.sort(key=lambda row: (found[row][0], -found[row][1], row))
    assert choice.hardest.tolist() == [3 * row for row in failed[:4]]
    others = choice.others.tolist()
    assert len(others) + len(choice.hardest) == min(8, len(found))
    assert set(others) <= set(queries.queries.tolist()) - set(choice.hardest.tolist())


def test_a_query_is_described_by_its_whole_ranking() -> None:
    queries = QueryScores(
        np.array([2, 5]),
        np.array([0.5, 0.0321]),
        np.array([0.5, 0.03]),
        np.array([2, 1200]),
        np.array([2, 1200, 1300]),
        np.array([0, 1, 3]),
    )
    assert word_precision(queries, 2) == (
        "average precision 50.0 %, 1 right answer, the first at rank 2"
    )
    assert word_precision(queries, 5) == (
        "average precision 3.2 %, 2 right answers, the first at rank 1,200"
    )


# --- the page


def test_the_page_of_all_findings_is_sound_and_stands_alone(source: str) -> None:
    page = Page(source)
    assert not page.all("script") + page.all("link") + page.all("iframe") + page.all("a")
    assert not re.search(r"https?:|url\(|@import|\son\w+=|href", source)
    scopes = {th.attributes.get("scope") for th in page.all("th")}
    assert scopes == {"row", "col", "colgroup"}
    headings = [heading.text for heading in page.all("h2")]
    assert headings == [
        "Result",
        "Cumulative matching characteristic",
        "Same person or not",
        "Pairs of cameras",
        "Map of the embeddings",
        "Ranked lists",
    ]
    plots = page.all("svg", "plot")
    assert len(plots) == 4
    assert all(plot.attributes["role"] == "img" for plot in plots)
    assert all(plot.attributes["aria-label"] for plot in plots)
    # Every colour of the page is declared, for a light and a dark screen.
    for name in set(re.findall(r"var\((--[\w-]+)\)", source)) - {"--shade", "--picture", "--cell"}:
        assert source.count(f"{name}:") == 2, name


def test_findings_say_nothing_of_what_they_lack(
    sides: tuple[Embeddings, Embeddings], tmp_path: Path, source: str
) -> None:
    scores = evaluate(*sides)
    bare = write(tmp_path / "bare.html", scores, *sides)
    assert write(tmp_path / "empty.html", Findings(scores), *sides) == bare
    traces = {
        "queries": "Worst queries",
        "cameras": "Pairs of cameras",
        "verification": "Same person or not",
        "embedding_map": "Map of the embeddings",
    }
    full = find_all(*sides)
    text = words(source)
    for part in traces:
        assert traces[part] in text
        assert traces[part] not in words(bare)
        alone = Findings(scores, **CLEAN | {part: getattr(full, part)})
        shown = words(write(tmp_path / f"{part}.html", alone, *sides))
        assert [name for name, trace in traces.items() if trace in shown] == [part]
    # A threshold is drawn among the scores of pairs, or not at all.
    named = Findings(scores, threshold=("one in 100", 0.5))
    assert write(tmp_path / "threshold.html", named, *sides) == bare


def test_the_operating_point_takes_the_place_of_the_equal_error(
    sides: tuple[Embeddings, Embeddings], tmp_path: Path, source: str
) -> None:
    text = words(source)
    assert "Operating point 0.6250 one stranger in 100" in text
    assert "The vertical line is the operating point, one stranger in 100" in text
    assert "threshold 0.6250" in text
    found = find_all(*sides)
    assert found.verification is not None
    text = words(write(tmp_path / "report.html", found, *sides))
    equal = word_threshold(found.verification.equal_error_threshold, "cosine")
    assert "Operating point" not in text
    assert "The vertical line is where both kinds of error are equally frequent" in text
    assert text.count(f"threshold {equal}") == 2


def test_the_table_of_rates_is_that_of_the_pairs(
    sides: tuple[Embeddings, Embeddings], source: str
) -> None:
    found = measure_pairs(*sides)
    rows = [row.text for row in Page(source).all("tr")]
    place = rows.index("Different people accepted Threshold Same person accepted")
    expected = [
        "0.01 % – too few pairs to tell",
        *(
            f"{rate} % {word_threshold(float(threshold), 'cosine')} {100 * share:.1f} %"
            for rate, threshold, share in zip(
                (0.1, 1, 10), found.thresholds[1:], found.true_positive_rates[1:], strict=True
            )
        ),
    ]
    assert rows[place + 1 : place + 5] == expected
    text = words(source)
    assert f"{found.same:,} of the same person, {found.different:,} of different people" in text


def test_the_table_of_cameras_can_be_read_aloud(
    sides: tuple[Embeddings, Embeddings], source: str
) -> None:
    found = score_cameras(*sides)
    page = Page(source)
    cells = [td for td in page.all("td") if "title" in td.attributes]
    values = found.mAP.ravel()
    assert len(cells) == len(values) == 9
    lowest = int(np.nanargmin(values))
    for place, (cell, value) in enumerate(zip(cells, values.tolist(), strict=True)):
        if math.isnan(value):
            assert (cell.text, cell.attributes["class"]) == ("–", "empty")
            assert cell.attributes["title"] == "no query can be scored"
        else:
            assert cell.text == f"{100 * value:.1f}" + (" weakest" if place == lowest else "")
            assert 0 <= float(cell.attributes["style"].removeprefix("--shade:")) <= 1
    (table,) = page.all("table", "heat")
    assert table.text.startswith("Query from camera Searched in camera 1 2 3 1 –")
    box = next(div for div in page.all("div", "wide"))
    assert (box.attributes["role"], box.attributes["tabindex"]) == ("group", "0")


def test_the_map_shows_each_person_and_its_share(
    sides: tuple[Embeddings, Embeddings], source: str
) -> None:
    found = project_embeddings(*sides)
    assert found.share is not None
    text = words(source)
    assert "72 pictures of 8 people." in text
    assert f"(PCA), which show {100 * found.share:.1f} % of the variance" in text
    page = Page(source)
    assert len(page.all("path", "asked")) == 8
    assert len(page.all("path", "answers")) == 16  # and eight in the legend
    legend = [item.text for item in page.all("li")]
    assert legend == [f"person {person} 9" for person in range(8)]


def test_the_lists_say_how_the_whole_ranking_did(
    sides: tuple[Embeddings, Embeddings], source: str
) -> None:
    queries = score_queries(*sides)
    choice = choose_worst(queries)
    titles = [title.text for title in Page(source).all("h4")]
    rows = [*choice.hardest.tolist(), *choice.others.tolist()]
    for title, row in zip(titles, rows, strict=True):
        assert title.endswith(word_precision(queries, row))
    precisions = queries.average_precisions
    assert word_precision(queries, int(queries.queries[precisions.argmin()])) in titles[0]
    assert "lowest average precision, the lowest first" in source
    assert "Hardest" not in source


def test_precision_stands_beside_the_ranks(
    sides: tuple[Embeddings, Embeddings], source: str
) -> None:
    scores = evaluate(*sides)
    rows = [row.text for row in Page(source).all("tr")]
    for rank in (1, 5, 10, 20):
        share, precision = 100 * scores.cmc[rank - 1], 100 * scores.precision[rank - 1]
        assert f"{rank} {share:.1f} % {precision:.1f} %" in rows


def test_hostile_texts_are_only_texts(sides: tuple[Embeddings, Embeddings], tmp_path: Path) -> None:
    def fill(text: str) -> list[str]:
        query, gallery = (
            Embeddings(side.vectors, Samples.from_columns([text] * len(side), *columns))
            for side in sides
            for columns in [(side.samples.person_ids, side.samples.camera_ids)]
        )
        findings = find_all(query, gallery, threshold=(text, 0.5))
        page = write(tmp_path / "report.html", findings, query, gallery)
        assert "<script" not in page
        return [element.tag for element in Page(page).elements]

    expected = fill("plain")
    for text in (HOSTILE, "</svg></style><img src=x onerror=alert(1)>"):
        assert fill(text) == expected


def test_one_query_and_one_camera_each_fill_a_page(tmp_path: Path) -> None:
    query = embed([(1, 1)], [[1.0, 0.0]])
    gallery = embed([(1, 2), (2, 2)], [[1.0, 0.1], [0.0, 1.0]])
    text = words(write(tmp_path / "report.html", find_all(query, gallery), query, gallery))
    assert "1 query searched 2 gallery pictures" in text
    assert "weakest" not in text
    assert "A dash" not in text
    assert "2 pictures of 1 person." in text
    assert "Every query has all its right answers in front." in text
    assert text.count("too few pairs to tell") == 4


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_page_of_vectors_that_are_all_equal(metric: str, value: float, tmp_path: Path) -> None:
    who = [(p, c) for p in range(3) for c in (1, 2)]
    query, gallery = (embed(who, np.full((6, 4), value)) for _ in range(2))
    findings = find_all(query, gallery, metric=metric)
    text = words(write(tmp_path / "report.html", findings, query, gallery))
    assert "Their vectors do not differ: all lie in one place." in text
    assert "nan" not in text


def test_distances_stay_distances_on_the_page(tmp_path: Path) -> None:
    query, gallery = make_sides(people=4)
    findings = find_all(query, gallery, metric="euclidean", threshold=("mine", -2.5))
    text = words(write(tmp_path / "report.html", findings, query, gallery))
    assert "threshold 2.5 " in text
    assert "Operating point 2.5 mine" in text
    assert "Euclidean distance" in text


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (MARKET1501, "query’s person from the query’s own camera do not count."),
        (CROSS_CAMERA, "Pictures from the query’s own camera do not count."),
        (ANY, "ranked by cosine similarity. Result"),
        (CUHK03_CLASSIC, "means over 100 drawings of a gallery that holds one picture of each"),
        (Protocol("mine", removed="nothing"), "Evaluation protocol: mine."),
    ],
)
def test_the_protocol_is_said(protocol: Protocol, expected: str, tmp_path: Path) -> None:
    query, gallery = make_sides(people=3)
    scores = evaluate(query, gallery, protocol=protocol)
    text = words(write(tmp_path / "report.html", scores, query, gallery))
    assert expected in text
    assert ("do not count" in text) == (protocol.removed != "nothing" and protocol.name != "mine")


def test_lists_under_any_protocol_hold_its_scored_queries(tmp_path: Path) -> None:
    # One camera only: nothing is scored unless nothing is removed.
    query, gallery = (embed([(1, 1), (2, 1)], np.eye(2)) for _ in range(2))
    scores = evaluate(query, gallery, protocol=ANY)
    assert len(Page(write(tmp_path / "report.html", scores, query, gallery)).all("h4")) == 2


def test_parts_of_another_evaluation_are_refused(
    sides: tuple[Embeddings, Embeddings], tmp_path: Path
) -> None:
    query, gallery = sides
    scores = evaluate(query, gallery)
    some = score_queries(query.select(slice(4)), gallery)
    with pytest.raises(MismatchError, match="figures of 4 queries, but 24 were scored"):
        Findings(scores, some)
    with pytest.raises(MismatchError, match="metric of the scores is cosine, that of the pairs eu"):
        Findings(scores, verification=measure_pairs(query, gallery, metric="euclidean"))
    with pytest.raises(MismatchError, match="protocol of the scores is market1501"):
        Findings(scores, verification=measure_pairs(query, gallery, protocol=ANY))
    with pytest.raises(ArgumentError, match="threshold mine is nan"):
        Findings(scores, threshold=("mine", math.nan))
    queries = score_queries(query, gallery)
    strange = dataclasses.replace(queries, queries=queries.queries + 5)
    with pytest.raises(MismatchError, match="name query 28, but there are 24"):
        write(tmp_path / "report.html", Findings(scores, strange), query, gallery)
    assert not any(tmp_path.iterdir())


def test_the_largest_page_stays_near_a_megabyte(tmp_path: Path) -> None:
    query, gallery = make_sides(people=20, cameras=17, size=3)
    source = write(tmp_path / "report.html", find_all(query, gallery), query, gallery)
    assert "1,000 pictures of 20 people" in words(source)
    assert len(source) < 1_200_000
