"""`reidkit gallery add`: enrol crops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _gallery_options, _gallery_sources, _options
from reidkit.cli._gallery_sources import Left

if TYPE_CHECKING:
    from reidkit.gallery import Crops
    from reidkit.records import Embeddings


@dataclass(frozen=True, slots=True)
class Labels:
    """What is said of pictures at the command line."""

    person: str | None = None
    person_from: str | None = None
    camera: str | None = None
    time: float | None = None
    tag: tuple[str, ...] = ()


def _labels(command: Callable[..., None]) -> Callable[..., None]:
    return _options.add(
        _options.gather(command, "labels", Labels),
        click.option("--person", metavar="NAME", help="Whom the pictures show."),
        click.option(
            "--person-from",
            type=click.Choice(["folder", "stem"]),
            help="The person is called like the picture's folder, or the file without its suffix.",
        ),
        click.option("--camera", metavar="NAME", help="The camera that took them."),
        click.option(
            "--time",
            type=_gallery_options.moment,
            metavar="TIME",
            help="When they were taken, such as 2026-11-24T08:00:00Z.",
        ),
        click.option("--tag", multiple=True, metavar="NAME", help="A tag; repeatable."),
    )


@click.command("add", short_help="Enrol crops.")
@click.argument("place")
@click.argument("pictures", type=_options.absolute, nargs=-1)
@_labels
@_gallery_sources.splits
@click.option(
    "--csv",
    "table",
    type=_options.FILE,
    help="Crops by the columns path, person, camera, time, tags (the last three may lack).",
)
@click.option(
    "--embeddings", type=_options.FOLDER, help="Vectors that this gallery's model made already."
)
@_gallery_options.needed
@click.option("--batch", type=click.IntRange(1, 4096), help="Pictures a run of the engine.")
@_gallery_options.package
@click.option("--device", help="Where the model runs; see reidkit embed.")
@_options.common
def command(
    place: str,
    pictures: tuple[Path, ...],
    labels: Labels,
    source: _gallery_sources.Split,
    table: Path | None,
    embeddings: Path | None,
    needed: _gallery_options.Needed,
    batch: int | None,
    package: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Enrol PICTURES (files and folders), a split of a data set, a CSV's crops, or vectors.

    A person's crop that is there already is known by its bytes: after a crash or Ctrl-C the same
    command goes on where it stopped. Crops that cannot be read, or are refused, are named; the
    exit code is 1 only where all were.
    """
    from reidkit.cli import _gallery_printing, _output
    from reidkit.gallery import Gallery

    given = [bool(pictures), source.root is not None, table is not None, embeddings is not None]
    if sum(given) != 1:
        raise click.UsageError("give one of: PICTURES, --data, --csv, --embeddings")
    actor = _gallery_options.find_actor()
    with (
        Gallery.open(place, package=package, device=device) as gallery,
        _output.progress_bar("adding") as progress,
    ):
        if embeddings is not None:
            vectors, crops, left = _read_embeddings(embeddings, source, labels)
            done = gallery.add_embeddings(vectors, crops, actor=actor)
        else:
            crops, left = _read_crops(pictures, labels, source, table)
            done = gallery.add(
                crops, quality=needed.quality(), batch=batch, progress=progress, actor=actor
            )
    _gallery_printing.print_enrolment(done, len(crops), left, place=place, as_json=as_json)


def _read_crops(
    pictures: tuple[Path, ...], labels: Labels, source: _gallery_sources.Split, table: Path | None
) -> tuple[Crops, Left]:
    named = labels.person is not None or labels.person_from is not None
    if not pictures and (named or labels.time is not None):
        raise click.UsageError("--person, --person-from and --time are for PICTURES")
    if source.root is not None:
        return source.read(labels.camera or "", labels.tag)
    if table is not None:
        if labels.camera or labels.tag:
            raise click.UsageError("a CSV says camera and tags itself")
        return _gallery_sources.read_table(table), Left()
    naming = _gallery_sources.choose_naming(labels.person, labels.person_from)
    crops = _gallery_sources.read_pictures(
        pictures, naming, camera=labels.camera or "", time=labels.time, tags=labels.tag
    )
    return crops, Left()


def _read_embeddings(
    folder: Path, source: _gallery_sources.Split, labels: Labels
) -> tuple[Embeddings, Crops, Left]:
    from reidkit import store

    found = store.read_embeddings(folder)
    keep, left = _gallery_sources.choose_people(found.samples, zero_is_person=source.zero_is_person)
    found = found.select(keep)
    crops = _gallery_sources.make_crops(found.samples, camera=labels.camera or "", tags=labels.tag)
    return found, crops, left
