"""The loop: epochs of steps, validation, and files that a killed run goes on from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from reidkit import disk
from reidkit.errors import ArgumentError, TrainingError
from reidkit.machine import available_cores
from reidkit.records import Dataset
from reidkit.training._data import describe_data, label_people
from reidkit.training._distributed import Ranks, joined
from reidkit.training._epoch import Pace, run_epoch
from reidkit.training._events import Event
from reidkit.training._feeding import Feeder
from reidkit.training._initialising import load_pretrained
from reidkit.training._keeping import Keeper
from reidkit.training._logging import Log
from reidkit.training._memory import keep_memory
from reidkit.training._network import build_network
from reidkit.training._objective import Objective
from reidkit.training._recipe import Recipe
from reidkit.training._runs import Run, check_same_run, is_run, read_run
from reidkit.training._runtime import as_model
from reidkit.training._schedule import learning_rate
from reidkit.training._state import State, read_state
from reidkit.training._stepping import Stepper
from reidkit.training._validating import can_validate, check_validation, validate

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


def train(
    dataset: Dataset, recipe: Recipe, out: str | Path, *, report: Report | None = None
) -> Run:
    """Train a network into the folder of a run; see `reidkit.training.train`."""
    out = Path(out)
    labelled = label_people(dataset)
    classes = int(labelled[1].max()) + 1
    run = Run(out, recipe, describe_data(dataset, labelled[0], classes), classes)
    _check_place(out)
    with joined(recipe.device) as ranks, _only_writer(out, ranks), _reproducible(ranks):
        run, state = _take_up(run, ranks)
        if run.finished:
            return run
        workers = recipe.workers or max(available_cores() // ranks.count, 1)
        feeder = Feeder(*labelled, recipe, workers=workers)
        feeder.count_steps(1)  # what no batch can be made of is said before anything is written
        check_validation(dataset, ranks, workers=workers)
        told = report if report and ranks.first else _say_nothing
        return _run_epochs((run, state), dataset, feeder, ranks, told)


def _run_epochs(
    begun: tuple[Run, State | None], dataset: Dataset, feeder: Feeder, ranks: Ranks, report: Report
) -> Run:
    """Train the epochs that are left.

    What holds the connection to the other processes lives in here alone, and is gone before the
    connection is closed: closing it under them can hang.
    """
    stepper, keeper = _begin(*begun, ranks)
    run = keeper.run
    with _open_log(run, ranks) as log:
        training = _Training(dataset, run.recipe, ranks, stepper, feeder, log, report)
        report(Event("start", run.epoch, run.recipe.epochs))
        pace = Pace(run.epoch, run.recipe.epochs)
        for epoch in range(run.epoch + 1, run.recipe.epochs + 1):
            _train_epoch(training, keeper, pace, epoch)
    return keeper.run


def _check_place(out: Path) -> None:
    """Refuse what is neither a run nor a place for one.

    Raises:
        ArgumentError: it is a file, or a folder with other things.
    """
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"{out} exists already and is not a folder: choose another place")
    if out.is_dir() and not is_run(out) and any(entry.name[0] != "." for entry in out.iterdir()):
        raise ArgumentError(f"{out} is a folder with other things in it: choose another place")


def _take_up(run: Run, ranks: Ranks) -> tuple[Run, State | None]:
    """Give the run as it is on disk, and the state that it goes on from.

    Until an epoch is done nothing depends on an older recipe or on older data: the new ones hold.

    Raises:
        ArgumentError: the folder holds a run of another recipe or on other data.
        TrainingError: the state is lost, or the processes do not see the same folder.
    """
    state = read_state(run.folder)
    found = read_run(run.folder) if is_run(run.folder) else None
    if found is not None and (found.epoch or state is not None):
        check_same_run(found, run.recipe, run.data)
        run = dataclasses.replace(found, recipe=run.recipe)
        if state is None:
            raise TrainingError(
                f"{run.folder} has no state.pth, though {found.epoch} epochs are done: bring it "
                "back, or train into another folder with this run's last.safetensors as pretrained"
            )
    if len(set(ranks.gather((run.epoch, state is None)))) > 1:  # and nobody writes before that
        raise TrainingError(
            f"the processes do not find the same in {run.folder}: put it where all of them see it"
        )
    return run, state


def _begin(run: Run, state: State | None, ranks: Ranks) -> tuple[Stepper, Keeper]:
    """Make the network and what trains it, as they were left or new."""
    recipe = run.recipe
    described = recipe.network(run.classes)
    network = build_network(described, seed=recipe.seed)
    if state is None and recipe.pretrained:
        load_pretrained(network, described, recipe.pretrained)
    stepper = Stepper(Objective(network, recipe, classes=run.classes), recipe, ranks)
    return stepper, Keeper(run, stepper, ranks, state=state)


def _train_epoch(training: _Training, keeper: Keeper, pace: Pace, epoch: int) -> None:
    """Train one epoch, validate where it is time, and keep what came out."""
    recipe, stepper = training.recipe, training.stepper
    stepper.begin(rate=learning_rate(recipe, epoch), frozen=epoch <= recipe.freeze_epochs)
    for event in run_epoch(stepper, training.feeder, training.ranks, keeper.run, pace, epoch):
        _tell(training, event)
    scores, steps = None, event.steps
    due = epoch % recipe.validate_every == 0 or epoch == recipe.epochs
    with stepper.averaged():
        training.ranks.align(stepper.objective.network)
        if due and can_validate(training.dataset):
            model = as_model(stepper.objective.network, recipe, training.ranks.device)
            found = validate(
                model, training.dataset, training.ranks, workers=recipe.workers or None
            )
            scores = {"mAP": found.mAP, "rank1": found.rank(1), "mINP": found.mINP}
            _tell(training, Event("validation", epoch, recipe.epochs, steps, steps, scores))
    keeper.keep(epoch, scores, judged=can_validate(training.dataset))
    training.report(Event("checkpoint", epoch, recipe.epochs))


def _tell(training: _Training, event: Event) -> None:
    if training.log is not None:
        training.log.write(event)
    training.report(event)


def _open_log(run: Run, ranks: Ranks) -> AbstractContextManager[Log | None]:
    if not ranks.first:
        return nullcontext()
    return Log(run.folder, epoch=run.epoch, board=run.recipe.tensorboard)


def _say_nothing(_event: Event) -> None: ...


@contextmanager
def _only_writer(out: Path, ranks: Ranks) -> Iterator[None]:
    """Hold the folder against other runs."""
    holding = disk.hold(out / ".lock", f"training into {out}") if ranks.first else nullcontext()
    with holding:
        ranks.gather(None)  # the others look into the folder once it is held
        yield


@contextmanager
def _reproducible(ranks: Ranks) -> Iterator[None]:
    """On a CPU, compute the same sums in the same order each time."""
    if ranks.device.type != "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # Nothing here reads memory that it did not write; filling all of it first takes its time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    keep_memory()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled
