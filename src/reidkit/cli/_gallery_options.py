"""Options that the commands of a gallery share."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from reidkit.cli import _options, _ranking

if TYPE_CHECKING:
    from reidkit.gallery import Asking, KeptPictures, Quality, Where


def find_actor() -> str:
    """Say who is at the command line, for the audit."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return "cli"


package = click.option(
    "--package",
    type=_options.absolute,
    help="The gallery's model package, where it is not where it was.",
)


memory = click.option(
    "--memory",
    type=_ranking.memory,
    metavar="SIZE",
    help="For vectors, such as 1GiB; what does not fit is read from disk.",
)


def refuse_options(names: Sequence[str], why: str) -> None:
    """Refuse options of the running command that would change nothing, where they are given.

    `names` are their parameters'; what comes from the environment is let pass.
    """
    context = click.get_current_context()
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{' and '.join(given)}: {why}")


def choose_memory(place: str, memory: int | None) -> int:
    """Say how many bytes of vectors may be held of the gallery at a place.

    Raises:
        click.UsageError: it is asked for where a database searches.
    """
    from reidkit.gallery import MEMORY, is_postgres

    if is_postgres(place):
        refuse_options(["memory"], "PostgreSQL searches, with the memory that it is given there")
    return MEMORY if memory is None else memory


def moment(text: str) -> float:
    """Parse `2026-11-24T20:00:00Z` into seconds since 1970."""
    from reidkit.errors import ArgumentError
    from reidkit.gallery import parse_time

    try:
        return parse_time(text)
    except ArgumentError as error:
        raise click.BadParameter(str(error)) from None


def duration(text: str) -> float:
    """Parse `30d` into seconds."""
    from reidkit.errors import ArgumentError
    from reidkit.gallery import parse_period

    try:
        return parse_period(text)
    except ArgumentError as error:
        raise click.BadParameter(str(error)) from None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which crops are meant."""

    person: tuple[str, ...] = ()
    camera: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    tag: tuple[str, ...] = ()

    def given(self) -> bool:
        """Tell whether there is any limit."""
        return self != Filters()

    def where(self, *, added_before: float | None = None) -> Where:
        """Give them as the library takes them."""
        from reidkit.gallery import Where

        return Where(
            people=self.person or None,
            cameras=self.camera or None,
            since=self.since,
            until=self.until,
            tags=self.tag,
            added_before=added_before,
        )


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """Add which crops are meant; the command gets them as one `filters` value."""
    return _options.add(
        _options.gather(command, "filters", Filters),
        click.option("--person", multiple=True, metavar="NAME", help="Of this person; repeatable."),
        click.option("--camera", multiple=True, metavar="NAME", help="By this one; repeatable."),
        click.option(
            "--since",
            type=moment,
            metavar="TIME",
            help="Taken at or after it, such as 2026-11-24T08:00:00Z.",
        ),
        click.option("--until", type=moment, metavar="TIME", help="Taken before it."),
        click.option("--tag", multiple=True, metavar="NAME", help="Tagged so; all of several."),
    )


@dataclass(frozen=True, slots=True)
class Counts:
    """How much an answer holds."""

    people: int = 10
    crops: int = 5

    def asking(self, chosen: Filters) -> Asking:
        """Give a question as the library takes it."""
        from reidkit.gallery import Asking

        return Asking(people=self.people, crops=self.crops, where=chosen.where())


def counts(command: Callable[..., None]) -> Callable[..., None]:
    """Add how much an answer holds; the command gets it as one `counts` value."""
    return _options.add(
        _options.gather(command, "counts", Counts),
        click.option(
            "--people",
            type=click.IntRange(1, 1000),
            default=10,
            show_default=True,
            help="Most people in the answer.",
        ),
        click.option(
            "--crops",
            type=click.IntRange(1, 1000),
            default=5,
            show_default=True,
            help="Most crops of each, with --json.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Needed:
    """What a crop must be to be taken."""

    least_height: int = 0
    least_width: int = 0
    least_sharpness: float = 0.0
    most_alike: float | None = None

    def quality(self) -> Quality:
        """Give it as the library takes it."""
        from reidkit.gallery import Quality

        return Quality(self.least_height, self.least_width, self.least_sharpness, self.most_alike)


NEEDED = ("least_height", "least_width", "least_sharpness", "most_alike")
"""Its options."""


def needed(command: Callable[..., None]) -> Callable[..., None]:
    """Add what a crop must be; the command gets it as one `needed` value."""
    return _options.add(
        _options.gather(command, "needed", Needed),
        click.option(
            "--least-height",
            type=click.IntRange(0),
            default=0,
            help="Refuse crops of fewer pixels' height.",
        ),
        click.option(
            "--least-width",
            type=click.IntRange(0),
            default=0,
            help="Refuse crops of fewer pixels' width.",
        ),
        click.option(
            "--least-sharpness",
            type=click.FloatRange(0),
            default=0.0,
            help="Refuse blurred crops: those less sharp.",
        ),
        click.option(
            "--most-alike",
            type=click.FloatRange(0, 1, min_open=True),
            help="Refuse a crop whose cosine with another in the gallery is above this.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """Whether pictures are kept."""

    pictures: bool = True
    largest_picture: int | None = None

    def kept(self) -> KeptPictures:
        """Give it as the library takes it."""
        from reidkit.gallery import KeptPictures

        if self.largest_picture is None:
            return KeptPictures(self.pictures)
        return KeptPictures(self.pictures, self.largest_picture)
