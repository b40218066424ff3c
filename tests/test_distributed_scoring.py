"""Scores of galleries in parts against the scores of the same galleries in one piece."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit import comparing, store
from reidkit.cli import reidkit_command
from reidkit.comparing import METRICS, Moments, Rows, number_descending
from reidkit.distributed import (
    Cluster,
    CutEmbeddings,
    DataSet,
    Here,
    Tasks,
    evaluate_parts,
    evaluate_reranked,
    is_data_set,
    open_tasks,
    ray_tasks,
)
from reidkit.distributed._counting import count_ahead
from reidkit.distributed._evaluating import cut_gallery
from reidkit.distributed._tasks import RayTasks, check_room
from reidkit.errors import (
    ArgumentError,
    EngineError,
    IntegrityError,
    MismatchError,
    ReidkitError,
    StoreError,
)
from reidkit.records import Embeddings, Samples, Scores
from reidkit.reranking import KReciprocal
from reidkit.scoring import ANY, CROSS_CAMERA, CUHK03_CLASSIC, MARKET1501, Pairs, evaluate
from reidkit.scoring import _ranking as ranking
from tests.naive_scoring import random_problem
from tests.parted import write_data_set
from tests.ray_cluster import ray_cluster as ray_cluster

PROTOCOLS = (MARKET1501, CROSS_CAMERA, ANY)
FEW = Here(2**20, 3)
"""Small spans of the gallery, each for some of the queries."""


def side(seed: int, size: int, *, dimension: int = 16, copies: float = 0.0) -> Embeddings:
    """Corners of a cube near one centre a person, stretched by powers of two; some junk.

    In 16 or 64 dimensions float32 holds all scores exactly: what ties, ties on every machine.
    """
    random = np.random.default_rng(seed)
    person = random.integers(-1, 9, size)
    centres = np.random.default_rng(99).standard_normal((10, dimension))
    vectors = np.sign(centres[person] + 1.5 * random.standard_normal((size, dimension)))
    vectors *= np.exp2(random.integers(-1, 2, size))[:, None]
    again = np.flatnonzero(random.random(size) < copies)
    vectors[again] = vectors[random.integers(0, 12, len(again))]
    samples = Samples.from_columns(
        [f"{seed}-{row}.jpg" for row in range(size)], person, random.integers(0, 3, size)
    )
    return Embeddings(vectors.astype(np.float32), samples, "model", "contract")


@dataclass(frozen=True)
class Uneven:
    """Parts of any sizes, none among them."""

    whole: Embeddings
    rows: tuple[int, ...]

    dimension = property(lambda self: self.whole.vectors.shape[1])
    model_sha256 = property(lambda self: self.whole.model_sha256)
    contract_sha256 = property(lambda self: self.whole.contract_sha256)

    def read(self, part: int) -> Embeddings:
        start = sum(self.rows[:part])
        return self.whole.select(slice(start, start + self.rows[part]))


def assert_same(found: Scores, expected: Scores, tolerance: float = 1e-12) -> None:
    for field in dataclasses.fields(Scores):
        actual, wanted = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "dropped":
            assert dataclasses.astuple(actual) == dataclasses.astuple(wanted)
        elif isinstance(wanted, float):
            assert actual == pytest.approx(wanted, abs=tolerance), field.name
        elif isinstance(wanted, np.ndarray):
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=max(tolerance, 1e-7))
        else:
            assert actual == wanted, field.name


def attempt(function: Any, *arguments: Any, **options: Any) -> Scores | str:
    """Give scores, or what was said instead."""
    try:
        found: Scores = function(*arguments, **options)
    except ReidkitError as error:
        return f"{type(error).__name__}: {error}"
    return found


def assert_as_in_one_piece(
    query: Embeddings, gallery: Embeddings, parts: Any, tasks: Here, **options: Any
) -> None:
    found = attempt(evaluate_parts, query, parts, tasks=tasks, **options)
    expected = attempt(evaluate, query, gallery, **options)
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
    else:
        assert_same(found, expected)


# Scores of the vectors as they are.


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    metric=st.sampled_from(METRICS),
    protocol=st.sampled_from(PROTOCOLS),
    cuts=st.lists(st.integers(0, 30), max_size=8),
    tasks=st.sampled_from([Here(2**20), FEW]),
)
def test_ties_in_any_parts(
    seed: int, metric: str, protocol: Any, cuts: list[int], tasks: Here
) -> None:
    """Exact ties within and between parts of any sizes: no row, one, or all of them."""
    problem = random_problem(seed, metric)
    gallery = problem.gallery
    edges = sorted({0, len(gallery)} | {min(cut, len(gallery)) for cut in cuts})
    sizes = [stop - start for start, stop in itertools.pairwise(edges)]
    sizes += [0] if seed % 2 else []
    parts = Uneven(gallery, tuple(sizes))
    settings_ = {"metric": metric, "protocol": protocol, "max_rank": 7}
    assert_as_in_one_piece(problem.query, gallery, parts, tasks, **settings_)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("tasks", [Here(2**20), FEW], ids=["few spans", "many spans"])
def test_a_gallery_full_of_copies(metric: str, protocol: Any, tasks: Here) -> None:
    query, gallery = side(1, 90, copies=0.2), side(2, 1100, copies=0.6)
    for size in (1, 97, 5000):
        parts = CutEmbeddings.cut(gallery, size)
        if size == 1:  # a row a part takes its time
            parts = CutEmbeddings.cut(gallery.select(slice(0, 150)), 1)
            whole = gallery.select(slice(0, 150))
        else:
            whole = gallery
        assert_as_in_one_piece(query, whole, parts, tasks, metric=metric, protocol=protocol)


@pytest.mark.parametrize("metric", METRICS)
def test_copies_tie_whatever_a_product_came_to(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products that differ in the last bit between parts, as those of two machines may."""
    query, gallery = side(1, 40), side(2, 300)
    real, random = comparing.multiply_blocks, np.random.default_rng(0)
    few = random.standard_normal((12, 16)).astype(np.float32)  # which do not tie by accident
    query = dataclasses.replace(query, vectors=few[random.integers(0, 12, 40)] + few[::-1][:1])
    gallery = dataclasses.replace(gallery, vectors=few[random.integers(0, 12, 300)])
    expected = evaluate(query, gallery, metric=metric)

    def shaken(*arguments: Any, **options: Any) -> Iterator[tuple[int, NDArray[np.float32]]]:
        prepared = arguments[1]
        for start, scores in real(*arguments, **options):
            way = np.where(random.random(scores.shape) < 0.5, -np.inf, np.inf)
            shaken_scores = np.nextafter(scores, way.astype(np.float32))
            shaken_scores[:, prepared.copies] = shaken_scores[:, prepared.originals]
            yield start, shaken_scores

    monkeypatch.setattr("reidkit.distributed._counting.multiply_blocks", shaken)
    for tasks in (Here(2**20), FEW):
        found = evaluate_parts(query, CutEmbeddings.cut(gallery, 31), metric=metric, tasks=tasks)
        assert_same(found, expected)


def test_every_right_answer_by_a_pass_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that is taken where wrong answers stand before right ones."""
    monkeypatch.setattr("reidkit.distributed._counting._FEWEST", 2)
    monkeypatch.setattr("reidkit.distributed._counting._PRODUCT", 1)
    monkeypatch.setattr(ranking, "_HIT_COST", 0)
    monkeypatch.setattr(ranking, "_PASS_COST", 0)
    for seed in range(40):
        problem = random_problem(seed, "euclidean")
        parts = CutEmbeddings.cut(problem.gallery, 1 + seed % 4)
        assert_as_in_one_piece(problem.query, problem.gallery, parts, FEW, metric="euclidean")


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), cheap=st.booleans())
def test_counts_ahead_are_those_of_a_loop(seed: int, cheap: bool) -> None:
    random = np.random.default_rng(seed)
    queries, columns = int(random.integers(1, 5)), int(random.integers(1, 20))
    scores = random.integers(-2, 3, (queries, columns)).astype(np.float32)
    scores[random.random(scores.shape) < 0.1] = -np.inf
    each = random.integers(1, 5, queries)
    lines = np.repeat(np.arange(queries), each)
    values = random.integers(-2, 3, len(lines)).astype(np.float32)
    edges = random.integers(-3, columns + 4, len(lines))
    order = np.lexsort((edges, -values, lines))
    values, edges = values[order], edges[order]
    expected = [
        sum(
            score > value or (score == value and column < edge)
            for column, score in enumerate(scores[line].tolist())
        )
        for line, value, edge in zip(lines.tolist(), values.tolist(), edges.tolist(), strict=True)
    ]
    starts = np.concatenate(([0], np.cumsum(each)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_ENTRY_COST", 0.0 if cheap else 1e9)
        found = count_ahead(scores, values, Pairs(lines, edges), starts)
    assert found.tolist() == expected


def test_scores_are_numbered_from_the_best() -> None:
    scores = np.array([3, 1e-40, 0.0, -0.0, -1e-40, -2, -np.inf, np.inf], np.float32)
    numbers = number_descending(scores)
    assert np.argsort(numbers, kind="stable").tolist() == [7, 0, 1, 2, 3, 4, 5, 6]
    assert numbers[2] == numbers[3]


@pytest.mark.parametrize("seed", range(5))
def test_the_middle_of_parts_is_that_of_all(seed: int) -> None:
    vectors = side(seed, 500).vectors + np.float32(100 * seed)
    parts = [Moments.measure(Rows.all_of(part)) for part in np.split(vectors, [3, 3, 250])]
    middle = sum(parts[1:], start=parts[0]).find_middle()
    np.testing.assert_array_equal(middle, Moments.measure(Rows.all_of(vectors)).find_middle())


@pytest.mark.parametrize("metric", METRICS)
def test_a_data_set_on_disk(tmp_path: Path, metric: str) -> None:
    query, gallery = side(1, 50), side(2, 400, copies=0.3)
    parts = write_data_set(tmp_path / "gallery", gallery, [0, 1, 250, 0, 99, 50])
    assert_as_in_one_piece(query, gallery, parts, Here(), metric=metric)


def test_vectors_mapped_from_disk(tmp_path: Path) -> None:
    query, gallery = side(1, 50), side(2, 400)
    store.write_embeddings(tmp_path / "gallery", gallery)
    mapped = store.read_embeddings(tmp_path / "gallery", mapped=True)
    assert_as_in_one_piece(query, gallery, CutEmbeddings.cut(mapped, 64), Here())


def test_spans_are_whole_parts_and_small() -> None:
    gallery = Uneven(side(1, 4000, dimension=64), (900, 0, 100, 3000))
    spans = cut_gallery(gallery, Here(2**20))  # 512 rows of it are an eighth
    assert [(span.first, span.last, span.row) for span in spans] == [
        (0, 1, 0),
        (1, 3, 900),
        (3, 4, 1000),
    ]
    assert len(cut_gallery(gallery, Here(2**30))) == 1
    assert len(cut_gallery(CutEmbeddings.cut(side(1, 4000), 10), Here(2**30, 5))) == 20


@dataclass(frozen=True)
class Drawn:
    """A gallery that exists only while it is read."""

    rows: tuple[int, ...]
    dimension: int = 64
    model_sha256: str = "model"
    contract_sha256: str = "contract"

    def read(self, part: int) -> Embeddings:
        return side(part, self.rows[part], dimension=self.dimension)


def test_memory_does_not_grow_with_the_gallery() -> None:
    query = side(1000, 4, dimension=64)
    peaks = []
    for parts in (5, 25):  # 2.5 MB more of vectors
        tracemalloc.start()
        evaluate_parts(query, Drawn((500,) * parts), tasks=Here(2**20))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 10**6
    assert peaks[0] < 2**22


# What is refused.


def test_refused_inputs_are_those_of_evaluate() -> None:
    query, gallery = side(1, 20), side(2, 60)
    junk = Samples.from_paths(gallery.samples.paths.tolist())
    other = dataclasses.replace(gallery, model_sha256="other")
    cases: list[tuple[Embeddings, Embeddings, dict[str, Any]]] = [
        (query.select(slice(0, 0)), gallery, {}),
        (query, dataclasses.replace(gallery, samples=junk), {}),
        (query, other, {}),
        (query, gallery, {"max_rank": 0}),
        (query, gallery, {"metric": "manhattan"}),
        (query.select(query.samples.person_ids == -1), gallery, {}),
    ]
    for asked, searched, options in cases:
        for metric in METRICS if "metric" not in options else ["manhattan"]:
            settings_ = options | {"metric": metric}
            said = attempt(evaluate, asked, searched, **settings_)
            assert isinstance(said, str), options
            parts = CutEmbeddings.cut(searched, 7)
            assert attempt(evaluate_parts, asked, parts, **settings_) == said


@pytest.mark.parametrize("function", [evaluate_parts, evaluate_reranked])
def test_single_shot_protocols_and_little_memory_are_refused(function: Any) -> None:
    query, parts = side(1, 20), CutEmbeddings.cut(side(2, 60))
    with pytest.raises(ArgumentError, match="draws 100 galleries"):
        function(query, parts, protocol=CUHK03_CLASSIC)
    with pytest.raises(ArgumentError, match="at least 1048576"):
        function(query, parts, tasks=Here(1000))
    with pytest.raises(ArgumentError, match="max_rank is 0"):
        function(query, parts, max_rank=0)
    empty = CutEmbeddings.cut(side(2, 60).select(slice(0, 0)))
    with pytest.raises(ArgumentError, match="nothing to search in"):
        function(query, empty)


def test_a_changed_part_is_an_error(tmp_path: Path) -> None:
    parts = write_data_set(tmp_path / "gallery", side(2, 60), 20)
    file = tmp_path / "gallery" / "vectors" / parts.parts[1]
    data = file.read_bytes()
    raw = side(2, 60).vectors[20:40].tobytes()
    place = data.index(raw)
    file.write_bytes(data[:place] + bytes(4) + data[place + 4 :])
    with pytest.raises(IntegrityError, match="was changed"):
        evaluate_parts(side(1, 20), parts)
    file.unlink()
    with pytest.raises(StoreError, match="is missing"):
        evaluate_parts(side(1, 20), parts)


# Re-ranking.


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("variant", ["strong-baseline", "fast-reid", "boxmot"])
def test_reranked_scores_are_those_in_one_piece(variant: str, metric: str) -> None:
    query, gallery = side(1, 70, copies=0.2), side(2, 500, copies=0.3)
    comparison = KReciprocal(8, 3, variant=variant, metric=metric)
    for protocol in PROTOCOLS:
        expected = evaluate(query, gallery, metric=comparison, protocol=protocol)
        for tasks in (Here(2**20), Here(2**20, 9)):
            found = evaluate_reranked(
                query,
                CutEmbeddings.cut(gallery, 77),
                metric=comparison,
                protocol=protocol,
                tasks=tasks,
            )
            assert_same(found, expected, 1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), metric=st.sampled_from(METRICS), step=st.integers(1, 20))
def test_neighbours_of_some_rows_each_are_those_of_all(seed: int, metric: str, step: int) -> None:
    problem = random_problem(seed, metric)
    count = 1 + seed % 9
    rows = Rows.all_of(problem.gallery.vectors)
    prepared = comparing.prepare(rows, metric, memory=2**20).with_squares()
    expected = comparing.find_neighbours(prepared, count, memory=2**20)
    parts = [
        comparing.find_neighbours_of(prepared, part, count, memory=2**20)
        for part in comparing.split_range(len(prepared), step)
    ]
    found = comparing.join_neighbours(prepared, parts, count)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.distances, expected.distances)
    np.testing.assert_array_equal(found.farthest, expected.farthest)


def test_refused_rerankings_are_those_of_evaluate() -> None:
    query, gallery = side(1, 20), side(2, 60)
    junk = Samples.from_paths(gallery.samples.paths.tolist())
    for asked, searched in (
        (query.select(slice(0, 0)), gallery),
        (query, dataclasses.replace(gallery, samples=junk)),
        (query, dataclasses.replace(gallery, contract_sha256="other")),
        (query.select(query.samples.person_ids == -1), gallery),
    ):
        said = attempt(evaluate, asked, searched, metric=KReciprocal())
        assert isinstance(said, str)
        assert attempt(evaluate_reranked, asked, CutEmbeddings.cut(searched)) == said
    with pytest.raises(ArgumentError, match="device is 'cuda'"):
        evaluate_reranked(query, CutEmbeddings.cut(gallery), metric=KReciprocal(device="cuda"))


def test_vectors_that_do_not_fit_are_refused_before_they_are_read() -> None:
    query, gallery = side(1, 20), Drawn((10**9,), dimension=16)
    small = RayTasks(None, 2**20, 1, room=10**9)
    with pytest.raises(EngineError, match=r"64.00 GB .* holds 1.00 GB: .*--object-store-memory"):
        evaluate_reranked(query, gallery, tasks=small)
    whole = CutEmbeddings.cut(side(2, 60))
    with pytest.raises(EngineError, match="take up"):
        evaluate_parts(query, whole, tasks=dataclasses.replace(small, room=100))
    check_room(Here(), 10**15)  # nothing is copied in here


# On Ray.


class FakeRay:
    """Ray's functions that tasks use, which keeps count of the tasks in flight."""

    def __init__(self) -> None:
        self.most = self.cancelled = self.flying = 0

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Any:
        assert options["num_cpus"] == 1

        def make(function: Any) -> Any:
            return SimpleNamespace(remote=lambda *given: self.start(function, given))

        return make

    def start(self, function: Any, given: Any) -> Any:
        self.flying += 1
        self.most = max(self.most, self.flying)
        return lambda: function(*given)

    def wait(self, pending: list[Any]) -> tuple[list[Any], list[Any]]:
        self.flying -= 1
        return pending[-1:], pending[:-1]

    def get(self, done: list[Any]) -> list[Any]:
        return [result() for result in done]

    def cancel(self, task: Any) -> None:
        self.cancelled += 1


def test_few_tasks_are_in_flight_and_none_stays_behind() -> None:
    ray = FakeRay()
    tasks = RayTasks(ray, 2**20, 3, 2**30)
    found = list(tasks.run(divide, 60, range(1, 11)))
    assert sorted(found) == sorted(60 // item for item in range(1, 11))
    assert (ray.most, ray.cancelled) == (3, 0)
    with pytest.raises(StoreError, match="by 0"):
        list(tasks.run(divide, 60, [5, 0, 4, 3]))
    assert ray.cancelled > 0
    with pytest.raises(ArgumentError, match="at_once is 0"):
        ray_tasks(ray, at_once=0)


def divide(shared: int, item: int) -> int:
    if not item:
        raise StoreError("by 0")
    assert comparing_runs_alone(), "a task keeps to its own processor"
    return shared // item


def comparing_runs_alone() -> bool:
    threads = set()
    comparing.spread(lambda start, stop: threads.add(threading.get_ident()), 64, step=1)
    return threads == {threading.get_ident()}


@pytest.mark.slow
def test_a_cluster_gives_the_same(ray_cluster: Cluster, tmp_path: Path) -> None:
    with open_tasks(ray_cluster, memory=2**20) as tasks:
        check_a_cluster(tasks, tmp_path)


def check_a_cluster(tasks: Tasks, tmp_path: Path) -> None:
    query, gallery = side(1, 60), side(2, 700, copies=0.3)
    parts = write_data_set(tmp_path / "gallery", gallery, [0, 300, 1, 200, 199])
    store.write_embeddings(tmp_path / "query", query)
    for metric in METRICS:
        assert_same(
            evaluate_parts(query, parts, metric=metric, tasks=tasks),
            evaluate(query, gallery, metric=metric),
        )
    cut = CutEmbeddings.cut(gallery, 100)
    assert_same(evaluate_parts(query, cut, tasks=tasks), evaluate(query, gallery))
    comparison = KReciprocal(8, 3)
    expected = evaluate(query, gallery, metric=comparison)
    assert_same(evaluate_reranked(query, parts, metric=comparison, tasks=tasks), expected, 1e-6)

    options = ("--engine", "ray", "--actors", 2, "--rerank", "--k1", 8, "--k2", 3)
    found = scores_of("evaluate", tmp_path / "query", tmp_path / "gallery", *options)
    assert found["mAP"] == pytest.approx(expected.mAP, abs=1e-6)

    with pytest.raises(EngineError, match="object store"):
        evaluate_reranked(query, Drawn((10**10,), dimension=16), tasks=tasks)
    (tmp_path / "gallery" / "vectors" / parts.parts[1]).unlink()
    with pytest.raises(StoreError, match=r"part-000001.* is missing"):
        evaluate_parts(query, parts, tasks=tasks)


# The command line.


def run(*arguments: object) -> Result:
    return CliRunner().invoke(reidkit_command, [str(argument) for argument in arguments])


def scores_of(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output + str(result.exception)
    return dict(json.loads(result.stdout))


@dataclass(frozen=True)
class Places:
    """The same sides as folders and as data sets."""

    query: Path
    gallery: Path
    asked: DataSet
    given: DataSet


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    root = tmp_path_factory.mktemp("sides")
    query, gallery = side(1, 40), side(2, 300, copies=0.2)
    store.write_embeddings(root / "query", query)
    store.write_embeddings(root / "gallery", gallery)
    return Places(
        root / "query",
        root / "gallery",
        write_data_set(root / "asked", query, 15),
        write_data_set(root / "given", gallery, 64),
    )


def test_data_sets_and_folders_are_told_apart(places: Places, tmp_path: Path) -> None:
    assert is_data_set(places.asked.place.address)
    assert not is_data_set(places.query)
    assert not is_data_set(tmp_path)
    assert is_data_set("s3://bucket/gallery")
    (tmp_path / "plan.json").write_text('{"pieces": 3}')
    assert is_data_set(tmp_path)
    (tmp_path / "plan.json").write_text("[")
    assert not is_data_set(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--metric", "euclidean", "--max-rank", 3),
        ("--pool", "--protocol", "any"),
        ("--rerank", "--k1", 6),
        ("--augment", 2, "--expand", 2),
        ("--protocol", "cuhk03-classic"),
        ("--pairs", "--cameras"),
    ],
)
def test_data_sets_score_as_folders_do(places: Places, options: tuple[object, ...]) -> None:
    expected = scores_of("evaluate", places.query, places.gallery, *options)
    asked, given = places.asked.place.address, places.given.place.address
    for query, gallery in ((asked, given), (places.query, given), (asked, places.gallery)):
        found = scores_of("evaluate", query, gallery, *options)
        assert found.pop("made_by") == expected["made_by"] | {
            "query": str(query),
            "gallery": str(gallery),
        }
        for name, value in found.items():
            if not isinstance(value, dict):
                value = pytest.approx(value)
            assert expected[name] == value, name


def test_a_report_of_data_sets(places: Places, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    given = places.given.place.address
    result = run("evaluate", f"file://{places.asked.place}?token=1", given, "--report", report)
    assert result.exit_code == 0, result.output + str(result.exception)
    assert "2-" in report.read_text()
    assert "token" not in result.output + report.read_text()


def test_options_of_an_engine_are_checked(places: Places) -> None:
    for options, said in (
        (("--address", "auto"), "--address: only together with --engine ray"),
        (("--actors", "2"), "--actors: only together with --engine ray"),
        (("--engine", "ray", "--expand", "2"), "--expand: not together with --engine ray"),
    ):
        result = run("evaluate", places.query, places.gallery, *options)
        assert result.exit_code == 2
        assert said in result.output
    result = run("evaluate", places.query / "samples.csv", places.gallery)
    assert result.exit_code == 2
    assert "is a file" in result.output


def test_an_unfinished_data_set_is_refused(places: Places, tmp_path: Path) -> None:
    data_set = write_data_set(tmp_path / "given", side(2, 30), 10)
    (tmp_path / "given" / "manifest.json").unlink()
    result = run("evaluate", places.query, data_set.place.address)
    assert isinstance(result.exception, StoreError)
    assert "is unfinished" in str(result.exception)


def test_other_models_do_not_mix(places: Places, tmp_path: Path) -> None:
    other = dataclasses.replace(side(2, 30), model_sha256="other")
    data_set = write_data_set(tmp_path / "given", other, 10)
    result = run("evaluate", places.query, data_set.place.address)
    assert isinstance(result.exception, MismatchError)
