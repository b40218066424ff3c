"""The values of a compilation: what to compile for, and what one target's file is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.package import Package

PRECISIONS = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True, slots=True)
class Target:
    """What to compile for: an engine, and how it is to compute.

    `batch` is the only batch size the result takes, `None` for any; `device` is the one it is
    compiled for, as `runtimes.load_runtime` names it.
    """

    name: str
    precision: str = "fp32"
    batch: int | None = None
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Support:
    """What a target can do on this machine.

    `precisions` are those that work here, none where the target does not; `hint` says why the
    others do not and what to install, empty where nothing is missing.
    """

    precisions: tuple[str, ...]
    hint: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One build: a package for a target.

    `calibration` are (N, 3, H, W) float32 network inputs, for int8 alone; `float_layers` the
    names of layers that int8 leaves in float. `kept` is for what a target wants to find again
    when it builds the same package with other float layers, such as calibrated ranges.
    """

    package: Package
    target: Target
    calibration: NDArray[np.float32] | None = None
    float_layers: tuple[str, ...] = ()
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def model_file(self) -> Path:
        """The package's engine file."""
        return self.package.engine_file
