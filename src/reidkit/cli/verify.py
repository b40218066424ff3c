"""`reidkit verify`: is a package whole, and does it give its vectors here?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from reidkit.cli import _options


@click.command("verify", short_help="Check a package here, without a data set.")
@click.argument("package", type=_options.FOLDER)
@click.option("--device", help="Where it runs; the one it was compiled for by default.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the engine.")
@_options.common
def command(package: Path, device: str | None, threads: int | None, as_json: bool) -> None:
    """Check PACKAGE's hashes, run its reference pictures, and compare the vectors: seconds."""
    from reidkit.cli import _output
    from reidkit.verifying import verify_package

    found = verify_package(package, device=device, threads=threads)
    if as_json:
        _output.print_json({"package": str(package)} | dataclasses.asdict(found))
        return
    click.echo(
        f"{click.format_filename(package)}: whole; {found.pictures} reference pictures give its "
        f"vectors with {found.runtime} on {found.device} (smallest cosine {found.cosine:.6f}, "
        f"{found.made:.6f} where it was made)"
    )
