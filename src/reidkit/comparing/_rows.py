"""Rows of a matrix that may be larger than memory, and work spread over threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError
from reidkit.machine import available_cores

MEMORY = 2**30
"""How many bytes a comparison may take up besides its inputs, unless told otherwise."""

_LEAST_MEMORY = 2**20
_ALONE: ContextVar[bool] = ContextVar("alone", default=False)
_STEP = 256
"""Rows that a thread works on at once: they stay in its cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some rows of a matrix of vectors, in an order of their own.

    Columns:
        vectors: (N, D) float32, perhaps mapped from disk and larger than memory.
        rows: (M,) int64, which of them.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.intp]

    @classmethod
    def all_of(cls, vectors: NDArray[np.float32]) -> Rows:
        """Take every row."""
        return cls(vectors, np.arange(len(vectors)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dimension(self) -> int:
        """The length D of each vector."""
        return int(self.vectors.shape[1])

    def select(self, rows: NDArray[np.intp]) -> Rows:
        """Take some of these rows."""
        return Rows(self.vectors, self.rows[rows])

    def read(
        self, start: int, stop: int, change: Callable[[NDArray[np.float32]], None] | None = None
    ) -> NDArray[np.float32]:
        """Copy the rows `start` to `stop`, (n, D), and `change` them while they are in cache."""
        chosen = self.rows[start:stop]
        copy = np.empty((len(chosen), self.dimension), np.float32)

        def fill(first: int, last: int) -> None:
            part = copy[first:last]
            # Every row exists: "clip" only spares numpy a buffer.
            np.take(self.vectors, chosen[first:last], axis=0, out=part, mode="clip")
            if change is not None:
                change(part)

        spread(fill, len(chosen), step=_STEP)
        return copy


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Two sets of rows as one: those of `first`, then those of `second`."""

    first: Rows
    second: Rows

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def dimension(self) -> int:
        """The length D of each vector."""
        return self.first.dimension

    def select(self, rows: NDArray[np.intp]) -> Joined:
        """Take some of the rows, given in ascending order."""
        edge = int(np.searchsorted(rows, len(self.first)))
        return Joined(
            self.first.select(rows[:edge]), self.second.select(rows[edge:] - len(self.first))
        )

    def read(
        self, start: int, stop: int, change: Callable[[NDArray[np.float32]], None] | None = None
    ) -> NDArray[np.float32]:
        """Copy the rows `start` to `stop`; see `Rows.read`."""
        edge = len(self.first)
        if stop <= edge:
            return self.first.read(start, stop, change)
        if start >= edge:
            return self.second.read(start - edge, stop - edge, change)
        parts = self.first.read(start, edge, change), self.second.read(0, stop - edge, change)
        return np.concatenate(parts)


def check_memory(memory: int) -> None:
    """Refuse a memory budget too small to work in.

    Raises:
        ArgumentError: below 1 MiB.
    """
    if memory < _LEAST_MEMORY:
        raise ArgumentError(f"memory is {memory} bytes, expected at least {_LEAST_MEMORY} (1 MiB)")


def measure_squares(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give each row's squared length in float64, (N,)."""
    squares = np.empty(len(vectors))

    def fill(start: int, stop: int) -> None:
        rows = vectors[start:stop].astype(np.float64)
        squares[start:stop] = np.square(rows, out=rows).sum(axis=1)

    spread(fill, len(vectors), step=_STEP)
    return squares


@contextmanager
def one_thread() -> Iterator[None]:
    """Let `spread` start no threads in this block: other processes keep the other cores busy."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def spread(work: Callable[[int, int], None], length: int, *, step: int) -> None:
    """Call `work(start, stop)` for steps of a range, on all cores; its errors reach the caller.

    numpy lets go of Python's lock inside its loops, so that threads suffice.
    """
    parts = split_range(length, step)
    if len(parts) <= 1 or available_cores() == 1 or _ALONE.get():
        for start, stop in parts:
            work(start, stop)
        return
    with ThreadPoolExecutor(available_cores()) as pool:
        for _ in pool.map(lambda part: work(*part), parts):
            pass


def split_range(length: int, most: int) -> list[tuple[int, int]]:
    """Split a range into parts of nearly equal length, none longer than `most`."""
    count = max(1, -(-length // max(1, most)))
    edges = [length * number // count for number in range(count + 1)]
    return [(start, stop) for start, stop in itertools.pairwise(edges) if start < stop]


def list_ranges(
    starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the numbers of (R,) ranges one after the other, and which range each belongs to."""
    widths = stops - starts
    owners = np.repeat(np.arange(len(starts)), widths)
    first = np.cumsum(widths) - widths
    return np.arange(len(owners)) + np.repeat(starts - first, widths), owners
