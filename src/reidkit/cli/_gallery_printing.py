"""How what a gallery answers is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from reidkit.distributed import EnrolledParts
    from reidkit.gallery import (
        Answer,
        Crops,
        Enrolment,
        Left,
        Person,
        PersonMatch,
        Refused,
        Thresholds,
    )
    from reidkit.records import Progress

_VERDICTS = {"same": "the same person", "unsure": "unsure", "unknown": "unknown"}
_NAMED = 10
_FAR = {
    "identification": "of pictures of people who are not in the gallery",
    "pairs": "of pairs of different people",
}


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Show a bar on stderr from the first report on, so that no empty one stands before an error.

    The callback takes (done, total).
    """
    from reidkit.cli import _output

    with ExitStack() as stack:
        bars: list[Progress] = []

        def show(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(_output.progress_bar(label)))
            bars[0](done, total)

        yield show


def print_created(place: str, package: Path, *, as_json: bool) -> None:
    """Print that there is an empty gallery now."""
    from reidkit.cli import _output

    if as_json:
        _output.print_json({"place": word_place(place), "package": str(package)})
    else:
        click.echo(f"{word_place(place)}: an empty gallery")


def print_answer(answer: Answer, *, as_json: bool) -> None:
    """Print what a search found."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from reidkit.cli import _output
    from reidkit.gallery import answer_as_json

    if as_json:
        _output.print_json(answer_as_json(answer))
        return
    click.echo(f"verdict: {_VERDICTS[answer.verdict]}")
    if answer.reason:
        click.echo(answer.reason)
    if answer.people:
        table = Table()
        for name in ("verdict", "person"):
            table.add_column(name)
        for name in ("best", "mean", "crops"):
            table.add_column(name, justify="right")
        for name in ("camera", "time"):
            table.add_column(name)
        for match in answer.people:
            table.add_row(*(Text(cell) for cell in _word_match(match)))
        Console().print(table)
    click.echo(f"{word_thresholds(answer.thresholds)}; {answer.searched:,} crops searched")


def word_thresholds(found: Thresholds | None) -> str:
    """Say what the verdicts rest on."""
    if found is None:
        return "no thresholds: the package has no operating points (reidkit calibrate)"
    same = f"same from {found.same:.4f} on (accepts {100 * found.same_far:g} % {_FAR[found.kind]})"
    if found.unsure >= found.same:
        return same
    return f"{same}, unsure from {found.unsure:.4f} on ({100 * found.unsure_far:g} %)"


def print_enrolment(
    enrolment: Enrolment, total: int, left: Left, *, place: str, as_json: bool
) -> None:
    """Print what was enrolled and what was not, and why; exit with 1 where nothing could be."""
    from reidkit.cli import _output
    from reidkit.gallery import enrolment_as_json

    if as_json:
        facts = {"place": word_place(place), "crops": total} | dataclasses.asdict(left)
        _output.print_json(facts | enrolment_as_json(enrolment))
    else:
        new = len(enrolment.ids) - enrolment.replaced
        _print_counts(place, new, enrolment.replaced + enrolment.skipped, left)
        _print_refused(enrolment.refused, len(enrolment.refused))
    if enrolment.refused and len(enrolment.refused) == total:
        raise SystemExit(1)


def print_enrolled_parts(enrolled: EnrolledParts, *, place: str, as_json: bool) -> None:
    """Print what was enrolled of a data set; exit with 1 where nothing could be."""
    from reidkit.cli import _output

    if as_json:
        _output.print_json({"place": word_place(place)} | dataclasses.asdict(enrolled))
    else:
        known = enrolled.replaced + enrolled.skipped
        _print_counts(place, enrolled.added, known, enrolled.left)
        _print_refused(enrolled.refused, enrolled.refused_count)
    if enrolled.refused_count and enrolled.refused_count == enrolled.crops:
        raise SystemExit(1)


def _print_counts(place: str, new: int, known: int, left: Left) -> None:
    already = f"; {known:,} were there already" if known else ""
    click.echo(f"{word_place(place)}: {new:,} crops enrolled{already}")
    if left.describe():
        click.echo(f"left out: {left.describe()}")


def _print_refused(refused: Sequence[Refused], count: int) -> None:
    if count:
        click.echo(f"{count:,} refused:")
    for each in refused[:_NAMED]:
        click.echo(f"  {click.format_filename(each.name)}: {each.reason}")
    if count > _NAMED:
        click.echo(f"  and {count - _NAMED:,} more (--json names them)")


def print_people(people: list[Person]) -> None:
    """Print people as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("person")
    table.add_column("crops", justify="right")
    for name in ("cameras", "first", "last"):
        table.add_column(name)
    for person in people:
        cells = (
            person.name,
            f"{person.crops:,}",
            ", ".join(person.cameras),
            word_time(person.first),
            word_time(person.last),
        )
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)


def print_crops(crops: Crops) -> None:
    """Print a person's crops as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("crop", justify="right")
    for name in ("camera", "time", "tags", "source"):
        table.add_column(name)
    for row in range(len(crops)):
        cells = (
            str(crops.ids[row]),
            crops.cameras[row],
            word_time(float(crops.times[row])),
            ", ".join(crops.tags[row]),
            click.format_filename(crops.sources[row]),
        )
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)


def word_place(place: str) -> str:
    """Name a gallery; a database's address may hold a password and is not shown."""
    return "the gallery" if "://" in place else click.format_filename(place)


def word_time(seconds: float | None) -> str:
    """Give a time as ISO 8601 text; empty where unknown."""
    from reidkit.gallery import format_time

    return "" if seconds is None else format_time(seconds) or ""


def _word_match(match: PersonMatch) -> tuple[str, ...]:
    best = match.matches[0] if match.matches else None
    return (
        _VERDICTS[match.verdict],
        match.person,
        f"{match.best:.4f}",
        f"{match.mean:.4f}",
        f"{match.crops:,}",
        best.camera if best else "",
        word_time(best.time) if best else "",
    )
