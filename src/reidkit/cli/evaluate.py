"""`reidkit evaluate`: two embeddings folders -> scores."""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _options


@click.command("evaluate", short_help="Two embeddings folders to scores.")
@click.argument("query", type=_options.FOLDER)
@click.argument("gallery", type=_options.FOLDER)
@_options.metric
@_options.common
def command(query: Path, gallery: Path, metric: str, max_rank: int, as_json: bool) -> None:
    """Score the embeddings folder QUERY against the embeddings folder GALLERY."""
    from reidkit import scoring, store
    from reidkit.cli import _output

    queries, pictures = store.read_embeddings(query), store.read_embeddings(gallery)
    scores = scoring.evaluate(queries, pictures, metric=metric, max_rank=max_rank)
    if as_json:
        made_by = _output.made_by(queries, pictures)
        made_by |= {"query": str(query), "gallery": str(gallery)}
        _output.print_json(_output.scores_as_json(scores) | {"made_by": made_by})
    else:
        unreadable = (*queries.unreadable, *pictures.unreadable)
        _output.print_scores(scores, f"{query} against {gallery}", unreadable)
