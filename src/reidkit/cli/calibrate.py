"""`reidkit calibrate`: embeddings folders -> which score means the same person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _options

if TYPE_CHECKING:
    from rich.table import Table

    from reidkit.operating import OperatingPoints, Rate


def rate_list(text: str) -> tuple[float, ...]:
    """Parse `1e-3,1e-2` into false-accept rates."""
    try:
        return tuple(_options.ratio(part.strip()) for part in text.split(","))
    except click.BadParameter:
        raise click.BadParameter(f"{text!r} is not a list of rates, such as 1e-3,1e-2") from None


@click.command("calibrate", short_help="Which score means the same person.")
@click.argument("embeddings", type=_options.FOLDER, nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    type=_options.FILE,
    help="File to write, operating-points.json unless --package is given; folders are made.",
)
@click.option(
    "--package", type=_options.FOLDER, help="Store them in the model package the vectors are from."
)
@click.option(
    "--rates",
    type=rate_list,
    metavar="LIST",
    default="1e-4,1e-3,1e-2,1e-1",
    show_default=True,
    help="False-accept rates of pairs; those of DIR are always 1e-2 and 1e-1.",
)
@click.option(
    "--metric",
    type=click.Choice(["cosine", "euclidean"]),
    default="cosine",
    show_default=True,
    help="How vectors are compared.",
)
@click.option("--same-camera", is_flag=True, help="Pairs of one camera are genuine pairs too.")
@click.option(
    "--person-zero",
    is_flag=True,
    help="Person 0 is a person as any other (MSMT17, tables), not a distractor (Market-1501).",
)
@click.option(
    "--unlabelled",
    type=_options.FILE,
    metavar="CSV",
    help="Nobody is known; CSV says path, camera, frame or time, and track of each crop.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Start of all chance."
)
@_options.common
def command(
    embeddings: tuple[Path, ...],
    out: Path | None,
    package: Path | None,
    rates: tuple[float, ...],
    metric: str,
    same_camera: bool,
    person_zero: bool,
    unlabelled: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Find the score from which on two pictures show the same person.

    EMBEDDINGS are folders of one model's vectors with their person ids; their pictures are all
    compared with each other. A person id means one person in all of the folders, as in the query
    and the gallery of one data set; calibrate data sets that are numbered apart one by one. For
    each false-accept rate the threshold, and what it accepts among other people (95 % intervals);
    the equal error rate; and how many are found in a gallery that lacks half of the people (DIR).
    Rates that the data cannot support are listed, with what it would take; exit code 1 when that
    is all of them.
    """
    from reidkit import operating, store
    from reidkit.cli import _output

    settings = operating.Settings(same_camera=same_camera, seed=seed, zero_is_person=person_zero)
    _check_options(unlabelled, same_camera=same_camera, person_zero=person_zero)
    if out is None and package is None:
        out = Path(operating.FILE)
    if out is not None:
        operating.check_writable(out)
    sides = [store.read_embeddings(folder, mapped=True) for folder in embeddings]
    if package is not None:
        operating.check_package(package, sides[0])
    if unlabelled is None:
        points = operating.calibrate(sides, rates=rates, metric=metric, settings=settings)
    else:
        seen = operating.read_sightings(unlabelled)
        points = operating.calibrate_unlabelled(
            sides, seen, rates=rates, metric=metric, settings=settings
        )
    if not as_json:
        _print(points)
    written = _write(points, package, out)
    if as_json:
        where = {"written": [str(path) for path in written]}
        _output.print_json(where | operating.points_as_json(points))
    else:
        for path in written:
            click.echo(f"written to {click.format_filename(path)}")


def _check_options(unlabelled: Path | None, *, same_camera: bool, person_zero: bool) -> None:
    if unlabelled is not None and same_camera:
        raise click.UsageError("--same-camera says nothing of --unlabelled: tracks have one camera")
    if unlabelled is not None and person_zero:
        raise click.UsageError("--person-zero says nothing of --unlabelled: nobody is known")


def _write(points: OperatingPoints, package: Path | None, out: Path | None) -> list[Path]:
    """Write the points into a package, to a file, or both, and say where."""
    from reidkit import operating

    written = []
    if package is not None:
        written.append(operating.store_operating_points(package, points))
    if out is not None:
        operating.write_points(out, points)
        written.append(out)
    return written


def _print(points: OperatingPoints) -> None:
    from rich.console import Console

    console, who = Console(), "people" if points.labelled else "tracks"
    reach = "this score on" if points.metric == "cosine" else "this distance down"
    rows = {p.asked: (p.threshold, p.FAR, p.TAR) for p in points.points}
    title = f"same person from {reach} ({points.metric})"
    console.print(_make_table(title, "TAR", rows, points))
    if points.identification or points.unsupported_identification:
        found = {p.asked: (p.threshold, p.FAR, p.DIR) for p in points.identification}
        title = f"best match is right from {reach}, part of the people not in the gallery"
        console.print(_make_table(title, "DIR", found, points))
    for name, missing in (
        ("TAR", points.unsupported),
        ("DIR", points.unsupported_identification),
    ):
        for each in missing:
            click.echo(
                f"unsupported: {name} at FAR {each.asked:g}: {each.reason}; about "
                f"{each.people_needed:,} {who} would do"
            )
    _print_population(points, who)
    for note in points.notes:
        click.echo(f"note: {click.format_filename(note)}")


def _print_population(points: OperatingPoints, who: str) -> None:
    from reidkit.reports._wording import word_threshold

    error, people, control = points.equal_error, points.population, points.control
    click.echo(f"EER {_show(error.EER)} % at {word_threshold(error.threshold, points.metric)}")
    click.echo(
        f"{people.pictures:,} pictures of {people.people:,} {who}, {people.cameras:,} cameras: "
        f"{people.genuine_pairs:,} genuine and {people.impostor_pairs:,} impostor pairs"
    )
    if people.distractors or people.junk:
        click.echo(f"{people.distractors:,} distractors among them; {people.junk:,} junk left out")
    if control is not None:
        sign, what = (1, "score") if points.metric == "cosine" else (-1, "distance")
        click.echo(
            f"mean {what}: same track {sign * control.mean_genuine:.3f}, one frame "
            f"{sign * control.mean_impostor:.3f}, random {sign * control.mean_random:.3f}; same "
            f"track more alike than random in {control.separation:.1%}"
        )


def _make_table(
    title: str,
    share: str,
    rows: dict[float, tuple[float, Rate, Rate]],
    points: OperatingPoints,
) -> Table:
    """Make a table of the points of pairs (TAR) or of identification (DIR)."""
    from rich.table import Table

    from reidkit.reports._wording import word_threshold

    unsupported = points.unsupported if share == "TAR" else points.unsupported_identification
    reached = "score at least" if points.metric == "cosine" else "distance at most"
    table = Table(title=title, title_justify="left")
    for name in ("asked FAR", reached, "FAR in % (95 %)", f"{share} in % (95 %)"):
        table.add_column(name, justify="right")
    for asked in sorted([*rows, *(each.asked for each in unsupported)]):
        if asked in rows:
            threshold, accepted, found = rows[asked]
            where = word_threshold(threshold, points.metric)
            table.add_row(f"{asked:g}", where, _show(accepted), _show(found))
        else:
            table.add_row(f"{asked:g}", "unsupported", "", "")
    return table


def _show(rate: Rate) -> str:
    """Show a share in per cent, with its interval."""
    digits = 2 if rate.value >= 0.01 else 4
    value, low, high = (f"{100 * share:.{digits}f}" for share in (rate.value, rate.low, rate.high))
    return f"{value} ({low} to {high})"
