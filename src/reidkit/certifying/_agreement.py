"""How alike two packages' vectors are, and whether they still spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reidkit import scoring
from reidkit.certifying._certificate import Agreement, Evidence
from reidkit.records import Matches
from reidkit.verifying import measure_cosines

NEIGHBOURS = 10

_MOST_ROWS = 4096
"""The rows that the spread is measured on; more would not change it."""


def measure_agreement(evidence: Evidence) -> Agreement:
    """Compare the vectors of every picture, and the neighbours of every query."""
    source = np.concatenate((evidence.source_query.vectors, evidence.source_gallery.vectors))
    compiled = np.concatenate((evidence.compiled_query.vectors, evidence.compiled_gallery.vectors))
    before = scoring.match(evidence.source_query, evidence.source_gallery, count=NEIGHBOURS)
    after = scoring.match(evidence.compiled_query, evidence.compiled_gallery, count=NEIGHBOURS)
    return Agreement(
        cosines=measure_cosines(compiled, source).astype(np.float32),
        largest_difference=float(np.abs(compiled - source).max()),
        neighbours=NEIGHBOURS,
        neighbour_overlap=measure_overlap(before, after),
        source_rank=measure_rank(source),
        compiled_rank=measure_rank(compiled),
        source_pair_cosine=measure_pair_cosine(source),
        compiled_pair_cosine=measure_pair_cosine(compiled),
    )


def measure_overlap(first: Matches, second: Matches) -> float:
    """Give the share of each query's matches that both lists have, mean over queries.

    A query without any match in either list counts as 1.
    """
    shares = []
    for one, other in zip(first.rows, second.rows, strict=True):
        one, other = one[one >= 0], other[other >= 0]
        most = max(len(one), len(other))
        shares.append(len(np.intersect1d(one, other)) / most if most else 1.0)
    return float(np.mean(shares))


def measure_rank(vectors: NDArray[np.float32]) -> float:
    """Give the effective rank of (N, D) vectors around their mean: 0 where all are equal.

    exp(entropy of the singular values, which sum to 1); Roy and Vetterli, "The effective rank: a
    measure of effective dimensionality", EUSIPCO 2007.
    """
    rows = _thin(vectors).astype(np.float64)
    centred = rows - rows.mean(axis=0)
    scale = np.abs(centred).max(initial=0.0)
    # What rounding leaves of equal vectors is not spread.
    if scale <= 1e-6 * max(float(np.abs(rows).max(initial=0.0)), 1e-30):
        return 0.0
    centred /= scale
    gram = centred.T @ centred if len(centred) >= centred.shape[1] else centred @ centred.T
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0.0, None))
    shares = values[values > 1e-9 * values.max()] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def measure_pair_cosine(vectors: NDArray[np.float32]) -> float:
    """Give the mean cosine over all pairs of two different rows of (N, D), N >= 2.

    Two vectors of zeros are equal (1), a vector of zeros and another are not (0).
    """
    rows = vectors.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    zeros = int(np.count_nonzero(lengths == 0))
    # |sum|^2 is the sum over all pairs, each row with itself (1) too.
    total = float((units.sum(axis=0) ** 2).sum()) - (len(rows) - zeros) + zeros * (zeros - 1)
    return total / (len(rows) * (len(rows) - 1))


def _thin(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    step = -(-len(vectors) // _MOST_ROWS)
    return vectors[::step]
