"""`reidkit gallery index`: an approximate index for large galleries in PostgreSQL."""

from __future__ import annotations

from contextlib import closing

import click

from reidkit.cli import _gallery_options, _options


@click.command("index", short_help="Build an index, for a large gallery in PostgreSQL.")
@click.argument("place")
@_options.common
def command(place: str, as_json: bool) -> None:
    """Build an approximate index (HNSW), by which PostgreSQL searches large galleries sooner.

    Searches that mean more than 20,000 crops then use it and may miss matches: `gallery stats
    --measure` says how many. Who enrols waits while it is built. `gallery reembed` drops it. A
    gallery in a folder needs none.
    """
    from reidkit.cli import _output
    from reidkit.gallery import open_store

    with closing(open_store(place)) as store:
        store.build_index(actor=_gallery_options.find_actor())
        search = store.facts().search
    if as_json:
        _output.print_json({"search": search})
    else:
        click.echo(f"the index is built; search: {search}")
