"""`reidkit deploy`: checkpoint -> package -> compiled -> certificate, in one go."""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _certificates, _checkpoints, _options


@click.command("deploy", short_help="Checkpoint to a signed-off, compiled package.")
@click.argument("checkpoint", type=_options.PATH)
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
@click.pass_context
def command(
    context: click.Context,
    /,
    root: Path | None,
    layout: str | None,
    target: str,
    precisions: tuple[str, ...],
    fixed_batch: int | None,
    device: str,
    out: Path,
    certifying: _certificates.Certifying,
    as_json: bool,
    **_network: object,
) -> None:
    """Export CHECKPOINT, compile it, measure it, and certify that it still finds the right people.

    CHECKPOINT is a file, or the folder of a run of `reidkit train`: that gives its best checkpoint,
    with architecture, size, mean, std, last stride and neck of its recipe.

    OUT/package is the source package; OUT/TARGET-PRECISION holds the compiled package, its
    certificate.json and report.html. int8 is calibrated on the data set's training split. A run
    that was killed goes on where it stopped. Exit code 1 says that a gate failed.
    """
    from reidkit.certifying import certificate_as_json
    from reidkit.cli import _output
    from reidkit.compiling import Target
    from reidkit.deploying import deploy, export_once

    chosen = _checkpoints.choose(context)
    dataset = _certificates.load_data(root, layout)
    package = export_once(
        chosen.checkpoint,
        out,
        architecture=chosen.architecture,
        last_stride=chosen.last_stride,
        contract=chosen.contract,
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
