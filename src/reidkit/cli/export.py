"""`reidkit export`: checkpoint -> model package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from reidkit.cli import _options


@click.command("export", short_help="Checkpoint to model package.")
@click.argument("checkpoint", type=_options.FILE)
@click.argument("out", type=_options.FOLDER)
@click.option("--architecture", metavar="NAME", help="Such as resnet50; recognised if not given.")
@click.option(
    "--neck-feature",
    type=click.Choice(["after", "before"]),
    default="after",
    show_default=True,
    help="Take the vector after or before the BNNeck; no effect without one.",
)
@click.option(
    "--size",
    type=_options.size,
    metavar="HxW",
    default="256x128",
    show_default=True,
    help="Input height and width.",
)
@click.option(
    "--last-stride",
    type=click.Choice(["1", "2"]),
    default="1",
    show_default=True,
    help="Stride of the last stage; no checkpoint records it.",
)
@_options.overwrite
@_options.common
def command(
    checkpoint: Path,
    out: Path,
    architecture: str | None,
    neck_feature: Literal["after", "before"],
    size: tuple[int, int],
    last_stride: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make the verified model package OUT from a trained CHECKPOINT, without torch."""
    from reidkit.cli import _output
    from reidkit.exporting import export_package
    from reidkit.package import InputSpec

    package = export_package(
        checkpoint,
        out,
        architecture=architecture,
        last_stride=int(last_stride),
        contract=InputSpec(height=size[0], width=size[1], neck=neck_feature),
        overwrite=overwrite,
    )
    _output.print_package(package, as_json=as_json)
