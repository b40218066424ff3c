"""`reidkit certify`: does the compiled package still find the right people?"""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _certificates, _options


@click.command("certify", short_help="Does a compiled package still find the right people?")
@click.argument("compiled", type=_options.FOLDER)
@click.option(
    "--against",
    type=_options.FOLDER,
    required=True,
    metavar="PACKAGE",
    help="The package it was compiled from.",
)
@_options.data
@click.option(
    "-o", "--out", type=_options.FOLDER, required=True, help="Folder of certificate and report."
)
@click.option("--device", help="Where both run; the one each was compiled for by default.")
@_certificates.certifying
@_options.common
def command(
    compiled: Path,
    against: Path,
    root: Path | None,
    layout: str | None,
    out: Path,
    device: str | None,
    certifying: _certificates.Certifying,
    as_json: bool,
) -> None:
    """Score COMPILED and its source on a data set, time both, and give a verdict.

    OUT/certificate.json and OUT/report.html are written whatever the verdict; exit code 1 says
    that a gate failed.
    """
    from reidkit.certifying import certificate_as_json, certify
    from reidkit.cli import _output
    from reidkit.deploying import write_certificate
    from reidkit.package import read_package

    dataset = _certificates.load_data(root, layout)
    with _certificates.watching() as watch:
        certificate, evidence = certify(
            read_package(compiled),
            read_package(against),
            dataset,
            check=certifying.check(device),
            watch=watch,
        )
    write_certificate(out, certificate, evidence)
    if as_json:
        _output.print_json(certificate_as_json(certificate))
    else:
        _certificates.print_certificate(certificate, out)
    if certificate.verdict == "fail":
        raise SystemExit(1)
