"""What an evaluation may find besides its scores: printed, as JSON, as CSV and in a report."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reidkit.cli import _options
from reidkit.errors import MismatchError

if TYPE_CHECKING:
    from reidkit.cli._ranking import Ranking
    from reidkit.records import Embeddings, Scores
    from reidkit.reports import Findings
    from reidkit.scoring import CameraScores, Verification


_SHOWN_RATE = 1e-3


@dataclass(frozen=True, slots=True)
class Looking:
    """What to find besides the scores, and where to write it."""

    pairs: bool = False
    cameras: bool = False
    queries: Path | None = None
    report: Path | None = None
    points: Path | None = None

    def __post_init__(self) -> None:
        if self.points is not None and self.report is None:
            raise click.UsageError("--points: only together with --report")

    def with_points_of(self, package: Path, metric: str) -> Looking:
        """Take the package's own operating points for a report, if it has any of this metric."""
        from reidkit import operating

        path = package / operating.FILE
        if self.report is None or self.points is not None or not path.is_file():
            return self
        fits = operating.read_points(path).metric == metric
        return dataclasses.replace(self, points=path) if fits else self

    def find(
        self, scores: Scores, query: Embeddings, gallery: Embeddings, ranking: Ranking
    ) -> Findings:
        """Measure what is asked for, and for a report everything that it shows."""
        from reidkit import reports, scoring

        settings = ranking.settings()
        # Of a single-shot protocol's trials there is no one list to look at.
        reported = self.report is not None and not settings["protocol"].trials
        measured = {
            "queries": (scoring.score_queries, self.queries is not None),
            "cameras": (scoring.score_cameras, self.cameras),
            "verification": (scoring.measure_pairs, self.pairs),
        }
        parts: dict[str, Any] = {}
        for name, (measure, asked) in measured.items():
            if asked or reported:
                try:
                    parts[name] = measure(query, gallery, **settings)
                except MismatchError:  # such as a gallery of one person: no pair of two
                    if asked:
                        raise
        if self.points is not None:
            parts["threshold"] = _find_threshold(self.points, query, scores.metric)
        if reported:
            parts["embedding_map"] = reports.project_embeddings(
                query, gallery, metric=ranking.metric
            )
        return reports.Findings(scores, **parts)

    def show(self, found: Findings) -> None:
        """Print what was asked for."""
        if self.pairs and found.verification is not None:
            _print_pairs(found.verification)
        if self.cameras and found.cameras is not None:
            _print_cameras(found.cameras)

    def as_json(self, found: Findings) -> dict[str, object]:
        """Give what was asked for as JSON holds it; what is not known is null."""
        result: dict[str, object] = {}
        if self.pairs and found.verification is not None:
            result["pairs"] = _pairs_as_json(found.verification)
        if self.cameras and found.cameras is not None:
            result["cameras"] = _cameras_as_json(found.cameras)
        return result

    def write(
        self,
        found: Findings,
        query: Embeddings,
        gallery: Embeddings,
        ranking: Ranking,
        made_by: Mapping[str, object],
    ) -> None:
        """Write each query's figures and the report, where they are asked for."""
        if self.queries is not None and found.queries is not None:
            _write_queries(self.queries, found, query)
        if self.report is not None:
            _write_report(self.report, found, query, gallery, ranking, made_by)


def looking(command: Callable[..., None]) -> Callable[..., None]:
    """Add what to find besides the scores; the command gets it as one `looking` value."""

    @functools.wraps(command)
    def with_looking(**options: Any) -> None:
        names = [field.name for field in fields(Looking)]
        command(looking=Looking(**{name: options.pop(name) for name in names}), **options)

    return _options.add(
        with_looking,
        click.option("--pairs", is_flag=True, help="Also errors over pairs: TPR at FPR, EER, d'."),
        click.option("--cameras", is_flag=True, help="Also the scores of each pair of cameras."),
        click.option("--queries", type=_options.FILE, help="Write each query's figures as CSV."),
        click.option("--report", type=_options.FILE, help="Write a self-contained HTML report."),
        click.option(
            "--points",
            type=_options.FILE,
            help="Operating points (reidkit calibrate) whose threshold the report shows.",
        ),
    )


def _find_threshold(path: Path, query: Embeddings, metric: str) -> tuple[str, float]:
    """Give the operating point nearest to one false accept in 1,000."""
    from reidkit import operating

    points = operating.read_points(path)
    operating.check_comparable(points, query, metric)
    point = min(points.points, key=lambda point: abs(math.log(point.asked / _SHOWN_RATE)))
    return f"false-accept rate {point.asked:g}", point.threshold


def _print_pairs(found: Verification) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in ("false-positive rate", "true-positive rate", "threshold"):
        table.add_column(name, justify="right")
    for rate, true, threshold in zip(
        found.false_positive_rates, found.true_positive_rates, found.thresholds, strict=True
    ):
        known = not math.isnan(threshold)
        row = (f"{100 * true:.1f} %", f"{threshold:.4f}") if known else ("too few pairs", "")
        table.add_row(f"{rate:g}", *row)
    Console().print(table)
    click.echo(
        f"{found.same:,} pairs of one person, {found.different:,} of two; equal error rate "
        f"{100 * found.equal_error_rate:.2f} % at {found.equal_error_threshold:.4f}, "
        f"d' {found.d_prime:.2f}"
    )


def _print_cameras(found: CameraScores) -> None:
    from rich.console import Console
    from rich.table import Table

    click.echo("mAP by camera, queries down, gallery across, per cent:")
    table = Table()
    table.add_column("")
    for camera in found.gallery_cameras.tolist():
        table.add_column(str(camera), justify="right")
    for camera, row in zip(found.query_cameras.tolist(), found.mAP.tolist(), strict=True):
        cells = ["-" if math.isnan(value) else f"{100 * value:.1f}" for value in row]
        table.add_row(str(camera), *cells)
    Console().print(table)


def _pairs_as_json(found: Verification) -> dict[str, object]:
    return {
        "same": found.same,
        "different": found.different,
        "false_positive_rates": found.false_positive_rates.tolist(),
        "true_positive_rates": _known(found.true_positive_rates.tolist()),
        "thresholds": _known(found.thresholds.tolist()),
        "equal_error_rate": found.equal_error_rate,
        "equal_error_threshold": found.equal_error_threshold,
        "d_prime": found.d_prime,
    }


def _cameras_as_json(found: CameraScores) -> dict[str, object]:
    return {
        "query_cameras": found.query_cameras.tolist(),
        "gallery_cameras": found.gallery_cameras.tolist(),
        "mAP": [_known(row) for row in found.mAP.tolist()],
        "rank1": [_known(row) for row in found.rank1.tolist()],
        "queries": found.queries.tolist(),
    }


def _known(values: list[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _write_queries(path: Path, found: Findings, query: Embeddings) -> None:
    from reidkit import disk

    scores, text = found.queries, io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ["path", "person_id", "camera_id", "average_precision", "inverse_penalty", "ranks"]
    )
    if scores is not None:
        for index, row in enumerate(scores.queries.tolist()):
            ranks = scores.ranks[scores.starts[index] : scores.starts[index + 1]]
            samples = query.samples
            rows.writerow(
                [
                    samples.paths[row],
                    samples.person_ids[row],
                    samples.camera_ids[row],
                    scores.average_precisions[index],
                    scores.inverse_penalties[index],
                    " ".join(map(str, ranks.tolist())),
                ]
            )
    disk.write_bytes(path, text.getvalue().encode(errors="surrogatepass"))


def _write_report(
    path: Path,
    found: Findings,
    query: Embeddings,
    gallery: Embeddings,
    ranking: Ranking,
    made_by: Mapping[str, object],
) -> None:
    from reidkit import reports, scoring

    settings = ranking.settings()
    settings["protocol"] = dataclasses.replace(settings["protocol"], trials=0)
    matches = scoring.match(query, gallery, count=reports.SHOWN_MATCHES, **settings)
    facts = {
        name.replace("_", " "): str(value)
        for name, value in made_by.items()
        if name != "unreadable"
    }
    reports.write_report(path, found, query=query, gallery=gallery, matches=matches, facts=facts)
