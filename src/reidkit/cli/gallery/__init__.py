"""`reidkit gallery`: people known by their crops, kept in a folder or a PostgreSQL database."""

from __future__ import annotations

import click

from reidkit.cli.gallery import add, create, export, index, reembed, remove, search, stats


@click.group("gallery", short_help="People known by their crops: enrol, search, erase.")
def command() -> None:
    """Keep crops of people and find people in them again.

    PLACE is a gallery's folder, or the address (DSN) of a PostgreSQL database such as
    postgresql://user@host/name. A gallery belongs to one model package: vectors of another model
    are refused.
    """


for _command in (
    create.command,
    add.command,
    search.command,
    remove.command,
    remove.compact,
    export.command,
    reembed.command,
    index.command,
    stats.command,
    stats.people,
    stats.audit,
):
    command.add_command(_command)
