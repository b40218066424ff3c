"""How the axes of somebody's arrays are turned, and turning them back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class View:
    """The order of the axes, and how each picture is turned.

    `layout` is one of `LAYOUTS`. A picture is first transposed, then flipped.
    """

    layout: str
    transposed: bool = False
    upside_down: bool = False
    mirrored: bool = False

    @property
    def orientation(self) -> str:
        """How each picture is turned, in words."""
        return _ORIENTATIONS[self.transposed, self.upside_down, self.mirrored]

    def undo(self, arrays: Array) -> Array:
        """Give arrays as upright pictures, (N, h, w, 3)."""
        pictures = _TO_LAST[self.layout](arrays)
        pictures = pictures[:, :: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]
        return pictures.swapaxes(1, 2) if self.transposed else pictures

    def apply(self, pictures: Array) -> Array:
        """Give upright pictures, (N, h, w, 3), as these arrays have them."""
        if self.transposed:
            pictures = pictures.swapaxes(1, 2)
        pictures = pictures[:, :: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]
        return np.ascontiguousarray(_FROM_LAST[self.layout](pictures))


def possible_views(shape: tuple[int, ...]) -> Iterator[View]:
    """List the views that arrays of this shape may have, the plain ones first."""
    turns = list(itertools.product((False, True), repeat=3))
    for layout, axis in LAYOUTS.items():
        if shape[axis] == 3:
            yield from (View(layout, *turn) for turn in turns)


def picture_sizes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Give the heights and widths that pictures in arrays of this shape may have."""
    sizes = []
    if shape[1] == 3:
        sizes.append((shape[2], shape[3]))
    if shape[3] == 3:
        sizes.append((shape[1], shape[2]))
    return sizes


def _first_to_last(arrays: Array) -> Array:
    return arrays.transpose(0, 2, 3, 1)


def _last_to_first(pictures: Array) -> Array:
    return pictures.transpose(0, 3, 1, 2)


def _same(arrays: Array) -> Array:
    return arrays


def _reshaped_to_last(arrays: Array) -> Array:
    count, channels, height, width = arrays.shape
    return arrays.reshape(count, height, width, channels)


def _last_to_reshaped(pictures: Array) -> Array:
    count, height, width, channels = pictures.shape
    return pictures.reshape(count, channels, height, width)


CHANNELS_FIRST = "(N, 3, height, width)"
CHANNELS_LAST = "(N, height, width, 3)"
RESHAPED = "(N, height, width, 3) reshaped to (N, 3, height, width) instead of transposed"

LAYOUTS = {CHANNELS_FIRST: 1, CHANNELS_LAST: 3, RESHAPED: 1}
"""The orders of axes that are told apart, and which axis must be 3."""

_TO_LAST: dict[str, Callable[[Array], Array]] = {
    CHANNELS_FIRST: _first_to_last,
    CHANNELS_LAST: _same,
    RESHAPED: _reshaped_to_last,
}
_FROM_LAST: dict[str, Callable[[Array], Array]] = {
    CHANNELS_FIRST: _last_to_first,
    CHANNELS_LAST: _same,
    RESHAPED: _last_to_reshaped,
}
_ORIENTATIONS = {
    (False, False, False): "upright",
    (False, False, True): "mirrored",
    (False, True, False): "upside down",
    (False, True, True): "rotated by 180 degrees",
    (True, False, False): "transposed",
    (True, False, True): "rotated by 90 degrees clockwise",
    (True, True, False): "rotated by 90 degrees counter-clockwise",
    (True, True, True): "transposed about the other diagonal",
}
