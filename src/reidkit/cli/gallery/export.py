"""`reidkit gallery export`: everything in files that others can read."""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _gallery_options, _options


@click.command("export", short_help="Write everything into a folder.")
@click.argument("place")
@_gallery_options.package
@click.option("-o", "--out", type=_options.FOLDER, required=True, help="Folder to write.")
@click.option("--pictures", is_flag=True, help="With the pictures that are kept.")
@_options.common
def command(place: str, package: Path | None, out: Path, pictures: bool, as_json: bool) -> None:
    """Write an embeddings folder and crops.csv, row by row the same crops.

    `gallery add --embeddings OUT/embeddings --csv OUT/crops.csv` reads them again, into a gallery
    of the same model. They hold what the gallery knows of people: keep them as safe as it.
    """
    from reidkit.cli import _output
    from reidkit.gallery import Gallery

    with Gallery.open(place, package=package) as gallery:
        count = gallery.export(out, pictures=pictures, actor=_gallery_options.find_actor())
    if as_json:
        _output.print_json({"out": str(out), "crops": count})
    else:
        click.echo(f"{click.format_filename(out)}: {count:,} crops")
