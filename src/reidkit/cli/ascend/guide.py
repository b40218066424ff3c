"""`reidkit ascend guide`: checkpoint -> the guide's two tables, in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from reidkit.cli import _options


@click.command("guide", short_help="All steps, and the guide's two tables.")
@click.argument("checkpoint", type=_options.FILE)
@_options.data
@_options.batches
@click.option("--files", is_flag=True, help="A file for each picture and output, as in the guide.")
@click.option("--device", type=click.IntRange(0, 255), default=0, show_default=True, help="Number.")
@click.option("--soc_version", metavar="NAME", help="The chip's name; asked for if not given.")
@click.option("-o", "--out", type=_options.FOLDER, required=True, help="Folder of the result.")
@_options.exporting
@_options.common
def command(
    checkpoint: Path,
    root: Path | None,
    layout: str | None,
    batches: list[int],
    files: bool,
    device: int,
    soc_version: str | None,
    out: Path,
    architecture: str | None,
    neck_feature: Literal["after", "before"],
    size: tuple[int, int],
    last_stride: str,
    as_json: bool,
) -> None:
    """Follow the whole guide with CHECKPOINT: export, compile, run, score.

    OUT/guide.md and OUT/guide.json hold the accuracy of source and device, and the throughput of
    each batch size. Pictures go straight from their files to the network; with --files every
    picture and every output is a file of its own. A run that was killed goes on with the step it
    was in.
    """
    from reidkit.ascend.guide import GuideSettings, follow_guide, result_as_json, write_tables
    from reidkit.cli import _certificates, _output
    from reidkit.package import InputSpec

    dataset = _certificates.load_data(root, layout)
    settings = GuideSettings(
        batches=tuple(dict.fromkeys(batches)),
        files=files,
        device=device,
        soc_version=soc_version,
        architecture=architecture,
        last_stride=int(last_stride),
        contract=InputSpec(height=size[0], width=size[1], neck=neck_feature),
    )
    with _certificates.watching() as watch:
        result = follow_guide(checkpoint, dataset, out, settings=settings, watch=watch)
    if as_json:
        _output.print_json({"out": str(out)} | result_as_json(result))
    else:
        click.echo(write_tables(result))
