"""Is the compiled file still the network it was made from?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.errors import CompileError, EngineError
from reidkit.models import Model, load_model
from reidkit.package import Package
from reidkit.verifying import measure_cosines, replay_reference

LOWEST_COSINES = {"fp32": 0.9999, "fp16": 0.99, "bf16": 0.95, "int8": 0.5}
"""Below these a compiled network is another network, not a rounded one."""

BATCH_COSINE = 0.9999
"""What two batch sizes of one file may differ by, on one engine's different kernels."""

NOISE_LIMIT = 0.25
"""The largest noise of an int8 file that needs no layers in float: see `Noise`."""


def check_engine(compiled: Package, source: Package) -> float:
    """Run a candidate's reference pictures in several batch sizes; gives the smallest cosine.

    Raises:
        CompileError: it does not run, gives NaN, or disagrees with itself at another batch size.
        UnlikeError: it is not the network it was made from.
    """
    reference = source.reference()
    try:
        with load_model(compiled) as model:
            sizes = (3, 1) if model.runtime.batch is None else (3,)
            whole = replay_reference(model, reference, batch=16)
            parts = {size: replay_reference(model, reference, batch=size) for size in sizes}
    except EngineError as error:
        raise CompileError(f"the compiled file does not run as it should: {error}") from error
    for size, part in parts.items():
        agreement = float(measure_cosines(part.vectors, whole.vectors).min())
        if agreement < BATCH_COSINE:
            raise CompileError(
                f"the compiled file gives other vectors for {size} pictures than for 16: the "
                f"smallest cosine between them is {agreement:.6f}; the engine's conversion mixes "
                "the pictures of a batch"
            )
    lowest = LOWEST_COSINES[compiled.spec.engine.precision]
    if whole.cosine < lowest or not lowest <= whole.stretch <= 1 / lowest:
        raise UnlikeError(
            "the compiled file is not the network it was made from: the smallest cosine to a "
            f"reference vector is {whole.cosine:.4f}, and they are up to {whole.stretch:.4g} times "
            f"as long; {compiled.spec.engine.precision} is to keep both above {lowest}"
        )
    return whole.cosine


class UnlikeError(CompileError):
    """A compiled file that works, but is another network; with fewer bits, too coarse a one."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What compiling did to the vectors, on the scale that matters for finding people.

    `noise` is the median distance between a picture's two vectors (source, compiled) over the
    median distance between two pictures of the source: 0 is no change, at 1 a picture moved as
    far as another picture is away.
    """

    noise: float

    @property
    def complaint(self) -> str | None:
        """Say why this is too much, `None` where it is not."""
        if self.noise <= NOISE_LIMIT:
            return None
        return (
            f"compiling moves a picture's vector by {self.noise:.2f} of the distance between two "
            f"pictures, at most {NOISE_LIMIT} is allowed"
        )


def measure_noise(before: NDArray[np.float64], after: NDArray[np.float64]) -> Noise:
    """Compare the vectors of two packages, both (N, D), no labels needed; N at least 2."""
    moved = np.linalg.norm(after - before, axis=1)
    between = np.linalg.norm(before[:, None] - before[None], axis=2)
    spread = float(np.median(between[np.triu_indices(len(before), 1)]))
    noise = float(np.median(moved)) / max(spread, 1e-12)
    return Noise(noise if np.isfinite(noise) else np.inf)


def embed_pictures(package: Package, paths: Sequence[str]) -> NDArray[np.float64]:
    """Give a package's vectors for pictures, (N, D).

    Raises:
        ImageError: a picture cannot be decoded.
    """
    with load_model(package) as model:
        return _embed(model, paths)


def _embed(model: Model, paths: Sequence[str]) -> NDArray[np.float64]:
    size = model.runtime.batch or 8
    takes = model.runtime.takes
    parts = [
        model.embed(preprocess.load_batch(paths[start : start + size], model.contract, takes=takes))
        for start in range(0, len(paths), size)
    ]
    return np.concatenate(parts).astype(np.float64)
