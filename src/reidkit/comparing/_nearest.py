"""The best entries of each row of a matrix of scores that never exists as a whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing._rows import spread

_PART = 2**19
"""Scores that a thread looks through at once: they stay in its cache."""


class Nearest:
    """The best entries so far of each row, in slots; full slots are cut down to the best.

    The rows `copies` are nobody's entries.
    """

    def __init__(self, length: int, count: int, copies: NDArray[np.intp]) -> None:
        self.count = count
        self.copies = copies
        self.slots = max(5 * count, 16)
        self.scores = np.full((length, self.slots), -np.inf, np.float32)
        self.rows = np.zeros((length, self.slots), np.int32)
        self.filled = np.zeros(length, np.int64)
        self.lowest = np.full(length, np.inf, np.float32)
        self.bounds = np.full(length, -np.inf, np.float32)
        """What an entry must surpass to be among the best."""

    def add_rows(self, scores: NDArray[np.float32], start: int, first: int) -> None:
        """Add a block: row r of it is row `start` + r, column c is row `first` + c."""
        hidden = self._find_copies(first, scores.shape[1])

        def work(begin: int, end: int) -> None:
            part, rows = scores[begin:end], slice(start + begin, start + end)
            self.lowest[rows] = np.minimum(self.lowest[rows], part.min(axis=1))
            if len(hidden):
                part[:, hidden] = -np.inf
            self._bound(rows, part.T)
            entries = np.flatnonzero(part > self.bounds[rows, None])
            row, column = np.divmod(entries, part.shape[1])
            self._insert(row + rows.start, column + first, part[row, column])

        spread(work, len(scores), step=max(1, _PART // scores.shape[1]))

    def add_columns(self, scores: NDArray[np.float32], start: int, first: int) -> None:
        """Add the same block, turned: column c is the row `first` + c that gets entries."""
        hidden = self._find_copies(start, len(scores))

        def work(begin: int, end: int) -> None:
            part, rows = scores[:, begin:end], slice(first + begin, first + end)
            self.lowest[rows] = np.minimum(self.lowest[rows], part.min(axis=0))
            if len(hidden):
                part[hidden] = -np.inf
            self._bound(rows, part)
            entries = np.flatnonzero(part > self.bounds[rows])
            row, column = np.divmod(entries, part.shape[1])
            # Narrow whole numbers are sorted by counting.
            order = np.argsort(column.astype(np.uint16), kind="stable")
            row, column = row[order], column[order]
            self._insert(column + rows.start, row + start, part[row, column])

        spread(work, scores.shape[1], step=max(1, min(2**16, _PART // len(scores))))

    def finish(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Give each row's best entries, (N, count), best first, and their scores."""

        def work(start: int, stop: int) -> None:
            self._cut(np.arange(start, stop))

        spread(work, len(self.filled), step=2048)
        return self.rows[:, : self.count].copy(), self.scores[:, : self.count].copy()

    def _find_copies(self, first: int, count: int) -> NDArray[np.intp]:
        """Give the copies among the rows from `first` on, as places from there."""
        start, stop = np.searchsorted(self.copies, (first, first + count))
        return self.copies[start:stop] - first

    def _bound(self, rows: slice, scores: NDArray[np.float32]) -> None:
        """Give rows that have none a bound, from the first scores that they meet, (n, rows).

        As `bound_best` does, along the other axis.
        """
        width = len(scores) // (4 * self.count)
        bounds = self.bounds[rows]
        new = np.isneginf(bounds)
        if width == 0 or not new.any():
            return
        groups = scores[: 4 * width * self.count].reshape(4 * self.count, width, -1)
        maxima = groups.max(axis=1)
        maxima.partition(3 * self.count, axis=0)
        bounds[new] = np.nextafter(maxima[3 * self.count], np.float32(-np.inf))[new]

    def _insert(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> None:
        """Put entries, sorted by row, behind those that are there."""
        kept = self._thin(rows, scores)
        rows, columns, scores = rows[kept], columns[kept], scores[kept]
        while len(rows):
            first = np.flatnonzero(np.diff(rows, prepend=-1))
            counts = np.diff(first, append=len(rows))
            places = np.arange(len(rows)) - np.repeat(first, counts) + self.filled[rows]
            fits = places < self.slots
            self.scores[rows[fits], places[fits]] = scores[fits]
            self.rows[rows[fits], places[fits]] = columns[fits]
            touched = rows[first]
            self.filled[touched] = np.minimum(self.filled[touched] + counts, self.slots)
            self._cut(touched[self.filled[touched] > self.slots // 2])
            late = ~fits & (scores > self.bounds[rows])
            rows, columns, scores = rows[late], columns[late], scores[late]

    def _thin(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Mark the entries, sorted by row, that can be among the best of their row.

        Of a row with more entries than slots only the best stay, equal ones by their order.
        """
        kept = np.ones(len(rows), np.bool_)
        edges = np.append(np.flatnonzero(np.diff(rows, prepend=-1)), len(rows))
        for index in np.flatnonzero(np.diff(edges) > self.slots).tolist():
            part = slice(edges[index], edges[index + 1])
            values = scores[part]
            least = np.partition(values, len(values) - self.count)[len(values) - self.count]
            equal = np.flatnonzero(values == least)
            spare = self.count - np.count_nonzero(values > least)
            kept[part] = values >= least
            kept[part][equal[spare:]] = False
        return kept

    def _cut(self, rows: NDArray[np.int64]) -> None:
        """Sort rows and keep their best; equal scores stay in the order they came, by row."""
        scores = self.scores[rows]
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.count]
        best = np.take_along_axis(scores, order, axis=1)
        self.rows[rows, : self.count] = np.take_along_axis(self.rows[rows], order, axis=1)
        self.scores[rows, : self.count] = best
        self.scores[rows, self.count :] = -np.inf
        self.filled[rows] = np.minimum(self.filled[rows], self.count)
        full = self.filled[rows] == self.count
        self.bounds[rows[full]] = best[full, -1]
