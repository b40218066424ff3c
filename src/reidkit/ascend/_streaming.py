"""An `.om` file under the core's own loop: pictures in, vectors out, no files in between."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit import disk
from reidkit.ascend._models import open_model
from reidkit.errors import AscendError
from reidkit.models import Model
from reidkit.package import EngineSpec, Inputs, Package, Takes
from reidkit.runtimes import check_output
from reidkit.runtimes.sessions import Session


class SessionRuntime:
    """A `Runtime` over a `Session` with one picture input; its first output is the vector.

    `milliseconds` holds the time that each run computed, as the guide's tool counts it.
    """

    name = "ascend"

    def __init__(self, session: Session) -> None:
        (taken,) = session.inputs
        self._session = session
        self.device = session.device
        self.batch = taken.shape[0] if taken.shape[0] > 0 else None
        self.takes: Takes = "pixels" if taken.dtype == np.uint8 else "tensor"
        self.milliseconds: list[float] = []

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run the session once."""
        run = self._session.run([inputs])
        self.milliseconds.append(run.computed)
        vectors = run.outputs[0]
        if vectors.dtype == np.float16:
            vectors = vectors.astype(np.float32)
        return check_output(vectors.reshape(len(vectors), -1), len(inputs))

    def close(self) -> None:
        """Give the engine's memory back."""
        self._session.close()

    @property
    def throughput(self) -> float:
        """Pictures a second of the engine alone: 1000 * batch / mean milliseconds of a run."""
        if self.batch is None or not self.milliseconds:
            raise AscendError("no throughput: nothing was run yet, or the batch size varies")
        return 1000 * self.batch / statistics.fmean(self.milliseconds)


def open_streaming(
    file: Path, package: Package, *, device: int = 0
) -> tuple[Model, SessionRuntime]:
    """Open a compiled file as a model with the contract of the package it stems from.

    Raises:
        AscendError: the file has more than one input, or gives vectors of another length.
        Whatever `open_model` raises.
    """
    session = open_model(file, device=device)
    if len(session.inputs) != 1:
        names = ", ".join(spec.name for spec in session.inputs)
        session.close()
        raise AscendError(f"{file} has {len(session.inputs)} inputs ({names}), expected one")
    if session.outputs[0].shape[1:] not in ((-1,), (package.spec.embedding_size,)):
        session.close()
        raise AscendError(
            f"{file} gives {session.outputs[0].shape}, expected vectors of "
            f"{package.spec.embedding_size}"
        )
    runtime = SessionRuntime(session)
    engine = EngineSpec(file.name, disk.sha256_file(file), runtime.name, runtime.batch)
    return Model(dataclasses.replace(package.spec, engine=engine), runtime), runtime
