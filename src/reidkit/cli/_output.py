"""What the commands print: results on stdout, progress and remarks on stderr."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import reidkit
from reidkit.errors import UnreadableImage
from reidkit.models import Model
from reidkit.package import Package
from reidkit.records import Embeddings, Progress, Scores


def print_json(value: Mapping[str, object]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def print_package(package: Package, *, as_json: bool) -> None:
    """Say what a new package is."""
    spec = package.spec
    if as_json:
        print_json({"out": str(package.folder)} | dataclasses.asdict(spec))
        return
    folder = click.format_filename(package.folder)
    click.echo(f"{folder}: {spec.architecture}, vectors of {spec.embedding_size}")
    click.echo(f"input contract: {spec.input.describe()}")
    click.echo(f"sha256 of {spec.engine.file}: {spec.engine.sha256}")


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Show a bar on stderr while the block runs; the callback takes (done, total)."""
    with progress_bars() as start:
        yield start(label)


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Progress]]:
    """Show bars on stderr while the block runs, one below the other; call it to start one."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bar,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:

        def start(label: str) -> Progress:
            task = bar.add_task(f"{label:<16}", total=None, rate="")
            position = len(bar.tasks) - 1

            def show(done: int, total: int) -> None:
                speed = bar.tasks[position].speed
                rate = f"{speed:,.0f}/s" if speed else ""
                bar.update(task, completed=done, total=total, rate=rate)

            return show

        yield start


def print_scores(scores: Scores, title: str, unreadable: Sequence[UnreadableImage]) -> None:
    """Print the figures of an evaluation as a table, and what was left out of it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    ranks = [rank for rank in (1, 5, 10) if scores.covers(rank)]
    figures = {"mAP": scores.mAP, **{f"Rank-{k}": scores.rank(k) for k in ranks}}
    figures["mINP"] = scores.mINP
    for name in figures:
        table.add_column(name, justify="right")
    table.add_row(*(f"{100 * value:.1f} %" for value in figures.values()))
    Console().print(table)
    click.echo(
        f"{scores.queries:,} queries against {scores.gallery:,} gallery pictures, "
        f"{scores.metric}, protocol {scores.protocol}"
    )
    if scores.dropped.total:
        click.echo(f"{scores.dropped.total:,} queries dropped: {scores.dropped.describe()}")
    if unreadable:
        names = ", ".join(click.format_filename(image.path) for image in unreadable[:3])
        more = ", ..." if len(unreadable) > 3 else ""
        click.echo(f"{len(unreadable):,} unreadable pictures left out: {names}{more}")


def print_matrix(matrix: Sequence[Sequence[Mapping[str, Any]]], *, as_json: bool) -> None:
    """Print the scores of packages, one a row, on data sets, one a column."""
    if as_json:
        print_json({"matrix": matrix})
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="mAP / Rank-1", title_justify="left")
    table.add_column("package")
    for result in matrix[0]:
        table.add_column(Text(Path(result["made_by"]["data"]).name), justify="right")
    for row in matrix:
        cells = [f"{100 * result['mAP']:.1f} / {100 * result['cmc'][0]:.1f} %" for result in row]
        table.add_row(Text(Path(row[0]["made_by"]["package"]).name), *cells)
    Console().print(table)
    for result in (result for row in matrix for result in row):
        if result["dropped_queries"] or result["made_by"]["unreadable"]:
            made_by = result["made_by"]
            click.echo(
                f"{made_by['package']} on {made_by['data']}: {result['dropped_queries']:,} queries "
                f"dropped, {len(made_by['unreadable']):,} unreadable pictures left out"
            )


def scores_as_json(scores: Scores) -> dict[str, object]:
    """Give the object that `evaluate --json` and `score --json` print; fractions, not per cent."""
    return {
        "mAP": scores.mAP,
        "mINP": scores.mINP,
        "mAP_trapezoid": scores.mAP_trapezoid,
        "precision": [float(value) for value in scores.precision],
        "cmc": [float(value) for value in scores.cmc],
        "queries": scores.queries,
        "dropped_queries": scores.dropped.total,
        "dropped_reasons": dataclasses.asdict(scores.dropped),
        "gallery": scores.gallery,
        "metric": scores.metric,
        "protocol": scores.protocol,
    }


def made_by(
    query: Embeddings, gallery: Embeddings, model: Model | None = None
) -> dict[str, object]:
    """Say what produced two sides of an evaluation."""
    facts: dict[str, object] = {
        "reidkit": reidkit.__version__,
        "model_sha256": query.model_sha256,
        "contract_sha256": query.contract_sha256,
        "dimension": query.vectors.shape[1],
        "unreadable": [list(image) for image in (*query.unreadable, *gallery.unreadable)],
    }
    if model is not None:
        facts |= {
            "model": model.spec.name,
            "architecture": model.spec.architecture,
            "contract": model.contract.describe(),
            "runtime": model.runtime.name,
            "device": model.runtime.device,
            "precision": model.spec.engine.precision,
        }
    return facts
