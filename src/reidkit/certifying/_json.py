"""A certificate as JSON: the numbered format that docs/certificate.md describes."""

from __future__ import annotations

import dataclasses

import numpy as np

from reidkit.benchmarking import speed_as_json
from reidkit.certifying._certificate import (
    FORMAT,
    Agreement,
    Certificate,
    Divergence,
    Side,
)
from reidkit.records import Scores

RANKS = (1, 5, 10)
HISTOGRAM_BINS = 50


def certificate_as_json(certificate: Certificate) -> dict[str, object]:
    """Give the object that `certificate.json` holds; shares are fractions, times in seconds."""
    return {
        "format": FORMAT,
        "verdict": certificate.verdict,
        "gates": [dataclasses.asdict(gate) for gate in certificate.gates],
        "warnings": list(certificate.warnings),
        "source": _side_as_json(certificate.source),
        "compiled": _side_as_json(certificate.compiled),
        "agreement": _agreement_as_json(certificate.agreement),
        "batches": [dataclasses.asdict(check) for check in certificate.batches],
        "divergence": _divergence_as_json(certificate.divergence),
        "contract": certificate.contract,
        "contract_sha256": certificate.contract_sha256,
        "data": dict(certificate.data),
        "versions": dict(certificate.versions),
        "date": certificate.date,
    }


def scores_as_json(scores: Scores) -> dict[str, object]:
    """Give scores as a certificate holds them."""
    ranks = {f"rank{k}": scores.rank(k) for k in RANKS if scores.covers(k)}
    return {
        "mAP": scores.mAP,
        **ranks,
        "mINP": scores.mINP,
        "queries": scores.queries,
        "dropped_queries": scores.dropped.total,
        "dropped_reasons": dataclasses.asdict(scores.dropped),
        "gallery": scores.gallery,
    }


def _side_as_json(side: Side) -> dict[str, object]:
    return {
        "name": side.name,
        "sha256": side.sha256,
        "precision": side.precision,
        "runtime": side.runtime,
        "device": side.device,
        "batch": side.batch,
        "float_layers": list(side.float_layers),
        "scores": scores_as_json(side.scores),
        "speed": speed_as_json(side.speed),
    }


def _agreement_as_json(agreement: Agreement) -> dict[str, object]:
    cosines = agreement.cosines.astype(np.float64)
    lowest = float(cosines.min())
    counts, edges = np.histogram(cosines, HISTOGRAM_BINS, range=(min(lowest, 1 - 1e-9), 1.0))
    return {
        "pictures": len(cosines),
        "minimum_cosine": lowest,
        "percentile1_cosine": float(np.percentile(cosines, 1)),
        "mean_cosine": float(cosines.mean()),
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
        "largest_difference": agreement.largest_difference,
        "neighbours": agreement.neighbours,
        "neighbour_overlap": agreement.neighbour_overlap,
        "source_rank": agreement.source_rank,
        "compiled_rank": agreement.compiled_rank,
        "source_pair_cosine": agreement.source_pair_cosine,
        "compiled_pair_cosine": agreement.compiled_pair_cosine,
    }


def _divergence_as_json(divergence: Divergence | None) -> dict[str, object] | None:
    if divergence is None:
        return None
    # JSON has no infinity: a value of another shape, or NaN, has no error that is a number.
    layers = [
        {**dataclasses.asdict(layer), "error": layer.error if np.isfinite(layer.error) else None}
        for layer in divergence.layers
    ]
    first = divergence.first
    return {
        "first": first.layer if first else None,
        "limit": divergence.limit,
        "explanation": divergence.explanation,
        "layers": layers,
    }
