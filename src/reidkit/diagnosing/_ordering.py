"""Do the arrays belong to the pictures in the order in which they were given?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.diagnosing._fitting import Pictures
from reidkit.diagnosing._views import possible_views
from reidkit.package import InputSpec

_ROWS, _COLUMNS = 16, 8


def find_order(crops: Pictures, arrays: NDArray[Any], contract: InputSpec) -> NDArray[np.int64]:
    """Say which crop each row of the arrays most likely shows, (N,): a permutation.

    Small grey pictures of unit variance are compared, which neither colours nor normalisation nor
    the resize change much; of all ways to turn the arrays, the one that pairs best counts.
    """
    small = np.stack([_thumbnail(preprocess.resize(crop, contract)) for crop in crops])
    best, order = -np.inf, np.arange(len(crops))
    for view in possible_views(arrays.shape):
        seen = np.stack([_thumbnail(picture) for picture in view.undo(arrays)])
        alike = abs(seen @ small.T)
        found = _pair(alike)
        total = float(alike[np.arange(len(found)), found].mean())
        if total > best + 1e-9:
            best, order = total, found
    return order


def _pair(alike: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pair rows with columns, the most alike first."""
    order = np.full(len(alike), -1)
    left = alike.copy()
    for _ in range(len(alike)):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        order[row] = column
        left[row], left[:, column] = -np.inf, -np.inf
    return order


def _thumbnail(picture: NDArray[Any]) -> NDArray[np.float64]:
    """Average (h, w, 3) over a coarse grid and make it of mean 0 and length 1."""
    grey = picture.astype(np.float64).mean(axis=2)
    rows = np.linspace(0, grey.shape[0], min(_ROWS, grey.shape[0]), endpoint=False).astype(int)
    columns = np.linspace(0, grey.shape[1], min(_COLUMNS, grey.shape[1]), endpoint=False)
    sums = np.add.reduceat(grey, rows, axis=0)
    sums = np.add.reduceat(sums, columns.astype(int), axis=1)
    areas = np.diff(rows, append=grey.shape[0])[:, None]
    flat = (sums / areas / np.diff(columns.astype(int), append=grey.shape[1])).ravel()
    flat -= flat.mean()
    thumbnail: NDArray[np.float64] = flat / max(float(np.linalg.norm(flat)), 1e-12)
    return thumbnail
