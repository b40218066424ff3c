"""Does a model give the right vectors, whatever company a picture keeps in its batch?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import EngineError, ExportError
from reidkit.package import EngineSpec, Inputs
from reidkit.runtimes import Runtime, load_runtime

TOLERANCE = 1e-4
"""The largest difference allowed, relative to the largest magnitude of a vector."""

HALF_TOLERANCE = 5e-3
"""The same for networks that compute in float16, whose step is 1e-3."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """Another way to the same vectors, such as the network before it was adapted.

    `testify` takes (N, 3, H, W) float32 inputs and gives the vectors of the first K of them,
    (K, D) float32, or `None` where it cannot tell. `is_source` says whether it is what the
    package is made from, run by itself.
    """

    name: str
    testify: Callable[[Inputs], Vectors | None]
    is_source: bool = False


class Verified(NamedTuple):
    """(16, D) float32 vectors that passed, and whether a witness gave the same."""

    vectors: Vectors
    witnessed: bool


def run_file(file: Path, engine: EngineSpec, inputs: Inputs, sizes: Sequence[int] = ()) -> Vectors:
    """Run a model file over (N, 3, H, W) inputs, in batches of `sizes` (all at once if none).

    Raises:
        EngineError: the engine does not load the file, or fails.
    """
    runtime = load_runtime(file, engine)
    try:
        return _run(runtime, inputs, sizes or [len(inputs)])
    finally:
        runtime.close()


def verify(
    file: Path,
    engine: EngineSpec,
    inputs: Inputs,
    *,
    tolerance: float = TOLERANCE,
    witness: Witness | None = None,
) -> Verified:
    """Run a model file in several batch sizes, and compare it to its witness.

    Args:
        file: the model.
        engine: what is known of it; a fixed `batch` is tried in another order instead.
        inputs: (16, 3, H, W) float32 network inputs, different pictures.
        tolerance: the largest relative difference allowed.
        witness: what else must give the same vectors.

    Raises:
        ExportError: the model does not run, gives NaN, infinity, or the same vector for every
            picture, or disagrees with itself or its witness.
    """
    try:
        runtime = load_runtime(file, engine)
        try:
            vectors = _check_alone(runtime, inputs, tolerance)
        finally:
            runtime.close()
    except EngineError as error:
        raise ExportError(f"the exported model does not run as it should: {error}") from error
    return Verified(vectors, witness is not None and _agrees(witness, inputs, vectors, tolerance))


def _agrees(witness: Witness, inputs: Inputs, vectors: Vectors, tolerance: float) -> bool:
    """Say whether a witness could tell; an error says that it disagrees."""
    try:
        found = witness.testify(inputs)
    except EngineError as error:
        raise ExportError(f"{witness.name} cannot be had: {error}") from error
    if found is None:
        return False
    _check_agreement(witness.name, found, vectors[: len(found)], tolerance)
    return True


def _check_alone(runtime: Runtime, inputs: Inputs, tolerance: float) -> Vectors:
    vectors = _run(runtime, inputs, [8, 8])
    _check_values(vectors)
    if runtime.batch is None:
        for sizes in ([1, 1, 1], [3, 3, 2]):
            parts = _run(runtime, inputs, sizes)
            name = f"its vectors in batches of {', '.join(map(str, sizes))}"
            _check_agreement(name, parts, vectors[: len(parts)], tolerance)
    else:
        turned = _run(runtime, np.roll(inputs, 1, axis=0), [len(inputs)])
        name = "its vectors with the pictures in another order"
        _check_agreement(name, np.roll(turned, -1, axis=0), vectors, tolerance)
    return vectors


def _run(runtime: Runtime, inputs: Inputs, sizes: Sequence[int]) -> Vectors:
    """Run batches of these sizes one after the other, or all of them in the fixed batch size."""
    if runtime.batch is not None:
        return _run_fixed(runtime, inputs[: sum(sizes)], runtime.batch)
    ends = np.cumsum(sizes)
    parts = [inputs[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    return np.concatenate([runtime.run(part) for part in parts])


def _run_fixed(runtime: Runtime, inputs: Inputs, batch: int) -> Vectors:
    short = -len(inputs) % batch
    padded = np.concatenate([inputs, np.repeat(inputs[-1:], short, axis=0)])
    parts = [runtime.run(padded[start : start + batch]) for start in range(0, len(padded), batch)]
    return np.concatenate(parts)[: len(inputs)]


def _check_values(vectors: Vectors) -> None:
    bad = np.count_nonzero(~np.isfinite(vectors).all(axis=1))
    if bad:
        raise ExportError(
            f"the model gives NaN or infinity for {bad} of {len(vectors)} pictures: its weights "
            "are damaged, or it was trained for another input contract"
        )
    if (vectors == vectors[0]).all():
        raise ExportError(
            "the model gives the same vector for every picture: its weights are damaged, or it "
            "was trained for another input contract"
        )


def _check_agreement(name: str, found: Vectors, expected: Vectors, tolerance: float) -> None:
    if found.shape != expected.shape:
        raise ExportError(
            f"the exported model gives vectors {expected.shape}, but {name} are {found.shape}"
        )
    difference = relative_difference(found, expected)
    # Written so that NaN is a disagreement too.
    if not difference <= tolerance:
        raise ExportError(
            f"the exported model and {name} disagree: the largest relative difference is "
            f"{difference:.2g}, at most {tolerance:.0e} is allowed; where batch sizes disagree "
            "the network mixes the pictures of a batch (batch statistics, dynamic quantisation)"
        )


def relative_difference(first: Vectors, second: Vectors) -> float:
    """Give the largest |first - second| of any row, over that row's largest |second|."""
    tiny = float(np.finfo(np.float32).tiny)
    peaks = np.maximum(np.abs(second).max(axis=1), tiny)
    return float((np.abs(first - second).max(axis=1) / peaks).max())
