"""Drawn pedestrians: a data set in Market-1501 layout that is made, not loaded.

It carries tests, demonstrations and small trainings where no real pictures may go. People keep
their look (skin, hair, clothes with patterns, shoes, bag, build) from camera to camera; every
camera has its own light, colours, viewpoint, street, occluders, blur, noise and crop boxes.
Pixels depend on the arguments alone: they are drawn in whole numbers, the same on any machine.
Two things are left to libraries: chance is numpy's `Generator` over PCG64, whose streams numpy
may change from version to version (then the pixels differ; a test holds their hashes), and the
JPEG encoder is Pillow's, so files may differ in their bytes between Pillow versions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets.drawn._pictures import REFERENCE, Shot, draw_picture
from reidkit.datasets.drawn._plan import DrawnCounts
from reidkit.datasets.drawn._writer import draw_dataset
from reidkit.errors import ArgumentError

__all__ = ["DrawnCounts", "draw_crops", "draw_dataset"]

_CAMERAS = 6


def draw_crops(count: int, *, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Draw pictures of as many different people, in turn through six cameras.

    Returns:
        (count, height, width, 3) uint8 RGB; the same bytes on any machine, as far as numpy's
        streams of random numbers stay the same.

    Raises:
        ArgumentError: `count` or `seed` is below 0, or a side is not 16 to 1024 pixels.
    """
    if count < 0 or seed < 0:
        raise ArgumentError(f"count is {count} and seed {seed}, expected numbers from 0")
    for name, size in (("height", height), ("width", width)):
        if not 16 <= size <= 1024:
            raise ArgumentError(f"{name} is {size}, expected 16 to 1024 pixels")
    crops = np.empty((count, height, width, 3), np.uint8)
    for person, crop in enumerate(crops):
        shot = Shot(REFERENCE, person, 1 + person % _CAMERAS, 0)
        crop[:] = draw_picture(seed, shot, (width, height))
    return crops
