"""`reidkit gallery remove` and `compact`: forget, and leave no trace."""

from __future__ import annotations

import sys
import time
from contextlib import closing

import click

from reidkit.cli import _gallery_options, _options


@click.command("remove", short_help="Erase crops of people.")
@click.argument("place")
@_gallery_options.filters
@click.option(
    "--older-than",
    type=_gallery_options.duration,
    metavar="AGE",
    help="Enrolled longer ago than that, such as 30d.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_options.common
def command(
    place: str,
    filters: _gallery_options.Filters,
    older_than: float | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase the crops that all of the options mean, with their vectors and pictures.

    It asks before, and refuses where nobody can be asked, unless --yes is given. What is erased
    is found no more from then on; `gallery compact` drops the last traces from the disk.
    """
    from reidkit.cli import _gallery_printing, _output
    from reidkit.gallery import open_store

    if not filters.given() and older_than is None:
        raise click.UsageError("whom? Give --person or another limit: nothing is erased without")
    before = None if older_than is None else time.time() - older_than
    where = filters.where(added_before=before)
    # The store itself: whoever asks to be forgotten need not wait for a lost model package.
    with closing(open_store(place)) as store:
        count = store.count(where)
        if count and not yes:
            _ask(f"Erase {count:,} crops from {_gallery_printing.word_place(place)}?")
        erased = store.remove(where, actor=_gallery_options.find_actor())
    if as_json:
        _output.print_json({"erased": erased})
    else:
        click.echo(f"{erased:,} crops erased")
        if erased:
            click.echo("`reidkit gallery compact` drops the last traces of them from the disk")


@click.command("compact", short_help="Drop the last traces of what was erased.")
@click.argument("place")
@_options.common
def compact(place: str, as_json: bool) -> None:
    """Overwrite or drop every trace of erased crops in the gallery's files, and give back space."""
    from reidkit.cli import _gallery_printing, _output
    from reidkit.gallery import open_store

    with closing(open_store(place)) as store:
        before = store.facts().disk
        store.compact(actor=_gallery_options.find_actor())
        after = store.facts().disk
    if as_json:
        _output.print_json({"disk_before": before, "disk": after})
    else:
        click.echo(f"{_gallery_printing.word_place(place)}: {before:,} bytes before, {after:,} now")


def _ask(question: str) -> None:
    """Go on only where somebody says yes."""
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: give --yes to erase")
    if not click.confirm(question, err=True):
        click.echo("nothing was erased", err=True)
        raise SystemExit(1)
