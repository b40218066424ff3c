"""Scoring as its definitions word it: loops over pairs of pictures, slow and plain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reidkit.comparing import Rows
from reidkit.records import Embeddings, Samples
from reidkit.scoring import Protocol

Table = list[list[float]]
"""A score for each query and gallery row."""


def embeddings(
    vectors: ArrayLike, people: ArrayLike, cameras: ArrayLike, *, name: str = "picture"
) -> Embeddings:
    rows = np.asarray(vectors, np.float32)
    paths = [f"{name}{i}.jpg" for i in range(len(rows))]
    return Embeddings(rows, Samples.from_columns(paths, people, cameras))


@dataclass(frozen=True)
class Problem:
    query: Embeddings
    gallery: Embeddings
    metric: str

    def table(self) -> Table:
        return score_all(self.query.vectors, self.gallery.vectors, self.metric)


def random_problem(seed: int, metric: str, *, queries: int = 9, rows: int = 30) -> Problem:
    """Small sides full of exact ties, zeros among them, whose scores float32 holds exactly.

    Euclidean: small whole numbers. Cosine: corners of a cube in 4 dimensions, whose length is
    2, stretched by powers of two.
    """
    random = np.random.default_rng(seed)
    people, cameras = random.integers(1, 6), random.integers(1, 4)

    def side(name: str, size: int) -> Embeddings:
        if metric == "euclidean":
            vectors = random.integers(-2, 3, (size, 4)).astype(np.float32)
        else:
            vectors = random.integers(0, 2, (size, 4)).astype(np.float32) * 2 - 1
            vectors *= np.exp2(random.integers(-3, 4, size))[:, None]
        vectors[random.random(size) < 0.1] = 0
        person = random.integers(-1 if random.random() < 0.7 else 0, people, size)
        return embeddings(vectors, person, random.integers(0, cameras, size), name=name)

    gallery = side("gallery", int(random.integers(1, rows + 1)))
    query = side("query", int(random.integers(1, queries + 1)))
    if random.random() < 0.3:  # the test pictures on both sides
        query = gallery
    return Problem(query, gallery, metric)


def score_all(queries: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> Table:
    return [[_score(q.tolist(), g.tolist(), metric) for g in gallery] for q in queries]


def _score(a: list[float], b: list[float], metric: str) -> float:
    if metric == "euclidean":
        return -float(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5)
    lengths = [max(sum(x * x for x in v) ** 0.5, 1e-12) for v in (a, b)]
    return float(sum(x * y for x, y in zip(a, b, strict=True)) / lengths[0] / lengths[1])


@dataclass
class GivenScores:
    """A comparison whose (Q, G) scores are given, in blocks of `step` queries."""

    table: NDArray[np.float32]
    step: int = 1000
    name: str = "given"
    asked: list[int] = field(default_factory=list)

    def score_blocks(
        self, queries: Rows, gallery: Rows, *, asked: NDArray[np.intp], memory: int
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        self.asked += asked.tolist()
        for start in range(0, len(asked), self.step):
            wanted = queries.rows[asked[start : start + self.step]]
            yield start, self.table[np.ix_(wanted, gallery.rows)]

    def word_scores(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        return scores


# Whom a query meets.


def meets(protocol: Protocol, query: Samples, i: int, gallery: Samples, j: int) -> bool:
    """Tell whether query i meets gallery row j."""
    same_person = query.person_ids[i] == gallery.person_ids[j]
    same_camera = query.camera_ids[i] == gallery.camera_ids[j]
    if gallery.person_ids[j] == -1:
        return False
    if protocol.removed == "person and camera":
        return not (same_person and same_camera)
    if protocol.removed == "camera":
        return not same_camera
    return True


def find_answers(protocol: Protocol, query: Samples, i: int, gallery: Samples) -> list[int]:
    """List the gallery rows that are right answers to query i; none for a junk query."""
    if query.person_ids[i] == -1:
        return []
    return [
        j
        for j in range(len(gallery))
        if meets(protocol, query, i, gallery, j) and gallery.person_ids[j] == query.person_ids[i]
    ]


def find_reason(protocol: Protocol, query: Samples, i: int, gallery: Samples) -> str:
    """Say why a query cannot be scored; nothing where it can."""
    if query.person_ids[i] == -1:
        return "junk"
    if find_answers(protocol, query, i, gallery):
        return ""
    there = query.person_ids[i] in gallery.person_ids
    return "same_camera_only" if there else "person_absent"


def rank_gallery(table: Table, protocol: Protocol, query: Samples, i: int, g: Samples) -> list[int]:
    """List the gallery rows that query i meets, best first, equal ones by row."""
    met = [j for j in range(len(g)) if meets(protocol, query, i, g, j)]
    return sorted(met, key=lambda j: (-table[i][j], j))


# Figures of one query, as exact fractions, from the ranks of its right answers.


def average_precision(ranks: list[int]) -> Fraction:
    return sum((Fraction(k, rank) for k, rank in enumerate(ranks, 1)), Fraction(0)) / len(ranks)


def trapezoid_precision(ranks: list[int]) -> Fraction:
    """Add up the steps of recall, each by the mean of the precision before and at its hit."""
    total = Fraction(0)
    for k, rank in enumerate(ranks, 1):
        before = Fraction(k - 1, rank - 1) if rank > 1 else Fraction(1)
        total += (before + Fraction(k, rank)) / 2 / len(ranks)
    return total


def reached(k: int, ranks: list[int]) -> Fraction:
    return Fraction(int(ranks[0] <= k))


def share_of_hits(k: int, ranks: list[int]) -> Fraction:
    return Fraction(sum(rank <= k for rank in ranks), k)


def mean(values: list[Fraction]) -> float:
    return float(sum(values, Fraction(0)) / len(values))


@dataclass(frozen=True)
class Figures:
    mAP: float
    mINP: float
    trapezoid: float
    cmc: list[float]
    precision: list[float]
    queries: int
    reasons: dict[str, int]


def summarise(trials: list[dict[int, list[int]]], reasons: list[str], depth: int) -> Figures:
    """Average over the queries that a trial asked, then over the trials that asked any."""

    def average(measure: Callable[[list[int]], Fraction]) -> float:
        found = [[measure(ranks) for ranks in trial.values()] for trial in trials if trial]
        return mean([sum(values, Fraction(0)) / len(values) for values in found])

    places = range(1, depth + 1)
    return Figures(
        mAP=average(average_precision),
        mINP=average(lambda ranks: Fraction(len(ranks), ranks[-1])),
        trapezoid=average(trapezoid_precision),
        cmc=[average(partial(reached, k)) for k in places],
        precision=[average(partial(share_of_hits, k)) for k in places],
        queries=len(set().union(*trials)),
        reasons={name: reasons.count(name) for name in set(reasons) - {""}},
    )


def list_ranks(
    table: Table, protocol: Protocol, query: Samples, gallery: Samples
) -> list[list[int]]:
    """List the ranks of the right answers of every query that has one."""
    ranks = []
    for i in range(len(query)):
        answers = set(find_answers(protocol, query, i, gallery))
        order = rank_gallery(table, protocol, query, i, gallery)
        if answers:
            ranks.append([place for place, j in enumerate(order, 1) if j in answers])
    return ranks


def evaluate_naively(problem: Problem, protocol: Protocol, max_rank: int) -> Figures | None:
    """Give the figures of a protocol without trials; nothing where no query can be scored."""
    query, gallery = problem.query.samples, problem.gallery.samples
    reasons = [find_reason(protocol, query, i, gallery) for i in range(len(query))]
    ranks = list_ranks(problem.table(), protocol, query, gallery)
    kept = int((gallery.person_ids != -1).sum())
    return summarise([dict(enumerate(ranks))], reasons, min(max_rank, kept)) if ranks else None


def draw_naively(problem: Problem, protocol: Protocol, max_rank: int) -> Figures | None:
    """Give the figures of a single-shot protocol; nothing where no query can be asked.

    In each trial the pictures that are not junk are put into a random order. A query meets the
    first picture of each other person in it, and of its own person the first that it may meet.
    """
    query, gallery, table = problem.query.samples, problem.gallery.samples, problem.table()
    kept = [j for j in range(len(gallery)) if gallery.person_ids[j] != -1]
    people = sorted({int(gallery.person_ids[j]) for j in kept})
    random = np.random.default_rng(protocol.seed)
    orders = [[kept[p] for p in random.permutation(len(kept))] for _ in range(protocol.trials)]
    trials: list[dict[int, list[int]]] = [{} for _ in orders]
    reasons = []
    for i in range(len(query)):
        answers = find_answers(protocol, query, i, gallery)
        reason = find_reason(protocol, query, i, gallery)
        asked = False
        for trial, order in zip(trials, orders, strict=True) if answers else []:
            answer = next(j for j in order if j in answers)
            if not protocol.own_picture and gallery.paths[answer] == query.paths[i]:
                continue
            others = [person for person in people if person != query.person_ids[i]]
            first = [next(j for j in order if gallery.person_ids[j] == p) for p in others]
            drawn = [answer, *first]
            drawn.sort(key=lambda j: (-table[i][j], j))
            trial[i] = [drawn.index(answer) + 1]
            asked = True
        reasons.append(reason or ("" if asked else "person_absent"))
    return summarise(trials, reasons, min(max_rank, len(people))) if any(trials) else None
