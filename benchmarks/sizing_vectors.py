"""Vectors kept in fewer bytes, and what that costs: mAP, Rank-1 and recall against float32.

Eight bits a value are the gallery's own first pass. A product quantiser (Jégou, Douze and Schmid,
"Product Quantization for Nearest Neighbor Search", 2011) cuts vectors into parts of equal length
and keeps for each part the number of the nearest of 256 centroids, which k-means found among the
vectors of a sample. Queries stay in float32; what comes back from a store is compared by cosine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from people import Size, load_people
from people import draw_people as draw_market
from reidkit import demo_model
from reidkit.comparing import Rows, VectorComparison
from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_dataset
from reidkit.embedding import embed
from reidkit.exporting import export_package
from reidkit.gallery import _screening
from reidkit.models import load_model
from reidkit.records import Embeddings, Samples
from reidkit.scoring import ANY, MARKET1501, Protocol, evaluate, match
from reidkit.training import read_recipe
from service_vectors import BEST, People, draw_people, find_truth, measure_recall

PEOPLE, CAMERAS, SEED = 300, 6, 3
"""Other people in other streets than those that the demonstration's network was trained on."""

MARKET = Size(1000, 15913, people=750, cameras=6, distractors=2793)
"""Market-1501's gallery, and some of its queries."""

PARTS = (128, 64, 32, 16)
"""Parts of the product quantisers, and so bytes of their codes."""

CENTROIDS = 256
FIRST = 100
"""Candidates of a product quantiser that are scored again from float16."""

_SAMPLE, _ROUNDS = 16_384, 12
_BLOCK = 8192

Vectors = NDArray[np.float32]
Figures = dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A gallery's vectors as a store gives them back; a `Comparison` in place of the true ones.

    Fields:
        name: the way they are kept.
        vectors: (N, D) float32.
        size: bytes kept of each.
        better: (N, D) float16, by which the best `FIRST` of each query are ordered anew, or `None`.
    """

    name: str
    vectors: Vectors
    size: float
    better: NDArray[np.float16] | None = None

    def score_blocks(
        self, queries: Rows, gallery: Rows, *, asked: NDArray[np.intp], memory: int
    ) -> Iterator[tuple[int, Vectors]]:
        """Give the scores in blocks; see `Comparison`."""
        stored = Rows(self.vectors, gallery.rows)
        blocks = VectorComparison().score_blocks(queries, stored, asked=asked, memory=memory)
        for start, scores in blocks:
            if self.better is not None:
                some = queries.select(asked[start : start + len(scores)])
                self._order_anew(some.read(0, len(some)), gallery.rows, scores)
            yield start, scores

    def word_scores(self, scores: Vectors) -> Vectors:
        """Give the scores as they are."""
        return scores

    def _order_anew(self, queries: Vectors, rows: NDArray[np.intp], scores: Vectors) -> None:
        """Put the best of each query (Q, D) in front of all others, by their float16 vectors."""
        if self.better is None:
            return
        for query, line in zip(queries, scores, strict=True):
            first = np.argpartition(line, -FIRST)[-FIRST:]
            near = self.better[rows[first]].astype(np.float32)
            lengths = np.linalg.norm(near, axis=1) * np.linalg.norm(query)
            # A cosine is -1 at least: 2 less, and nothing comes before the first.
            line -= 2
            line[first] = near @ query / lengths


@dataclass(frozen=True, slots=True, eq=False)
class Quantiser:
    """A product quantiser of M parts: centroids (M, 256, D / M) float32."""

    centroids: Vectors

    def encode(self, vectors: Vectors) -> NDArray[np.uint8]:
        """Give the number of the nearest centroid for each part of vectors (N, D): (N, M)."""
        codes = np.empty((len(vectors), len(self.centroids)), np.uint8)
        width = self.centroids.shape[2]
        for part, centroids in enumerate(self.centroids):
            codes[:, part] = _find_nearest(vectors[:, part * width : (part + 1) * width], centroids)
        return codes

    def decode(self, codes: NDArray[np.uint8]) -> Vectors:
        """Give the vectors (N, D) that codes (N, M) stand for."""
        parts, _, width = self.centroids.shape
        vectors = np.empty((len(codes), parts * width), np.float32)
        for part, centroids in enumerate(self.centroids):
            vectors[:, part * width : (part + 1) * width] = centroids[codes[:, part]]
        return vectors


def train_quantiser(sample: Vectors, parts: int) -> Quantiser:
    """Find the centroids of each part by k-means among at most 16,384 vectors (N, D) of a sample.

    Raises:
        ValueError: D is no multiple of `parts`, or there are fewer than 256 vectors.
    """
    count, dimension = sample.shape
    if dimension % parts or count < CENTROIDS:
        raise ValueError(f"{count} vectors of {dimension} cannot train centroids of {parts} parts")
    random = np.random.default_rng(parts)
    chosen = sample[random.permutation(count)[:_SAMPLE]]
    cut = np.split(chosen, parts, axis=1)
    return Quantiser(np.stack([_cluster(np.ascontiguousarray(each), random) for each in cut]))


def keep_all(vectors: Vectors, sample: Vectors) -> Iterator[Kept]:
    """Give vectors (N, D) as each way of keeping them does; a sample (S, D) trains quantisers."""
    halves = vectors.astype(np.float16)
    codes = _screening.encode(vectors)
    yield Kept("float32", vectors, _size(vectors))
    yield Kept("float16", halves.astype(np.float32), _size(halves))
    decoded = codes.values * codes.scales[:, None]
    yield Kept("int8", decoded, _size(codes.values) + _size(codes.scales))
    del decoded
    for parts in PARTS:
        quantiser = train_quantiser(sample, parts)
        numbers = quantiser.encode(vectors)
        decoded, size = quantiser.decode(numbers), _size(numbers)
        yield Kept(f"PQ {parts}", decoded, size)
        yield Kept(f"PQ {parts}, then float16", decoded, size + _size(halves), halves)


def measure_ways(
    query: Embeddings, gallery: Embeddings, sample: Vectors, protocol: Protocol
) -> dict[str, Figures]:
    """Score every way of keeping a gallery's vectors: way -> mAP, Rank-1, recall and bytes."""
    people = People(
        gallery.vectors,
        gallery.samples.person_ids,
        gallery.samples.camera_ids,
        query.vectors,
        query.samples.person_ids,
    )
    tenth = find_truth(people, len(query), None)
    everyone = np.ones(len(gallery), np.bool_)
    found: dict[str, Figures] = {}
    for kept in keep_all(gallery.vectors, sample):
        scores = evaluate(query, gallery, metric=kept, protocol=protocol)
        rows = match(query, gallery, metric=kept, protocol=ANY, count=BEST).rows
        found[kept.name] = {
            "bytes": kept.size,
            "mAP": scores.mAP,
            "rank1": scores.rank(1),
            "recall_at_10": measure_recall(people, rows, tenth, everyone),
        }
        print(f"  {kept.name}: {found[kept.name]}", flush=True)
    return found


def measure_drawn() -> dict[str, object]:
    """Measure on drawn people that the demonstration's network never saw; others train codes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_dataset(folder / "data", people=PEOPLE, cameras=CAMERAS, seed=SEED)
        dataset = load_dataset("market1501", folder / "data")
        contract = read_recipe(demo_model.RECIPE).contract
        package = export_package(demo_model.CHECKPOINT, folder / "package", contract=contract)
        with load_model(package) as model:
            sides = (dataset.query, dataset.scored_gallery, dataset.train)
            query, gallery, others = (embed(model, side) for side in sides)
    return {
        "drawn": {"people": PEOPLE, "cameras": CAMERAS, "seed": SEED},
        "queries": len(query),
        "gallery": len(gallery),
        "dimension": gallery.vectors.shape[1],
        "sample": min(len(others), _SAMPLE),
        "ways": measure_ways(query, gallery, others.vectors, MARKET1501),
    }


def measure_made(count: int, *, queries: int, dimension: int) -> dict[str, object]:
    """Measure on made vectors, 20 of each person, whose noise has no structure to compress."""
    people = draw_people(count, queries=queries, dimension=dimension)
    gallery = _as_embeddings(people.vectors, people.people)
    query = _as_embeddings(people.queries, people.wanted)
    return {
        "queries": queries,
        "gallery": count,
        "dimension": dimension,
        "sample": min(count, _SAMPLE),
        "ways": measure_ways(query, gallery, people.vectors, ANY),
    }


def measure_market() -> dict[str, object]:
    """Measure on made vectors of 2,048 that are as hard as Market-1501's; see `people.py`."""
    with tempfile.TemporaryDirectory() as name:
        draw_market(Path(name) / "made", MARKET)
        made = load_people(Path(name) / "made", MARKET)
    vectors = made.vectors / np.linalg.norm(made.vectors, axis=1, keepdims=True)
    query, gallery = np.split(vectors, [MARKET.queries])
    sides = (
        Embeddings(query, made.query.samples),
        Embeddings(gallery, made.gallery.samples),
    )
    return {
        "queries": len(query),
        "gallery": len(gallery),
        "dimension": MARKET.dimension,
        "sample": len(gallery),
        "ways": measure_ways(*sides, gallery, MARKET1501),
    }


def _as_embeddings(vectors: Vectors, people: NDArray[np.int64]) -> Embeddings:
    names = [str(row) for row in range(len(vectors))]
    return Embeddings(vectors, Samples.from_columns(names, people + 1, np.zeros_like(people)))


def _cluster(vectors: Vectors, random: np.random.Generator) -> Vectors:
    """Find 256 centroids (256, d) of vectors (N, d) by Lloyd's k-means.

    A centroid that loses all its vectors moves to one drawn at random.
    """
    centroids = vectors[random.permutation(len(vectors))[:CENTROIDS]].copy()
    for _ in range(_ROUNDS):
        nearest = _find_nearest(vectors, centroids)
        counts = np.bincount(nearest, minlength=CENTROIDS)
        order = np.argsort(nearest, kind="stable")
        full = np.flatnonzero(counts)
        starts = np.cumsum(counts) - counts
        sums = np.add.reduceat(vectors[order], starts[full], axis=0)
        centroids[full] = sums / counts[full, None]
        empty = np.flatnonzero(counts == 0)
        centroids[empty] = vectors[random.integers(0, len(vectors), len(empty))]
    return centroids


def _find_nearest(vectors: Vectors, centroids: Vectors) -> NDArray[np.uint8]:
    """Give the number of the nearest centroid (256, d) for each vector (N, d)."""
    halves = np.einsum("ij,ij->i", centroids, centroids) / 2
    nearest = np.empty(len(vectors), np.uint8)
    for start in range(0, len(vectors), _BLOCK):
        scores = vectors[start : start + _BLOCK] @ centroids.T
        scores -= halves
        nearest[start : start + _BLOCK] = scores.argmax(axis=1)
    return nearest


def _size(values: NDArray[np.generic]) -> float:
    return values.nbytes / len(values)
