"""`state.pth`: what a training goes on from after it was stopped or killed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from reidkit import disk
from reidkit.errors import FormatError, TrainingError

STATE = "state.pth"
FORMAT = 1


class State(NamedTuple):
    """Where a training is.

    Fields:
        stepper: what `Stepper.state` gave: dicts of tensors, numbers and texts.
        epoch: epochs done.
        best_epoch: the one with the best mAP, 0 where none was validated.
        scores: its scores.
        fingerprint: of the data that it was trained on.
    """

    stepper: dict[str, Any]
    epoch: int
    best_epoch: int
    scores: Mapping[str, float]
    fingerprint: str


def write_state(folder: Path, state: State) -> None:
    """Write the state, whole or not at all."""
    file = io.BytesIO()
    torch.save({"format": FORMAT, **state._asdict()}, file)
    disk.write_bytes(folder / STATE, file.getvalue())


def read_state(folder: Path) -> State | None:
    """Read the state, on the CPU; `None` where training has not come to the end of an epoch.

    Raises:
        TrainingError: the file cannot be read.
        FormatError: another version of reidkit wrote it.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        # Weights only: unpickling anything else could run code.
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever it stumbled over
        raise damaged(path, str(error).strip().partition("\n")[0]) from error
    if not isinstance(content, dict) or "format" not in content:
        raise damaged(path, "it holds something else")
    if content.pop("format") != FORMAT:
        raise FormatError(
            f"{path} has another format than {FORMAT}, which this version of reidkit reads: go on "
            "with the version that began the run"
        )
    if content.keys() != set(State._fields):
        raise damaged(path, "it holds something else")
    return State(**content)


def damaged(path: Path, reason: str) -> TrainingError:
    """Give the error over a state that cannot be used."""
    return TrainingError(
        f"{path} cannot be read ({reason}): train into another folder, with this run's "
        "last.safetensors as pretrained"
    )
