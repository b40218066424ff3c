"""`reidkit gallery add`: enrol crops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from reidkit.cli import _engine, _gallery_options, _gallery_sources, _gallery_tables, _options

if TYPE_CHECKING:
    from reidkit.distributed import Enrolling
    from reidkit.gallery import Crops, Left, Naming
    from reidkit.records import Embeddings


@dataclass(frozen=True, slots=True)
class Labels:
    """What is said of pictures at the command line."""

    person: str | None = None
    person_from: str | None = None
    camera: str | None = None
    time: float | None = None
    tag: tuple[str, ...] = ()

    @property
    def naming(self) -> Naming | None:
        """How people are called by their pictures' paths, if they are."""
        return cast("Naming | None", self.person_from)


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
    "--embeddings",
    type=_options.address,
    help="Vectors that this gallery's model made already, a folder or a data set in parts; with "
    "--csv as the export of a gallery, whose rows then say whom they show.",
)
@_engine.engine_options
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
    embeddings: str | None,
    engine: _engine.Engine,
    needed: _gallery_options.Needed,
    batch: int | None,
    package: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Enrol PICTURES (files and folders), a split of a data set, a CSV's crops, or vectors.

    What `gallery export` wrote is read by --embeddings OUT/embeddings --csv OUT/crops.csv without
    a model's run, and by --csv OUT/crops.csv alone from the pictures, anew.

    A person's crop that is there already is known by its bytes: after a crash or Ctrl-C the same
    command goes on where it stopped. Crops that cannot be read, or are refused, are named; the
    exit code is 1 only where all were.

    A data set is enrolled part by part; with --engine ray by tasks on a cluster at once, which
    needs a gallery in PostgreSQL.
    """
    from reidkit.cli import _gallery_printing
    from reidkit.gallery import Gallery

    given = [bool(pictures), source.root is not None, table is not None or embeddings is not None]
    if sum(given) != 1:
        raise click.UsageError("give one of: PICTURES, --data, --csv, --embeddings")
    _refuse_unused(pictures=bool(pictures), table=table, embeddings=embeddings)
    actor = _gallery_options.find_actor()
    if embeddings is not None and table is None and _is_data_set(embeddings):
        enrolling = _plan_parts(place, package, source, labels, actor)
        _add_parts(embeddings, enrolling, engine, as_json=as_json)
        return
    if embeddings is not None:
        _options.refuse_uris(embeddings)
    if engine.engine is not None:
        raise click.UsageError("--engine: only together with --embeddings and a data set in parts")
    with (
        Gallery.open(place, package=package, device=device) as gallery,
        _gallery_printing.progress_bar("adding") as progress,
    ):
        if embeddings is not None:
            vectors, crops, left = _read_embeddings(Path(embeddings), source, labels, table)
            progress(0, len(crops))
            done = gallery.add_embeddings(vectors, crops, progress=progress, actor=actor)
        else:
            crops, left = _read_crops(pictures, labels, source, table)
            progress(0, len(crops))
            done = gallery.add(
                crops, quality=needed.quality(), batch=batch, progress=progress, actor=actor
            )
    _gallery_printing.print_enrolment(done, len(crops), left, place=place, as_json=as_json)


def _refuse_unused(*, pictures: bool, table: Path | None, embeddings: str | None) -> None:
    """Refuse options that what is enrolled leaves no use for."""
    refuse = _gallery_options.refuse_options
    if not pictures:
        refuse(["person", "time"], "only for PICTURES")
        if embeddings is None or table is not None:
            refuse(["person_from"], "only for PICTURES and --embeddings")
    if table is not None:
        refuse(["camera", "tag"], "not with --csv, which says them itself")
        refuse([*_gallery_sources.SPLIT], "not with --csv")
    elif pictures:
        refuse([*_gallery_sources.SPLIT], "only together with --data")
    if embeddings is not None:
        refuse(["split", "layout"], "only together with --data")
        unused = [*_gallery_options.NEEDED, "batch", "device"]
        refuse(unused, "not with --embeddings: no picture is read, no model runs")


def _read_crops(
    pictures: tuple[Path, ...], labels: Labels, source: _gallery_sources.Split, table: Path | None
) -> tuple[Crops, Left]:
    from reidkit.gallery import Left

    if source.root is not None:
        return source.read(labels.camera or "", labels.tag)
    if table is not None:
        return _gallery_tables.read_table(table), Left()
    naming = _gallery_sources.choose_naming(labels.person, labels.person_from)
    crops = _gallery_sources.read_pictures(
        pictures, naming, camera=labels.camera or "", time=labels.time, tags=labels.tag
    )
    return crops, Left()


def _read_embeddings(
    folder: Path, source: _gallery_sources.Split, labels: Labels, table: Path | None
) -> tuple[Embeddings, Crops, Left]:
    from reidkit import store
    from reidkit.gallery import Left, take_people

    found = store.read_embeddings(folder)
    if table is not None:
        return found, _gallery_tables.read_rows(table, found.samples.paths.tolist()), Left()
    return take_people(
        found,
        camera=labels.camera or "",
        tags=labels.tag,
        naming=labels.naming,
        zero_is_person=source.zero_is_person,
    )


def _is_data_set(address: str) -> bool:
    from reidkit import distributed

    return distributed.is_data_set(address)


def _plan_parts(
    place: str, package: Path | None, source: _gallery_sources.Split, labels: Labels, actor: str
) -> Enrolling:
    from reidkit.distributed import Enrolling

    return Enrolling(
        place,
        package,
        labels.camera or "",
        labels.tag,
        labels.naming,
        source.zero_is_person,
        actor,
    )


def _add_parts(
    address: str, enrolling: Enrolling, engine: _engine.Engine, *, as_json: bool
) -> None:
    from reidkit.cli import _gallery_printing
    from reidkit.distributed import enrol_parts, open_data_set, open_tasks

    cluster = engine.cluster() if engine.engine else None
    with open_tasks(cluster) as tasks, _gallery_printing.progress_bar("adding") as progress:
        done = enrol_parts(open_data_set(address), enrolling, tasks=tasks, progress=progress)
    _gallery_printing.print_enrolled_parts(done, place=enrolling.place, as_json=as_json)
