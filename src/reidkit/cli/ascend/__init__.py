"""`reidkit ascend`: the published guide, command for command; one file per command."""

from __future__ import annotations

import click

from reidkit.cli.ascend import aoe, atc, bench, guide, postprocess, preprocess, pth2onnx, soc


@click.group("ascend", short_help="The guide for Ascend chips, on any machine.")
def command() -> None:
    """Follow the published guide for Ascend chips with its own commands, on any machine.

    With the chip and its tools present they are used; otherwise this machine runs the network.
    """


for _module in (preprocess, pth2onnx, atc, aoe, soc, bench, postprocess, guide):
    command.add_command(_module.command)
