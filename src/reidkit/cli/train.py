"""`reidkit train`: data set and recipe -> run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _certificates, _options

if TYPE_CHECKING:
    from reidkit.training import Event, Recipe, Run

_DEFAULT_RUN = Path("run")


@click.command("train", short_help="Data set to trained network, resumable.")
@click.argument("pairs", nargs=-1, metavar="[KEY VALUE]...")
@_options.data
@click.option("--config", type=_options.FILE, metavar="TOML", help="The recipe.")
@_options.configuration(required=False)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a field of the recipe; may be given several times.",
)
@click.option(
    "-o",
    "--out",
    type=_options.FOLDER,
    default=_DEFAULT_RUN,
    show_default=True,
    help="Folder of the run; one that exists goes on.",
)
@click.option("--print-config", is_flag=True, help="Print the whole recipe as TOML and stop.")
@_options.common
def command(
    pairs: tuple[str, ...],
    root: Path | None,
    layout: str | None,
    config: Path | None,
    config_file: Path | None,
    settings: tuple[str, ...],
    out: Path,
    print_config: bool,
    as_json: bool,
) -> None:
    """Train a network on the training split of --data, by the strong baseline's recipe.

    It is validated on the query and the gallery. The run is saved after every epoch: after a crash
    or Ctrl-C the same command goes on where it stopped. `reidkit export RUN` and `reidkit deploy
    RUN` take its best checkpoint.

    The recipe comes from --config; or from --config_file, the strong baseline's configuration,
    changed by the pairs KEY VALUE; and is changed by --set, such as --set epochs=60. On several
    GPUs: torchrun --nproc-per-node N -m reidkit train ...
    """
    from reidkit.training import recipe_as_toml, train

    recipe, remarks = _read(config, config_file, pairs, settings)
    quiet = _rank() != 0
    for remark in () if quiet else remarks:
        click.echo(f"remark: {remark}", err=True)
    if print_config:
        click.echo(recipe_as_toml(recipe), nl=False)
        return
    dataset = _certificates.load_data(root, layout)
    if quiet:
        train(dataset, recipe, out)
        return
    with _watching(as_json=as_json) as report:
        run = train(dataset, recipe, out, report=report)
    _print(run, as_json=as_json)


def _read(
    config: Path | None,
    config_file: Path | None,
    pairs: tuple[str, ...],
    settings: tuple[str, ...],
) -> tuple[Recipe, tuple[str, ...]]:
    """Read the recipe that the options name, and what is to be said about it."""
    from reidkit.training import read_baseline_recipe, read_recipe

    if config_file is None:
        if pairs:
            raise click.UsageError(
                f"{pairs[0]!r} changes a configuration: pass --config_file too, or change the "
                "recipe with --set KEY=VALUE"
            )
        return read_recipe(config, settings), ()
    if config is not None:
        raise click.UsageError("--config and --config_file are two recipes: leave one of them out")
    return read_baseline_recipe(config_file, pairs, settings)


def _rank() -> int:
    """Give which process of a training this is; torchrun says so."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdecimal() else 0


@contextmanager
def _watching(*, as_json: bool) -> Iterator[Callable[[Event], None]]:
    """Show a bar on stderr while the block runs, and a line for what is done on stdout."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.fields[place]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    # The lines go above the bar where both go to a terminal, and else where stdout goes.
    redirected = sys.stdout.isatty()
    bar = Progress(*columns, console=Console(stderr=True), redirect_stdout=redirected)
    with bar:
        task = bar.add_task("", total=None, visible=False, place="", figures="")

        def report(event: Event) -> None:
            if event.kind == "step":
                bar.update(
                    task,
                    visible=True,
                    completed=event.step,
                    total=event.steps,
                    place=f"epoch {event.epoch}/{event.epochs}",
                    figures=_word(event.values, _SHOWN_BY_STEP),
                )
            elif (line := _word_event(event)) and not as_json:
                click.echo(line)

        yield report


_FIGURES: dict[str, Callable[[float], str]] = {
    "loss": lambda value: f"loss {value:.4f}",
    "learning_rate": lambda value: f"learning rate {value:.3g}",
    "mAP": lambda value: f"mAP {100 * value:.1f} %",
    "rank1": lambda value: f"Rank-1 {100 * value:.1f} %",
    "mINP": lambda value: f"mINP {100 * value:.1f} %",
    "pictures_per_second": lambda value: f"{value:,.0f} pictures/s",
    "waiting": lambda value: f"waiting {100 * value:.0f} %",
    "eta_seconds": lambda value: f"{_duration(value)} left",
}
"""How what an event measures is written, in the order in which it is shown."""

_SHOWN_BY_STEP = ("loss", "pictures_per_second", "waiting", "eta_seconds")


def _word_event(event: Event) -> str:
    """Say in a line what happened, "" for what needs none."""
    place = f"epoch {event.epoch}/{event.epochs}"
    if event.kind == "start" and event.epoch:
        return f"{place} was done: going on"
    if event.kind in ("epoch", "validation") and event.values:
        return f"{place}: {_word(event.values, tuple(_FIGURES))}"
    return ""


def _word(values: Mapping[str, float], names: tuple[str, ...]) -> str:
    return ", ".join(_FIGURES[name](values[name]) for name in names if name in values)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _print(run: Run, *, as_json: bool) -> None:
    """Say what the run came to."""
    import dataclasses

    from reidkit.cli import _output

    best = run.checkpoint("best")
    if as_json:
        _output.print_json(
            {
                "out": str(run.folder),
                "checkpoint": str(best),
                "epochs": run.epoch,
                "best_epoch": run.best_epoch,
                "scores": dict(run.scores),
                "classes": run.classes,
                "data": dict(run.data),
                "recipe": dataclasses.asdict(run.recipe),
            }
        )
        return
    scores = f": {_word(run.scores, tuple(_FIGURES))}" if run.scores else ", never validated"
    folder = click.format_filename(run.folder)
    click.echo(f"{folder}: {run.epoch} epochs done, best epoch {run.best_epoch}{scores}")
    click.echo(f"best checkpoint: {click.format_filename(best)}")
