"""`reidkit ascend atc`: .onnx file -> .om file."""

from __future__ import annotations

import functools

import click

SETTINGS = {
    "ignore_unknown_options": True,
    "help_option_names": ["--help", "--h"],
}
"""The compiler's options follow its own grammar: all words are passed on as they are."""


HELP = """
Compile an .onnx file into an .om file with the options of the real atc.

The real atc is run where it is installed. Otherwise the file is made for this machine, and
`reidkit ascend bench` runs it; --emulate 1 forces that.

\b
--framework=5 --model=FILE.onnx --output=FILE --soc_version=NAME    required
--input_shape="image:1,3,256,128"   needed where the model leaves a size open
--dynamic_batch_size="1,2,4,8"      batch sizes to choose from; the first size is then -1
--insert_op_conf=FILE               static AIPP: the file takes pixels (uint8)
--output_type=FP16                  vectors in float16
--precision_mode=NAME               force_fp16 by default; computed so on a GPU
--mode=6 --om=FILE.om               show what a file made here says of itself

The other options are checked, written down in the file and without effect on this machine.
"""
"""What --help prints; \\b keeps the lines of the list apart."""


@click.command(
    "atc",
    short_help=".onnx file to .om file.",
    help=HELP,
    options_metavar="",
    context_settings=SETTINGS,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS]")
def command(arguments: tuple[str, ...]) -> None:
    """Compile an .onnx file into an .om file with the options of the real atc."""
    from reidkit.ascend.compiler import run_atc

    write = functools.partial(click.echo, nl=False)
    code = run_atc(arguments, write=write, remark=functools.partial(write, err=True))
    if code:
        raise SystemExit(code)
