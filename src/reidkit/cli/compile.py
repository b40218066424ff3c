"""`reidkit compile`: model package -> compiled package."""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _certificates, _options


@click.command("compile", short_help="Model package to compiled package.")
@click.argument("package", type=_options.FOLDER)
@click.argument("out", type=_options.FOLDER)
@_certificates.target
@click.option(
    "--precision",
    type=click.Choice(_certificates.PRECISIONS),
    default="fp32",
    show_default=True,
    help="How the compiled file computes.",
)
@click.option(
    "--batch",
    type=_certificates.free_or_fixed,
    metavar="N|any",
    default="any",
    show_default=True,
    help="The only batch size that the compiled file takes.",
)
@click.option(
    "--calibrate",
    type=_options.absolute,
    metavar="DIR",
    help="For int8: a data set, whose training split is used, or a folder of training pictures.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="cpu, gpu, cuda or cuda:N, as the target has.",
)
@_options.overwrite
@_options.common
def command(
    package: Path,
    out: Path,
    target: str,
    precision: str,
    batch: int | None,
    calibrate: Path | None,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compile PACKAGE for an engine into the new package OUT.

    The result is run and held against PACKAGE before it appears. int8 is calibrated on training
    pictures and checked on others of them; layers that it would hurt most stay in float until the
    vectors stay near enough. What that means for finding people is what `certify` measures.
    """
    from reidkit.cli import _output
    from reidkit.compiling import Target, compile_package, find_calibration

    compiled = compile_package(
        package,
        out,
        target=Target(target, precision, batch, device),
        calibration=None if calibrate is None else find_calibration(calibrate),
        overwrite=overwrite,
    )
    _output.print_package(compiled, as_json=as_json)
