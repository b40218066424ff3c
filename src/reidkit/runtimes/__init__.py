"""The seam to the inference engines: one protocol, one engine library per file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import util
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError, EngineError, MissingExtraError
from reidkit.package import EngineSpec, Inputs, Takes


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

    @property
    def takes(self) -> Takes:
        """Whether `run` takes normalised tensors or resized pixels."""

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run the network: (B, 3, H, W) float32 or (B, H, W, 3) uint8 -> (B, D) float32.

        Raises:
            EngineError: the engine failed, or the shape is not the one the model takes.
        """

    def close(self) -> None:
        """Give the engine's memory back; the runtime cannot be used afterwards."""


def load_runtime(
    file: Path, engine: EngineSpec, *, device: str = "cpu", threads: int | None = None
) -> Runtime:
    """Load an engine file with the library that its package names.

    `device` is `cpu`, `cuda`, `cuda:N` or `tensorrt`, for OpenVINO `cpu`, `gpu`, `gpu:N` or
    `npu`; `threads` limits the engine's threads (None: one for each core this process may use).

    Raises:
        ArgumentError: no such runtime in this version.
        MissingExtraError: the engine's library is not installed.
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

    devices = {"onnxruntime": _onnxruntime.available_devices()}
    if util.find_spec("openvino") is not None:
        from reidkit.runtimes import _openvino

        devices["openvino"] = _openvino.available_devices()
    if util.find_spec("torch") is not None:
        from reidkit.runtimes import _torch

        devices["torch"] = _torch.available_devices()
    return devices


def trace_values(
    file: Path, engine: EngineSpec, inputs: Inputs, names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Run a model file on the CPU and give its inner values of these names.

    Names that the file does not have, and values that are not float32, are left out; a compiled
    artefact that hides its inside gives nothing.

    Raises:
        EngineError: the engine does not load the file, or fails.
    """
    if engine.runtime not in _TRACERS:
        return {}
    return _TRACERS[engine.runtime](file, engine, inputs, names)


def check_input(inputs: Inputs, batch: int | None, takes: Takes = "tensor") -> None:
    """Refuse an input of another type or shape than a runtime takes.

    Raises:
        EngineError: not what it takes, B below 1, or not the fixed batch size.
    """
    dtype, channels, shape = _EXPECTED[takes]
    if inputs.dtype != dtype or inputs.ndim != 4 or inputs.shape[channels] != 3 or not len(inputs):
        raise EngineError(f"this model takes {shape}, got {inputs.dtype} {inputs.shape}")
    if batch is not None and len(inputs) != batch:
        raise EngineError(f"this model takes batches of {batch}, got {len(inputs)}")


def check_output(output: NDArray[np.generic], count: int) -> NDArray[np.float32]:
    """Give an engine's output for `count` pictures as it is, or refuse it.

    Raises:
        EngineError: it is not (`count`, D) float32.
    """
    if output.dtype != np.float32 or output.ndim != 2 or len(output) != count:
        raise EngineError(
            f"the model gave {output.dtype} {output.shape} for {count} pictures, "
            f"expected float32 ({count}, D)"
        )
    return output  # type: ignore[return-value]


_EXPECTED: dict[Takes, tuple[type[np.generic], int, str]] = {
    "tensor": (np.float32, 1, "(B, 3, H, W) float32"),
    "pixels": (np.uint8, 3, "(B, H, W, 3) uint8"),
}
"""Type, axis of the channels, and how a message words both."""


def _load_onnxruntime(file: Path, engine: EngineSpec, device: str, threads: int | None) -> Runtime:
    from reidkit.runtimes._onnxruntime import OnnxRuntime

    return OnnxRuntime(file, engine, device=device, threads=threads)


def _load_openvino(file: Path, engine: EngineSpec, device: str, threads: int | None) -> Runtime:
    from reidkit.runtimes._openvino import OpenVinoRuntime

    return OpenVinoRuntime(file, engine, device=device, threads=threads)


def _load_torch(file: Path, engine: EngineSpec, device: str, threads: int | None) -> Runtime:
    if util.find_spec("torch") is None:
        raise MissingExtraError("torch", "torch")
    from reidkit.runtimes._torch import TorchRuntime

    return TorchRuntime(file, engine, device=device, threads=threads)


def _trace_onnxruntime(
    file: Path, engine: EngineSpec, inputs: Inputs, names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    from reidkit.runtimes import _onnxruntime

    return _onnxruntime.trace_values(file, inputs, names)


def _trace_openvino(
    file: Path, engine: EngineSpec, inputs: Inputs, names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    from reidkit.runtimes import _openvino

    return _openvino.trace_values(file, inputs, names, precision=engine.precision)


def _load_fake(file: Path, engine: EngineSpec, device: str, threads: int | None) -> Runtime:
    from reidkit.runtimes.fake import read_fake

    return read_fake(file, batch=engine.batch)


_LOADERS: dict[str, Callable[[Path, EngineSpec, str, int | None], Runtime]] = {
    "onnxruntime": _load_onnxruntime,
    "openvino": _load_openvino,
    "torch": _load_torch,
    "fake": _load_fake,
}

_TRACERS: dict[
    str, Callable[[Path, EngineSpec, Inputs, Sequence[str]], dict[str, NDArray[np.float32]]]
] = {
    "onnxruntime": _trace_onnxruntime,
    "openvino": _trace_openvino,
}
