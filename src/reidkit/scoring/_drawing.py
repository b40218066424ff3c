"""Single-shot protocols: one gallery picture of each person, drawn again in every trial."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import check_memory
from reidkit.errors import MismatchError
from reidkit.records import Samples, Scores
from reidkit.scoring._protocols import Protocol
from reidkit.scoring._sides import Sides


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """One drawing: a random `order` of the gallery, each row's place in it, the rows `drawn`."""

    order: NDArray[np.int64]
    places: NDArray[np.int64]
    drawn: NDArray[np.int64]

    @classmethod
    def draw(cls, random: np.random.Generator, person: NDArray[np.intp]) -> _Trial:
        """Draw the first row of each person, numbered from 0, in a random order of all."""
        order = random.permutation(len(person))
        places = np.argsort(order)
        first = np.full(int(person.max()) + 1, len(order))
        np.minimum.at(first, person, places)
        return cls(order, places, order[first])


def evaluate_drawn(
    sides: Sides,
    query: Samples,
    gallery: Samples,
    *,
    protocol: Protocol,
    max_rank: int,
    memory: int,
) -> Scores:
    """Give the mean figures over the protocol's trials; see `evaluate`.

    The gallery of a trial is the first picture of each person in a random order of all. For a
    query's own person it is the first that the query may meet. With one right answer a query,
    average precision and inverse penalty are 1 / rank. A comparison that looks at the whole
    gallery, as re-ranking does, sees the pictures that were not drawn too.

    Raises:
        MismatchError: no query is left to score.
    """
    check_memory(memory)
    scored = sides.find_scored()
    kept = gallery.select(sides.kept)
    people, person = np.unique(kept.person_ids, return_inverse=True)
    own_person = np.searchsorted(people, query.person_ids[scored])
    asked_path, given_path = _number_paths(query.select(scored), kept)
    random = np.random.default_rng(protocol.seed)
    trials = [_Trial.draw(random, person) for _ in range(protocol.trials)]
    ranks = np.empty((protocol.trials, len(scored)), np.int64)
    blocks = sides.comparison.score_blocks(
        sides.queries, sides.gallery, asked=scored, memory=memory
    )
    for start, block in blocks:
        part = slice(start, start + len(block))
        hits = sides.kin.select(scored[part]).find_hits(slice(None))
        starts = np.searchsorted(hits.queries, np.arange(len(block)))
        for number, trial in enumerate(trials):
            answers = trial.order[np.minimum.reduceat(trial.places[hits.rows], starts)]
            ranks[number, part] = _rank(block, trial.drawn, answers, own_person[part])
            if not protocol.own_picture:
                ranks[number, part][given_path[answers] == asked_path[part]] = 0
    depth = min(max_rank, len(people))
    return _average(sides, ranks, len(people), max_rank=depth, protocol=protocol)


def _rank(
    scores: NDArray[np.float32],
    drawn: NDArray[np.int64],
    answers: NDArray[np.int64],
    own: NDArray[np.intp],
) -> NDArray[np.int64]:
    """Rank the right answers (n,) among the rows drawn of all other people."""
    every = np.arange(len(scores))
    value = scores[every, answers][:, None]
    others = scores[:, drawn]
    others[every, own] = -np.inf
    ahead = (others > value) | ((others == value) & (drawn < answers[:, None]))
    ranks: NDArray[np.int64] = np.count_nonzero(ahead, axis=1).astype(np.int64) + 1
    return ranks


def _average(
    sides: Sides, ranks: NDArray[np.int64], people: int, *, max_rank: int, protocol: Protocol
) -> Scores:
    """Average (T, Q) ranks, 0 where a query was not asked, over queries and then over trials."""
    asked = ranks > 0
    queries = int(np.count_nonzero(asked.any(axis=0)))
    if not queries:
        raise MismatchError(
            f"under the protocol {protocol.name} no query can be asked: the gallery holds no "
            "other picture of any query's person"
        )
    never = ranks.shape[1] - queries
    dropped = dataclasses.replace(sides.dropped, person_absent=sides.dropped.person_absent + never)
    # The mean over the queries asked in a trial, then over trials.
    shares = np.count_nonzero(asked, axis=1)[:, None] * np.count_nonzero(asked.any(axis=1))
    found, weights = ranks[asked], np.broadcast_to(1 / np.maximum(shares, 1), ranks.shape)[asked]
    counts = np.bincount(np.minimum(found, max_rank + 1), weights, max_rank + 2)[1:-1]
    cmc = np.cumsum(counts)
    mean = float((weights / found).sum())
    return Scores(
        mAP=mean,
        mINP=mean,
        cmc=cmc.astype(np.float32),
        queries=queries,
        gallery=people,
        metric=sides.comparison.name,
        dropped=dropped,
        precision=(cmc / np.arange(1, max_rank + 1)).astype(np.float32),
        mAP_trapezoid=_trapezoid(found, weights),
        protocol=protocol.name,
    )


def _trapezoid(ranks: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """Sum the trapezoid form for one right answer: half its precision, 1 at the first place."""
    return float((weights * np.where(ranks == 1, 1.0, 0.5 / ranks)).sum())


def _number_paths(query: Samples, gallery: Samples) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the pictures by path, equal paths alike; (Q,) and (G,)."""
    numbers: dict[str, int] = {}
    asked, given = (
        np.array([numbers.setdefault(path, len(numbers)) for path in paths.tolist()], np.int64)
        for paths in (query.paths, gallery.paths)
    )
    return asked, given
