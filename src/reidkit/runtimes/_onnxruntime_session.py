"""onnxruntime under a `Session`: a model file with its own inputs and outputs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from reidkit.errors import EngineError
from reidkit.runtimes._onnxruntime import open_session
from reidkit.runtimes.sessions import Array, Run, TensorSpec, check_arrays

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(uint32)": np.uint32,
    "tensor(int64)": np.int64,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


class OnnxSession:
    """A `Session` over an .onnx file. On a GPU `Run.computed` holds the copies too."""

    batch_gears: tuple[int, ...] = ()

    def __init__(self, file: Path, *, device: str = "cpu", threads: int | None = None) -> None:
        session, self.device = open_session(file, device=device, threads=threads)
        self._session: ort.InferenceSession | None = session
        self.inputs = tuple(_describe(file, tensor) for tensor in session.get_inputs())
        self.outputs = tuple(_describe(file, tensor) for tensor in session.get_outputs())

    def run(self, arrays: Sequence[Array]) -> Run:
        """Run the session once."""
        if self._session is None:
            raise EngineError("the session is closed")
        check_arrays(arrays, self.inputs)
        feeds = {spec.name: array for spec, array in zip(self.inputs, arrays, strict=True)}
        started = time.perf_counter()
        try:
            outputs = self._session.run(None, feeds)
        except Exception as error:  # onnxruntime raises several unrelated types
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise EngineError(f"onnxruntime failed on input {shapes}: {error}") from error
        return Run(tuple(outputs), computed=1000 * (time.perf_counter() - started))

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def _describe(file: Path, tensor: Any) -> TensorSpec:
    if tensor.type not in _TYPES:
        raise EngineError(f"{file}: {tensor.name} is a {tensor.type}, which no file can hold")
    # A size that the model gives a name instead of a number is free.
    shape = tuple(size if isinstance(size, int) and size > 0 else -1 for size in tensor.shape)
    return TensorSpec(tensor.name, np.dtype(_TYPES[tensor.type]), shape)
