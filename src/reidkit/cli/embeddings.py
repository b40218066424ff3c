"""`reidkit embeddings`: work on embeddings folders."""

from __future__ import annotations

import dataclasses
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


@command.command("merge")
@click.argument("folders", type=_options.address, nargs=-1, required=True)
@click.option("-o", "--out", type=_options.FOLDER, required=True, help="Embeddings folder.")
@_options.overwrite
@_options.common
def merge(folders: tuple[str, ...], out: Path, overwrite: bool, as_json: bool) -> None:
    """Join the embeddings folders of all shards of a run into one.

    FOLDERS are what `reidkit embed --shard 1/N` to `N/N` wrote, in any order. The result is the
    folder that the same run without --shard writes, byte for byte.

    A data set that `reidkit embed --engine` wrote is joined into a folder too; it may be a URI, and
    must fit into memory.
    """
    from reidkit import distributed, store
    from reidkit.cli import _output

    if len(folders) == 1 and distributed.is_data_set(folders[0]):
        _join_parts(folders[0], out, overwrite=overwrite, as_json=as_json)
        return
    _options.refuse_uris(*folders)
    with _output.progress_bar("merging") as progress:
        merged = store.merge_embeddings(
            [Path(folder) for folder in folders], out, overwrite=overwrite, progress=progress
        )
    if as_json:
        _output.print_json({"out": str(out)} | dataclasses.asdict(merged))
    else:
        skipped = len(merged.unreadable)
        left_out = f", {skipped:,} unreadable pictures left out" if skipped else ""
        click.echo(
            f"{click.format_filename(out)}: {merged.rows:,} vectors of {merged.shards} "
            f"shards{left_out}"
        )


def _join_parts(address: str, out: Path, *, overwrite: bool, as_json: bool) -> None:
    from reidkit import distributed, store
    from reidkit.cli import _output

    whole = distributed.open_data_set(address).collect()
    store.write_embeddings(out, whole, overwrite=overwrite)
    if as_json:
        facts = {"rows": len(whole), "dimension": whole.vectors.shape[1]}
        _output.print_json({"out": str(out)} | facts | {"unreadable": whole.unreadable})
    else:
        click.echo(f"{click.format_filename(out)}: {len(whole):,} vectors")
