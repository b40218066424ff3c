"""What `export` and `deploy` take as CHECKPOINT: a file, or the folder of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from reidkit.package import InputSpec


@dataclass(frozen=True, slots=True)
class Chosen:
    """A checkpoint's file and what it does not say of its network."""

    checkpoint: Path
    architecture: str | None
    last_stride: int
    contract: InputSpec


def choose(context: click.Context) -> Chosen:
    """Give what the command's options say, or the best checkpoint of a run as its recipe says.

    Raises:
        UsageError: an option was given that contradicts the run.
        TrainingError: a folder that is not a run's, or a run without a checkpoint.
    """
    from reidkit.package import InputSpec

    options = context.params
    checkpoint: Path = options["checkpoint"]
    if checkpoint.is_dir():
        return _choose_best(context, checkpoint)
    height, width = options["size"]
    return Chosen(
        checkpoint,
        options["architecture"],
        int(options["last_stride"]),
        InputSpec(height=height, width=width, neck=options["neck_feature"]),
    )


def _choose_best(context: click.Context, folder: Path) -> Chosen:
    from reidkit.training import read_run

    run = read_run(folder)
    best, recipe = run.checkpoint("best"), run.recipe
    said: dict[str, tuple[str, object]] = {
        "architecture": ("architecture", recipe.architecture),
        "last_stride": ("last_stride", str(recipe.last_stride)),
        "size": ("the size", (recipe.height, recipe.width)),
    }
    if recipe.bnneck:
        said["neck_feature"] = ("neck_feature", recipe.neck_feature)
    advice = f"leave it out, or pass the file {click.format_filename(best)} instead of the run"
    refuse_others(context, said, "the run", advice)
    if not run.finished:
        click.echo(
            f"remark: {run.epoch} of {recipe.epochs} epochs are done, the best so far is "
            f"{run.best_epoch}",
            err=True,
        )
    return Chosen(best, recipe.architecture, recipe.last_stride, recipe.contract)


def refuse_others(
    context: click.Context, said: Mapping[str, tuple[str, object]], whose: str, advice: str
) -> None:
    """Refuse options that were given and say something else than a configuration or a run.

    `said` holds for an option's name what `whose` calls it and the value there.
    """
    from click.core import ParameterSource

    for name, (key, value) in said.items():
        given = context.params[name]
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE and given != value:
            raise click.UsageError(
                f"{name.replace('_', '-')} is {_show(given)}, but {key} of {whose} is "
                f"{_show(value)}: {advice}"
            )


def _show(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
