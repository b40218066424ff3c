"""What is in a file, and files as the arrays of a run."""

from __future__ import annotations

import math
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reidkit.ascend.bench._inputs import Plan, pad
from reidkit.ascend.bench._settings import PureData
from reidkit.ascend.manifests import Manifest, verify_bytes
from reidkit.errors import AscendError
from reidkit.runtimes.sessions import Array, TensorSpec

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds: bytes of data (an npy file's head does not count), or an array's kind."""

    bytes: int
    dtype: np.dtype[Any] | None = None
    shape: Shape | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """How the files of a plan become arrays.

    Fields:
        plan: which files go into which run.
        inputs: what the model takes.
        shapes: those of every run; None takes each npy file's own.
        manifests: folder -> its manifest, for the hashes of files.
    """

    plan: Plan
    inputs: tuple[TensorSpec, ...]
    shapes: tuple[Shape, ...] | None
    manifests: Mapping[str, Manifest]

    def read(self, run: int) -> list[Array]:
        """Read the arrays of one run, one for each input.

        Raises:
            AscendError: a file cannot be read, or the files do not fill the run.
            IntegrityError: a file is not the one that was prepared.
        """
        names = self.plan.take(run)
        if self.shapes is None:
            return [_read_array(files[0]) for files in names]
        return [
            self._join(i, [self._read_bytes(name) for name in files], files)
            for i, files in enumerate(names)
        ]

    def read_all(self, readers: int) -> Iterator[list[Array]]:
        """Read one run after the other; `readers` threads read ahead, 0 reads when asked."""
        if not readers:
            yield from (self.read(run) for run in range(self.plan.runs))
            return
        waiting: deque[Future[list[Array]]] = deque()
        upcoming = iter(range(self.plan.runs))
        pool = ThreadPoolExecutor(readers, thread_name_prefix="reidkit-reader")
        try:
            while True:
                while len(waiting) <= readers and (run := next(upcoming, None)) is not None:
                    waiting.append(pool.submit(self.read, run))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_bytes(self, name: str) -> Array:
        data = read_bytes(name)
        manifest = self.manifests.get(str(Path(name).parent))
        if manifest is not None:
            verify_bytes(manifest, Path(name).name, data.data)
        return data

    def _join(self, place: int, parts: list[Array], files: Sequence[str]) -> Array:
        """Put the bytes of files one behind the other, and their first one for each missing."""
        spec = self.inputs[place]
        shape = (self.shapes or ())[place]
        rows = pad(parts, self.plan.per_run)
        data = rows[0] if len(rows) == 1 else np.concatenate(rows)
        needed = count_bytes(spec, shape)
        if len(data) == needed:
            return data.view(spec.dtype).reshape(shape)
        held = "; ".join(
            f"{name}: {len(part)} bytes" for name, part in zip(files, parts, strict=True)
        )
        if self.plan.per_run == 1:
            raise AscendError(
                f"Check i:{place} name:{spec.name} in size:{len(data)} needsize:{needed} not "
                f"match ({held})"
            )
        raise AscendError(f"ndata size:{len(data)} not match {needed} ({held})")


def measure_file(name: str) -> Content:
    """Say what a file holds without reading its data.

    Raises:
        AscendError: it cannot be read, or is not what its name says.
    """
    if not is_array(name):
        try:
            status = Path(name).stat()
        except OSError as error:
            raise _cannot_read(name, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise AscendError(f"{name} cannot be read: it is not a file")
        return Content(status.st_size)
    head = np.lib.format
    try:
        with Path(name).open("rb") as file:
            version = head.read_magic(file)
            read_head = head.read_array_header_1_0 if version == (1, 0) else _read_later_head
            shape, _, dtype = read_head(file)
            data = os.fstat(file.fileno()).st_size - file.tell()
    except (OSError, ValueError) as error:
        raise _cannot_read(name, error) from error
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or size > data:
        raise AscendError(f"{name} cannot be read: it is not a whole npy file of numbers")
    return Content(size, dtype, shape)


def read_bytes(name: str) -> Array:
    """Read a file's data as bytes (N,) uint8, an npy file's in C order.

    Raises:
        AscendError: it cannot be read.
    """
    if is_array(name):
        return np.ascontiguousarray(_read_array(name)).reshape(-1).view(np.uint8)
    try:
        return np.fromfile(name, np.uint8)
    except OSError as error:
        raise _cannot_read(name, error) from error


def make_pure(inputs: Sequence[TensorSpec], shapes: Sequence[Shape], kind: PureData) -> list[Array]:
    """Make the arrays of a run without files: zeros, or bytes from 0 to 255 at random."""
    if kind == "zero":
        return [np.zeros(shape, spec.dtype) for spec, shape in zip(inputs, shapes, strict=True)]
    random = np.random.default_rng(0)
    arrays = []
    for spec, shape in zip(inputs, shapes, strict=True):
        data = random.integers(0, 256, count_bytes(spec, shape), np.uint8)
        if spec.dtype == np.bool_:
            data &= 1  # other bytes are no truth values
        arrays.append(data.view(spec.dtype).reshape(shape))
    return arrays


def count_bytes(spec: TensorSpec, shape: Shape) -> int:
    """Count the bytes of a tensor."""
    return math.prod(shape) * spec.dtype.itemsize


def is_array(name: str) -> bool:
    """Tell whether a file's name is that of an npy file."""
    return name.endswith((".npy", ".NPY"))


def _read_later_head(file: Any) -> tuple[Shape, bool, np.dtype[Any]]:
    return np.lib.format.read_array_header_2_0(file)


def _read_array(name: str) -> Array:
    try:
        with Path(name).open("rb") as file:
            array: Array = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _cannot_read(name, error) from error
    return np.ascontiguousarray(array)


def _cannot_read(name: str, error: Exception) -> AscendError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return AscendError(f"{name} cannot be read: {reason}")
