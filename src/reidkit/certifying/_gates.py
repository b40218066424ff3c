"""The conditions of a certificate, one function each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reidkit import scoring
from reidkit.certifying._certificate import Agreement, BatchCheck, Evidence, Gate, Limits
from reidkit.records import Embeddings, Scores

LOWEST_COSINES = {"fp32": 0.9999, "fp16": 0.99, "bf16": 0.95, "int8": 0.8}
"""The smallest cosine that a picture's two vectors may have where the caller sets none."""

BATCH_COSINE = 0.9999
"""The same for one file's vectors at two batch sizes."""

SMALLEST_RANK_SHARE = 0.5
LARGEST_PAIR_RISE = 0.1
"""A compiled network has collapsed where its vectors span less than this share of the source's
effective rank, or strangers come closer by this much cosine (or half the way to 1)."""

CHANCE = "source finds people"
BATCHES = "same at every batch size"
CALIBRATION = "calibration apart"
"""Names of gates that the search for a faulty layer asks for."""

_CHANCE_DRAWS = 25
_CHANCE_QUERIES = 10_000
"""So many queries in all tell chance well enough; a large data set is not drawn 25 times."""

_CHANCE_DEVIATIONS = 4.0
_CHANCE_DIMENSIONS = 32


def gate_agreement(agreement: Agreement, limits: Limits, precision: str) -> Gate:
    """No picture's vector may have turned away from the source's."""
    limit = LOWEST_COSINES[precision] if limits.cosine is None else limits.cosine
    value = float(agreement.cosines.min())
    bad = int(np.count_nonzero(agreement.cosines < limit))
    return _at_least(
        "vectors agree",
        value,
        limit,
        f"{bad} of {len(agreement.cosines)} pictures have a cosine below {limit} between their "
        f"source and compiled vectors, the smallest is {value:.4f}",
    )


def gate_rank(agreement: Agreement) -> Gate:
    """The vectors must not have collapsed into few directions."""
    source = agreement.source_rank
    value = agreement.compiled_rank / source if source > 0 else 1.0
    return _at_least(
        "vectors spread",
        value,
        SMALLEST_RANK_SHARE,
        f"the compiled vectors have collapsed: they have an effective rank of "
        f"{agreement.compiled_rank:.1f}, the source's {source:.1f}",
    )


def gate_strangers(agreement: Agreement) -> Gate:
    """Two pictures chosen at random must not have come closer.

    Where the source's strangers are close already, less is left to lose: at most half of it.
    """
    value = agreement.compiled_pair_cosine - agreement.source_pair_cosine
    limit = min(LARGEST_PAIR_RISE, (1 - agreement.source_pair_cosine) / 2)
    return _at_most(
        "strangers stay apart",
        value,
        limit,
        f"the compiled vectors have collapsed: two pictures chosen at random have a mean cosine of "
        f"{agreement.compiled_pair_cosine:.4f}, {agreement.source_pair_cosine:.4f} in the source",
    )


def find_worst(checks: Sequence[BatchCheck]) -> BatchCheck:
    """Give the batch size at which a picture's vector changed most."""
    return min(checks, key=lambda check: min(check.cosine, check.last_cosine))


def gate_batches(checks: Sequence[BatchCheck]) -> Gate:
    """A picture's vector must not depend on the batch size or on its company."""
    worst = find_worst(checks)
    value = min(worst.cosine, worst.last_cosine)
    where = f"in batches of {worst.batch}"
    if worst.last_cosine <= worst.cosine and worst.last < worst.batch:
        where += f", in the short last one of {worst.last}"
    return _at_least(
        BATCHES,
        value,
        BATCH_COSINE,
        f"{where} a picture's vector is another than alone: the smallest cosine between the two is "
        f"{value:.4f}",
    )


def gate_map(source: Scores, compiled: Scores, limits: Limits) -> Gate:
    """The mAP must not have dropped."""
    return _gate_drop("mAP kept", "mAP", (source.mAP, compiled.mAP), limits.drop_map)


def gate_rank1(source: Scores, compiled: Scores, limits: Limits) -> Gate:
    """The Rank-1 accuracy must not have dropped."""
    return _gate_drop(
        "Rank-1 kept", "Rank-1", (source.rank(1), compiled.rank(1)), limits.drop_rank1
    )


def gate_chance(source: Scores, evidence: Evidence) -> Gate:
    """The source must find people better than chance, or there is nothing to lose."""
    limit = estimate_chance(evidence)
    return _at_least(
        CHANCE,
        source.mAP,
        limit,
        f"the source's neighbours are no better than chance: its mAP is {100 * source.mAP:.2f} %, "
        f"random vectors reach {100 * limit:.2f} % on this data set; is it a person "
        "re-identification network, with trained weights and the right input contract?",
    )


def gate_calibration(scored: int) -> Gate:
    """No picture that calibrated may be scored; `scored` is how many are."""
    return _at_most(
        CALIBRATION,
        float(scored),
        0.0,
        f"{scored} pictures of query and gallery calibrated the compiled package, which flatters "
        "its scores: calibrate with the training split",
    )


def estimate_chance(evidence: Evidence) -> float:
    """Give the mAP that random vectors hardly ever exceed on this query and gallery.

    Mean and deviation over random draws; four deviations above the mean.
    """
    random = np.random.default_rng(0)
    draws = max(5, min(_CHANCE_DRAWS, _CHANCE_QUERIES // max(1, len(evidence.source_query))))
    found = []
    for _ in range(draws):
        query, gallery = (
            _at_random(side, random) for side in (evidence.source_query, evidence.source_gallery)
        )
        found.append(scoring.evaluate(query, gallery).mAP)
    return min(0.99, float(np.mean(found) + _CHANCE_DEVIATIONS * np.std(found)))


def _at_random(side: Embeddings, random: np.random.Generator) -> Embeddings:
    vectors = random.standard_normal((len(side), _CHANCE_DIMENSIONS), dtype=np.float32)
    return Embeddings(vectors, side.samples, None, None, ())


def _gate_drop(name: str, metric: str, scores: tuple[float, float], limit: float) -> Gate:
    before, after = (100 * score for score in scores)
    return _at_most(
        name,
        before - after,
        limit,
        f"{metric} dropped by {before - after:.2f} points, from {before:.2f} to {after:.2f} %; at "
        f"most {limit:g} points are allowed",
    )


def _at_least(name: str, value: float, limit: float, reason: str) -> Gate:
    # Written so that NaN fails.
    passed = value >= limit
    return Gate(name, limit, value, "pass" if passed else "fail", "" if passed else reason)


def _at_most(name: str, value: float, limit: float, reason: str) -> Gate:
    passed = value <= limit + 1e-9
    return Gate(name, limit, value, "pass" if passed else "fail", "" if passed else reason)
