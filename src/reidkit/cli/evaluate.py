"""`reidkit evaluate`: two embeddings folders -> scores."""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _findings, _options, _ranking


@click.command("evaluate", short_help="Two embeddings folders to scores.")
@click.argument("query", type=_options.FOLDER)
@click.argument("gallery", type=_options.FOLDER)
@_ranking.ranking
@_findings.looking
@_options.common
def command(
    query: Path,
    gallery: Path,
    ranking: _ranking.Ranking,
    looking: _findings.Looking,
    as_json: bool,
) -> None:
    """Score the embeddings folder QUERY against the embeddings folder GALLERY.

    Folders larger than memory are read where they are used. Single-shot protocols give scores
    alone: of each trial's lists there is no single one to show.
    """
    from reidkit import store
    from reidkit.cli import _output, _pipeline

    asked = store.read_embeddings(query, mapped=True)
    given = store.read_embeddings(gallery, mapped=True)
    looking.check(ranking, asked)
    asked, given = ranking.prepare(asked, given)
    scores = ranking.evaluate(asked, given)
    made_by = _output.made_by(asked, given) | ranking.describe()
    made_by |= {"query": str(query), "gallery": str(gallery)}
    scored = _pipeline.Scored(scores, asked, given, f"{query} against {gallery}", made_by)
    looking.present(scored, ranking, as_json=as_json)
