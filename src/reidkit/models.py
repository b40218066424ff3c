"""A model: what its package says, and a runtime that runs it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import EngineError
from reidkit.package import Inputs, InputSpec, ModelSpec, Package, read_package
from reidkit.runtimes import Runtime, load_runtime


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model package loaded on a device. Use it as a context manager, or call `close()`."""

    spec: ModelSpec
    runtime: Runtime

    @property
    def contract(self) -> InputSpec:
        """How a picture becomes the network's input."""
        return self.spec.input

    @property
    def sha256(self) -> str:
        """The hash of what makes the vectors."""
        return self.spec.engine.identity

    def with_flip(self) -> Model:
        """Average the vectors of each picture and its mirror image; another contract."""
        contract = dataclasses.replace(self.contract, flip=True)
        return Model(dataclasses.replace(self.spec, input=contract), self.runtime)

    def embed(self, inputs: Inputs) -> NDArray[np.float32]:
        """Turn one batch into vectors as the contract says.

        `inputs` are tensors (B, 3, H, W) or pixels (B, H, W, 3), whichever the runtime takes. The
        vectors, (B, D) float32, are flip-averaged and of unit length where the contract says so.

        Raises:
            EngineError: the engine failed, or the vectors are not of the package's length.
        """
        vectors = self.run(inputs)
        if self.contract.flip:
            mirrored = inputs[..., ::-1] if self.runtime.takes == "tensor" else inputs[:, :, ::-1]
            vectors = (vectors + self.run(mirrored)) / np.float32(2)
        return to_unit_length(vectors) if self.contract.unit_length else vectors

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run the network over one batch: its raw vectors, before flip and unit length.

        Where the model takes one batch size only, a shorter batch is filled up with zeros.
        """
        rows = len(inputs)
        if self.runtime.batch and rows < self.runtime.batch:
            filled = np.zeros((self.runtime.batch, *inputs.shape[1:]), inputs.dtype)
            filled[:rows] = inputs
            inputs = filled
        vectors = self.runtime.run(np.ascontiguousarray(inputs))[:rows]
        if vectors.shape[1] != self.spec.embedding_size:
            raise EngineError(
                f"the model gave vectors of length {vectors.shape[1]}, its package says "
                f"{self.spec.embedding_size}"
            )
        return vectors

    def close(self) -> None:
        """Give the engine's memory back."""
        self.runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def to_unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide vectors, (N, D) float32, by their lengths; a vector of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit


def load_model(
    package: str | Path | Package, *, device: str | None = None, threads: int | None = None
) -> Model:
    """Load a model package on a device.

    `device` is `cpu`, or what else the package's engine has: `cuda`, `cuda:N`, `tensorrt`, `gpu`,
    `npu` (None: the one the package was compiled for, or the CPU); `threads` limits the engine's
    threads (None: one for each core).

    Raises:
        PackageError, FormatError, IntegrityError: the package is not usable.
        DeviceError, EngineError: the engine cannot run it there.
    """
    if not isinstance(package, Package):
        package = read_package(package)
    engine = package.spec.engine
    device = device or engine.device or "cpu"
    runtime = load_runtime(package.engine_file, engine, device=device, threads=threads)
    return Model(package.spec, runtime)
