"""What an evaluation may find besides its scores: printed, as JSON, as CSV and in a report."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reidkit.cli import _options
from reidkit.errors import MismatchError, ReidkitError

if TYPE_CHECKING:
    from reidkit.cli._pipeline import Scored
    from reidkit.cli._ranking import Ranking
    from reidkit.operating import OperatingPoints
    from reidkit.records import Embeddings, Scores
    from reidkit.reports import Findings


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

    def check(self, ranking: Ranking, query: Embeddings | None = None) -> None:
        """Refuse before anything is computed what cannot be found or written.

        Raises:
            click.UsageError: the protocol has no one list to look at, or the operating points do
                not hold for what the ranking does.
            ReidkitError: the operating points cannot be read, or are not of these vectors.
        """
        from reidkit import operating
        from reidkit.scoring import PROTOCOLS

        names = ("pairs", "cameras", "queries", "points")
        given = [f"--{name}" for name in names if getattr(self, name)]
        trials = PROTOCOLS[ranking.protocol].trials
        if given and trials:
            raise click.UsageError(
                f"{' and '.join(given)}: the protocol {ranking.protocol} draws {trials} galleries, "
                "of which there is no single one to look at"
            )
        if self.points is not None:
            if changes := ranking.list_changes():
                changed = " and ".join(changes)
                raise click.UsageError(
                    f"--points: no threshold holds for scores changed by {changed}"
                )
            points = operating.read_points(self.points)
            if query is not None:
                operating.check_comparable(points, query, ranking.metric)
        for path in (self.queries, self.report):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)

    def present(
        self, scored: Scored, ranking: Ranking, *, package: Path | None = None, as_json: bool
    ) -> None:
        """Print the scores, then find, show and write the rest: if that fails, no score is lost.

        A report shows the `package`'s own operating points where there are any that apply.
        """
        from reidkit.cli import _output

        if not as_json:
            scored.show()
        try:
            found = self.find(scored.scores, scored.query, scored.gallery, ranking, package)
        except Exception:
            if as_json:
                _output.print_json(scored.as_json())
            raise
        if as_json:
            _output.print_json(scored.as_json() | self.as_json(found))
        else:
            self.show(found)
        self.write(found, scored.query, scored.gallery, ranking, scored.made_by)

    def find(
        self,
        scores: Scores,
        query: Embeddings,
        gallery: Embeddings,
        ranking: Ranking,
        package: Path | None = None,
    ) -> Findings:
        """Measure what is asked for, and for a report everything that it shows."""
        from reidkit import operating, reports, scoring

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
            points = operating.read_points(self.points)
            operating.check_comparable(points, query, ranking.metric)
            parts["threshold"] = _choose_threshold(points)
        elif reported and package is not None:
            parts["threshold"] = _find_own_threshold(package, query, ranking)
        if reported:
            parts["embedding_map"] = reports.project_embeddings(
                query, gallery, metric=ranking.metric
            )
        return reports.Findings(scores, **parts)

    def show(self, found: Findings) -> None:
        """Print what was asked for."""
        from reidkit.cli import _output

        if self.pairs and found.verification is not None:
            _output.print_pairs(found.verification)
        if self.cameras and found.cameras is not None:
            _output.print_cameras(found.cameras)

    def as_json(self, found: Findings) -> dict[str, object]:
        """Give what was asked for as JSON holds it; what is not known is null."""
        from reidkit.cli import _output

        result: dict[str, object] = {}
        if self.pairs and found.verification is not None:
            result["pairs"] = _output.pairs_as_json(found.verification)
        if self.cameras and found.cameras is not None:
            result["cameras"] = _output.cameras_as_json(found.cameras)
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
    return _options.add(
        _options.gather(command, "looking", Looking),
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


def _find_own_threshold(
    package: Path, query: Embeddings, ranking: Ranking
) -> tuple[str, float] | None:
    """Give the threshold of a package's own operating points; none where they do not apply."""
    from reidkit import operating

    if not (package / operating.FILE).is_file():
        return None
    try:
        if changes := ranking.list_changes():
            raise MismatchError(f"its thresholds do not hold with {' and '.join(changes)}")
        points = operating.read_operating_points(package)
        operating.check_comparable(points, query, ranking.metric)
        return _choose_threshold(points)
    except ReidkitError as error:
        click.echo(f"remark: the report shows no operating point of {package}: {error}", err=True)
        return None


def _choose_threshold(points: OperatingPoints) -> tuple[str, float]:
    """Give the operating point nearest to one false accept in 1,000."""
    if not points.points:
        raise MismatchError("the operating points hold no threshold: all rates were refused")
    point = min(points.points, key=lambda point: abs(math.log(point.asked / _SHOWN_RATE)))
    return f"false-accept rate {point.asked:g}", point.threshold


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
