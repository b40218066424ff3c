"""`reidkit ascend aoe`: the fastest .om file for this machine."""

from __future__ import annotations

import functools

import click

from reidkit.cli.ascend.atc import SETTINGS

HELP = """
Tune an .onnx file into an .om file with the options of the real aoe.

The real aoe is run where it is installed. Otherwise every engine that works on this machine
is measured, and the file holds the fastest; --emulate 1 forces that.

\b
--framework=5 --model=FILE.onnx --job_type=1|2    required; both job types do the same here
--output=FILE                       the model's name by default
--input_shape="image:1,3,256,128"   needed where the model leaves a size open
--dynamic_batch_size="1,2,4,8"      batch sizes to choose from; the first size is then -1
--seconds=2                         time for each engine and batch size

The times are written beside the output, to aoe_result_*.json. Other options are as in atc.
"""
"""What --help prints; \\b keeps the lines of the list apart."""


@click.command(
    "aoe",
    short_help="The fastest .om file for this machine.",
    help=HELP,
    options_metavar="",
    context_settings=SETTINGS,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS]")
def command(arguments: tuple[str, ...]) -> None:
    """Tune an .onnx file into an .om file with the options of the real aoe."""
    from reidkit.ascend.compiler import run_aoe

    write = functools.partial(click.echo, nl=False)
    code = run_aoe(arguments, write=write, remark=functools.partial(write, err=True))
    if code:
        raise SystemExit(code)
