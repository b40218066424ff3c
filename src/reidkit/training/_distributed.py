"""The processes that train together: one for each GPU, or several on a CPU, under torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from reidkit.devices import parse_device
from reidkit.errors import ArgumentError, TrainingError


@dataclass(frozen=True, slots=True)
class Ranks:
    """The place of a process among `count` that train together, and the device it computes on."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Give every process's value to all of them, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def align(self, module: torch.nn.Module) -> None:
        """Give every process the first one's running statistics, which each keeps for itself."""
        if self.count > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun started; a process started otherwise is alone.

    `device` is `cpu`, `cuda`, `cuda:N`, or empty for a GPU where there is one. Of several
    processes on one machine each takes the GPU of its own number.

    Raises:
        ArgumentError: no such device, one GPU was named for several processes, or they cannot
            find each other.
        DeviceError: torch finds no such GPU.
        TrainingError: another of the processes failed while the block ran.
    """
    count = _read_number("WORLD_SIZE", "1")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind, number = parse_device(device)
    if count == 1:
        yield Ranks(0, 1, torch.device(kind, max(number, 0)) if kind == "cuda" else _CPU)
        return
    if ":" in device:
        raise ArgumentError(
            f"device is {device!r} for {count} processes: say cuda, and each takes one of its own"
        )
    place = torch.device("cuda", _read_number("LOCAL_RANK")) if kind == "cuda" else _CPU
    if place.type == "cuda":
        parse_device(str(place))
        torch.cuda.set_device(place)
    try:
        distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"the {count} processes cannot find each other ({_first_line(error)}): start them "
            "with torchrun"
        ) from error
    try:
        yield Ranks(distributed.get_rank(), count, place)
    except RuntimeError as error:  # what torch raises where another process is gone
        raise TrainingError(
            f"training together with other processes failed; one of them may have said why "
            f"({_first_line(error)})"
        ) from error
    finally:
        distributed.destroy_process_group()


def _read_number(name: str, default: str = "") -> int:
    """Read one of the variables that torchrun sets."""
    text = os.environ.get(name, default)
    if not text.isdecimal():
        raise ArgumentError(
            f"the environment variable {name} is {text!r}, expected a number: start several "
            "processes with torchrun"
        )
    return int(text)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


_CPU = torch.device("cpu")
