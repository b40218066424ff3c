"""`reidkit calibrate`: embeddings folders -> which score means the same person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _options

if TYPE_CHECKING:
    from rich.table import Table

    from reidkit.operating import OperatingPoints, Rate, Unsupported


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
    help="File to write; operating-points.json unless --package is given.",
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
    help="False-accept rates.",
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
    unlabelled: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Find the score from which on two pictures show the same person.

    EMBEDDINGS are folders of one model's vectors with their person ids; their pictures are all
    compared with each other. For each false-accept rate the threshold, and what it accepts among
    other people (95 % intervals); the equal error rate; and how many are found in a gallery that
    lacks half of the people (DIR). Rates that the data cannot support are listed, with what it
    would take; exit code 1 when that is all of them.
    """
    from reidkit import operating, store
    from reidkit.cli import _output

    if unlabelled is not None and same_camera:
        raise click.UsageError("--same-camera says nothing of --unlabelled: tracks have one camera")
    sides = [store.read_embeddings(folder) for folder in embeddings]
    settings = operating.Settings(same_camera=same_camera, seed=seed)
    if unlabelled is None:
        points = operating.calibrate(sides, rates=rates, metric=metric, settings=settings)
    else:
        sightings = operating.read_sightings(unlabelled)
        points = operating.calibrate_unlabelled(
            sides, sightings, rates=rates, metric=metric, settings=settings
        )
    written = []
    if package is not None:
        written.append(operating.store_operating_points(package, points))
    if out is not None or package is None:
        written.append(out or Path(operating.FILE))
        operating.write_points(written[-1], points)
    if as_json:
        where = {"written": [str(path) for path in written]}
        _output.print_json(where | operating.points_as_json(points))
    else:
        _print(points)
        for path in written:
            click.echo(f"written to {click.format_filename(path)}")


def _print(points: OperatingPoints) -> None:
    from rich.console import Console

    console, who = Console(), "people" if points.labelled else "tracks"
    rows = {p.asked: (p.threshold, p.FAR, p.TAR) for p in points.points}
    title = f"same person from this score on ({points.metric})"
    console.print(_make_table(title, "TAR", rows, points.unsupported))
    if points.identification or points.unsupported_identification:
        found = {p.asked: (p.threshold, p.FAR, p.DIR) for p in points.identification}
        title = "best match is right from this score on, part of the people not in the gallery"
        console.print(_make_table(title, "DIR", found, points.unsupported_identification))
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
        click.echo(f"note: {note}")


def _print_population(points: OperatingPoints, who: str) -> None:
    error, people, control = points.equal_error, points.population, points.control
    click.echo(f"EER {_show(error.EER)} % at {error.threshold:.4f}")
    click.echo(
        f"{people.pictures:,} pictures of {people.people:,} {who}, {people.cameras:,} cameras: "
        f"{people.genuine_pairs:,} genuine and {people.impostor_pairs:,} impostor pairs"
    )
    if people.distractors or people.junk:
        click.echo(f"{people.distractors:,} distractors among them; {people.junk:,} junk left out")
    if control is not None:
        click.echo(
            f"mean score: same track {control.mean_genuine:.3f}, one frame "
            f"{control.mean_impostor:.3f}, random {control.mean_random:.3f}; same track above "
            f"random in {control.separation:.1%}"
        )


def _make_table(
    title: str,
    share: str,
    rows: dict[float, tuple[float, Rate, Rate]],
    unsupported: tuple[Unsupported, ...],
) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in ("asked FAR", "threshold", "FAR in % (95 %)", f"{share} in % (95 %)"):
        table.add_column(name, justify="right")
    for asked in sorted([*rows, *(each.asked for each in unsupported)]):
        if asked in rows:
            threshold, accepted, found = rows[asked]
            table.add_row(f"{asked:g}", f"{threshold:.4f}", _show(accepted), _show(found))
        else:
            table.add_row(f"{asked:g}", "unsupported", "", "")
    return table


def _show(rate: Rate) -> str:
    """Show a share in per cent, with its interval."""
    digits = 2 if rate.value >= 0.01 else 4
    value, low, high = (f"{100 * share:.{digits}f}" for share in (rate.value, rate.low, rate.high))
    return f"{value} ({low} to {high})"
