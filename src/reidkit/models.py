"""A model: what its package says, and a runtime that runs it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from reidkit.package import InputSpec, ModelSpec, Package, read_package
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
        """The hash of the file that makes the vectors."""
        return self.spec.engine.sha256

    def with_flip(self) -> Model:
        """Average the vectors of each picture and its mirror image; another contract."""
        contract = dataclasses.replace(self.contract, flip=True)
        return Model(dataclasses.replace(self.spec, input=contract), self.runtime)

    def close(self) -> None:
        """Give the engine's memory back."""
        self.runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_model(
    package: str | Path | Package, *, device: str = "cpu", threads: int | None = None
) -> Model:
    """Load a model package on a device.

    `device` is `cpu`, `cuda`, `cuda:N` or `tensorrt`; `threads` limits the engine's threads
    (None: one for each core).

    Raises:
        PackageError, FormatError, IntegrityError: the package is not usable.
        DeviceError, EngineError: the engine cannot run it there.
    """
    if not isinstance(package, Package):
        package = read_package(package)
    runtime = load_runtime(package.engine_file, package.spec.engine, device=device, threads=threads)
    return Model(package.spec, runtime)
