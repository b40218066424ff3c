"""One epoch: steps, how fast they go, and what to do when one goes wrong."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reidkit import disk
from reidkit.errors import TrainingError
from reidkit.training._distributed import Ranks
from reidkit.training._events import Event
from reidkit.training._feeding import Feeder
from reidkit.training._runs import Run
from reidkit.training._stepping import Step, Stepper


@dataclass(slots=True)
class Pace:
    """How fast a training goes: the epochs that this process has done of those to do."""

    done: int
    epochs: int
    began: float = field(default_factory=time.perf_counter)
    first: int = field(init=False)

    def __post_init__(self) -> None:
        self.first = self.done

    def seconds_left(self, epochs_done: float) -> float:
        """Estimate the seconds to the end from the epochs done, part of the present included."""
        spent = time.perf_counter() - self.began
        share = epochs_done - self.first
        return spent / share * (self.epochs - epochs_done) if share > 0 else math.nan


class _Pending(NamedTuple):
    """A step whose losses have not been looked at yet."""

    number: int
    step: Step
    paths: Sequence[str]


def run_epoch(
    stepper: Stepper, feeder: Feeder, ranks: Ranks, run: Run, pace: Pace, epoch: int
) -> Iterator[Event]:
    """Train an epoch, giving an event every `log_every` steps and one at the end.

    On a GPU the losses of a step are looked at after the next one was started, so that the GPU
    never waits for it.

    Raises:
        TrainingError: a loss was not finite; the batch was saved in the run's folder.
    """
    recipe = run.recipe
    steps = feeder.count_steps(epoch)
    meter = _Meter(ranks.count)
    pending: _Pending | None = None
    lag = ranks.device.type != "cpu"
    for number, batch in enumerate(feeder.epoch(epoch, ranks.rank, ranks.count), 1):
        paths = list(batch.paths)
        step = stepper.step(batch, last=number == steps)
        if pending is not None:
            meter.add(_look(pending, run, epoch, ranks.rank))
        pending = _Pending(number, step, paths)
        if not lag:
            meter.add(_look(pending, run, epoch, ranks.rank))
            pending = None
        meter.count(len(paths))
        if number % recipe.log_every == 0 and number < steps:
            values = meter.values(stepper.rate, feeder.waited)
            values["eta_seconds"] = pace.seconds_left(epoch - 1 + number / steps)
            yield Event("step", epoch, recipe.epochs, number, steps, values)
    if pending is not None:
        meter.add(_look(pending, run, epoch, ranks.rank))
    values = meter.values(stepper.rate, feeder.waited)
    values["eta_seconds"] = pace.seconds_left(epoch)
    values["seconds"] = meter.seconds
    yield Event("epoch", epoch, recipe.epochs, steps, steps, values)


class _Meter:
    """Sums over an epoch."""

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._began = time.perf_counter()
        self._pictures = 0
        self._losses: list[dict[str, float]] = []

    @property
    def seconds(self) -> float:
        """The seconds since the epoch began."""
        return max(time.perf_counter() - self._began, 1e-9)

    def add(self, losses: dict[str, float]) -> None:
        self._losses.append(losses)

    def count(self, pictures: int) -> None:
        self._pictures += pictures

    def values(self, rate: float, waited: float) -> dict[str, float]:
        """Give the means of the losses so far, and how fast it goes."""
        seconds = self.seconds
        values = {
            name: float(np.mean([losses[name] for losses in self._losses]))
            for name in (self._losses[0] if self._losses else ())
        }
        return values | {
            "learning_rate": rate,
            "pictures_per_second": self._pictures * self._ranks / seconds,
            "waiting": min(waited / seconds, 1.0),
        }


def _look(pending: _Pending, run: Run, epoch: int, rank: int) -> dict[str, float]:
    """Give the losses of a step as numbers.

    Raises:
        TrainingError: one is not finite.
    """
    losses = pending.step.losses
    values = dict(zip(("loss", *losses._fields[1:]), map(float, losses), strict=True))
    if all(map(math.isfinite, values.values())):
        return values
    path = _save(pending, run.folder, values, rank)
    named = ", ".join(f"{name} {value:g}" for name, value in values.items())
    raise TrainingError(
        f"the loss of step {pending.number} of epoch {epoch} is not finite ({named}); the batch "
        f"is in {path}. The files of epoch {epoch - 1} are as they were: take a lower "
        'learning_rate, a longer warm-up, or precision = "float32", and train into another '
        "folder"
    )


def _save(pending: _Pending, folder: Path, values: dict[str, float], rank: int) -> Path:
    """Save what the network was shown: images (B, 3, H, W) float32, labels (B,), paths (B,)."""
    path = folder / ("failed-batch.npz" if rank == 0 else f"failed-batch-{rank}.npz")
    arrays: dict[str, Any] = {
        "images": pending.step.images.cpu().numpy(),
        "labels": pending.step.labels.cpu().numpy(),
        "paths": np.array(pending.paths),
        **values,
    }
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    disk.write_bytes(path, file.getvalue())
    return path
