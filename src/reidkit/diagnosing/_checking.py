"""Refuse what cannot be diagnosed, and say what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.diagnosing._fitting import Pictures
from reidkit.diagnosing._views import picture_sizes
from reidkit.errors import ArgumentError, ShapeError
from reidkit.models import Model

MAXIMUM_PICTURES = 128
"""More pictures would tell nothing more and cost memory."""

_FLOATS = ("float16", "float32", "float64")


def check_inputs(model: Model, crops: Pictures, arrays: NDArray[Any]) -> None:
    """Check crops and arrays.

    Raises:
        ShapeError: another type, number of axes, of pictures or of pixels than required.
        ArgumentError: values that are not finite, or pictures that are all of one colour.
    """
    _check_crops(crops)
    _check_type(model, arrays)
    size = (model.contract.height, model.contract.width)
    expected = _expected_shape(model, len(crops))
    if arrays.ndim != 4 or not picture_sizes(arrays.shape):
        one = " (one picture? put arrays[None] into the file)" if arrays.ndim == 3 else ""
        raise ShapeError(f"the arrays are {arrays.shape}{one}, expected {expected}")
    if len(arrays) != len(crops):
        raise ShapeError(
            f"the arrays hold {len(arrays)} pictures, but there are {len(crops)} crops: "
            "preprocess each crop once, in name order"
        )
    found = picture_sizes(arrays.shape)
    if not any(sorted(each) == sorted(size) for each in found):
        raise ShapeError(
            f"the arrays hold pictures of {_size(found[0])} (height x width), the package takes "
            f"{_size(size)}: resize to {_size(size)}"
        )
    if not np.isfinite(arrays).all():
        bad = ~np.isfinite(arrays.reshape(len(arrays), -1))
        raise ArgumentError(
            f"the arrays hold {int(bad.sum())} values that are NaN or infinite, the first in "
            f"picture {int(bad.any(axis=1).argmax())}: look for a division by zero, or for "
            "float16 that overflowed"
        )
    if np.ptp(arrays) == 0:
        raise ArgumentError(
            f"every value of the arrays is {arrays.flat[0]}: nothing was written into them"
        )


def _check_crops(crops: Pictures) -> None:
    for index, crop in enumerate(crops):
        if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or not crop.size:
            raise ShapeError(f"crop {index} is {crop.dtype} {crop.shape}, expected uint8 (h, w, 3)")
    if not 1 <= len(crops) <= MAXIMUM_PICTURES:
        raise ShapeError(f"{len(crops)} crops, expected 1 to {MAXIMUM_PICTURES}")
    if all(np.ptp(crop, axis=(0, 1)).max() < 8 for crop in crops):
        raise ArgumentError("the crops are plain: take pictures that show something")


def _check_type(model: Model, arrays: NDArray[Any]) -> None:
    pixels = model.runtime.takes == "pixels"
    if pixels and arrays.dtype != np.uint8:
        raise ShapeError(
            f"the arrays are {arrays.dtype}, but this package takes resized pixels and "
            "normalises them itself: give uint8 RGB, neither scaled nor normalised"
        )
    if arrays.dtype != np.uint8 and arrays.dtype.name not in _FLOATS:
        raise ShapeError(f"the arrays are {arrays.dtype}, expected {', '.join(_FLOATS)} or uint8")


def _expected_shape(model: Model, count: int) -> str:
    height, width = model.contract.height, model.contract.width
    if model.runtime.takes == "pixels":
        return f"({count}, {height}, {width}, 3) uint8"
    return f"({count}, 3, {height}, {width}) float32"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
