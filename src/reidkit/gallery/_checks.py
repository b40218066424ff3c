"""What every store asks of vectors before it takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError, ShapeError
from reidkit.gallery._values import Crops

_LONGEST = 1.01
"""Rounding leaves unit vectors far nearer to 1."""


def check_vectors(vectors: NDArray[np.float32], count: int, dimension: int) -> None:
    """Refuse what is not `count` float32 vectors of unit length, or of zeros.

    Raises:
        ShapeError, ArgumentError: see above.
    """
    if vectors.shape != (count, dimension) or vectors.dtype != np.float32:
        raise ShapeError(
            f"vectors are {vectors.dtype} {vectors.shape}, expected float32 ({count}, {dimension})"
        )
    # Not a number fails this comparison too, as it must.
    if not np.all(np.einsum("ij,ij->i", vectors, vectors) < _LONGEST**2):
        raise ArgumentError("a vector is not finite or longer than 1: give unit vectors")


def check_added(
    crops: Crops,
    vectors: NDArray[np.float32],
    pictures: Sequence[bytes | None],
    *,
    dimension: int,
) -> None:
    """Refuse crops to be added that do not have one vector, and one picture or `None`, each.

    Raises:
        ShapeError, ArgumentError: see above.
    """
    check_vectors(vectors, len(crops), dimension)
    if len(pictures) != len(crops):
        raise ShapeError(f"there are {len(pictures)} pictures for {len(crops)} crops")
