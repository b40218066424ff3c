"""The loop: epochs of steps, validation, and files that a killed run goes on from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reidkit import disk
from reidkit.errors import ArgumentError
from reidkit.machine import available_cores
from reidkit.records import Dataset, Samples
from reidkit.training._data import describe_data, label_people
from reidkit.training._distributed import Ranks, joined
from reidkit.training._epoch import Pace, run_epoch
from reidkit.training._events import Event
from reidkit.training._feeding import Feeder
from reidkit.training._initialising import load_pretrained
from reidkit.training._keeping import Keeper
from reidkit.training._logging import Log
from reidkit.training._network import build_network
from reidkit.training._objective import Objective
from reidkit.training._recipe import Recipe
from reidkit.training._runs import Run, check_same_run, is_run, read_run
from reidkit.training._runtime import as_model
from reidkit.training._schedule import learning_rate
from reidkit.training._state import read_state
from reidkit.training._stepping import Stepper
from reidkit.training._validating import can_validate, validate

Report = Callable[[Event], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Training:
    """What the epochs of one training have in common."""

    dataset: Dataset
    recipe: Recipe
    ranks: Ranks
    stepper: Stepper
    feeder: Feeder
    log: Log | None
    report: Report


def train(dataset: Dataset, recipe: Recipe, out: Path, *, report: Report | None = None) -> Run:
    """Train a network into the folder of a run; see `reidkit.training.train`."""
    samples, labels = label_people(dataset)
    classes = int(labels.max()) + 1
    with joined(recipe.device) as ranks:
        run = _open_run(out, recipe, dataset, classes)
        if run.finished:
            return run
        with _only_writer(out, ranks), _reproducible(ranks):
            told = report if report and ranks.first else _say_nothing
            return _train(run, dataset, (samples, labels), ranks, told)


def _open_run(out: Path, recipe: Recipe, dataset: Dataset, classes: int) -> Run:
    """Give the run that is in a folder, or a new one.

    Raises:
        ArgumentError: the folder holds a run of another recipe or other data, or other things.
    """
    data = describe_data(dataset)
    if is_run(out):
        found = read_run(out)
        check_same_run(found, recipe, data)
        return dataclasses.replace(found, recipe=recipe)
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"{out} exists already and is not a folder: choose another place")
    if out.is_dir() and any(entry.name[0] != "." for entry in out.iterdir()):
        raise ArgumentError(f"{out} is a folder with other things in it: choose another place")
    return Run(out, recipe, data, classes)


def _train(
    run: Run,
    dataset: Dataset,
    labelled: tuple[Samples, NDArray[np.int64]],
    ranks: Ranks,
    report: Report,
) -> Run:
    recipe = run.recipe
    described = recipe.network(run.classes)
    network = build_network(described, seed=recipe.seed)
    state = read_state(run.folder)
    if state is None and recipe.pretrained:
        load_pretrained(network, described, recipe.pretrained)
    ranks.gather(None)  # nobody writes before everybody has read
    stepper = Stepper(Objective(network, recipe, classes=run.classes), recipe, ranks)
    keeper = Keeper(run, stepper, ranks, state=state)
    workers = recipe.workers or max(available_cores() // ranks.count, 1)
    feeder = Feeder(*labelled, recipe, workers=workers)
    with _open_log(keeper.run, ranks) as log:
        training = _Training(dataset, recipe, ranks, stepper, feeder, log, report)
        pace = Pace(keeper.run.epoch, recipe.epochs)
        report(Event("start", keeper.run.epoch, recipe.epochs))
        for epoch in range(keeper.run.epoch + 1, recipe.epochs + 1):
            _train_epoch(training, keeper, pace, epoch)
    return keeper.run


def _train_epoch(training: _Training, keeper: Keeper, pace: Pace, epoch: int) -> None:
    """Train one epoch, validate where it is time, and keep what came out."""
    recipe, stepper = training.recipe, training.stepper
    torch.manual_seed(recipe.seed * 1_000_003 + epoch)
    stepper.begin(rate=learning_rate(recipe, epoch), frozen=epoch <= recipe.freeze_epochs)
    for event in run_epoch(stepper, training.feeder, training.ranks, keeper.run, pace, epoch):
        _tell(training, event)
    scores = None
    due = epoch % recipe.validate_every == 0 or epoch == recipe.epochs
    with stepper.averaged():
        training.ranks.align(stepper.objective.network)
        if due and can_validate(training.dataset):
            model = as_model(stepper.objective.network, recipe, training.ranks.device)
            found = validate(
                model, training.dataset, training.ranks, workers=recipe.workers or None
            )
            scores = {"mAP": found.mAP, "rank1": found.rank(1), "mINP": found.mINP}
            _tell(training, Event("validation", epoch, recipe.epochs, values=scores))
    keeper.keep(epoch, scores, judged=can_validate(training.dataset))
    training.report(Event("checkpoint", epoch, recipe.epochs))


def _tell(training: _Training, event: Event) -> None:
    if training.log is not None:
        step = (event.epoch - 1) * event.steps + event.step
        training.log.write(event.kind, event.values, epoch=event.epoch, step=step)
    training.report(event)


def _open_log(run: Run, ranks: Ranks) -> AbstractContextManager[Log | None]:
    if not ranks.first:
        return nullcontext()
    return Log(run.folder, epoch=run.epoch, board=run.recipe.tensorboard)


def _say_nothing(_event: Event) -> None: ...


@contextmanager
def _only_writer(out: Path, ranks: Ranks) -> Iterator[None]:
    """Hold the folder against other runs."""
    if not ranks.first:
        yield
        return
    with disk.hold(out / ".lock", f"training into {out}"):
        yield


@contextmanager
def _reproducible(ranks: Ranks) -> Iterator[None]:
    """On a CPU, compute the same sums in the same order each time."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(ranks.device.type == "cpu" or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
