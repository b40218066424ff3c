"""Training: the strong baseline's recipe and what users expect beside it.

A recipe is one flat value, a run is a folder. Both are read and written without torch, so that
`export` and `deploy` take a run's checkpoint where torch is missing; `train` needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from reidkit.errors import MissingExtraError
from reidkit.records import Dataset
from reidkit.training._baseline import read_baseline_recipe as read_baseline_recipe
from reidkit.training._events import Event as Event
from reidkit.training._recipe import Recipe as Recipe
from reidkit.training._recipe_toml import read_recipe as read_recipe
from reidkit.training._recipe_toml import recipe_as_toml as recipe_as_toml
from reidkit.training._runs import Run as Run
from reidkit.training._runs import check_same_run as check_same_run
from reidkit.training._runs import is_run as is_run
from reidkit.training._runs import read_run as read_run
from reidkit.training._runs import write_run as write_run


def train(
    dataset: Dataset,
    recipe: Recipe,
    out: str | Path,
    *,
    report: Callable[[Event], None] | None = None,
) -> Run:
    """Train a network on a data set's training split; a run that was interrupted goes on.

    On a CPU the process keeps the memory that it frees from here on, for speed.

    Args:
        dataset: trained on its `train`, validated on its `query` and `gallery`.
        recipe: what to train and how.
        out: the run's folder. One that exists goes on where it stopped, if recipe and data are
            those that it began with.
        report: called with what happens, in the calling thread.

    Raises:
        MissingExtraError: torch is not installed (extra `torch`), or what the recipe asks for.
        ArgumentError: the folder holds another run or other things, or the data do not suffice
            for the recipe.
        TrainingError: the training cannot go on, such as where its loss is no number any more.
        UnreadableImagesError: pictures that cannot be decoded, all of them.
        CheckpointError: what `pretrained` names is no checkpoint of this network.
    """
    try:
        import_module("torch")
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch", "torch") from error
    from reidkit.training import _training

    return _training.train(dataset, recipe, Path(out), report=report)
