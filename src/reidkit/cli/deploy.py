"""`reidkit deploy`: checkpoint -> package -> compiled -> certificate, in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from reidkit.cli import _certificates, _options


@click.command("deploy", short_help="Checkpoint to a signed-off, compiled package.")
@click.argument("checkpoint", type=_options.FILE)
@_options.data
@_certificates.target
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(_certificates.PRECISIONS),
    multiple=True,
    default=("fp32",),
    show_default=True,
    help="How the compiled file computes; may be given several times.",
)
@_certificates.fixed_batch
@click.option("--device", default="cpu", show_default=True, help="What to compile for.")
@click.option("-o", "--out", type=_options.FOLDER, required=True, help="Folder of the result.")
@_options.exporting
@_certificates.certifying
@_options.common
def command(
    checkpoint: Path,
    root: Path | None,
    layout: str | None,
    target: str,
    precisions: tuple[str, ...],
    fixed_batch: int | None,
    device: str,
    out: Path,
    architecture: str | None,
    neck_feature: Literal["after", "before"],
    size: tuple[int, int],
    last_stride: str,
    certifying: _certificates.Certifying,
    as_json: bool,
) -> None:
    """Export CHECKPOINT, compile it, measure it, and certify that it still finds the right people.

    OUT/package is the source package; OUT/TARGET-PRECISION holds the compiled package, its
    certificate.json and report.html. int8 is calibrated on the data set's training split. A run
    that was killed goes on where it stopped. Exit code 1 says that a gate failed.
    """
    from reidkit.certifying import certificate_as_json
    from reidkit.cli import _output
    from reidkit.compiling import Target
    from reidkit.deploying import deploy, export_once
    from reidkit.package import InputSpec

    dataset = _certificates.load_data(root, layout)
    contract = InputSpec(height=size[0], width=size[1], neck=neck_feature)
    package = export_once(
        checkpoint,
        out,
        architecture=architecture,
        last_stride=int(last_stride),
        contract=contract,
    )
    results = []
    for precision in dict.fromkeys(precisions):
        wanted = Target(target, precision, fixed_batch, device)
        with _certificates.watching() as watch:
            done = deploy(
                package, dataset, out, target=wanted, check=certifying.check(), watch=watch
            )
        results.append(done)
        if not as_json:
            _certificates.print_certificate(done.certificate, done.folder)
    if as_json:
        certificates = [
            {"folder": str(done.folder)} | certificate_as_json(done.certificate) for done in results
        ]
        _output.print_json({"out": str(out), "certificates": certificates})
    if any(done.certificate.verdict == "fail" for done in results):
        raise SystemExit(1)
