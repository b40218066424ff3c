"""`reidkit gallery reembed`: another model for the same people."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from reidkit.cli import _gallery_options, _options


@click.command("reembed", short_help="Move the gallery to another model.")
@click.argument("place")
@click.option("--package", type=_options.absolute, required=True, help="The new model package.")
@click.option(
    "--drop-missing", is_flag=True, help="Erase crops whose picture is nowhere to be found."
)
@_options.common
def command(place: str, package: Path, drop_missing: bool, as_json: bool) -> None:
    """Make all vectors anew with another model, from kept pictures or the files they came from.

    The gallery answers with the old model until all are there, then changes over at once. After a
    crash or Ctrl-C the same command goes on where it stopped. The old package is not needed.
    """
    from reidkit.cli import _gallery_printing, _output
    from reidkit.gallery import reembed_place

    with _gallery_printing.progress_bar("embedding") as progress:
        # The older package is not asked for: its being lost may be why the gallery is to move.
        done = reembed_place(
            place,
            package,
            drop_missing=drop_missing,
            progress=progress,
            actor=_gallery_options.find_actor(),
        )
    if as_json:
        _output.print_json({"package": str(package)} | dataclasses.asdict(done))
        return
    click.echo(f"{done.crops:,} crops, now of {click.format_filename(package)}")
    for each in done.missing[:10]:
        click.echo(f"  lost: {click.format_filename(each.name)}: {each.reason}")
    if done.dropped:
        click.echo(f"{done.dropped:,} crops erased, whose picture was nowhere to be found")
