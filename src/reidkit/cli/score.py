"""`reidkit score`: a package and a data set -> scores, in one streaming pass."""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _options


@click.command("score", short_help="Package and data set to scores.")
@click.argument("package", type=_options.PATH)
@_options.data
@_options.metric
@click.option("-o", "--out", type=_options.FOLDER, help="Keep embeddings and scores here.")
@click.option("--report", type=_options.FILE, help="Write a self-contained HTML report.")
@_options.running
@_options.common
def command(
    package: Path,
    root: Path | None,
    layout: str | None,
    metric: str,
    max_rank: int,
    out: Path | None,
    report: Path | None,
    running: _options.Running,
    as_json: bool,
) -> None:
    """Embed the query and gallery of a data set and score them.

    Nothing is kept unless asked: with -o the vectors go to OUT/query and OUT/gallery and the
    figures to OUT/scores.json, and an interrupted run goes on where it stopped.
    """
    from reidkit import disk, scoring
    from reidkit.cli import _output, _pipeline
    from reidkit.datasets import find_layout, load_dataset

    if root is None:
        raise click.UsageError("--data ROOT is missing")
    dataset = load_dataset(layout or find_layout(root), root)
    with running.load(package) as model:
        query, gallery = _pipeline.embed_sides(model, dataset, running, out)
        scores = scoring.evaluate(query, gallery, metric=metric, max_rank=max_rank)
        made_by = _output.made_by(query, gallery, model)
    made_by |= {"package": str(package), "data": str(root), "layout": dataset.name}
    result = _output.scores_as_json(scores) | {"made_by": made_by}
    if out is not None:
        disk.write_json(out / "scores.json", result)
    if as_json:
        _output.print_json(result)
    else:
        unreadable = (*query.unreadable, *gallery.unreadable)
        _output.print_scores(scores, f"{model.spec.name} on {root}", unreadable)
    if report is not None:  # last, so that a report that cannot be written loses no scores
        _pipeline.write_report(report, scores, query, gallery, made_by)
