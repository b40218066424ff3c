"""`reidkit benchmark`: how fast packages are, batch size by batch size, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _options

if TYPE_CHECKING:
    from rich.table import Table

    from reidkit.benchmarking import Comparison, Speed
    from reidkit.records import Samples


@click.command("benchmark", short_help="How fast a package is, by batch size and stage.")
@click.argument("package", type=_options.PATH)
@_options.batches
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=2.0,
    show_default=True,
    help="Time for each batch size with the engine alone, and as much end to end.",
)
@_options.data
@click.option("--against", type=_options.PATH, help="Another package, measured in turn with it.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the engine.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Threads for decoding.")
@click.option(
    "--device", help="cpu, cuda, cuda:N or tensorrt; the one it was compiled for by default."
)
@click.option("-o", "--out", type=_options.FILE, help="Write what --json prints to a file.")
@_options.common
def command(
    package: Path,
    batches: list[int],
    seconds: float,
    root: Path | None,
    layout: str | None,
    against: Path | None,
    threads: int | None,
    workers: int | None,
    device: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure PACKAGE: the engine alone, and end to end from JPEG files to vectors.

    Each package runs in a process of its own, warmed up; batch sizes and packages take turns, so
    that a drift of the machine favours none. At every batch size the vectors are compared with
    those of the same pictures in other batches. Without --data the pictures are drawn; with it
    they are the gallery's. A package that takes one batch size only is measured at that one.
    """
    from reidkit import disk
    from reidkit.benchmarking import Setting, benchmark, compare
    from reidkit.cli import _output
    from reidkit.package import read_package

    samples = _samples(root, layout)
    packages = [read_package(folder) for folder in (package, against) if folder is not None]
    with _output.progress_bar("measuring") as progress:
        speeds = benchmark(
            packages,
            samples,
            batches=batches,
            seconds=seconds,
            setting=Setting(device, threads, workers),
            progress=progress,
        )
    comparison = compare(*speeds) if against is not None else None
    found = _as_json(speeds, comparison)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        disk.write_json(out, found)
    if as_json:
        _output.print_json(found)
    else:
        _print_all([measured.folder for measured in packages], speeds, comparison)


def _samples(root: Path | None, layout: str | None) -> Samples | None:
    from reidkit.datasets import find_layout, load_dataset
    from reidkit.errors import DatasetError

    if root is None:
        if layout is not None:
            raise click.UsageError("--layout goes with --data ROOT")
        return None
    gallery = load_dataset(layout or find_layout(root), root).gallery
    if not len(gallery):
        raise DatasetError(f"{root} has no pictures to measure with: its gallery split is empty")
    return gallery


def _as_json(speeds: Sequence[Speed], comparison: Comparison | None) -> dict[str, object]:
    import platform

    import reidkit
    from reidkit.benchmarking import comparison_as_json, speed_as_json
    from reidkit.machine import available_cores

    machine = f"{platform.system()} {platform.machine()}"
    return {
        "reidkit": reidkit.__version__,
        "machine": machine,
        "cores": available_cores(),
        "packages": [speed_as_json(speed) for speed in speeds],
        "comparison": None if comparison is None else comparison_as_json(comparison),
    }


def _print_all(
    folders: Sequence[Path], speeds: Sequence[Speed], comparison: Comparison | None
) -> None:
    for folder, speed in zip(folders, speeds, strict=True):
        _print_speed(speed, click.format_filename(folder))
    if comparison is not None:
        _print_comparison(comparison)


def _print_speed(speed: Speed, folder: str) -> None:
    from rich.console import Console

    console = Console()
    running = f"{speed.runtime} on {speed.device}, {speed.threads} threads"
    console.print(_rates_table(speed, f"{folder} ({speed.name}, {speed.precision}): {running}"))
    console.print(_stages_table(speed))
    best = speed.at(speed.best_batch)
    click.echo(
        f"best batch {best.batch}: {_rate(best.engine_rate)} pictures/s, "
        f"{_rate(best.end_to_end_rate)} end to end"
    )
    peak = f"{speed.peak_bytes / 2**20:,.0f} MiB" if speed.peak_bytes else "unknown"
    click.echo(
        f"cold start {speed.cold_start:.2f} s, peak memory {peak}, "
        f"{speed.size_bytes / 2**20:,.1f} MiB on disk"
    )
    _print_differences(speed)
    falling = ", ".join(str(batch.batch) for batch in speed.list_falling())
    if falling:
        click.echo(
            f"hint: more than 5 % slower above the best batch, at {falling}: use {best.batch}"
        )


def _print_differences(speed: Speed) -> None:
    largest = max(batch.difference for batch in speed.batches)
    click.echo(f"a picture's vectors differ by at most {largest:.1e} from batch to batch")
    wrong = ", ".join(str(batch.batch) for batch in speed.list_differing())
    if wrong:
        click.echo(
            f"WRONG: at batch {wrong} a picture's vector depends on the pictures beside it: "
            "these speeds are worth nothing, repair the model"
        )


def _rates_table(speed: Speed, title: str) -> Table:
    table = _new_table(title)
    for name in ("batch", "engine /s", "end to end /s", "share", "median ms", "p90 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for batch in speed.batches:
        latencies = (batch.engine.median, batch.engine.p90, batch.engine.p99)
        table.add_row(
            str(batch.batch),
            _rate(batch.engine_rate),
            _rate(batch.end_to_end_rate),
            f"{100 * batch.end_to_end_rate / batch.engine_rate:.0f} %",
            *(f"{1000 * seconds:,.2f}" for seconds in latencies),
        )
    return table


def _stages_table(speed: Speed) -> Table:
    from reidkit.benchmarking import STAGES

    table = _new_table("ms a picture, each stage by itself in one thread")
    for name in ("batch", *STAGES):
        table.add_column(name, justify="right")
    for batch in speed.batches:
        stages = (1000 * batch.stages[name] for name in STAGES)
        table.add_row(str(batch.batch), *(f"{each:.3f}" if each else "-" for each in stages))
    return table


def _print_comparison(comparison: Comparison) -> None:
    from rich.console import Console

    table = _new_table("speed, the first / the second")
    for name in ("batch", "engine", "end to end"):
        table.add_column(name, justify="right")
    for ratio in comparison.batches:
        table.add_row(str(ratio.batch), f"{ratio.engine:.2f}", f"{ratio.end_to_end:.2f}")
    table.add_row("each's best", f"{comparison.engine:.2f}", f"{comparison.end_to_end:.2f}")
    Console().print(table)


def _new_table(title: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    return Table(title=Text(title), title_justify="left")


def _rate(pictures: float) -> str:
    return f"{pictures:,.1f}" if pictures < 1000 else f"{pictures:,.0f}"
