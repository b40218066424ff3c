"""Does a package work here? Its files are whole, and its reference pictures give its vectors.

This needs no data set and takes seconds, so that a deployed package can be checked where it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.errors import EngineError, MismatchError
from reidkit.models import Model, load_model
from reidkit.package import ReferencePictures, read_package

SLACK = 4.0
"""How many times further from the reference a package may be here than where it was made."""

ROUNDING = 1e-6
"""1 - cosine that float32 engines differ by among themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """The reference pictures, run through a model.

    Columns:
        vectors: (N, D) float32, raw: before flip and unit length.
        cosines: (N,) float64, between these and the reference network's.
        lengths: (N,) float64, of these as multiples of the reference network's.
    """

    vectors: NDArray[np.float32]
    cosines: NDArray[np.float64]
    lengths: NDArray[np.float64]

    @property
    def cosine(self) -> float:
        """The smallest of the cosines."""
        return float(self.cosines.min())

    @property
    def stretch(self) -> float:
        """The length, as a multiple of the reference's, that is furthest from 1."""
        return float(self.lengths[np.abs(self.lengths - 1).argmax()])


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify_package` found: all fine, or it would have raised.

    `cosine` is the smallest between a reference picture's vector here and the reference
    network's; `made` the smallest where the package was made.
    """

    pictures: int
    cosine: float
    made: float
    runtime: str
    device: str


def verify_package(
    folder: str | Path, *, device: str | None = None, threads: int | None = None
) -> Verification:
    """Check a package's hashes, run its reference pictures, and compare.

    The vectors may be somewhat further from the reference network's than they were where the
    package was made, as engines differ between machines, but not in kind.

    Raises:
        PackageError, FormatError, IntegrityError: the folder is not a whole package.
        DeviceError, EngineError: its engine does not run here, or gives NaN or infinity.
        MismatchError: the vectors are not the package's: this machine's engine computes
            something else.
    """
    package = read_package(folder)
    with load_model(package, device=device, threads=threads) as model:
        replay = replay_reference(model, package.reference())
        runtime, running = model.runtime.name, model.runtime.device
    cosine = package.spec.engine.cosine
    made = 1.0 if cosine is None else cosine
    allowed = SLACK * max(1 - made, ROUNDING)
    # A difference that turns a vector this far may as well lie along it.
    if 1 - replay.cosine > allowed or abs(replay.stretch - 1) > np.sqrt(2 * allowed):
        raise MismatchError(
            f"{folder} gives other vectors here than where it was made: the smallest cosine to its "
            f"reference vectors is {replay.cosine:.6f}, it was {made:.6f}, and they are up to "
            f"{replay.stretch:.4f} times as long; {runtime} on {running} computes something else: "
            "compile the package on this machine, or use the engine's version that made it"
        )
    return Verification(len(replay.cosines), replay.cosine, made, runtime, running)


def replay_reference(
    model: Model, reference: ReferencePictures, *, batch: int | None = None
) -> Replay:
    """Run a package's reference pictures through a model, all at once or in batches of `batch`.

    A model of one batch size takes fewer pictures filled up, never more.

    Raises:
        EngineError: the engine fails, or gives NaN or infinity.
    """
    batch = min(batch or len(reference.pixels), model.runtime.batch or len(reference.pixels))
    takes = model.runtime.takes
    pictures = [
        preprocess.prepare(pixels, model.contract, takes=takes) for pixels in reference.pixels
    ]
    parts = [
        model.run(np.stack(pictures[start : start + batch]))
        for start in range(0, len(pictures), batch)
    ]
    vectors = np.concatenate(parts)
    bad = np.count_nonzero(~np.isfinite(vectors).all(axis=1))
    if bad:
        raise EngineError(
            f"the model gives NaN or infinity for {bad} of {len(vectors)} reference pictures: the "
            "engine file or its precision is at fault"
        )
    cosines = measure_cosines(vectors, reference.vectors)
    return Replay(vectors, cosines, measure_lengths(vectors, reference.vectors))


def measure_cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give the cosine between the vectors of each row, (N, D) and (N, D) -> (N,) float64.

    Two vectors of zeros are equal (1), a vector of zeros and another are not (0).
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    cosines: NDArray[np.float64] = np.where(
        both_zero, 1.0, np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    )
    return np.clip(cosines, -1.0, 1.0)


def measure_lengths(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give how many times as long each row of the first is, (N, D) and (N, D) -> (N,) float64.

    A vector of zeros is as long as another (1); anything else is infinitely longer.
    """
    a, b = (np.linalg.norm(vectors.astype(np.float64), axis=1) for vectors in (first, second))
    longer = np.where(a > 0, np.inf, 1.0)
    lengths: NDArray[np.float64] = np.divide(a, b, out=longer, where=b > 0)
    return lengths
