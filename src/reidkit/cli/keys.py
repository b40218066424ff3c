"""`reidkit keys`: who may use a service, and for what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from reidkit.cli import _options

FILE = "keys.json"
"""The keys file of a gallery that is a folder."""

DATABASE = "gallery.sqlite"
"""What makes a folder a gallery's; repeated here so that --help loads no numpy, a test compares."""

ROLES = ("search", "enrol", "erase", "admin")


def choose_file(place: str | None, file: Path | None) -> Path:
    """Say which keys file is meant: the one named, or that in a gallery's folder."""
    if file is not None and place is not None:
        raise click.UsageError("give either --gallery DIR or --keys FILE")
    if file is not None:
        return file
    if place is None:
        raise click.UsageError("whose keys? Give --gallery DIR or --keys FILE")
    if "://" in place:
        raise click.UsageError("a gallery in a database has no folder: give --keys FILE")
    if not (Path(place) / DATABASE).is_file():
        raise click.UsageError(f"{place} is no gallery's folder: give that, or --keys FILE")
    return Path(place) / FILE


def _which(command: Callable[..., None]) -> Callable[..., None]:
    return _options.add(
        command,
        click.option("--gallery", "place", metavar="DIR", help="Gallery whose keys are meant."),
        click.option("--keys", "file", type=_options.FILE, help="Keys file, in its place."),
    )


@click.group("keys", short_help="Who may use a service, and for what.")
def command() -> None:
    """Make, list and remove the keys of `reidkit serve`. Only their hashes are on disk."""


@command.command("add", short_help="Make a key, shown once.")
@click.argument("name")
@click.option(
    "--role",
    "roles",
    type=click.Choice(ROLES),
    multiple=True,
    required=True,
    help="What it may do; repeatable. admin may do everything.",
)
@_which
@_options.common
def add(
    name: str, roles: tuple[str, ...], place: str | None, file: Path | None, as_json: bool
) -> None:
    """Make a key called NAME, by which the audit knows it, and print it: only this once."""
    from reidkit.cli import _output
    from reidkit.serving import add_key

    path = choose_file(place, file)
    secret = add_key(path, name, roles)
    if as_json:
        _output.print_json({"name": name, "roles": list(roles), "key": secret, "file": str(path)})
        return
    click.echo(secret)
    click.echo("This is the key; it is not shown again. Only its hash was kept.", err=True)


@command.command("list", short_help="Names, roles, and when made.")
@_which
@_options.common
def list_(place: str | None, file: Path | None, as_json: bool) -> None:
    """List the keys, without themselves."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from reidkit.cli import _gallery_printing, _output
    from reidkit.serving import list_keys

    keys = list_keys(choose_file(place, file))
    rows = [(key.id, key.name, key.roles, _gallery_printing.word_time(key.created)) for key in keys]
    if as_json:
        _output.print_json(
            {
                "keys": [
                    dict(zip(("id", "name", "roles", "created"), row, strict=True)) for row in rows
                ]
            }
        )
        return
    table = Table()
    for title in ("id", "name", "roles", "made"):
        table.add_column(title)
    for identity, name, roles, made in rows:
        table.add_row(*(Text(cell) for cell in (identity, name, ", ".join(roles), made)))
    Console().print(table)


@command.command("remove", short_help="Make a key worthless.")
@click.argument("key")
@_which
@_options.common
def remove(key: str, place: str | None, file: Path | None, as_json: bool) -> None:
    """Remove the key of this name or id; a running service refuses it a moment later."""
    from reidkit.cli import _output
    from reidkit.serving import remove_key

    gone = remove_key(choose_file(place, file), key)
    if as_json:
        _output.print_json({"removed": gone.name, "id": gone.id})
    else:
        click.echo(f"{gone.name} ({gone.id}) removed")
