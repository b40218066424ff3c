"""`reidkit data`: what a data set is worth."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _options, _ranking

if TYPE_CHECKING:
    from reidkit.checking import DatasetCheck
    from reidkit.datasets.published import Size


@click.group("data", short_help="Check data sets.")
def command() -> None:
    """Say what a data set is worth before a model is scored on it."""


@command.command("check", short_help="Say what is in a data set, and what is wrong with it.")
@click.argument("root", type=_options.PATH)
@click.option("--layout", metavar="NAME", help="The layout's name; found out when not given.")
@click.option(
    "--protocol",
    type=click.Choice(_ranking.PROTOCOLS),
    default="market1501",
    show_default=True,
    help="Which gallery pictures a query meets.",
)
@click.option("--report", type=_options.FILE, help="Write a self-contained HTML report.")
@_options.common
def check(
    root: Path, layout: str | None, protocol: str, report: Path | None, as_json: bool
) -> None:
    """Check the data set ROOT: layout, sizes, pictures, duplicates, people and queries.

    Every picture is read once. Exit code 1 says that something makes scores wrong: pictures that
    cannot be read; people in training and in the test; the same picture in training and in the
    test, given to different people, or as a query and its answer by another camera; or no query
    with a valid match. All else is worth knowing and leaves the exit code 0: sizes that differ
    from the published ones, pictures that look the same, queries without a valid match, people
    seen by one camera only, repeated names, small pictures.
    """
    from reidkit.checking import check_dataset
    from reidkit.cli import _output
    from reidkit.scoring import PROTOCOLS

    with _output.progress_bars() as start:
        # The bar comes with the first pictures, not where the data set cannot be loaded.
        bar = functools.cache(functools.partial(start, "checking"))

        def show(done: int, total: int) -> None:
            bar()(done, total)

        found = check_dataset(root, layout, protocol=PROTOCOLS[protocol], progress=show)
    if as_json:
        _output.print_json(dataclasses.asdict(found) | {"wrong": found.wrong})
    else:
        _print_check(found)
    if report is not None:
        from reidkit.reports import write_dataset_report

        write_dataset_report(report, found)
    if found.wrong:
        raise SystemExit(1)


def _print_check(found: DatasetCheck) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    title = f"{click.format_filename(found.root)}: layout {found.layout}"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("split")
    for name in ("pictures", "identities", "cameras"):
        table.add_column(name, justify="right")
    for size in found.sizes:
        table.add_row(size.split, *_word_size(size.found, size.published))
    Console().print(table)
    click.echo(f"queries that can be scored: {found.scored_queries:,}")
    for finding in found.findings:
        click.echo(f"\n{'WRONG' if finding.wrong else 'note'}: {finding.text}")
        for example in finding.examples:
            click.echo(f"  {click.format_filename(example)}")
    click.echo("" if found.findings else "\nnothing to remark")
    if found.wrong:
        click.echo("Scores on this data set will be wrong: see above.")


def _word_size(found: Size, published: Size | None) -> list[str]:
    """Give pictures, identities and cameras, and the published number where it differs."""
    words = []
    for name in ("pictures", "identities", "cameras"):
        number, other = getattr(found, name), getattr(published, name, None)
        words.append(f"{number:,}" + (f" of {other:,}" if other not in (None, number) else ""))
    return words
