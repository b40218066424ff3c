"""The ways in which a network is trained for a number of steps, each with the time that it took."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_dataset
from reidkit.machine import available_cores
from reidkit.training import Recipe, Run
from reidkit.training._augmenting import draw_changes
from reidkit.training._data import label_people
from reidkit.training._distributed import Ranks
from reidkit.training._epoch import Pace, run_epoch
from reidkit.training._feeding import Batch, Feeder
from reidkit.training._network import build_network
from reidkit.training._objective import Objective
from reidkit.training._stepping import Stepper
from reidkit.training._training import _reproducible
from training_reference import Reference

REFERENCE = "reference"
PARTS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "float32"},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "channels_last": {"channels_last": True},
    "compile": {"compile": True},
    "files": {},
}
"""What a way is put together of, and what each part changes in the recipe."""

PICTURES = 3
"""Ready batches that are used in turn."""

Figures = dict[str, float]


def change_recipe(recipe: Recipe, way: str) -> Recipe:
    """Change a recipe into that of a way such as `bfloat16+channels_last`."""
    changes: dict[str, Any] = {"channels_last": False}
    for part in way.split("+"):
        changes |= PARTS[part]
    return dataclasses.replace(recipe, **changes)


class Ours:
    """reidkit's training of one recipe: its loop over an epoch, cut to a number of steps."""

    def __init__(self, recipe: Recipe, feeder: Any, folder: Path, *, classes: int) -> None:
        device = torch.device(recipe.device)
        self._ranks = Ranks(0, 1, device)
        network = build_network(recipe.network(classes), seed=0)
        self.objective = Objective(network, recipe, classes=classes)
        self.stepper = Stepper(self.objective, recipe, self._ranks)
        self.stepper.begin(rate=recipe.learning_rate, frozen=False)
        self._run = Run(folder, recipe, {}, classes)
        self._feeder = feeder

    def train(self, steps: int) -> Figures:
        """Take so many steps: the mean loss, and the share of the time spent waiting."""
        feeder: Any = _Shortened(self._feeder, steps)
        with _reproducible(self._ranks):
            *_, end = run_epoch(self.stepper, feeder, self._ranks, self._run, Pace(0, 1), 1)
        return {"loss": end.values["loss"], "waiting": end.values["waiting"]}


class Theirs:
    """The reference's training: its step, on images that are ready in memory."""

    def __init__(self, reference: Reference, images: Sequence[tuple[Any, Any]]) -> None:
        self._reference, self._images = reference, images

    def train(self, steps: int) -> Figures:
        """Take so many steps: the mean loss."""
        ready = itertools.islice(itertools.cycle(self._images), steps)
        return {"loss": float(np.mean([self._reference.step(*each) for each in ready]))}


class Ready:
    """Batches that lie ready in memory, in a `Feeder`'s place."""

    waited = 0.0

    def __init__(self, recipe: Recipe, *, classes: int) -> None:
        chance = np.random.default_rng(0)
        people = recipe.batch // recipe.instances
        self.batches = []
        for _ in range(PICTURES):
            shown = chance.permutation(classes)[:people].astype(np.int64)
            size = (recipe.batch, recipe.height, recipe.width, 3)
            batch = Batch(
                pixels=chance.integers(0, 256, size, np.uint8),
                erased=draw_changes(recipe.batch, recipe, chance).erased,
                labels=shown.repeat(recipe.instances),
                rows=np.arange(recipe.batch),
                paths=np.full(recipe.batch, "", object),
            )
            self.batches.append(batch)

    def epoch(self, epoch: int, rank: int, ranks: int) -> Iterator[Batch]:
        """Give each batch once."""
        return iter(self.batches)


def make_feeder(recipe: Recipe, folder: Path, *, people: int) -> Feeder:
    """Draw people, unless they are there, and read them from their files in every epoch."""
    if not folder.exists():
        draw_dataset(folder, people=people)
    samples, labels = label_people(load_dataset("market1501", folder))
    return Feeder(samples, labels, recipe, workers=available_cores(), memory=0)


def make_ways(
    names: Sequence[str], recipe: Recipe, place: Path, *, classes: int, checkout: Path | None
) -> dict[str, Ours | Theirs]:
    """Make what trains in each of the ways; all start from the same weights."""
    ready = Ready(recipe, classes=classes)
    ways: dict[str, Ours | Theirs] = {}
    for name in names:
        if name == REFERENCE:
            if checkout is None:
                raise ValueError("the reference needs a checkout")
            plain = Ours(change_recipe(recipe, "float32"), ready, place, classes=classes)
            images = [plain.stepper.images(batch) for batch in ready.batches]
            theirs = Reference(checkout, recipe, classes=classes, device=recipe.device)
            state = plain.objective.state_dict()
            theirs.load(state)
            # Its loader gives normalised images in memory, not on the device.
            ways[name] = Theirs(theirs, [(pair[0].cpu(), pair[1].cpu()) for pair in images])
            continue
        changed = change_recipe(recipe, name)
        feeder: Any = ready
        if "files" in name.split("+"):
            feeder = make_feeder(changed, place / "people", people=max(recipe.batch // 2, 8))
        ways[name] = Ours(changed, feeder, place, classes=classes)
    return ways


def time_steps(way: Ours | Theirs, steps: int, *, device: str) -> Figures:
    """Train for some steps, with the device idle at both ends.

    Gives `seconds`, `processor_seconds` (of all threads, which others that compute on this
    machine change less), and what `train` does.
    """
    synchronise = _synchroniser(device)
    synchronise()
    began, used = time.perf_counter(), time.process_time()
    found = way.train(steps)
    synchronise()
    ended, spent = time.perf_counter(), time.process_time() - used
    return {"seconds": ended - began, "processor_seconds": spent, **found}


def measure_peak(precision: str, device: str) -> float:
    """Give the operations a second of a large matrix product, the fastest of 30.

    For float32 on a GPU that is one in TF32, which convolutions use there. On a CPU it is over
    within the time that others leave one alone; convolutions that save products (Winograd's)
    can be faster.
    """
    side = 768 if device == "cpu" else 8192
    kind = getattr(torch, precision)
    first, second = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    synchronise = _synchroniser(device)
    before = torch.get_float32_matmul_precision()
    if device != "cpu":
        torch.set_float32_matmul_precision("high")
    fastest = float("inf")
    for _ in range(30):
        synchronise()
        began = time.perf_counter()
        first @ second
        synchronise()
        fastest = min(fastest, time.perf_counter() - began)
    torch.set_float32_matmul_precision(before)
    return 2 * side**3 / fastest


def profile(way: Ours | Theirs, steps: int, *, device: str, rows: int = 15) -> list[str]:
    """Say in which of torch's operations the time goes: a line each, the costliest first."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    activities = [ProfilerActivity.CPU]
    if device != "cpu":
        activities.append(ProfilerActivity.CUDA)
    with record(activities=activities) as found:
        time_steps(way, steps, device=device)
    own = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    averages = sorted(found.key_averages(), key=lambda each: -getattr(each, own))
    total = sum(getattr(each, own) for each in averages)
    return [
        f"{getattr(each, own) / total:7.1%} {getattr(each, own) / steps / 1e3:10.2f} ms a step "
        f"{each.count / steps:8.1f} calls  {each.key}"
        for each in averages[:rows]
    ]


class _Shortened:
    """A feeder whose epoch has so many steps, taken from as many of its epochs as that needs."""

    def __init__(self, feeder: Any, steps: int) -> None:
        self._feeder, self._steps = feeder, steps
        self._before = 0.0

    @property
    def waited(self) -> float:
        """Seconds waited so far."""
        return self._before + float(self._feeder.waited)

    def count_steps(self, epoch: int) -> int:
        """Tell the number of steps."""
        return self._steps

    def epoch(self, epoch: int, rank: int, ranks: int) -> Iterator[Batch]:
        """Give that many batches."""
        left = self._steps
        for number in itertools.count(1):
            for batch in itertools.islice(self._feeder.epoch(number, rank, ranks), left):
                left -= 1
                yield batch
            if not left:
                return
            self._before += self._feeder.waited


def _synchroniser(device: str) -> Callable[[], object]:
    if device == "cpu":
        return lambda: None
    return torch.cuda.synchronize  # type: ignore[no-any-return]
