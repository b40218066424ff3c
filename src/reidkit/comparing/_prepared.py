"""Vectors made ready for matrix products: unit length, or moved to where float32 is finest."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing._rows import Joined, Rows, measure_squares, split_range, spread
from reidkit.errors import ArgumentError

SHORTEST_LENGTH = 1e-12
"""Cosine divides a shorter vector by this, so that a vector of zeros stays one (as torch does)."""

LONGEST_LENGTH = 1e18
"""Squares of longer vectors overflow float32."""

_UNIT = 1e-5
"""Squared lengths this near to 1 are those of unit vectors."""

_STEP = 256
"""Rows that a thread makes ready at once: they stay in its cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A side made ready: `query @ row`, less both half squares, is a score.

    Columns:
        source: the M rows as they came.
        held: (M, D) float32 the rows made ready, `None` where they do not fit into memory and
            are made ready each time they are read.
        middle: (D,) float32 what is subtracted from both sides (`euclidean`), or `None`.
        half_squares: (M,) float32 half the squared lengths (`euclidean`), or `None`.
        copies, originals: (C,) the rows that repeat the vectors of earlier rows, and those.
    """

    source: Rows | Joined
    held: NDArray[np.float32] | None
    middle: NDArray[np.float32] | None
    half_squares: NDArray[np.float32] | None
    copies: NDArray[np.intp]
    originals: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def dimension(self) -> int:
        """The length D of each vector."""
        return self.source.dimension

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Give the rows `start` to `stop`, made ready; (n, D). They must not be changed."""
        if self.held is not None:
            return self.held[start:stop]
        return self.source.read(start, stop, _find_change(self.middle))

    def read_queries(self, queries: Rows, start: int, stop: int) -> NDArray[np.float32]:
        """Give the rows `start` to `stop` of queries, made ready to meet these rows; (n, D)."""
        rows = queries.read(start, stop, _find_change(self.middle))
        if self.middle is not None:
            _check_longest(measure_squares(rows))
        return rows

    def with_squares(self) -> Prepared:
        """Add half the squared lengths, unless all lengths are 1: then distances need none."""
        if self.half_squares is not None:
            return self
        squares = np.empty(len(self))

        def work(start: int, stop: int) -> None:
            squares[start:stop] = measure_squares(self.read(start, stop))

        spread(work, len(self), step=_STEP)
        if np.all(np.abs(squares - 1) < _UNIT):
            return self
        return dataclasses.replace(self, half_squares=(squares / 2).astype(np.float32))

    def turn_to_squares(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn scores, made with these half squares or of unit vectors, to squared distances.

        Overwrites and gives them.
        """
        scores *= -2
        if self.half_squares is None:
            scores += 2
        return np.maximum(scores, 0, out=scores)

    def measure_squares(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Give the squared distances of pairs (P,) of these rows; `rows` ascend."""
        squares = np.empty(len(rows), np.float32)
        edges = np.append(np.flatnonzero(np.diff(rows, prepend=-1)), len(rows))
        for start, stop in itertools.pairwise(edges.tolist()):
            between = self.take(columns[start:stop])
            between -= self.take(rows[start : start + 1])
            np.einsum("ij,ij->i", between, between, out=squares[start:stop])
        return squares

    def number_groups(self) -> NDArray[np.int64]:
        """Number the rows, those of equal vectors alike; (M,)."""
        groups = np.arange(len(self))
        groups[self.copies] = self.originals
        return groups

    def select_last(self, count: int) -> Prepared:
        """Take the last rows of two sides that were joined: the second side."""
        start = len(self) - count
        groups = self.number_groups()[start:]
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        originals = first[inverse]
        copies = np.flatnonzero(originals != np.arange(count))
        return Prepared(
            self.source.select(np.arange(start, len(self))),
            None if self.held is None else self.held[start:],
            self.middle,
            None if self.half_squares is None else self.half_squares[start:],
            copies,
            originals[copies],
        )

    def without_source(self) -> Prepared:
        """Forget the rows as they came, where those made ready are held: only these are sent."""
        if self.held is None:
            return self
        return dataclasses.replace(self, source=Rows.all_of(self.held))

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Copy some rows, made ready, in any order; (n, D)."""
        if self.held is not None:
            return self.held[rows]
        order = np.argsort(rows)
        taken = np.empty((len(rows), self.dimension), np.float32)
        taken[order] = self.source.select(rows[order]).read(0, len(rows))
        _find_change(self.middle)(taken)
        return taken


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums over N vectors, of which `euclidean` makes its middle; those of parts add up.

    Fields:
        count: N.
        total: (D,) float64, the vectors' sum.
        squares: the sum of their squared lengths.
    """

    count: int
    total: NDArray[np.float64]
    squares: float

    @classmethod
    def measure(cls, source: Rows | Joined) -> Moments:
        """Add up the vectors of one side."""
        total, squares = np.zeros(source.dimension), 0.0
        for start, stop in split_range(len(source), 16 * _STEP):
            rows = source.read(start, stop)
            total += rows.sum(axis=0, dtype=np.float64)
            squares += float(measure_squares(rows).sum())
        return cls(len(source), total, squares)

    def __add__(self, other: Moments) -> Moments:
        """Give the sums over both."""
        return Moments(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    def find_middle(self) -> NDArray[np.float32]:
        """Find what to subtract from both sides, which changes no distance; (D,).

        Far from the origin the small differences between distances drown in float32. The middle
        is rounded to a power of two below the vectors' spread: what float32 held exactly stays
        exact, so that ties stay ties.
        """
        middle = self.total / self.count
        variance = self.squares / self.count - middle @ middle
        if not np.isfinite(variance):
            return np.zeros(len(middle), np.float32)
        if variance <= 0:
            return middle.astype(np.float32)
        step = 2.0 ** np.floor(np.log2(np.sqrt(variance / len(middle))))
        return (np.rint(middle / step) * step).astype(np.float32)


def prepare(
    source: Rows | Joined,
    metric: str,
    *,
    memory: int,
    middle: NDArray[np.float32] | None = None,
) -> Prepared:
    """Make a gallery ready, and hold it in memory where that takes at most `memory` bytes.

    What is only a part of a gallery needs the `middle` of all of it for `euclidean`.

    Raises:
        ArgumentError: vectors whose Euclidean distances overflow float32.
    """
    if metric == "euclidean" and middle is None:
        middle = Moments.measure(source).find_middle()
    checksums = np.empty(len(source), np.uint64)
    squares = np.empty(len(source) if metric == "euclidean" else 0)
    held = None
    if 4 * source.dimension * len(source) <= memory:
        held = np.empty((len(source), source.dimension), np.float32)
    change = _find_change(middle)

    def work(start: int, stop: int) -> None:
        rows = source.read(start, stop, change)
        # Whole numbers add up to the same sum in any order: equal vectors have equal sums.
        np.sum(rows.view(np.uint32), axis=1, dtype=np.uint64, out=checksums[start:stop])
        if len(squares):
            squares[start:stop] = measure_squares(rows)
        if held is not None:
            held[start:stop] = rows

    spread(work, len(source), step=_STEP)
    _check_longest(squares)
    half_squares = (squares / 2).astype(np.float32) if len(squares) else None
    nothing = np.empty(0, np.intp)
    prepared = Prepared(source, held, middle, half_squares, nothing, nothing)
    copies, originals = _find_copies(prepared, checksums)
    return dataclasses.replace(prepared, copies=copies, originals=originals)


def to_unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the vectors (N, D) at unit length, as `cosine` compares them; zeros stay zeros."""
    return Rows.all_of(vectors).read(0, len(vectors), _find_change(None))


def _find_change(
    middle: NDArray[np.float32] | None,
) -> Callable[[NDArray[np.float32]], None]:
    """Give what makes rows ready in place."""

    def change(rows: NDArray[np.float32]) -> None:
        if middle is not None:
            rows -= middle
        else:
            # Division in float64 lets parallel vectors come out equal.
            precise = rows.astype(np.float64)
            lengths = np.sqrt(np.einsum("ij,ij->i", precise, precise))
            precise /= np.maximum(lengths, SHORTEST_LENGTH)[:, None]
            rows[:] = precise
        rows += 0  # makes -0 and 0 the same bytes

    return change


def _check_longest(squares: NDArray[np.float64]) -> None:
    longest = float(np.sqrt(squares.max(initial=0)))
    if longest > LONGEST_LENGTH:
        raise ArgumentError(
            f"a vector is {longest:.3g} long, beyond {LONGEST_LENGTH:.0e} Euclidean distances "
            "overflow float32: use the cosine metric or scale the vectors down"
        )


def _find_copies(
    prepared: Prepared, checksums: NDArray[np.uint64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the rows that repeat an earlier row's vector, and those earlier rows."""
    _, inverse, counts = np.unique(checksums, return_inverse=True, return_counts=True)
    first: dict[int, int] = {}
    copies, originals = [], []
    for row in np.flatnonzero(counts[inverse] > 1).tolist():
        vector = prepared.read(row, row + 1)[0]
        original = first.setdefault(hash(vector.tobytes()), row)
        if original != row and np.array_equal(vector, prepared.read(original, original + 1)[0]):
            copies.append(row)
            originals.append(original)
    return np.array(copies, np.intp), np.array(originals, np.intp)
