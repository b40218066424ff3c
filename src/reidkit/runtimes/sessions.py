"""Model files with any inputs and outputs, as a batch inference tool meets them.

A `Runtime` runs the one kind of model a package holds: pictures in, vectors out. A `Session` runs
a file as it is, with the names, types and number of tensors it came with, and says how long each
part of a run took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import EngineError

Array = NDArray[Any]
"""One tensor, C-contiguous."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output: its name, type, and shape with -1 for every free size."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run of a session: an array for each output, and the milliseconds each part took.

    `sent` is the copy of the inputs to the device and `received` that of the outputs back; both
    are 0 where an engine computes in place or does not tell them from `computed`.
    """

    outputs: tuple[Array, ...]
    computed: float
    sent: float = 0.0
    received: float = 0.0


class Session(Protocol):
    """A model file loaded on one device."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives."""

    @property
    def device(self) -> str:
        """What really runs it, as the engine reports it."""

    @property
    def batch_gears(self) -> tuple[int, ...]:
        """The only batch sizes it takes, where it was compiled for several; otherwise empty."""

    def run(self, arrays: Sequence[Array]) -> Run:
        """Run it once, with one array for each input.

        Raises:
            EngineError: the engine failed, or an array is not of the type and shape it takes.
        """

    def close(self) -> None:
        """Give the engine's memory back; the session cannot be used afterwards."""


def open_onnx(file: Path, *, device: str = "cpu", threads: int | None = None) -> Session:
    """Open an .onnx file, or any file that onnxruntime loads; `device` as in `load_runtime`.

    Raises:
        DeviceError: the device that was asked for is not the one that would run.
        EngineError: onnxruntime does not load the file.
    """
    from reidkit.runtimes._onnxruntime_session import OnnxSession

    return OnnxSession(file, device=device, threads=threads)


def check_arrays(arrays: Sequence[Array], inputs: Sequence[TensorSpec]) -> None:
    """Refuse arrays that are not what a session takes.

    Raises:
        EngineError: another number of arrays, or one of another type or shape.
    """
    if len(arrays) != len(inputs):
        names = ", ".join(spec.name for spec in inputs)
        raise EngineError(f"this model has {len(inputs)} inputs ({names}), got {len(arrays)}")
    for array, spec in zip(arrays, inputs, strict=True):
        fits = len(array.shape) == len(spec.shape) and all(
            size in (-1, found) for size, found in zip(spec.shape, array.shape, strict=True)
        )
        if array.dtype != spec.dtype or not fits:
            raise EngineError(
                f"input {spec.name} takes {spec.dtype} {spec.shape}, got {array.dtype} "
                f"{array.shape}"
            )
