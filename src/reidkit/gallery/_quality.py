"""What a crop must be to be taken: large enough, sharp enough, not there already."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError
from reidkit.preprocess import resize_to

_COMPARED = (128, 64)
"""Height and width, in pixels, at which sharpness is measured, so that crops compare."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What is asked of a crop. By default everything is taken.

    Fields:
        least_height, least_width: in pixels, as the picture came.
        least_sharpness: see `measure_sharpness`; about 30 refuses crops that are clearly blurred.
        most_alike: a crop whose cosine with one that is in the gallery already, or that comes
            before it, is above this is refused as a duplicate; `None` takes it.
    """

    least_height: int = 0
    least_width: int = 0
    least_sharpness: float = 0.0
    most_alike: float | None = None

    def __post_init__(self) -> None:
        for name in ("least_height", "least_width", "least_sharpness"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ArgumentError(f"{name} is {value}, expected a number from 0")
        if self.most_alike is not None and not 0 < self.most_alike <= 1:
            raise ArgumentError(f"most_alike is {self.most_alike}, expected a cosine from 0 to 1")


def judge_crop(pixels: NDArray[np.uint8], quality: Quality) -> str:
    """Say why a crop, (h, w, 3) uint8 RGB, is not good enough; an empty text where it is."""
    height, width = pixels.shape[:2]
    if height < quality.least_height or width < quality.least_width:
        wanted = f"{quality.least_height}x{quality.least_width}"
        return f"too small: {height}x{width} pixels, at least {wanted} are asked for"
    if quality.least_sharpness:
        sharpness = measure_sharpness(pixels)
        if sharpness < quality.least_sharpness:
            return (
                f"too blurred: sharpness {sharpness:.1f}, at least {quality.least_sharpness:g} is "
                "asked for"
            )
    return ""


def measure_sharpness(pixels: NDArray[np.uint8]) -> float:
    """Measure how sharp a picture, (h, w, 3) uint8 RGB, is: 0 is flat, a sharp crop above 100.

    The variance of the Laplacian of its grey values (Pech-Pacheco et al., ICPR 2000) at
    128 x 64 pixels: blur takes away what varies from pixel to pixel. Smaller crops are measured
    as they are, since enlarging blurs.
    """
    height, width = pixels.shape[:2]
    if height > _COMPARED[0] and width > _COMPARED[1]:
        pixels = resize_to(pixels, *_COMPARED)
    if min(pixels.shape[:2]) < 3:
        return 0.0
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian -= 4 * grey[1:-1, 1:-1]
    return float(laplacian.var())
