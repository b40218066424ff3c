"""`reidkit ascend soc`: the name of this machine's chip."""

from __future__ import annotations

from typing import TextIO

import click

from reidkit.cli import _options


@click.command("soc", short_help="The chip's name, for --soc_version.")
@click.option("--device", type=click.IntRange(0), metavar="N", help="Where kinds differ: this one.")
@click.option(
    "--file",
    "saved",
    type=click.File("r", encoding="utf-8", errors="replace"),
    metavar="F",
    help="Read saved output of `npu-smi info` instead; - for standard input.",
)
@_options.common
def command(device: int | None, saved: TextIO | None, as_json: bool) -> None:
    """Print the chip's name as the compiler takes it: --soc_version=$(reidkit ascend soc).

    pyACL is asked first, then npu-smi. With --json also the chips, each with the number that
    --device takes.
    """
    import dataclasses

    from reidkit.ascend.soc import find_soc, read_soc
    from reidkit.cli import _output

    soc = find_soc(device=device) if saved is None else read_soc(saved.read(), device=device)
    for remark in soc.remarks:
        click.echo(f"reidkit: {remark}", err=True)
    if as_json:
        facts = dataclasses.asdict(soc)
        _output.print_json({"soc_version": facts.pop("name"), **facts})
    else:
        click.echo(soc.name)
