"""What the commands print: results on stdout, progress and remarks on stderr."""

from __future__ import annotations

import dataclasses
import json
import math
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
from reidkit.scoring import CameraScores, Verification


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


def print_matrix(
    matrix: Sequence[Sequence[Mapping[str, Any]]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Print the scores of packages, one a row, on data sets, one a column, by these names.

    Those that failed are named on stderr.
    """
    if as_json:
        print_json({"matrix": matrix})
    else:
        _print_table(matrix, rows, columns)
    for result in (result for row in matrix for result in row):
        made_by = result["made_by"]
        place = f"{made_by['package']} on {made_by['data']}"
        if "error" in result:
            click.echo(f"reidkit: {place}: {' '.join(result['error'].split())}", err=True)
        elif not as_json and (result["dropped_queries"] or made_by["unreadable"]):
            click.echo(
                f"{place}: {result['dropped_queries']:,} queries "
                f"dropped, {len(made_by['unreadable']):,} unreadable pictures left out"
            )


def _print_table(
    matrix: Sequence[Sequence[Mapping[str, Any]]], rows: Sequence[str], columns: Sequence[str]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="mAP / Rank-1", title_justify="left")
    table.add_column("package")
    for name in columns:
        table.add_column(Text(name), justify="right")
    for name, row in zip(rows, matrix, strict=True):
        cells = [
            "failed"
            if "error" in result
            else f"{100 * result['mAP']:.1f} / {100 * result['cmc'][0]:.1f} %"
            for result in row
        ]
        table.add_row(Text(name), *cells)
    Console().print(table)
    packages = zip(rows, (row[0]["made_by"]["package"] for row in matrix), strict=True)
    roots = zip(columns, (result["made_by"]["data"] for result in matrix[0]), strict=True)
    for name, path in (*packages, *roots):
        if name != Path(path).absolute().name:  # numbered: say which it is
            click.echo(f"{name}: {path}")


def print_pairs(found: Verification) -> None:
    """Print the errors over pairs."""
    from rich.console import Console
    from rich.table import Table

    from reidkit.reports._wording import word_threshold

    reached = "distance at most" if found.metric == "euclidean" else "score at least"
    table = Table()
    for name in ("false-positive rate", "true-positive rate", reached):
        table.add_column(name, justify="right")
    for rate, true, threshold in zip(
        found.false_positive_rates, found.true_positive_rates, found.thresholds, strict=True
    ):
        known = not math.isnan(threshold)
        row = (
            (f"{100 * true:.1f} %", word_threshold(threshold, found.metric))
            if known
            else ("too few pairs", "")
        )
        table.add_row(f"{rate:g}", *row)
    Console().print(table)
    click.echo(
        f"{found.same:,} pairs of one person, {found.different:,} of two; equal error rate "
        f"{100 * found.equal_error_rate:.2f} % at "
        f"{word_threshold(found.equal_error_threshold, found.metric)}, "
        f"d' {found.d_prime:.2f}"
    )


def print_cameras(found: CameraScores) -> None:
    """Print the mAP of each pair of cameras."""
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


def pairs_as_json(found: Verification) -> dict[str, object]:
    """Give the errors over pairs; thresholds are scores, minus a distance of `euclidean`."""
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


def cameras_as_json(found: CameraScores) -> dict[str, object]:
    """Give the scores of each pair of cameras."""
    return {
        "query_cameras": found.query_cameras.tolist(),
        "gallery_cameras": found.gallery_cameras.tolist(),
        "mAP": [_known(row) for row in found.mAP.tolist()],
        "rank1": [_known(row) for row in found.rank1.tolist()],
        "queries": found.queries.tolist(),
    }


def _known(values: list[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


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
