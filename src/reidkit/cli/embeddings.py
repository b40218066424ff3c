"""`reidkit embeddings`: work on embeddings folders."""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _options


@click.group("embeddings")
def command() -> None:
    """Work on embeddings folders."""


@command.command("import")
@click.argument("file", type=_options.FILE)
@click.option("-o", "--out", type=_options.FOLDER, required=True, help="Embeddings folder.")
@_options.overwrite
@_options.common
def import_(file: Path, out: Path, overwrite: bool, as_json: bool) -> None:
    """Make an embeddings folder from vectors that another tool made.

    FILE is an .npz with the arrays `vectors` (N, D), `person_ids` (N,), `camera_ids` (N,) and,
    if known, `paths` (N,).
    """
    from reidkit import store
    from reidkit.cli import _output

    imported = store.import_embeddings(file)
    store.write_embeddings(out, imported, overwrite=overwrite)
    if as_json:
        dimension = imported.vectors.shape[1]
        _output.print_json({"out": str(out), "rows": len(imported), "dimension": dimension})
    else:
        click.echo(f"{click.format_filename(out)}: {len(imported):,} vectors")
