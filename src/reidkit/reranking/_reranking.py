"""k-reciprocal re-ranking as a comparison that `scoring` ranks by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import (
    CPU,
    METRICS,
    Joined,
    Neighbours,
    Prepared,
    Rows,
    check_device,
    find_neighbours,
    list_ranges,
    multiply_blocks,
    prepare,
    spread,
)
from reidkit.errors import ArgumentError
from reidkit.reranking._encoding import Encoding, average, encode
from reidkit.reranking._variants import VARIANTS


@dataclass(frozen=True, slots=True)
class KReciprocal:
    """Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017), exact and sparse.

    Give it as `metric` to `scoring.evaluate` or `scoring.match`: a score is minus the final
    distance, `(1 - weight) * Jaccard distance + weight * original distance`. It takes up memory
    for the encodings, about N k numbers for N pictures of both sides, and for blocks.

    `k1` and `k2` count neighbours, of the encoding and of its averaging (1: none); `variant`
    names one of `VARIANTS`; `metric` says whether vectors are brought to unit length first
    (`cosine`, as the reference does) or taken as they are (`euclidean`). All queries and all
    gallery pictures that are not junk take part. Products are computed by numpy, or on a
    `device` such as `cuda` by torch.
    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3
    variant: str = "strong-baseline"
    metric: str = "cosine"
    device: str = CPU

    def __post_init__(self) -> None:
        for name, value in (("k1", self.k1), ("k2", self.k2)):
            if type(value) is not int or value < 1:
                raise ArgumentError(f"{name} is {value!r}, expected a whole number of at least 1")
        if not 0 <= self.weight <= 1:
            raise ArgumentError(f"weight is {self.weight}, expected 0 to 1")
        if self.variant not in VARIANTS:
            raise ArgumentError(
                f"variant is {self.variant!r}, expected one of {', '.join(VARIANTS)}"
            )
        if self.metric not in METRICS:
            raise ArgumentError(f"metric is {self.metric!r}, expected one of {', '.join(METRICS)}")
        check_device(self.device)

    @property
    def name(self) -> str:
        """Say the settings."""
        of = "" if self.metric == "cosine" else f", {self.metric}"
        settings = f"k1={self.k1}, k2={self.k2}, weight={self.weight:g}"
        return f"k-reciprocal ({self.variant}, {settings}{of})"

    def score_blocks(
        self, queries: Rows, gallery: Rows, *, asked: NDArray[np.intp], memory: int
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Give the scores in blocks; see `comparing.Comparison`."""
        everyone = self.prepare(Joined(queries, gallery), memory=memory)
        neighbours = find_neighbours(everyone, self.neighbours, memory=memory, device=self.device)
        encoded = self.encode(everyone, neighbours, len(queries))
        yield from encoded.score_blocks(queries, asked=asked, memory=memory)

    @property
    def neighbours(self) -> int:
        """How many neighbours of each picture the encoding takes, itself among them."""
        variant = VARIANTS[self.variant]
        return max(self.k1 + variant.neighbours, self.k2 + variant.expansion)

    def prepare(self, both: Joined, *, memory: int) -> Prepared:
        """Make queries and gallery ready for finding neighbours among all of them."""
        return prepare(both, self.metric, memory=3 * memory // 4).with_squares()

    def encode(self, everyone: Prepared, neighbours: Neighbours, queries: int) -> Encoded:
        """Encode both sides, of which the first pictures are the `queries`, by neighbours."""
        variant = VARIANTS[self.variant]
        encoding = encode(neighbours, everyone, k1=self.k1, variant=variant)
        if self.k2 > 1:
            encoding = average(encoding, neighbours.rows[:, : self.k2 + variant.expansion])
        return Encoded(
            self,
            everyone.select_last(len(everyone) - queries),
            _Answers.sort(encoding, everyone.number_groups(), queries),
            neighbours.farthest[:queries],
        )

    def word_scores(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the scores as they are: minus the final distances."""
        return scores


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Both sides, encoded: what gives queries their scores; it can be sent to other processes.

    Fields:
        settings: of the re-ranking.
        pictures: the gallery, made ready.
        answers: all encodings.
        farthest: (Q,) float32, each query's largest squared distance.
    """

    settings: KReciprocal
    pictures: Prepared
    answers: _Answers
    farthest: NDArray[np.float32]

    def score_blocks(
        self, queries: Rows, *, asked: NDArray[np.intp], memory: int
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Give the scores of the queries `asked`; see `comparing.Comparison`."""
        pictures, variant = self.pictures, VARIANTS[self.settings.variant]
        weight, farthest = self.settings.weight, self.farthest[asked]
        blocks = multiply_blocks(
            queries.select(asked), pictures, memory=memory, device=self.settings.device
        )
        for start, scores in blocks:
            rows = asked[start : start + len(scores)]
            squares = pictures.turn_to_squares(scores)
            # Rounding leaves a little, of which a root makes more.
            squares[self.answers.find_copies(rows)] = 0
            original = variant.measure(squares, farthest[start : start + len(scores), None])
            original *= -weight * variant.mixed
            original -= 1 - weight
            self.answers.add(original, rows, 1 - weight)
            yield start, original

    def without_source(self) -> Encoded:
        """Forget the gallery's vectors as they came; see `Prepared.without_source`."""
        return dataclasses.replace(self, pictures=self.pictures.without_source())


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """The gallery's encodings by column: who has a weight for a picture, and who is a copy.

    Columns:
        encoding: of all N pictures, queries first.
        groups: (N,) int64 numbers the pictures, equal vectors alike.
        by_group, sorted_groups: (G,) int64, the gallery sorted by group, and the groups.
        starts: (N + 1,) int64: a weight for picture n have the gallery's pictures
            `rows[starts[n] : starts[n + 1]]`, int32, and it is `weights[...]`, float32.
    """

    encoding: Encoding
    groups: NDArray[np.int64]
    by_group: NDArray[np.int64]
    sorted_groups: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    weights: NDArray[np.float32]

    @classmethod
    def sort(cls, encoding: Encoding, groups: NDArray[np.int64], queries: int) -> _Answers:
        """Sort the encodings of the pictures that follow the queries."""
        by_group = np.argsort(groups[queries:], kind="stable")
        first = encoding.starts[queries]
        columns = encoding.columns[first:]
        order = np.argsort(columns, kind="stable")
        counts = np.diff(encoding.starts[queries:])
        return cls(
            encoding,
            groups,
            by_group,
            groups[queries:][by_group],
            np.searchsorted(columns[order], np.arange(len(encoding) + 1)),
            np.repeat(np.arange(len(counts), dtype=np.int32), counts)[order],
            encoding.weights[first:][order],
        )

    def find_copies(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give places in `rows` and the gallery rows that have the same vectors."""
        asked = self.groups[rows]
        first = np.searchsorted(self.sorted_groups, asked)
        last = np.searchsorted(self.sorted_groups, asked, "right")
        places, owners = list_ranges(first, last)
        return owners, self.by_group[places]

    def add(self, scores: NDArray[np.float32], rows: NDArray[np.intp], share: float) -> None:
        """Add `share` times 1 - Jaccard distance of the pictures `rows` (n,) to (n, G) scores."""

        def work(start: int, stop: int) -> None:
            for score, row in zip(scores[start:stop], rows[start:stop].tolist(), strict=True):
                mine = slice(*self.encoding.starts[row : row + 2].tolist())
                columns = self.encoding.columns[mine]
                theirs, owners = list_ranges(self.starts[columns], self.starts[columns + 1])
                least = np.minimum(self.encoding.weights[mine][owners], self.weights[theirs])
                common = np.bincount(self.rows[theirs], least, len(score))
                # Both rows add up to 1: what they have together is 2 less the common part.
                score += (share * common / (2 - common)).astype(np.float32)

        spread(work, len(scores), step=32)
