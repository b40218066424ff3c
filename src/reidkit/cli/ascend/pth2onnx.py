"""`reidkit ascend pth2onnx`: configuration and checkpoint -> one .onnx file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _options

if TYPE_CHECKING:
    from reidkit.exporting import OnnxExport


@click.command(
    "pth2onnx",
    short_help="Checkpoint to ONNX file.",
    # Everything behind the first key belongs to the pairs, also what looks like an option.
    context_settings={"allow_interspersed_args": False},
)
@_options.configuration(required=True)
@click.option(
    "-o",
    "--output",
    "out",
    type=_options.FILE,
    default="ReID.onnx",
    show_default=True,
    help="The .onnx file; one that exists is replaced.",
)
@click.option(
    "--opset",
    type=click.IntRange(11, 17),
    default=11,
    show_default=True,
    help="Version of the ONNX operators.",
)
@_options.common
@click.argument("pairs", nargs=-1, type=click.UNPROCESSED, metavar="[KEY VALUE]...")
def command(
    config_file: Path, out: Path, opset: int, as_json: bool, pairs: tuple[str, ...]
) -> None:
    """Write the network of a configuration as a verified ONNX file: image in, class out.

    Options come first. The pairs KEY VALUE behind them change the configuration; TEST.WEIGHT
    names the checkpoint:

    \b
    reidkit ascend pth2onnx --config_file=softmax_triplet_with_center.yml
        MODEL.PRETRAIN_CHOICE "('self')" TEST.WEIGHT model.pth

    The first axis of both is free and called -1. The file is run and compared with the network
    before its batch norms were folded; it appears only if they agree.
    """  # noqa: D301 - click's sign for lines that stay as they are
    from reidkit.cli import _output
    from reidkit.configs import read_config
    from reidkit.exporting import OnnxOptions, export_configured_onnx

    config = read_config(config_file, pairs)
    options = OnnxOptions(opset=opset, overwrite=True)
    made = export_configured_onnx(config, out, options=options)
    for remark in config.remarks:
        click.echo(f"remark: {remark}", err=True)
    if as_json:
        _output.print_json(_as_json(made))
    else:
        _print(made)


def _print(made: OnnxExport) -> None:
    contract, options = made.contract, made.options
    axis = f"N (free, named {options.batch})"
    click.echo(
        f"{click.format_filename(made.file)}: {made.architecture}, last stride {made.last_stride}, "
        f"opset {options.opset}"
    )
    click.echo(f"input {options.image}: float32 {axis} x 3 x {contract.height} x {contract.width}")
    click.echo(f"output {options.vector}: float32 {axis} x {made.embedding_size}, {_place(made)}")
    click.echo(f"input contract: {contract.describe()}")
    click.echo(f"sha256: {made.sha256}")
    click.echo(
        "verified: largest relative difference from the network before folding "
        f"{made.difference:.1e}, at batch 1 and 3"
    )


def _place(made: OnnxExport) -> str:
    neck = made.contract.neck
    return "the network has no BNNeck" if neck == "output" else f"{neck} the BNNeck"


def _as_json(made: OnnxExport) -> dict[str, object]:
    contract, options = made.contract, made.options
    return {
        "out": str(made.file),
        "sha256": made.sha256,
        "architecture": made.architecture,
        "last_stride": made.last_stride,
        "neck": contract.neck,
        "opset": options.opset,
        "input": {
            "name": options.image,
            "dtype": "float32",
            "shape": [options.batch, 3, contract.height, contract.width],
        },
        "output": {
            "name": options.vector,
            "dtype": "float32",
            "shape": [options.batch, made.embedding_size],
        },
        "contract": contract.describe(),
        "difference": made.difference,
    }
