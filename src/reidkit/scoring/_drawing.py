"""Single-shot protocols: one gallery picture of each person, drawn again in every trial."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import check_memory
from reidkit.errors import MismatchError
from reidkit.records import Samples, Scores
from reidkit.scoring._protocols import Protocol
from reidkit.scoring._sides import Sides


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
    average precision and inverse penalty are 1 / rank.

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
    orders = [random.permutation(len(kept)) for _ in range(protocol.trials)]
    ranks = np.empty((protocol.trials, len(scored)), np.int64)
    blocks = sides.comparison.score_blocks(
        sides.queries, sides.gallery, asked=scored, memory=memory
    )
    for start, block in blocks:
        part = slice(start, start + len(block))
        hits = sides.kin.select(scored[part]).find_hits(slice(None))
        starts = np.searchsorted(hits.queries, np.arange(len(block)))
        for trial, order in enumerate(orders):
            places = np.argsort(order)
            drawn = np.full(len(people), len(order))
            np.minimum.at(drawn, person, places)
            answers = order[np.minimum.reduceat(places[hits.rows], starts)]
            ranks[trial, part] = _rank(block, order[drawn], answers, own_person[part])
            if not protocol.own_picture:
                ranks[trial, part][given_path[answers] == asked_path[part]] = 0
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
    """Average (T, Q) ranks, 0 where a query was not asked, over trials and then over queries."""
    trials = np.count_nonzero(ranks, axis=0)
    asked = trials > 0
    if not asked.any():
        raise MismatchError(
            f"under the protocol {protocol.name} no query can be asked: the gallery holds no "
            "other picture of any query's person"
        )
    never = int(np.count_nonzero(~asked))
    dropped = dataclasses.replace(sides.dropped, person_absent=sides.dropped.person_absent + never)
    ranks, weights = ranks[:, asked], np.broadcast_to(1 / trials[asked], ranks[:, asked].shape)
    found, weights = ranks[ranks > 0], weights[ranks > 0]
    queries = ranks.shape[1]
    counts = np.bincount(np.minimum(found, max_rank + 1), weights, max_rank + 2)[1:-1]
    cmc = np.cumsum(counts) / queries
    mean = float((weights / found).sum() / queries)
    return Scores(
        mAP=mean,
        mINP=mean,
        cmc=cmc.astype(np.float32),
        queries=queries,
        gallery=people,
        metric=sides.comparison.name,
        dropped=dropped,
        precision=(cmc / np.arange(1, max_rank + 1)).astype(np.float32),
        mAP_trapezoid=_trapezoid(found, weights) / queries,
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
