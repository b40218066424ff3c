"""`reidkit embed`: pictures -> embeddings folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _options

if TYPE_CHECKING:
    from reidkit.records import Samples


@click.command("embed", short_help="Pictures to vectors, resumable.")
@click.argument("package", type=_options.PATH)
@click.argument("images", type=_options.absolute, nargs=-1)
@_options.data
@click.option("--split", type=click.Choice(["query", "gallery", "train"]), help="With --data.")
@click.option("-o", "--out", type=_options.FOLDER, required=True, help="Embeddings folder.")
@_options.running
@_options.common
def command(
    package: Path,
    images: tuple[Path, ...],
    root: Path | None,
    layout: str | None,
    split: str | None,
    out: Path,
    running: _options.Running,
    as_json: bool,
) -> None:
    """Turn a split of a data set, or IMAGES (files and folders), into vectors.

    The folder is written batch by batch: after a crash or Ctrl-C the same command goes on where
    it stopped. Pictures given as IMAGES get person and camera id -1.
    """
    from reidkit.cli import _output, _pipeline

    samples = _samples(images, root, layout, split)
    with running.load(package) as model:
        embeddings = _pipeline.embed_samples(model, samples, running, out, label="embedding")
    skipped = [list(image) for image in embeddings.unreadable]
    if as_json:
        _output.print_json(
            {
                "out": str(out),
                "rows": len(embeddings),
                "dimension": embeddings.vectors.shape[1],
                "unreadable": skipped,
                "model_sha256": embeddings.model_sha256,
                "contract_sha256": embeddings.contract_sha256,
            }
        )
    else:
        left_out = f", {len(skipped)} unreadable pictures left out" if skipped else ""
        click.echo(f"{click.format_filename(out)}: {len(embeddings):,} vectors{left_out}")


def _samples(
    images: tuple[Path, ...], root: Path | None, layout: str | None, split: str | None
) -> Samples:
    from reidkit.datasets import find_layout, load_dataset
    from reidkit.datasets.images import find_images
    from reidkit.records import Samples

    if root is not None and split is not None and not images:
        return load_dataset(layout or find_layout(root), root).split(split)
    if images and root is None and split is None and layout is None:
        return Samples.from_paths(find_images(images))
    raise click.UsageError("give either --data ROOT and --split SPLIT (and --layout), or IMAGES")
