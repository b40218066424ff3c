"""What every store asks of vectors, crops and models before it takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError, GalleryError, MismatchError, ShapeError
from reidkit.gallery._values import Binding, Crops

_SHORTEST, _LONGEST = 0.99, 1.01
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
    squares = np.einsum("ij,ij->i", vectors, vectors)
    # Not a number fails these comparisons too, as it must.
    if not np.all(squares < _LONGEST**2):
        raise ArgumentError("a vector is not finite or longer than 1: give unit vectors")
    # The bounds by which searches leave rows out do not hold for vectors that are next to nothing.
    if vectors[squares < _SHORTEST**2].any():
        raise ArgumentError("a vector is shorter than 1, and not of zeros: give unit vectors")


def check_search(queries: NDArray[np.float32], count: int, dimension: int) -> None:
    """Refuse queries that are not unit vectors of that dimension (Q, D), and a negative count.

    Raises:
        ShapeError, ArgumentError: see above.
    """
    if count < 0:
        raise ArgumentError(f"count is {count}, expected at least 0")
    check_vectors(queries, len(queries), dimension)


def check_added(
    crops: Crops,
    vectors: NDArray[np.float32],
    pictures: Sequence[bytes | None],
    *,
    dimension: int,
) -> None:
    """Refuse crops to be added that do not have one vector, and one picture or `None`, each.

    A source may be a file's name that is no Unicode, but has to be one that a file can have.

    Raises:
        ShapeError, ArgumentError: see above.
    """
    check_vectors(vectors, len(crops), dimension)
    if len(pictures) != len(crops):
        raise ShapeError(f"there are {len(pictures)} pictures for {len(crops)} crops")
    for source in crops.sources:
        try:
            source.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise ArgumentError(
                f"the source {source!r} has half of a character: give it as the file is named"
            ) from error


def check_bound(bound: Binding, binding: Binding | None) -> None:
    """Refuse what is not of the vectors that a store is bound to; `None` is of any.

    Raises:
        MismatchError: it is of another model, or made behind another contract.
    """
    if binding is not None and not bound.same_vectors(binding):
        raise MismatchError(
            f"the gallery's vectors are of model {bound.model_sha256[:12]} (contract "
            f"{bound.contract_sha256[:12]}), these of {binding.model_sha256[:12]} "
            f"({binding.contract_sha256[:12]}): embed with the gallery's model, or change it with "
            "`reidkit gallery reembed`"
        )


def check_begun(begun: Binding, binding: Binding) -> None:
    """Refuse to go on with a move to another model than the one begun.

    Raises:
        GalleryError: see above.
    """
    if not begun.same_vectors(binding):
        raise GalleryError(
            "somebody began to move this gallery to another model, "
            f"{begun.model_sha256[:12]} instead of {binding.model_sha256[:12]}: let one of the two "
            "be finished, then run the other again"
        )
