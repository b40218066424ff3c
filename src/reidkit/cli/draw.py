"""`reidkit draw`: write a drawn data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from reidkit.cli import _options


@click.command("draw", short_help="Write a drawn data set.")
@click.argument("out", type=_options.FOLDER)
@click.option("--people", default=100, show_default=True, help="Test people; as many again train.")
@click.option("--cameras", default=6, show_default=True, help="Cameras, 2 to 99.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same pictures.")
@click.option("--workers", type=click.IntRange(1), help="Drawing processes.")
@_options.common
def command(
    out: Path, people: int, cameras: int, seed: int, workers: int | None, as_json: bool
) -> None:
    """Write drawn pedestrians in Market-1501 layout to the new folder OUT."""
    from reidkit.cli import _output
    from reidkit.datasets.drawn import draw_dataset

    with _output.progress_bar("drawing") as progress:
        counts = draw_dataset(
            out, people=people, cameras=cameras, seed=seed, workers=workers, progress=progress
        )
    figures = dataclasses.asdict(counts)
    if as_json:
        _output.print_json({"out": str(out)} | figures)
    else:
        listed = ", ".join(f"{number:,} {name}" for name, number in figures.items())
        click.echo(f"{click.format_filename(out)}: {listed}")
