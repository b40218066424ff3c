"""What pairs of pictures say: which scores mean the same person, and how often they err."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import MEMORY, Comparison, check_memory, spread
from reidkit.errors import ArgumentError, MismatchError
from reidkit.records import JUNK, Embeddings
from reidkit.scoring._kin import Kin
from reidkit.scoring._protocols import MARKET1501, Protocol
from reidkit.scoring._sides import check_sides, refuse_trials

FALSE_POSITIVE_RATES = (1e-4, 1e-3, 1e-2, 1e-1)

_BINS = 2**20
_SHOWN_BINS = 128
_CURVE_POINTS = 200
_ROOM = 1 + 1e-12
"""A hair of room for rounding: a third of three pairs is one."""

_PART = 2**21
"""Scores that a thread counts at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """How well one threshold on the score tells same from different people, over all pairs.

    Scores are as people read them: a cosine, or minus a distance. They are counted in bins of
    about a millionth of their range, and thresholds are edges of those.

    Fields:
        same, different: number of pairs of a query and a gallery picture that it may meet.
        false_positive_rates: (R,) float64, as asked.
        thresholds: (R,) float64, the lowest at which at most that share of the different
            people's pairs reaches it; NaN where the pairs are too few to tell (less than one).
        true_positive_rates: (R,) float64, share of the same people's pairs that reaches it.
        equal_error_rate, equal_error_threshold: where both kinds of error are equally frequent.
        d_prime: difference of both means over the root of the mean variance.
        roc: (K, 2) float64, false and true positive rates, ascending, for plots.
        edges: (B + 1,) float64 and same_counts, different_counts: (B,) int64, histograms.
        metric, protocol: names.
    """

    same: int
    different: int
    false_positive_rates: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    true_positive_rates: NDArray[np.float64]
    equal_error_rate: float
    equal_error_threshold: float
    d_prime: float
    roc: NDArray[np.float64]
    edges: NDArray[np.float64]
    same_counts: NDArray[np.int64]
    different_counts: NDArray[np.int64]
    metric: str
    protocol: str


def measure_pairs(
    query: Embeddings,
    gallery: Embeddings,
    *,
    metric: str | Comparison = "cosine",
    protocol: Protocol = MARKET1501,
    rates: tuple[float, ...] = FALSE_POSITIVE_RATES,
    memory: int = MEMORY,
) -> Verification:
    """Measure all pairs of a query and a gallery picture that the protocol lets meet.

    Raises:
        ArgumentError, MismatchError: as `evaluate`; also for single-shot protocols, rates
            outside 0 to 1, and where no pair shows different people.
    """
    check_memory(memory)
    refuse_trials(protocol)
    for rate in rates:
        if not 0 < rate <= 1:
            raise ArgumentError(f"a false-positive rate is {rate}, expected above 0, at most 1")
    sides = check_sides(query, gallery, metric=metric, protocol=protocol)
    sides.find_scored()
    asked = np.flatnonzero(query.samples.person_ids != JUNK)
    kin = sides.kin.select(asked)
    pairs, comparison = _PairCounts(), sides.comparison
    blocks = comparison.score_blocks(sides.queries, sides.gallery, asked=asked, memory=memory)
    for start, scores in blocks:
        worded = comparison.word_scores(scores)
        pairs.add(worded, kin.select(slice(start, start + len(worded))))
    if not pairs.different.sum():
        raise MismatchError(
            f"all {int(pairs.same.sum())} pairs show the same person: "
            "errors between different people cannot be measured"
        )
    return _summarise(pairs, comparison.name, protocol, rates)


class _PairCounts:
    """Histograms of same and different pairs, whose range grows with what comes in."""

    def __init__(self) -> None:
        self.low, self.width = 0.0, 0.0
        self.same = np.zeros(_BINS, np.int64)
        self.different = np.zeros(_BINS, np.int64)
        self.moments = np.zeros((2, 2))
        self.lock = threading.Lock()

    def add(self, scores: NDArray[np.float32], kin: Kin) -> None:
        """Count a block: all pairs, less the same people's, less those that never meet."""
        self._grow(float(scores.min()), float(scores.max()))

        def work(start: int, stop: int) -> None:
            part, queries = scores[start:stop], slice(start, stop)
            hits, removed = kin.find_hits(queries), kin.find_removed(queries)
            same, never = part[hits.queries, hits.rows], part[removed.queries, removed.rows]
            counts = [self._count(values) for values in (same, part.ravel(), never)]
            moments = [_find_moments(values) for values in (same, part.ravel(), never)]
            with self.lock:
                self.same += counts[0]
                self.different += counts[1] - counts[0] - counts[2]
                self.moments += (moments[0], moments[1] - moments[0] - moments[2])

        spread(work, len(scores), step=max(1, _PART // scores.shape[1]))

    def measure_d_prime(self) -> float:
        """Give the difference of both means in units of the root of the mean variance."""
        counts = np.array([self.same.sum(), self.different.sum()])
        means, squares = (self.moments / counts[:, None]).T
        variance = max(float(np.mean(squares - means**2)), 1e-30)
        return float((means[0] - means[1]) / np.sqrt(variance))

    def _grow(self, low: float, high: float) -> None:
        """Widen the range to hold the scores, by joining bins two by two."""
        if not self.width:
            # Room on both sides: the blocks to come are like the first.
            span = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-12)
            self.low, self.width = low - span / 8, span * 1.25 / _BINS
        while low < self.low or high >= self.low + _BINS * self.width:
            down = low < self.low
            self.same, self.different = (
                _join_bins(counts, down=down) for counts in (self.same, self.different)
            )
            if down:
                self.low -= _BINS * self.width
            self.width *= 2

    def _count(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        places = (values - np.float64(self.low)) * (1 / self.width)
        # Rounding may lift the highest score over the last edge.
        bins = np.minimum(places.astype(np.int32), _BINS - 1)
        return np.bincount(bins, minlength=_BINS)


def _summarise(
    pairs: _PairCounts, metric: str, protocol: Protocol, rates: tuple[float, ...]
) -> Verification:
    """Read thresholds and rates off the histograms."""
    edges = pairs.low + pairs.width * np.arange(_BINS + 1, dtype=np.float64)
    same, different = int(pairs.same.sum()), int(pairs.different.sum())
    # The shares of pairs at or above each edge.
    true = np.append(np.cumsum(pairs.same[::-1])[::-1], 0) / same
    false = np.append(np.cumsum(pairs.different[::-1])[::-1], 0) / different
    asked = np.array(rates, np.float64)
    known = asked * different * _ROOM >= 1
    places = np.searchsorted(-false, -asked * _ROOM)
    crossing = int(np.flatnonzero(false <= 1 - true)[0])
    taken = np.flatnonzero(pairs.same + pairs.different)
    shown = np.unique(np.linspace(taken[0], taken[-1] + 1, _SHOWN_BINS + 1).astype(np.int64))
    return Verification(
        same=same,
        different=different,
        false_positive_rates=asked,
        thresholds=np.where(known, edges[places], np.nan),
        true_positive_rates=np.where(known, true[places], np.nan),
        equal_error_rate=float(false[crossing] + 1 - true[crossing]) / 2,
        equal_error_threshold=float(edges[crossing]),
        d_prime=pairs.measure_d_prime(),
        roc=_thin(false, true, different),
        edges=edges[shown],
        same_counts=np.add.reduceat(pairs.same[: shown[-1]], shown[:-1]),
        different_counts=np.add.reduceat(pairs.different[: shown[-1]], shown[:-1]),
        metric=metric,
        protocol=protocol.name,
    )


def _thin(
    false: NDArray[np.float64], true: NDArray[np.float64], different: int
) -> NDArray[np.float64]:
    """Choose points of the ROC curve, evenly over the powers of ten of the false rate."""
    rates = np.append(0, np.logspace(-np.log10(different), 0, _CURVE_POINTS))
    places = np.unique(np.searchsorted(-false, -rates * _ROOM))[::-1]
    return np.stack((false[places], true[places]), axis=1)


def _join_bins(counts: NDArray[np.int64], *, down: bool) -> NDArray[np.int64]:
    """Join neighbouring bins; the half that is free lies below or above them."""
    joined = counts.reshape(-1, 2).sum(axis=1)
    parts = (np.zeros_like(joined), joined) if down else (joined, np.zeros_like(joined))
    return np.concatenate(parts)


def _find_moments(values: NDArray[np.float32]) -> NDArray[np.float64]:
    precise = values.astype(np.float64)
    return np.array([precise.sum(), precise @ precise])
