"""What `compile`, `certify`, `deploy` and `demo` share: their options, and how a verdict prints."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reidkit.cli import _options

if TYPE_CHECKING:
    from reidkit.certifying import Certificate, Check, Watch
    from reidkit.records import Dataset

TARGETS = ("onnxruntime", "openvino", "torch", "tensorrt")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")

target = click.option(
    "--target",
    type=click.Choice(TARGETS),
    default="onnxruntime",
    show_default=True,
    help="Engine to compile for; reidkit doctor says which work here.",
)


def free_or_fixed(text: str) -> int | None:
    """Parse `any`, or the one batch size that the compiled file will take."""
    if text == "any":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise click.BadParameter(f"{text!r} is neither `any` nor a batch size of 1 to 4096")
    return int(text)


fixed_batch = click.option(
    "--fixed-batch",
    type=free_or_fixed,
    metavar="N|any",
    default="any",
    show_default=True,
    help="The only batch size that the compiled file takes.",
)


@dataclass(frozen=True, slots=True)
class Certifying:
    """The options of a certificate."""

    max_drop_map: float
    max_drop_rank1: float
    min_cosine: float | None
    batches: list[int]
    seconds: float
    threads: int | None

    def check(self, device: str | None = None) -> Check:
        """Give them as the library takes them."""
        from reidkit.benchmarking import Setting
        from reidkit.certifying import Check, Limits

        return Check(
            limits=Limits(self.max_drop_map, self.max_drop_rank1, self.min_cosine),
            batches=tuple(self.batches),
            seconds=self.seconds,
            setting=Setting(device=device, threads=self.threads),
        )


def certifying(command: Callable[..., None]) -> Callable[..., None]:
    """Add the certificate's options; the command gets them as one `certifying` value."""

    @functools.wraps(command)
    def with_certifying(**options: Any) -> None:
        names = [field.name for field in fields(Certifying)]
        command(certifying=Certifying(**{n: options.pop(n) for n in names}), **options)

    points = click.FloatRange(-100, 100)
    return _options.add(
        with_certifying,
        click.option(
            "--max-drop-map",
            type=points,
            default=0.3,
            show_default=True,
            help="Percentage points of mAP that may be lost.",
        ),
        click.option(
            "--max-drop-rank1",
            type=points,
            default=0.3,
            show_default=True,
            help="Percentage points of Rank-1 that may be lost.",
        ),
        click.option(
            "--min-cosine",
            type=click.FloatRange(-1, 1),
            help="Smallest cosine between a picture's two vectors; by precision if not given.",
        ),
        _options.batches,
        click.option(
            "--seconds",
            type=click.FloatRange(0, 3600, min_open=True),
            default=2.0,
            show_default=True,
            help="Time for measuring each batch size.",
        ),
        click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the engine."),
    )


def load_data(root: Path | None, layout: str | None) -> Dataset:
    """Load the data set that `--data` names."""
    from reidkit.datasets import find_layout, load_dataset

    if root is None:
        raise click.UsageError("--data ROOT is missing")
    return load_dataset(layout or find_layout(root), root)


@contextmanager
def watching() -> Iterator[Watch]:
    """Show a bar on stderr for each stage; a stage that comes again has the one it had."""
    from reidkit.cli import _output

    with _output.progress_bars() as start:
        yield functools.cache(start)


def print_certificate(certificate: Certificate, folder: Path) -> None:
    """Print the verdict with its gates, and where the whole story is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    compiled, source = certificate.compiled, certificate.source
    title = f"{compiled.name}: {compiled.runtime} {compiled.precision} on {compiled.device}"
    table = Table(title=Text(title), title_justify="left")
    for column in ("", "source", "compiled"):
        table.add_column(column, justify="left" if not column else "right")
    rows = [("mAP", source.scores.mAP, compiled.scores.mAP)]
    rows += [
        (f"Rank-{k}", source.scores.rank(k), compiled.scores.rank(k))
        for k in (1, 5, 10)
        if source.scores.covers(k)
    ]
    rows.append(("mINP", source.scores.mINP, compiled.scores.mINP))
    for name, before, after in rows:
        table.add_row(name, f"{100 * before:.2f} %", f"{100 * after:.2f} %")
    speeds = [side.speed.at(side.speed.best_batch) for side in (source, compiled)]
    table.add_row("pictures/s", *(f"{speed.engine_rate:,.1f}" for speed in speeds))
    table.add_row("at batch", *(f"{speed.batch}" for speed in speeds))
    Console().print(table)
    for gate in certificate.gates:
        click.echo(
            f"{gate.verdict.upper():<5} {gate.name}{': ' if gate.reason else ''}{gate.reason}"
        )
    if certificate.divergence is not None:
        click.echo(f"      {certificate.divergence.explanation}")
    for warning in certificate.warnings:
        click.echo(f"note: {warning}")
    click.echo(f"{certificate.verdict.upper()}: {click.format_filename(folder / 'report.html')}")
