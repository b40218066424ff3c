"""Whatever the guide's inference tool is given as a model, opened as a `Session`.

An .onnx file, a model package, the `.om` that reidkit's own `atc` writes, and the `.om` of the
real compiler, which needs the chip.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reidkit.ascend import _om
from reidkit.errors import AscendError
from reidkit.package import InputSpec, Package, read_package
from reidkit.runtimes import Runtime, load_runtime
from reidkit.runtimes.sessions import Array, Run, Session, TensorSpec, check_arrays, open_onnx

REAL_MAGIC = b"IMOD"
"""The first bytes of a file that the real compiler wrote."""


def open_model(path: str | Path, *, device: int = 0, threads: int | None = None) -> Session:
    """Open a model on a device number.

    The number chooses among chips, or among GPUs for a model compiled for one; on the CPU it
    means nothing.

    Raises:
        AscendError: no such file, or a kind of file that is no model.
        PackageError, FormatError, IntegrityError: the package is not usable.
        DeviceError, EngineError: no engine here runs it.
    """
    path = Path(path)
    if path.is_dir():
        return open_package(read_package(path), device=device, threads=threads)
    start = _read_start(path)
    if start.startswith(REAL_MAGIC):
        from reidkit.runtimes._ascend import AclSession

        return AclSession(path, device=device)
    if _om.is_substitute(path):
        return _om.open_substitute(path, device=device, threads=threads)
    if path.suffix.lower() == ".onnx":
        return open_onnx(path, threads=threads)
    raise AscendError(
        f"load model from file failed, model file is {path}: it is neither an .onnx file, a model "
        "package, nor an .om of reidkit ascend atc or of the real atc"
    )


def is_real(path: str | Path) -> bool:
    """Tell whether a file was written by the real compiler, for the chip."""
    return _read_start(Path(path)).startswith(REAL_MAGIC)


def open_package(package: Package, *, device: int = 0, threads: int | None = None) -> Session:
    """Open a model package: one input, pictures as its runtime takes them, one output, vectors."""
    engine = package.spec.engine
    name = engine.device or "cpu"
    if name == "cuda":
        name = f"cuda:{device}"
    runtime = load_runtime(package.engine_file, engine, device=name, threads=threads)
    return PackageSession(runtime, package.spec.input, package.spec.embedding_size)


class PackageSession:
    """A `Session` over a runtime: raw vectors, before flip averaging and unit length."""

    batch_gears: tuple[int, ...] = ()

    def __init__(self, runtime: Runtime, contract: InputSpec, embedding_size: int) -> None:
        self._runtime = runtime
        self.device = runtime.device
        batch = runtime.batch or -1
        size = (contract.height, contract.width)
        if runtime.takes == "tensor":
            taken = TensorSpec("image", np.dtype(np.float32), (batch, 3, *size))
        else:
            taken = TensorSpec("image", np.dtype(np.uint8), (batch, *size, 3))
        self.inputs = (taken,)
        self.outputs = (TensorSpec("embedding", np.dtype(np.float32), (batch, embedding_size)),)

    def run(self, arrays: Sequence[Array]) -> Run:
        """Run the network once."""
        check_arrays(arrays, self.inputs)
        started = time.perf_counter()
        vectors = self._runtime.run(arrays[0])
        return Run((vectors,), computed=1000 * (time.perf_counter() - started))

    def close(self) -> None:
        """Give the engine's memory back."""
        self._runtime.close()


def _read_start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(REAL_MAGIC))
    except OSError as error:
        reason = error.strerror or str(error)
        raise AscendError(f"load model from file failed, model file is {path}: {reason}") from error
