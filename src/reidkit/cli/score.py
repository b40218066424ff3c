"""`reidkit score`: packages and data sets -> scores, in one streaming pass."""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _findings, _options, _ranking


@click.command("score", short_help="Packages and data sets to scores.")
@click.argument("packages", type=_options.PATH, nargs=-1, required=True, metavar="PACKAGE...")
@_options.data_sets
@_ranking.ranking
@click.option("-o", "--out", type=_options.FOLDER, help="Keep embeddings and scores here.")
@_findings.looking
@_options.running
@_options.common
def command(
    packages: tuple[Path, ...],
    roots: tuple[Path, ...],
    layout: str | None,
    ranking: _ranking.Ranking,
    out: Path | None,
    looking: _findings.Looking,
    running: _options.Running,
    as_json: bool,
) -> None:
    """Embed the query and gallery of a data set and score them.

    Nothing is kept unless asked: with -o the vectors go to OUT/query and OUT/gallery and the
    figures to OUT/scores.json, and an interrupted run goes on where it stopped.

    Several packages or data sets (--data A --data B) give the matrix of scores: each network on
    each set, such as one that it was not trained on. With -o each has a folder of its own below
    OUT. Where one fails, the others are scored all the same; the exit code is then 1.
    """
    from reidkit.cli import _output, _pipeline

    if not roots:
        raise click.UsageError("--data ROOT is missing")
    scoring = _pipeline.Scoring(ranking, running, layout)
    if len(packages) > 1 or len(roots) > 1:
        if looking != _findings.Looking():
            raise click.UsageError(
                "--pairs, --cameras, --queries, --report and --points: one package, one data set"
            )
        matrix = scoring.score_all(packages, roots, out)
        names = (_pipeline.name_folders(packages), _pipeline.name_folders(roots))
        _output.print_matrix(matrix, *names, as_json=as_json)
        if any("error" in result for row in matrix for result in row):
            raise SystemExit(1)
        return
    looking.check(ranking)
    scored = scoring.score(packages[0], roots[0], out)
    scored.write(out)
    looking.present(scored, ranking, package=packages[0], as_json=as_json)
