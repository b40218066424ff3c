"""A run's folder: what was trained, on what, how far it is, and its checkpoints.

    recipe.toml         the recipe, to be read by people and used again
    run.json            what the run is and how far, written after each epoch
    best.safetensors    the state dict of the epoch with the best mAP so far
    last.safetensors    the state dict of the last epoch
    state.pth           what training goes on from
    log.jsonl           a line a step or epoch

`run.json` holds the recipe too: it is what counts, so that a run has one file that says it all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import reidkit
from reidkit import disk
from reidkit.errors import ArgumentError, FormatError, TrainingError
from reidkit.training._recipe import DEFAULTS, Recipe
from reidkit.training._recipe_toml import make_recipe, recipe_as_toml

FORMAT = 1
"""The number of the format of runs that this version writes and reads."""

RUN, RECIPE = "run.json", "recipe.toml"
CHECKPOINTS = {"best": "best.safetensors", "last": "last.safetensors"}

FREE = ("pretrained", "validate_every", "log_every", "workers", "device", "tensorboard")
"""The fields of a recipe that may change while a run goes on: what is to come does not depend on
them, since `pretrained` is where it began."""

DATA = ("layout", "pictures", "people", "fingerprint")
"""What a run's data must agree in when it goes on; its root may have moved."""


@dataclass(frozen=True, slots=True)
class Run:
    """A training, finished or not.

    Fields:
        folder: where it is.
        recipe: what it does.
        data: `root` and `layout` of the data set; `pictures` and `people` of its training split
            and the `fingerprint` of all splits.
        classes: people that the classifier tells apart.
        epoch: epochs done.
        best_epoch: the epoch that `best.safetensors` is from, 0 where none was validated yet.
        scores: its `mAP`, `rank1` and `mINP`, shares from 0 to 1; empty where there is none.
    """

    folder: Path
    recipe: Recipe
    data: Mapping[str, str | int]
    classes: int
    epoch: int = 0
    best_epoch: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self.recipe.epochs

    def checkpoint(self, which: Literal["best", "last"] = "best") -> Path:
        """Give the file of a state dict, for `checkpoints.read`.

        Raises:
            TrainingError: the run has not come so far.
        """
        if which not in CHECKPOINTS:
            raise ArgumentError(f"the checkpoint is {which!r}, expected 'best' or 'last'")
        path = self.folder / CHECKPOINTS[which]
        if not path.is_file():
            raise TrainingError(
                f"{self.folder} has no {path.name}: {self.epoch} of its {self.recipe.epochs} "
                "epochs are done; let reidkit train go on"
            )
        return path


def is_run(path: str | Path) -> bool:
    """Say whether a folder is that of a run."""
    return (Path(path) / RUN).is_file()


def read_run(folder: str | Path) -> Run:
    """Read what a run's folder says of it; the checkpoints are not read.

    Raises:
        TrainingError: it is no run's folder, or its `run.json` is damaged.
        FormatError: another version of reidkit wrote it.
    """
    folder = Path(folder)
    path = folder / RUN
    if not path.is_file():
        raise TrainingError(
            f"{folder} is not the folder of a run, it has no {RUN}: pass one that reidkit train "
            "made"
        )
    try:
        content = disk.read_json(path)
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{path} is damaged: {error}") from error
    if content.get("format") != FORMAT:
        raise FormatError(
            f"{path} has format {content.get('format')!r}, this reidkit reads {FORMAT}: use the "
            "version that wrote it"
        )
    try:
        return _parse(folder, content)
    except (KeyError, TypeError, ValueError, ArgumentError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise TrainingError(f"{path} is damaged: {what}") from error


def write_run(run: Run) -> None:
    """Write `run.json`, which makes the folder a run, and `recipe.toml`, whole or not at all."""
    content = {
        "format": FORMAT,
        "reidkit": reidkit.__version__,
        "data": dict(run.data),
        "classes": run.classes,
        "epoch": run.epoch,
        "best_epoch": run.best_epoch,
        "scores": dict(run.scores),
        "recipe": dataclasses.asdict(run.recipe),
    }
    disk.write_json(run.folder / RUN, content)
    text = recipe_as_toml(run.recipe).encode()
    recipe = run.folder / RECIPE
    if not recipe.is_file() or recipe.read_bytes() != text:
        disk.write_bytes(recipe, text)


def check_same_run(run: Run, recipe: Recipe, data: Mapping[str, str | int]) -> None:
    """Refuse to go on with a run in another way than it began.

    The fields `FREE` may differ, and so may the root of the data set. A run by milestones may get
    more epochs.

    Raises:
        ArgumentError: the recipe or the data differ; the message names each difference.
    """
    changes = [
        _word_change(name, getattr(run.recipe, name), getattr(recipe, name))
        for name in DEFAULTS
        if getattr(run.recipe, name) != getattr(recipe, name)
        and not _is_free(name, run.recipe, recipe)
    ]
    if changes:
        raise ArgumentError(
            f"{run.folder} is a run with another recipe: {', '.join(changes)}. Go on with the "
            "recipe that it has, or choose another folder"
        )
    changes = [
        _word_change(name, run.data.get(name), data.get(name))
        for name in DATA
        if run.data.get(name) != data.get(name)
    ]
    if changes:
        raise ArgumentError(
            f"{run.folder} is a run on other data ({run.data.get('root')}, not "
            f"{data.get('root')}): {', '.join(changes)}. Go on with the data that it has, or "
            "choose another folder"
        )


def _is_free(name: str, old: Recipe, new: Recipe) -> bool:
    longer = name == "epochs" and new.epochs > old.epochs and new.schedule == "multistep"
    return name in FREE or longer


def _word_change(name: str, old: object, new: object) -> str:
    old, new = (list(value) if isinstance(value, tuple) else value for value in (old, new))
    return f"{name} was {old!r} and is {new!r}"


def _parse(folder: Path, content: Mapping[str, Any]) -> Run:
    data, scores = _mapping(content, "data"), _mapping(content, "scores")
    run = Run(
        folder=folder,
        recipe=make_recipe(_mapping(content, "recipe")),
        data={name: _of(data[name], name, (str, int)) for name in ("root", *DATA)},
        classes=_count(content, "classes", 1),
        epoch=_count(content, "epoch", 0),
        best_epoch=_count(content, "best_epoch", 0),
        scores={name: float(_of(value, name, (int, float))) for name, value in scores.items()},
    )
    if not run.best_epoch <= run.epoch <= run.recipe.epochs:
        raise ValueError(
            f"its best epoch is {run.best_epoch}, {run.epoch} of {run.recipe.epochs} are done"
        )
    return run


def _mapping(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = _of(content[name], name, (dict,))
    return found


def _count(content: Mapping[str, Any], name: str, smallest: int) -> int:
    found: int = _of(content[name], name, (int,))
    if found < smallest:
        raise ValueError(f"{name} is {found}")
    return found


def _of(value: Any, name: str, kinds: tuple[type, ...]) -> Any:
    if type(value) not in kinds:
        raise ValueError(f"{name} is a {type(value).__name__}")
    return value
