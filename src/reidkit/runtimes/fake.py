"""A deterministic runtime without an engine, for tests and for measuring everything else.

Its vector is the picture averaged over a coarse grid and projected by fixed random numbers, so
like pictures get like vectors, and each row depends on its own picture alone. It can also run out
of memory, or die of it, as engines do at large batches.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import EngineError
from reidkit.package import Inputs, Takes
from reidkit.runtimes import check_input

_GRID = (8, 4)


class FakeRuntime:
    """A `Runtime` computed with numpy: (B, 3, H, W) -> (B, `size`), H and W at least 8 and 4.

    A batch above `largest` is an error for want of memory; one above `die_above` ends the process
    on the spot, as the operating system does with one that took too much.
    """

    name = "fake"
    device = "cpu"
    takes: Takes = "tensor"

    def __init__(
        self,
        size: int = 64,
        *,
        batch: int | None = None,
        seed: int = 0,
        largest: int | None = None,
        die_above: int | None = None,
    ) -> None:
        self.batch = batch
        self._largest, self._die_above = largest, die_above
        cells = 3 * _GRID[0] * _GRID[1]
        random = np.random.default_rng(seed)
        self._projection: NDArray[np.float64] | None = random.standard_normal((cells, size))

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Average over the grid and project, row by row."""
        if self._projection is None:
            raise EngineError("the runtime is closed")
        check_input(inputs, self.batch)
        if self._die_above is not None and len(inputs) > self._die_above:
            os._exit(137)
        if self._largest is not None and len(inputs) > self._largest:
            raise EngineError(f"the fake engine ran out of memory on input {inputs.shape}")
        # One product a row, so that a row's bits do not depend on its batch.
        rows = [_grid_means(picture) @ self._projection for picture in inputs]
        return np.array(rows, np.float32).reshape(len(inputs), self._projection.shape[1])

    def close(self) -> None:
        """Forget the projection."""
        self._projection = None


def read_fake(file: Path, *, batch: int | None = None) -> FakeRuntime:
    """Make the fake that a JSON file describes: `{"size": 64, "seed": 0}`.

    `largest` and `die_above` may follow.

    Raises:
        EngineError: the file holds something else.
    """
    try:
        description = json.loads(file.read_bytes())
        size, seed = int(description["size"]), int(description["seed"])
        limits = {name: description.get(name) for name in ("largest", "die_above")}
        return FakeRuntime(size, batch=batch, seed=seed, **limits)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EngineError(f"{file} does not describe a fake runtime: {error}") from error


def _grid_means(picture: NDArray[np.generic]) -> NDArray[np.float64]:
    """Average (3, H, W) over a coarse grid of equal cells: (96,) float64."""
    _, height, width = picture.shape
    if height < _GRID[0] or width < _GRID[1]:
        raise EngineError(f"the fake runtime takes pictures of at least 8x4, got {height}x{width}")
    tops = np.arange(_GRID[0]) * height // _GRID[0]
    lefts = np.arange(_GRID[1]) * width // _GRID[1]
    sums = np.add.reduceat(picture.astype(np.float64), tops, axis=1)
    sums = np.add.reduceat(sums, lefts, axis=2)
    areas = np.diff(tops, append=height)[:, None] * np.diff(lefts, append=width)
    means: NDArray[np.float64] = sums / areas
    return means.ravel()
