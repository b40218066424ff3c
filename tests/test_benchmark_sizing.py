"""The sizing benchmark: its formulas, its quantisers, and that its model is that of the records."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reidkit.records import Embeddings, Samples
from reidkit.scoring import ANY, match

FOLDER = Path(__file__).parent.parent / "benchmarks"
RECORDS = FOLDER / "records"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give what imports a file of the benchmarks, as their scripts do."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in [name for name in sys.modules if name.startswith(("sizing", "service_"))]:
        del sys.modules[name]


def make_costs(sizing: Any, *, screened: Any, search: Any) -> Any:
    flat = sizing.Line(0.0, 2.0**20)
    return sizing.Costs({"slow": 10.0}, {"float32": 2048.0}, flat, screened, flat, search)


def embed_at_random(count: int) -> Embeddings:
    """Embed in values that float16 holds exactly."""
    vectors = np.random.default_rng(count).standard_normal((count, 16)).astype(np.float16)
    names = [str(row) for row in range(count)]
    return Embeddings(
        vectors.astype(np.float32), Samples.from_columns(names, [1] * count, [0] * count)
    )


def test_a_line_goes_through_both_points_and_back(benchmarks: Any) -> None:
    line = benchmarks("sizing").Line.through((100, 30.0), (300, 70.0))
    assert line.at(0) == pytest.approx(10)
    assert line.at(1000) == pytest.approx(210)
    assert line.reach(50.1) == 200
    assert line.reach(9) == 0


@pytest.mark.parametrize(
    ("vectors", "milliseconds", "nodes"),
    [
        (10**6, 105, 1),  # a million each by time
        (10**6 + 1, 105, 2),
        (16 * 10**6, 10**6, 1),  # sixteen million each by memory
        (16 * 10**6 + 1, 10**6, 2),
    ],
)
def test_nodes_are_enough_for_time_and_memory(
    benchmarks: Any, vectors: int, milliseconds: int, nodes: int
) -> None:
    sizing = benchmarks("sizing")
    costs = make_costs(sizing, screened=sizing.Line(0, 2**30 / 10**6), search=sizing.Line(5, 1e-4))
    assert sizing.count_nodes(vectors, milliseconds, costs) == nodes


def test_a_time_that_no_search_keeps_is_refused(benchmarks: Any) -> None:
    sizing = benchmarks("sizing")
    costs = make_costs(sizing, screened=sizing.Line(0, 600), search=sizing.Line(5, 1e-4))
    with pytest.raises(ValueError, match="no search takes 4 ms: the least is 5"):
        sizing.count_nodes(10, 4, costs)


def test_an_estimate_is_plain_arithmetic(benchmarks: Any) -> None:
    sizing = benchmarks("sizing")
    costs = make_costs(sizing, screened=sizing.Line(2**30, 512), search=sizing.Line(0, 1e-6))
    found = sizing.estimate(2**20, costs)
    assert found["core_hours"]["slow"] == pytest.approx(2**20 / 36000)
    assert found["vectors_gib"]["float32"] == 2
    assert found["index_gib"] == {"held": 1024, "screened": 1.5, "hnsw": 1024}


def test_a_quantiser_keeps_the_nearest_centroid_of_each_part(benchmarks: Any) -> None:
    vectors = np.random.default_rng(0).standard_normal((600, 8), np.float32)
    quantiser = benchmarks("sizing_vectors").train_quantiser(vectors, 2)
    codes = quantiser.encode(vectors)
    assert codes.shape == (600, 2)
    for part in range(2):
        cut = vectors[:, 4 * part : 4 * part + 4]
        distances = ((cut[:, None] - quantiser.centroids[part]) ** 2).sum(axis=2)
        np.testing.assert_array_equal(codes[:, part], distances.argmin(axis=1))
    away = ((quantiser.decode(codes) - vectors) ** 2).mean()
    assert away < 0.05  # of a variance of 1; 0.07 with centroids drawn at random


def test_a_quantiser_refuses_what_cannot_train_it(benchmarks: Any) -> None:
    train = benchmarks("sizing_vectors").train_quantiser
    with pytest.raises(ValueError, match="255 vectors of 8 cannot train"):
        train(np.zeros((255, 8), np.float32), 2)
    with pytest.raises(ValueError, match="256 vectors of 8 cannot train centroids of 3 parts"):
        train(np.zeros((256, 8), np.float32), 3)


def test_the_first_of_a_coarse_order_are_ordered_anew(benchmarks: Any) -> None:
    vectors = benchmarks("sizing_vectors")
    query, gallery, coarse = embed_at_random(3), embed_at_random(150), embed_at_random(151)
    ways = {
        name: vectors.Kept(name, coarse.vectors[:150], 0, better)
        for name, better in (("coarse", None), ("anew", gallery.vectors.astype(np.float16)))
    }
    rows = {
        name: match(query, gallery, metric=way, count=150, protocol=ANY).rows
        for name, way in ways.items()
    }
    true = match(query, gallery, count=150, protocol=ANY).rows
    first = vectors.FIRST
    for coarsely, anew, truly in zip(rows["coarse"], rows["anew"], true, strict=True):
        kept = np.isin(truly, coarsely[:first])
        np.testing.assert_array_equal(anew[:first], truly[kept])
        np.testing.assert_array_equal(anew[first:], coarsely[first:])


def test_every_way_says_what_it_keeps(benchmarks: Any) -> None:
    sample = np.random.default_rng(0).standard_normal((300, 128), np.float32)
    ways = list(benchmarks("sizing_vectors").keep_all(sample[:10], sample))
    assert {way.name: way.size for way in ways[:5]} == {
        "float32": 512,
        "float16": 256,
        "int8": 132,
        "PQ 128": 128,
        "PQ 128, then float16": 384,
    }
    np.testing.assert_allclose(ways[2].vectors, sample[:10], atol=0.02)


def test_rates_name_their_records_and_a_gpu_has_none_unmeasured(benchmarks: Any) -> None:
    sources = read_sources(benchmarks("sizing"))
    sources.pop("gpu", None)
    rates = benchmarks("sizing_rates").list_rates(sources)
    (ours,) = (r for r in rates if r.record.endswith("pipeline.json") and "50" in r.network)
    result = sources["pipeline"]["results"]["resnet50 256x128"]["ways"]["embed"]
    assert ours.pictures_per_second == result["pictures_per_second"]
    assert ours.per_core()["per_core_day"] == pytest.approx(ours.pictures_per_second * 43200)
    assert not [rate for rate in rates if rate.record.endswith("gpu.json")]


def test_the_recorded_model_is_that_of_the_records(benchmarks: Any) -> None:
    # After a new record of what it stands on: python benchmarks/sizing.py --parts ''
    sizing = benchmarks("sizing")
    record = json.loads(sizing.RECORD.read_text(encoding="utf-8"))
    model = sizing.make_model(record["parts"], read_sources(sizing))
    assert json.loads(json.dumps(model)) == record["model"]


def read_sources(sizing: Any) -> dict[str, Any]:
    paths = {name: RECORDS / f"{name}.json" for name in sizing.SOURCES}
    return {n: json.loads(p.read_text(encoding="utf-8")) for n, p in paths.items() if p.exists()}
