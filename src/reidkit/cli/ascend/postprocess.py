"""`reidkit ascend postprocess`: vectors in files -> scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _options

if TYPE_CHECKING:
    from reidkit.ascend.predictions import Predictions
    from reidkit.records import Scores


@click.command("postprocess", short_help="Vectors in files to mAP and CMC.")
@click.option(
    "--query_dir", "query", type=_options.PATH, required=True, help="The queries' pictures."
)
@click.option(
    "--gallery_dir", "gallery", type=_options.PATH, required=True, help="The gallery's pictures."
)
@click.option(
    "--pred_dir", "folder", type=_options.PATH, required=True, help="The inference tool's files."
)
@click.option("--suffix", help="What their names add to the pictures': _0 or _1, found out.")
@_options.common
def command(query: Path, gallery: Path, folder: Path, suffix: str | None, as_json: bool) -> None:
    """Score the vectors that the inference tool wrote for two folders of pictures.

    Person and camera come from the pictures' file names, the number of queries from their folder.
    """
    from reidkit.ascend.predictions import read_predictions, score_predictions
    from reidkit.cli import _output

    with _output.progress_bar("reading") as progress:
        predictions = read_predictions(query, gallery, folder, suffix=suffix, progress=progress)
    click.echo(f"vectors: {folder / ('*' + predictions.ending)}", err=True)
    for remark in predictions.remarks:
        click.echo(f"remark: {remark}", err=True)
    scores = score_predictions(predictions)
    if as_json:
        _output.print_json(_as_json(predictions, scores))
    else:
        _print(predictions, scores)


def _as_json(predictions: Predictions, scores: Scores) -> dict[str, object]:
    from reidkit.cli import _output

    return _output.scores_as_json(scores) | {
        "ending": predictions.ending,
        "dimension": predictions.query.vectors.shape[1],
        "junk": dict(zip(("query", "gallery"), predictions.junk, strict=True)),
        "remarks": list(predictions.remarks),
    }


def _print(predictions: Predictions, scores: Scores) -> None:
    # To the letter what the guide's script prints: callers look for these lines.
    click.echo("The test feature is normalized")
    click.echo("Validation Results")
    click.echo(f"mAP: {scores.mAP:.1%}")
    for rank in (1, 5, 10):
        click.echo(f"CMC curve, Rank-{rank:<3}:{scores.rank(rank):.1%}")
    click.echo(
        f"{scores.queries:,} queries against {scores.gallery:,} gallery pictures, vectors of "
        f"{predictions.query.vectors.shape[1]:,}"
    )
    if scores.dropped.total:
        click.echo(f"{scores.dropped.total:,} queries dropped: {scores.dropped.describe()}")
    if predictions.junk[1]:
        click.echo(f"{predictions.junk[1]:,} junk pictures of the gallery left out")
