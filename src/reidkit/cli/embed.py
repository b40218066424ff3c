"""`reidkit embed`: pictures -> embeddings folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _engine, _options

if TYPE_CHECKING:
    from reidkit.records import Embeddings, Samples
    from reidkit.store import Shard


def _shard(text: str) -> Shard:
    from reidkit.errors import ArgumentError
    from reidkit.store import Shard

    try:
        return Shard.parse(text)
    except ArgumentError as error:
        raise click.BadParameter(str(error)) from None


@click.command("embed", short_help="Pictures to vectors, resumable.")
@click.argument("package", type=_options.PATH)
@click.argument("images", type=_options.address, nargs=-1)
@_options.data
@click.option("--split", type=click.Choice(["query", "gallery", "train"]), help="With --data.")
@click.option(
    "-o",
    "--out",
    type=_options.address,
    required=True,
    help="Embeddings folder; with --engine the path or URI of a data set.",
)
@click.option(
    "--shard",
    type=_shard,
    metavar="I/N",
    help="Embed the I-th of N parts alone, 1/N to N/N; embeddings merge joins them.",
)
@_engine.engine_options
@click.option(
    "--part-size",
    type=click.IntRange(1, 65536),
    metavar="N",
    help="With --engine: pictures of a part, whole batches. [512]",
)
@_options.running
@_options.common
def command(
    package: Path,
    images: tuple[str, ...],
    root: Path | None,
    layout: str | None,
    split: str | None,
    out: str,
    shard: Shard | None,
    engine: _engine.Engine,
    part_size: int | None,
    running: _options.Running,
    as_json: bool,
) -> None:
    """Turn a split of a data set, or IMAGES (files and folders), into vectors.

    The folder is written batch by batch: after a crash or Ctrl-C the same command goes on where
    it stopped. Pictures given as IMAGES get person and camera id -1.

    With --shard several processes, on one machine or many, embed a part each into a folder of its
    own; the parts joined are the bytes of a run in one piece.

    With --engine ray the work is shared out to a Ray cluster, and OUT becomes a data set of Parquet
    files. IMAGES and OUT may then be URIs (s3://, gs://, ...), and tar files (WebDataset's layout)
    and Parquet files of pictures, or of their paths, are read too.
    """
    if engine.engine is None:
        if part_size is not None:
            raise click.UsageError("--part-size: only together with --engine ray")
        _options.refuse_uris(*images, out)
        samples = _samples(images, root, layout, split)
        _embed_here(package, samples, Path(out), shard, running, as_json=as_json)
        return
    from reidkit.cli import _parts

    if shard is not None:
        raise click.UsageError("--shard: without --engine, which shares out the pictures itself")
    parts = _parts.Parts(running, engine, part_size)
    named = bool(images) and root is None and layout is None and split is None
    source = images if named else _samples(images, root, layout, split)
    _parts.show(parts.embed(package, source, out), as_json=as_json)


def _embed_here(
    package: Path,
    samples: Samples,
    out: Path,
    shard: Shard | None,
    running: _options.Running,
    *,
    as_json: bool,
) -> None:
    from reidkit.cli import _pipeline

    with running.load(package) as model:
        embeddings = _pipeline.embed_samples(
            model, samples, running, out, label="embedding", shard=shard
        )
    _print(out, embeddings, shard, as_json=as_json)


def _print(out: Path, embeddings: Embeddings, shard: Shard | None, *, as_json: bool) -> None:
    from reidkit.cli import _output

    skipped = [list(image) for image in embeddings.unreadable]
    if as_json:
        described = {
            "out": str(out),
            "rows": len(embeddings),
            "dimension": embeddings.vectors.shape[1],
            "unreadable": skipped,
            "model_sha256": embeddings.model_sha256,
            "contract_sha256": embeddings.contract_sha256,
        }
        _output.print_json(described | ({"shard": str(shard)} if shard else {}))
    else:
        part = f" of shard {shard}" if shard else ""
        left_out = f", {len(skipped)} unreadable pictures left out" if skipped else ""
        click.echo(f"{click.format_filename(out)}: {len(embeddings):,} vectors{part}{left_out}")


def _samples(
    images: tuple[str, ...], root: Path | None, layout: str | None, split: str | None
) -> Samples:
    from reidkit.datasets import find_layout, load_dataset
    from reidkit.datasets.images import find_images
    from reidkit.records import Samples

    if root is not None and split is not None and not images:
        return load_dataset(layout or find_layout(root), root).split(split)
    if images and root is None and split is None and layout is None:
        return Samples.from_paths(find_images(images))
    raise click.UsageError("give either --data ROOT and --split SPLIT (and --layout), or IMAGES")
