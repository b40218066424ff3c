"""The report of a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reidkit.certifying import Agreement, Certificate, Evidence, Side
from reidkit.records import Scores
from reidkit.reports._differing import compare_lists
from reidkit.reports._evaluation import word_dropped
from reidkit.reports._histogram import plan_histogram
from reidkit.reports._layers import find_place, find_worst, plan_layers
from reidkit.reports._pages import check_path, render, write_page
from reidkit.reports._throughput import SpeedRow, list_speeds, list_stages, plan_rates
from reidkit.reports._wording import (
    word_cosine,
    word_exact_percent,
    word_points,
    word_rate,
)

RANKS = (1, 5, 10)
LISTED_LAYERS = 20


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """One figure of both sides, as fractions."""

    name: str
    source: float
    compiled: float

    @property
    def difference(self) -> float:
        """How much the compiled side gained."""
        return self.compiled - self.source


@dataclass(frozen=True, slots=True)
class Headline:
    """One large figure at the top, its unit, and what it means."""

    name: str
    value: str
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Cosines:
    """The cosines in short: the smallest, the 1st percentile, the mean, and how many."""

    minimum: float
    percentile: float
    mean: float
    count: int


def write_certificate_report(
    path: str | Path, certificate: Certificate, evidence: Evidence
) -> None:
    """Write the HTML report of one certificate, from its verdict down to the single query.

    The file is written whole or not at all; missing parent folders are made. It shows at most
    10 queries with their first 10 matches of both sides and stays near 1 MB. A picture that
    cannot be opened any more is shown as a grey box with its file name.

    Args:
        path: where to write, replacing what is there.
        certificate: what `certify` found.
        evidence: the vectors it rests on; both sides of the same pictures in one order.

    Raises:
        MismatchError: the two sides of the evidence are not of the same pictures.
        ArgumentError: the evidence has no queries or nothing to search in, or `path` is a folder.
    """
    path = Path(path)
    check_path(path)
    write_page(path, _render_certificate(certificate, evidence))


def _render_certificate(certificate: Certificate, evidence: Evidence) -> str:
    source, compiled = certificate.source, certificate.compiled
    divergence = certificate.divergence
    cosines = _summarise(certificate.agreement)
    speeds = list_speeds(source.speed, compiled.speed)
    return render(
        "certificate.html",
        certificate=certificate,
        source=source,
        compiled=compiled,
        failed=[gate for gate in certificate.gates if gate.verdict == "fail"],
        headlines=_list_headlines(certificate, cosines, speeds),
        accuracy=_compare_scores(source.scores, compiled.scores),
        dropped=word_dropped(compiled.scores.dropped),
        cosines=cosines,
        histogram=plan_histogram(certificate.agreement.cosines, cosines.percentile)
        if cosines.count
        else None,
        divergence=divergence,
        first_place=find_place(divergence, divergence.first)
        if divergence and divergence.first
        else None,
        layers=plan_layers(divergence) if divergence else None,
        worst=find_worst(divergence) if divergence else [],
        speeds=speeds,
        rates=plan_rates(source.speed, compiled.speed),
        stages=list_stages(source.speed, compiled.speed),
        differences=compare_lists(evidence, source.scores.metric),
        sides=_describe_sides(source, compiled),
        facts=_list_facts(certificate),
    )


def _list_headlines(
    certificate: Certificate, cosines: Cosines, speeds: list[SpeedRow]
) -> list[Headline]:
    source, compiled = certificate.source.scores, certificate.compiled.scores
    pairs = (("mAP", source.mAP, compiled.mAP), ("Rank-1", source.rank(1), compiled.rank(1)))
    return [
        *(
            Headline(name, word_exact_percent(new), "%", f"{word_points(new - old)} points")
            for name, old, new in pairs
        ),
        *(
            [
                Headline(
                    "Smallest cosine", word_cosine(cosines.minimum), "", "to the source’s vector"
                )
            ]
            if cosines.count
            else []
        ),
        _word_speed(certificate.source, certificate.compiled),
    ]


def _word_speed(source: Side, compiled: Side) -> Headline:
    old, new = (side.speed.at(side.speed.best_batch) for side in (source, compiled))
    if not old.engine_rate:
        return Headline("Speed", word_rate(new.engine_rate), "/s", "pictures a second")
    ratio = word_rate(new.engine_rate / old.engine_rate)
    meaning = f"{word_rate(old.engine_rate)} → {word_rate(new.engine_rate)} pictures a second"
    return Headline("Speed", ratio, "×", meaning)


def _compare_scores(source: Scores, compiled: Scores) -> list[AccuracyRow]:
    ranks = [rank for rank in RANKS if source.covers(rank) and compiled.covers(rank)]
    return [
        AccuracyRow("mAP", source.mAP, compiled.mAP),
        *(AccuracyRow(f"Rank-{k}", source.rank(k), compiled.rank(k)) for k in ranks),
        AccuracyRow("mINP", source.mINP, compiled.mINP),
    ]


def _summarise(agreement: Agreement) -> Cosines:
    cosines = agreement.cosines.astype(np.float64)
    if not len(cosines):
        return Cosines(0, 0, 0, 0)
    percentile, mean = float(np.percentile(cosines, 1)), float(cosines.mean())
    return Cosines(float(cosines.min()), percentile, mean, len(cosines))


def _describe_sides(source: Side, compiled: Side) -> list[tuple[str, str, str]]:
    """Give label, source, compiled: what each package is and what ran it."""
    facts: Mapping[str, tuple[str, str]] = {
        "Package": (source.name, compiled.name),
        "Engine file (sha256)": (source.sha256, compiled.sha256),
        "Precision": (source.precision, compiled.precision),
        "Engine": (source.runtime, compiled.runtime),
        "Device": (source.device, compiled.device),
        "Batch size": (_word_batch(source.batch), _word_batch(compiled.batch)),
        "Layers kept in float": (_word_layers(source), _word_layers(compiled)),
    }
    return [(label, *texts) for label, texts in facts.items()]


def _word_batch(batch: int | None) -> str:
    return "any" if batch is None else f"{batch} only"


def _word_layers(side: Side) -> str:
    if not side.float_layers:
        return "none listed"
    more = len(side.float_layers) - LISTED_LAYERS
    listed = ", ".join(side.float_layers[:LISTED_LAYERS])
    return f"{listed} and {more:,} more" if more > 0 else listed


def _list_facts(certificate: Certificate) -> list[tuple[str, str]]:
    return [
        ("Input contract", certificate.contract),
        ("Input contract (sha256)", certificate.contract_sha256),
        *certificate.data.items(),
        *certificate.versions.items(),
        ("Date", certificate.date),
    ]
