"""`reidkit ascend preprocess`: pictures -> one `.bin` each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from reidkit.cli import _options

if TYPE_CHECKING:
    from reidkit.ascend.bins import SourcePictures
    from reidkit.ascend.manifests import Manifest


@click.command("preprocess", short_help="Pictures to one .bin each.")
@click.argument("sources", metavar="SRC...", type=_options.PATH, nargs=-1, required=True)
@click.argument("out", metavar="DST", type=_options.PATH)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "uint8"]),
    default="float32",
    show_default=True,
    help="float32: normalised, CHW. uint8: resized pixels, HWC, for a model with AIPP.",
)
@click.option("--skip-junk", is_flag=True, help="Leave out person -1, which is never scored.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Threads; one a core by default.")
@click.option(
    "--package",
    type=_options.FOLDER,
    help="Prepare as this model package says; as the strong baseline does if not given.",
)
@_options.common
def command(
    sources: tuple[Path, ...],
    out: Path,
    dtype: Literal["float32", "uint8"],
    skip_junk: bool,
    workers: int | None,
    package: Path | None,
    as_json: bool,
) -> None:
    """Prepare every picture of the folders SRC as a .bin in the folder DST.

    x.jpg becomes x.bin: names are cut at the first dot. Dot files, names with .db and folders are
    skipped; anything else that is no picture is an error, named when all others are written. A
    manifest, written last, lets the later steps check the files.
    """
    from reidkit.ascend.bins import BinSpec, find_pictures, write_bins
    from reidkit.cli import _output
    from reidkit.errors import AscendError, UnreadableImagesError
    from reidkit.package import InputSpec, read_package

    contract = read_package(package).spec.input if package else InputSpec()
    found = find_pictures(sources, skip_junk=skip_junk)
    try:
        with _output.progress_bar("preparing") as progress:
            manifest = write_bins(
                found, out, spec=BinSpec(contract, dtype), workers=workers, progress=progress
            )
    except UnreadableImagesError as error:
        for path, reason in error.images:
            click.echo(f"{click.format_filename(path)}: {reason}", err=True)
        raise AscendError(
            f"{len(error.images):,} of {len(found.pictures):,} pictures could not be read, all "
            f"others are in {out}: repair or remove them and run this again"
        ) from error
    _print(out, found, manifest, as_json=as_json)


def _print(out: Path, found: SourcePictures, manifest: Manifest, *, as_json: bool) -> None:
    from reidkit.cli import _output

    kind, pictures = manifest.kind, len(manifest.files)
    if as_json:
        _output.print_json(
            {
                "out": str(out),
                "pictures": pictures,
                "dtype": kind.dtype,
                "shape": list(kind.shape),
                "contract_sha256": kind.contract_sha256,
                "bytes": manifest.total_bytes,
                "junk_left_out": found.junk,
                "skipped": list(found.skipped),
            }
        )
        return
    shape = "x".join(map(str, kind.shape))
    click.echo(
        f"{click.format_filename(out)}: {pictures:,} pictures, {kind.dtype} {shape}, "
        f"{manifest.total_bytes:,} bytes"
    )
    if found.junk:
        click.echo(f"{found.junk:,} junk pictures left out")
    if found.skipped:
        names = ", ".join(map(click.format_filename, found.skipped[:3]))
        more = ", ..." if len(found.skipped) > 3 else ""
        click.echo(f"{len(found.skipped):,} other files and folders skipped: {names}{more}")
