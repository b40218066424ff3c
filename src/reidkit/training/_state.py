"""`state.pth`: what a training goes on from after it was stopped or killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from reidkit.errors import FormatError, TrainingError

STATE = "state.pth"
FORMAT = 1


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state, whole or not at all.

    It holds tensors, numbers and texts in dicts and lists, and nothing else.
    """
    path = folder / STATE
    temporary = path.with_name(f".{STATE}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_state(folder: Path) -> dict[str, Any] | None:
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
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever it stumbled over
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"{path} cannot be read ({reason}): train into another folder, with this run's "
            "last.safetensors as pretrained"
        ) from error
    if state.get("format") != FORMAT:
        raise FormatError(
            f"{path} has format {state.get('format')!r}, this version of reidkit reads {FORMAT}: "
            "go on with the version that began the run"
        )
    return state
