"""`reidkit gallery create`: a new gallery, empty or filled from a data set."""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _gallery_options, _gallery_sources, _options


@click.command("create", short_help="Make a gallery, empty or filled from a data set.")
@click.argument("place")
@click.option(
    "--package", type=_options.absolute, required=True, help="Model package it belongs to."
)
@click.option(
    "--pictures/--no-pictures",
    default=True,
    show_default=True,
    help="Keep crops beside their vectors, for showing and for another model.",
)
@click.option(
    "--largest-picture",
    type=click.IntRange(1024),
    metavar="PIXELS",
    help="Shrink crops that are larger before they are kept.",
)
@_gallery_sources.splits
@_gallery_options.needed
@_options.common
def command(
    place: str,
    package: Path,
    pictures: bool,
    largest_picture: int | None,
    source: _gallery_sources.Split,
    needed: _gallery_options.Needed,
    as_json: bool,
) -> None:
    """Make a gallery at PLACE; with --data fill it with the people of a data set's split.

    A run that was killed while it filled the gallery goes on with `gallery add`.
    """
    from reidkit.cli import _gallery_printing
    from reidkit.gallery import Gallery, Left

    if not source.root:
        unused = (*_gallery_sources.SPLIT, *_gallery_options.NEEDED)
        _gallery_options.refuse_options(unused, "only together with --data")
    if not pictures:
        _gallery_options.refuse_options(["largest_picture"], "not together with --no-pictures")
    crops, left = source.read("", ()) if source.root else (None, Left())
    kept = _gallery_options.Kept(pictures, largest_picture).kept()
    actor = _gallery_options.find_actor()
    with Gallery.create(place, package, pictures=kept, actor=actor) as gallery:
        if crops is None:
            _gallery_printing.print_created(place, package, as_json=as_json)
            return
        with _gallery_printing.progress_bar("adding") as progress:
            progress(0, len(crops))
            done = gallery.add(crops, quality=needed.quality(), progress=progress, actor=actor)
    _gallery_printing.print_enrolment(done, len(crops), left, place=place, as_json=as_json)
