"""`reidkit export`: checkpoint -> model package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from reidkit.cli import _options


@click.command("export", short_help="Checkpoint to model package.")
@click.argument("checkpoint", type=_options.FILE)
@click.argument("out", type=_options.FOLDER)
@_options.exporting
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
