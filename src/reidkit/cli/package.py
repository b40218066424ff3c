"""`reidkit package`: a model from elsewhere -> model package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from reidkit.cli import _options


@click.command("package", short_help="Model from elsewhere to model package.")
@click.argument("model", type=_options.FILE)
@click.argument("out", type=_options.FOLDER)
@click.option(
    "--size", type=_options.size, metavar="HxW", required=True, help="Input height and width."
)
@click.option(
    "--colour",
    "--color",
    type=click.Choice(["rgb", "bgr"]),
    required=True,
    help="Order of the input's channels.",
)
@click.option(
    "--scale",
    type=_options.ratio,
    metavar="NUMBER",
    help="Multiplies pixels of 0 to 255, such as 1/255; 1 if neither --mean nor --std is given.",
)
@click.option(
    "--mean",
    type=_options.triple,
    metavar="A,B,C",
    help="Subtracted after scaling, in --colour order; nothing if not given.",
)
@click.option(
    "--std",
    type=_options.triple,
    metavar="A,B,C",
    help="Divided by then, in --colour order; nothing if not given.",
)
@click.option(
    "--resize",
    type=click.Choice(["bilinear", "bicubic", "nearest"]),
    default="bilinear",
    show_default=True,
    help="Filter of the (antialiased) resize.",
)
@click.option(
    "--layout",
    type=click.Choice(["nchw", "nhwc"]),
    help="Of the model's input; seen from its shape if not given.",
)
@click.option("--output", metavar="NAME", help="The output that is the vector, if there are more.")
@click.option(
    "--unit-length/--keep-length",
    default=True,
    show_default=True,
    help="Divide each vector by its length.",
)
@_options.overwrite
@_options.common
def command(
    model: Path,
    out: Path,
    size: tuple[int, int],
    colour: Literal["rgb", "bgr"],
    scale: float | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    resize: Literal["bilinear", "bicubic", "nearest"],
    layout: Literal["nchw", "nhwc"] | None,
    output: str | None,
    unit_length: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make the verified model package OUT from MODEL, an .onnx or OpenVINO .xml made elsewhere.

    An .xml needs its .bin beside it, and the extra `openvino`.

    Its input becomes (pixel * scale - mean) / std, each channel for itself: say what the network
    was trained with. What is not given is not done.
    """
    from reidkit.cli import _output
    from reidkit.exporting import package_onnx, package_openvino
    from reidkit.package import InputSpec

    if scale is None and (mean or std):
        raise click.UsageError(
            "--mean and --std need --scale: 1/255 where they are meant for pixels of 0 to 1, "
            "1 where they are meant for pixels of 0 to 255"
        )
    contract = InputSpec(
        height=size[0],
        width=size[1],
        resize=resize,
        colour=colour,
        scale=1.0 if scale is None else scale,
        mean=mean or (0.0, 0.0, 0.0),
        std=std or (1.0, 1.0, 1.0),
        neck="output",
        unit_length=unit_length,
    )
    make = package_openvino if model.suffix == ".xml" else package_onnx
    made = make(model, out, contract=contract, layout=layout, output=output, overwrite=overwrite)
    _output.print_package(made, as_json=as_json)
