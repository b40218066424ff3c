"""Exact search: a first pass with known bounds, then every row that may be among the best.

Each way of the first pass gives products and says by how much each may be wrong. The `count`-th
best lower bound is a score that the answer reaches; rows whose upper bound reaches it are scored
again from float32 in float64, all by one formula, so that equal vectors get equal scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery import _screening
from reidkit.gallery._screening import Codes
from reidkit.gallery._values import Found

_FEW = 16
"""Fewer queries are multiplied in eight bits; more in float32, whose products then cost less."""

_GATHERED_FEW = 1 / 16
_GATHERED_MANY = 1 / 2
"""Where the filter leaves less than this share of the rows, only those are multiplied."""

_SCORES = 2**20
"""Scores looked through at once."""

_QUERIES = 128
_RESCORED = 2**20
"""Values of float32 vectors looked at once more at a time."""

Read = Callable[[NDArray[np.intp]], NDArray[np.float32] | None]
"""Gives the vectors (n, D) of ascending rows; `None` where one is there no more."""


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """What is searched: N rows, ascending by id.

    Fields:
        ids: (N,) int64.
        codes: the vectors in eight bits.
        vectors: (N, D) float32, `None` where they are not held in memory.
        longest: at least the length of any vector.
        read: gives vectors by row.
    """

    ids: NDArray[np.int64]
    codes: Codes
    vectors: NDArray[np.float32] | None
    longest: float
    read: Read


def find_best(
    searched: Searched, queries: NDArray[np.float32], count: int, mask: NDArray[np.bool_] | None
) -> Found | None:
    """Find the `count` best rows of those in the mask (N,) for each query (Q, D), exactly.

    Equal scores go by id. `None` where a row that is needed was erased meanwhile.
    """
    ids = np.full((len(queries), count), -1, np.int64)
    scores = np.full((len(queries), count), -np.inf, np.float32)
    if count == 0:
        return Found(ids, scores)
    for start in range(0, len(queries), _QUERIES):
        part = queries[start : start + _QUERIES]
        chosen = _choose_rows(searched, part, count, mask)
        exact = _rescore(searched, part, chosen)
        if exact is None:
            return None
        for place, (rows, values) in enumerate(zip(chosen, exact, strict=True), start):
            order = np.lexsort((rows, -values))[:count]
            ids[place, : len(order)] = searched.ids[rows[order]]
            scores[place, : len(order)] = values[order]
    return Found(ids, scores)


def find_people(
    searched: Searched,
    query: NDArray[np.float32],
    count: int,
    mask: NDArray[np.bool_] | None,
    *,
    people: NDArray[np.int32],
) -> list[int] | None:
    """Find the `count` people whose best row of those in the mask (N,) scores best, exactly.

    `people` (N,) numbers whose each row is; gives their numbers, the best first, equal scores by
    id. `None` where a row that is needed was erased meanwhile.
    """
    if count == 0:
        return []
    rows = _choose_of_people(searched, query[None], count, mask, people)
    exact = _rescore(searched, query[None], [rows])
    if exact is None:
        return None
    order = np.lexsort((rows, -exact[0]))
    _, first = np.unique(people[rows[order]], return_index=True)
    best: list[int] = people[rows[order[np.sort(first)[:count]]]].tolist()
    return best


def _choose_of_people(
    searched: Searched,
    query: NDArray[np.float32],
    count: int,
    mask: NDArray[np.bool_] | None,
    people: NDArray[np.int32],
) -> NDArray[np.intp]:
    """List, ascending, every row that may be the best of one of the best people."""
    chosen = None
    if mask is not None and np.count_nonzero(mask) < _GATHERED_FEW * len(mask):
        chosen, mask = np.flatnonzero(mask), None
    parts = [(np.zeros(0, np.intp), np.zeros(0, np.float32), np.zeros(0, np.float32))]
    for block, products, errors in _screen(searched, query, chosen):
        kept = slice(None) if mask is None else mask[block]
        values, allowed = products[0, kept], errors[0, kept]
        parts.append((block[kept], values - allowed, values + allowed))
    rows, lowers, uppers = (np.concatenate(column) for column in zip(*parts, strict=True))
    owners = people[rows]
    # What each person's best row is known to reach, and what `count` people reach.
    reached = np.full(int(owners.max(initial=-1)) + 1, -np.inf, np.float32)
    np.maximum.at(reached, owners, lowers)
    least = np.partition(reached, -count)[-count] if len(reached) >= count else -np.inf
    wanted: NDArray[np.intp] = rows[uppers >= np.maximum(reached[owners], least)]
    return wanted


def _choose_rows(
    searched: Searched, queries: NDArray[np.float32], count: int, mask: NDArray[np.bool_] | None
) -> list[NDArray[np.intp]]:
    """List for each query, ascending, every row that may be among its best."""
    rows: NDArray[np.intp] | None = None
    if mask is not None:
        left = int(np.count_nonzero(mask))
        if left <= count:
            return [np.flatnonzero(mask)] * len(queries)
        gathered = _GATHERED_FEW if len(queries) < _FEW else _GATHERED_MANY
        if left < gathered * len(mask):
            rows, mask = np.flatnonzero(mask), None
    leaders = [_Leaders(count) for _ in queries]
    for block, products, errors in _screen(searched, queries, rows):
        if mask is not None:
            np.copyto(products, -np.inf, where=~mask[block])
        worst = errors.max(axis=1)
        for place, leader in enumerate(leaders):
            leader.offer(block, products[place], errors[place], float(worst[place]))
    return [leader.finish() for leader in leaders]


def _screen(
    searched: Searched, queries: NDArray[np.float32], rows: NDArray[np.intp] | None
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]]:
    """Give blocks of rows (n,) with their products (Q, n) and what those may be wrong by."""
    total = len(searched.ids) if rows is None else len(rows)
    lengths = np.sqrt(np.vecdot(queries, queries, dtype=np.float64)).astype(np.float32)[:, None]
    # A sum of D products in float32 is wrong by no more, in whichever order it is made.
    rounding = lengths * np.float32((queries.shape[1] + 32) * 2.0**-24 * searched.longest)
    coded = _screening.encode(queries) if len(queries) < _FEW else None
    step = max(1, _SCORES // len(queries))
    for start in range(0, total, step):
        block = (
            np.arange(start, min(start + step, total))
            if rows is None
            else rows[start : start + step]
        )
        taken = slice(start, start + len(block)) if rows is None else block
        if coded is not None:
            part = searched.codes.select(taken)
            errors = rounding + lengths * part.errors
            errors += coded.errors[:, None] * np.float32(searched.longest)
            yield block, _screening.multiply_codes(coded, part), errors
        elif searched.vectors is not None:
            products = queries @ searched.vectors[taken].T
            yield block, products, np.broadcast_to(rounding, products.shape)
        else:
            part = searched.codes.select(taken)
            errors = rounding + lengths * part.errors
            yield block, _screening.multiply_decoded(queries, part), errors


class _Leaders:
    """The rows that may yet be among the best of one query, as blocks of rows come by."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.reached = -np.inf
        """A score that at least `count` rows are known to reach."""
        self._parts: list[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]] = []
        self._waiting = 0

    def offer(
        self,
        rows: NDArray[np.intp],
        products: NDArray[np.float32],
        errors: NDArray[np.float32],
        worst: float,
    ) -> None:
        """Take in rows (n,) with their products, their errors and the largest error."""
        if self.reached == -np.inf:
            self.reached = _bound_best(products, self.count) - worst
        places = self._find(products, worst)
        if len(places) > 4 * self.count + 64:
            self.reached = max(self.reached, _bound_best(products, self.count) - worst)
            places = self._find(products, worst)
        if len(places):
            chosen, allowed = products[places], errors[places]
            self._parts.append((rows[places], chosen - allowed, chosen + allowed))
            self._waiting += len(places)
        if self._waiting > max(4096, 16 * self.count):
            self._settle()

    def finish(self) -> NDArray[np.intp]:
        """Give the rows that are left, ascending."""
        self._settle()
        return self._parts[0][0] if self._parts else np.zeros(0, np.intp)

    def _find(self, products: NDArray[np.float32], worst: float) -> NDArray[np.intp]:
        # What the mask left out is at minus infinity, and is never meant.
        least = max(self.reached - worst, float(np.finfo(np.float32).min))
        return np.flatnonzero(products >= np.float32(least))

    def _settle(self) -> None:
        if not self._parts:
            return
        rows, lowers, uppers = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        if len(rows) >= self.count:
            place = len(rows) - self.count
            self.reached = max(self.reached, float(np.partition(lowers, place)[place]))
        kept = uppers >= np.float32(self.reached)
        self._parts = [(rows[kept], lowers[kept], uppers[kept])]
        self._waiting = 0


def _bound_best(products: NDArray[np.float32], count: int) -> float:
    """Give a bound that at least `count` of the products (n,) reach, cheaply and nearly the best.

    Of the maxima of four times as many groups it is the `count`-th; minus infinity for few rows.
    """
    width = len(products) // (4 * count)
    if width == 0:
        return -np.inf
    maxima = products[: 4 * count * width].reshape(4 * count, width).max(axis=1)
    return float(np.partition(maxima, 3 * count)[3 * count])


def _rescore(
    searched: Searched, queries: NDArray[np.float32], chosen: Sequence[NDArray[np.intp]]
) -> list[NDArray[np.float32]] | None:
    """Give the float32 cosines of the rows chosen for each query, computed in float64.

    `None` where a row was erased meanwhile.
    """
    exact = [np.empty(len(rows), np.float32) for rows in chosen]
    # Several queries want the same rows, which are read once.
    wanted = chosen[0] if len(chosen) == 1 else np.unique(np.concatenate(chosen))
    doubles = queries.astype(np.float64)
    step = max(1, _RESCORED // queries.shape[1])
    for start in range(0, len(wanted), step):
        rows = wanted[start : start + step]
        vectors = searched.read(rows)
        if vectors is None:
            return None
        wide = vectors.astype(np.float64)
        for query, own, scores in zip(doubles, chosen, exact, strict=True):
            first, last = np.searchsorted(own, [rows[0], rows[-1] + 1])
            if first < last:
                taken = wide[np.searchsorted(rows, own[first:last])]
                scores[first:last] = np.vecdot(taken, query)
    return exact
