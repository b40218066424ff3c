"""`reidkit ascend bench`: the guide's batch inference tool, also `python -m reidkit.ais_bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reidkit.cli.ascend import _bench_options

if TYPE_CHECKING:
    from reidkit.ascend.bench import BenchSettings


@click.command("bench", short_help="Model and files to outputs, summary and rate.")
@_bench_options.add_all
def command(**options: Any) -> None:
    """Run a model over files, batch by batch, with the options of the guide's inference tool.

    Booleans take a value, such as --pipeline 1. Outputs go to OUTPUT/DIRNAME/STEM_0.bin, the
    summary, written last, to OUTPUT/DIRNAME_summary.json.
    """
    from reidkit.ascend.bench import check_chip_options, run_bench
    from reidkit.cli._output import progress_bar
    from reidkit.errors import ReidkitError

    def report(level: str, text: str) -> None:
        if level != "DEBUG" or options["debug"]:
            click.echo(f"[{level}] {_as_text(text)}")

    try:
        check_chip_options(
            profiler=bool(options["profiler"]),
            dump=bool(options["dump"]),
            output=options["output"] is not None,
        )
        settings = _settings(options)
        for text in _remarks(options):
            report("WARNING", text)
        with progress_bar(f"Inference {options['run_mode']} Processing") as progress:
            run_bench(settings, report=report, progress=progress)
    except (ReidkitError, OSError, MemoryError) as error:
        report("ERROR", str(error) or "out of memory: choose a smaller batch size")
        raise


def _settings(options: dict[str, Any]) -> BenchSettings:
    from reidkit.ascend import bench

    by_files = options["auto_set_dymshape_mode"] or options["auto_set_dymdims_mode"]
    return bench.BenchSettings(
        model=options["model"],
        inputs=_split(options["input"]),
        devices=options["device"],
        divide=options["divide_input"],
        files=bench.FileOptions(
            limit=options["limit"],
            run_mode=options["run_mode"],
            pure_data=options["pure_data_type"],
            readers=options["threads"] if options["pipeline"] else 0,
            compatible=options["compatible"],
        ),
        shapes=bench.ShapeOptions(
            batch=options["dymBatch"],
            image_size=options["dymHW"],
            dims=options["dymDims"],
            shape=options["dymShape"],
            sweep=options["dymShape_range"],
            from_files=by_files,
            output_bytes=options["outputSize"],
        ),
        saving=bench.SaveOptions(
            folder=options["output"],
            name=options["output_dirname"],
            format=options["outfmt"],
            axis=options["output_batchsize_axis"],
        ),
        timing=bench.TimeOptions(
            loop=options["loop"],
            warm_up=options["warmup_count"],
            batch=options["batchsize"],
            copies=options["display_all_summary"],
        ),
        arguments=tuple(sys.argv),
    )


def _as_text(text: str) -> str:
    """Replace the bytes of file names that are no text."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _split(text: str | None) -> tuple[str, ...]:
    """Split at commas, unless the whole is the name of a file or folder that has some."""
    if text is None:
        return ()
    return (text,) if Path(text).exists() else tuple(text.split(","))


def _remarks(options: dict[str, Any]) -> list[str]:
    remarks = []
    given = [f"--{name}" for name in _bench_options.CHIP_ONLY if options[name] not in (None, False)]
    if given:
        remarks.append(
            f"only the chip's own tools can do this, nothing here does: {', '.join(given)}"
        )
    if options["threads"] > 1 and not options["pipeline"]:
        remarks.append(f"--threads {options['threads']} needs --pipeline 1: reset to 1")
    return remarks
