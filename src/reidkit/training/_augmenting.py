"""Training pictures changed at random: flipped, padded, cropped and erased.

The rules are the strong baseline's (Luo et al. 2019), the erasing that of Zhong et al. 2017.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.training._recipe import Recipe

ERASED_AREA = (0.02, 0.4)
"""The least and the largest share of a picture that is erased."""

ERASED_ASPECT = (0.3, 1 / 0.3)
"""The least and the largest height of an erased rectangle, as a multiple of its width."""

TRIES = 100
"""How many rectangles are drawn at most, until one is smaller than the picture."""


class Changes(NamedTuple):
    """What happens to B pictures of height H and width W.

    Columns:
        flipped: (B,) bool, mirrored first.
        corners: (B, 2) int64, the row and column of the (mirrored) picture that come to its top
            left corner, from -padding to padding; what lies outside of the picture is black.
        erased: (B, 4) int64, the rectangle to erase after normalisation: top, left, height, width;
            zeros for none.
    """

    flipped: NDArray[np.bool_]
    corners: NDArray[np.int64]
    erased: NDArray[np.int64]

    def select(self, rows: slice) -> Changes:
        """Take some of the pictures."""
        return Changes(self.flipped[rows], self.corners[rows], self.erased[rows])


def draw_changes(count: int, recipe: Recipe, chance: np.random.Generator) -> Changes:
    """Draw what happens to `count` pictures, each independent of the others."""
    flipped = chance.random(count) < recipe.flip_probability
    corners = chance.integers(-recipe.padding, recipe.padding + 1, (count, 2))
    return Changes(flipped, corners, _draw_erased(count, recipe, chance))


def change_into(
    out: NDArray[np.uint8], pixels: NDArray[np.uint8], *, flipped: bool, top: int, left: int
) -> None:
    """Write a picture, mirrored, padded with black and cropped, into `out`; both (H, W, 3) uint8.

    `top` and `left` are the row and column of the (mirrored) picture that come to the corner.
    """
    rows, columns = _overlap(top, out.shape[0]), _overlap(left, out.shape[1])
    if top or left:
        out.fill(0)
    target = out[_moved(rows, -top), _moved(columns, -left)]
    if flipped:
        source = pixels[:, ::-1][rows, columns]
        # numpy copies pixels backwards at half the speed of planes.
        for channel in range(3):
            target[:, :, channel] = source[:, :, channel]
    else:
        target[:] = pixels[rows, columns]


def _draw_erased(count: int, recipe: Recipe, chance: np.random.Generator) -> NDArray[np.int64]:
    """Draw a rectangle for some of the pictures, again until it is smaller than the picture."""
    size = np.array((recipe.height, recipe.width))
    erased = np.zeros((count, 4), np.int64)
    pending = np.flatnonzero(chance.random(count) < recipe.erasing_probability)
    for _ in range(TRIES):
        if not len(pending):
            break
        area = chance.uniform(*ERASED_AREA, len(pending)) * (recipe.height * recipe.width)
        aspect = chance.uniform(*ERASED_ASPECT, len(pending))
        sides = np.rint(np.sqrt(np.stack((area * aspect, area / aspect), axis=1)))
        fits = (sides < size).all(axis=1)
        drawn = sides[fits].astype(np.int64)
        erased[pending[fits], :2] = chance.integers(0, size - drawn, endpoint=True)
        erased[pending[fits], 2:] = drawn
        pending = pending[~fits]
    return erased


def _overlap(first: int, length: int) -> slice:
    """Find which of `length` places are among the `length` places from `first` on."""
    start = min(max(first, 0), length)
    return slice(start, max(min(first + length, length), start))


def _moved(places: slice, by: int) -> slice:
    return slice(places.start + by, places.stop + by)
