"""The seam to the inference engines: one protocol, one engine library per file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError, EngineError
from reidkit.package import EngineSpec


class Runtime(Protocol):
    """A model loaded on one device by one inference engine."""

    @property
    def name(self) -> str:
        """The engine's library."""

    @property
    def device(self) -> str:
        """What really runs it, as the engine reports it."""

    @property
    def batch(self) -> int | None:
        """The only batch size this model takes; None: any."""

    def run(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network: (B, 3, H, W) float32 -> (B, D) float32.

        Raises:
            EngineError: the engine failed, or the shape is not the one the model takes.
        """

    def close(self) -> None:
        """Give the engine's memory back; the runtime cannot be used afterwards."""


def load_runtime(
    file: Path, engine: EngineSpec, *, device: str = "cpu", threads: int | None = None
) -> Runtime:
    """Load an engine file with the library that its package names.

    `device` is `cpu`, `cuda`, `cuda:N` or `tensorrt`; `threads` limits the engine's threads
    (None: one for each core this process may use).

    Raises:
        ArgumentError: no such runtime in this version.
        DeviceError: the device that was asked for is not the one that would run.
        EngineError: the engine does not load the file.
    """
    if engine.runtime not in _LOADERS:
        known = ", ".join(_LOADERS)
        raise ArgumentError(f"no runtime is called {engine.runtime!r}: this reidkit has {known}")
    return _LOADERS[engine.runtime](file, engine, device, threads)


def available_devices() -> dict[str, list[str]]:
    """Give, for each engine that is installed, the devices that its build supports."""
    from reidkit.runtimes import _onnxruntime

    return {"onnxruntime": _onnxruntime.available_devices()}


def check_input(inputs: NDArray[np.float32], batch: int | None) -> None:
    """Refuse an input of another type or shape than a runtime takes.

    Raises:
        EngineError: not (B, 3, H, W) float32 with B >= 1, or not the fixed batch size.
    """
    if inputs.dtype != np.float32 or inputs.ndim != 4 or inputs.shape[1] != 3 or not len(inputs):
        raise EngineError(
            f"a runtime takes (B, 3, H, W) float32, got {inputs.dtype} {inputs.shape}"
        )
    if batch is not None and len(inputs) != batch:
        raise EngineError(f"this model takes batches of {batch}, got {len(inputs)}")


def _load_onnxruntime(file: Path, engine: EngineSpec, device: str, threads: int | None) -> Runtime:
    from reidkit.runtimes._onnxruntime import OnnxRuntime

    return OnnxRuntime(file, engine.batch, device=device, threads=threads)


def _load_fake(file: Path, engine: EngineSpec, device: str, threads: int | None) -> Runtime:
    from reidkit.runtimes.fake import read_fake

    return read_fake(file, batch=engine.batch)


_LOADERS: dict[str, Callable[[Path, EngineSpec, str, int | None], Runtime]] = {
    "onnxruntime": _load_onnxruntime,
    "fake": _load_fake,
}
