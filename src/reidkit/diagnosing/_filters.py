"""Resizing as other libraries do it: filters as matrices, and how a picture fills the frame.

Every filter here is separable, so a resize is `rows @ picture @ columns.T`. The antialiased ones
are Pillow's (support grows with the shrinking factor, 8-bit rounding after each pass); the others
sample the picture at half-pixel centres, as OpenCV and torch do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Kernel = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Filter:
    """A resize filter: its name for people, and its kernel with the kernel's half width.

    `antialias` widens the kernel when the picture shrinks. Without a kernel, `sampling` says
    which source pixel, or share of source pixels, makes each new one.
    """

    name: str
    kernel: Kernel | None = None
    support: float = 1.0
    antialias: bool = False
    sampling: Literal["half-pixel", "corner", "aligned", "area", "bins"] = "half-pixel"


class Frame(NamedTuple):
    """Where a resized picture lies on the canvas: its size, and its upper left corner."""

    height: int
    width: int
    top: int
    left: int


Framing = Callable[[tuple[int, int], tuple[int, int]], Frame]


def place(
    picture: NDArray[np.uint8], size: tuple[int, int], how: Filter, framing: Framing
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resize a picture, (h, w, 3) uint8, and put it on a canvas of `size` height and width.

    Returns:
        The canvas (H, W, 3) float32 in levels of 0 to 255, and (H, W) bool: where the picture
        covers it.
    """
    frame = framing(picture.shape[:2], size)
    resized = resize(picture, (frame.height, frame.width), how)
    canvas = np.zeros((*size, 3), np.float32)
    covered = np.zeros(size, np.bool_)
    rows, source_rows = _overlap(frame.top, frame.height, size[0])
    columns, source_columns = _overlap(frame.left, frame.width, size[1])
    canvas[rows, columns] = resized[source_rows, source_columns]
    covered[rows, columns] = True
    return canvas, covered


def resize(picture: NDArray[np.uint8], size: tuple[int, int], how: Filter) -> NDArray[np.float32]:
    """Resize (h, w, 3) uint8 -> (H, W, 3) float32 of whole levels."""
    rows = filter_matrix(picture.shape[0], size[0], how)
    columns = filter_matrix(picture.shape[1], size[1], how)
    # Both passes are one large product each; channels stay innermost.
    height, width = picture.shape[:2]
    upright = picture.transpose(1, 0, 2).astype(np.float32).reshape(width, height * 3)
    across = columns @ upright
    if how.antialias:
        across = _to_levels(across)  # Pillow keeps 8 bits between its two passes
    across = across.reshape(size[1], height, 3).transpose(1, 0, 2).reshape(height, size[1] * 3)
    return _to_levels((rows @ across).reshape(size[0], size[1], 3))


@functools.lru_cache(maxsize=512)
def filter_matrix(source: int, target: int, how: Filter) -> Matrix:
    """Give what each of `source` pixels in a row adds to each of `target`, (target, source)."""
    if source == target:
        return np.eye(source, dtype=np.float32)
    ratio = source / target
    if how.sampling == "bins":
        weights = _bins(source, target)
    elif how.sampling == "area" and ratio > 1:
        weights = _areas(source, target)
    elif how.kernel is None and how.sampling != "area":
        offset = 0.5 if how.sampling == "half-pixel" else 0.0
        chosen = np.minimum((np.arange(target) + offset) * ratio, source - 1).astype(np.int64)
        weights = np.eye(source)[chosen]
    else:
        weights = _kernel_weights(source, target, how)
    normalised: Matrix = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def _kernel_weights(source: int, target: int, how: Filter) -> NDArray[np.float64]:
    ratio = source / target
    kernel, support = how.kernel or triangle, how.support
    centres = (np.arange(target) + 0.5) * ratio
    if how.sampling == "aligned":
        centres = np.arange(target) * (source - 1) / max(target - 1, 1) + 0.5
    elif how.sampling == "corner":
        centres = np.arange(target) * ratio + 0.5
    if how.antialias:
        width = max(ratio, 1.0)
        distance = (np.arange(source) + 0.5 - centres[:, None]) / width
        first = np.floor(centres - support * width + 0.5)[:, None]
        last = np.floor(centres + support * width + 0.5)[:, None]
        inside = (np.arange(source) >= first) & (np.arange(source) < last)
        spread: NDArray[np.float64] = np.where(inside, kernel(distance), 0.0)
        return spread
    # What lies beyond the edge is the edge's pixel again.
    reach = np.arange(-4, source + 4)
    spread = kernel(reach + 0.5 - centres[:, None])
    weights = np.zeros((target, source))
    for pixel, column in zip(np.clip(reach, 0, source - 1), spread.T, strict=True):
        weights[:, pixel] += column
    return weights


def _areas(source: int, target: int) -> NDArray[np.float64]:
    """Give the share of each source pixel under each new one."""
    edges = np.arange(target + 1) * source / target
    pixels = np.arange(source)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares: NDArray[np.float64] = np.maximum(covered, 0.0)
    return shares


def _bins(source: int, target: int) -> NDArray[np.float64]:
    """Say which source pixels each new one averages, those that it touches at all."""
    edges, pixels = np.arange(target + 1) * source, np.arange(source) * target
    touched = (pixels + target > edges[:-1, None]) & (pixels < edges[1:, None])
    weights: NDArray[np.float64] = touched.astype(np.float64)
    return weights


def _to_levels(values: NDArray[np.float32]) -> NDArray[np.float32]:
    levels: NDArray[np.float32] = np.clip(np.floor(values + np.float32(0.5)), 0, 255)
    return levels


def _overlap(start: int, length: int, size: int) -> tuple[slice, slice]:
    """Give the canvas's and the picture's share of one axis."""
    first, last = max(start, 0), min(start + length, size)
    return slice(first, last), slice(first - start, last - start)


def triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation."""
    weights: NDArray[np.float64] = np.maximum(1 - np.abs(x), 0.0)
    return weights


def _box(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _hamming(x: NDArray[np.float64]) -> NDArray[np.float64]:
    window = 0.54 + 0.46 * np.cos(np.pi * x)
    return np.where(np.abs(x) < 1, np.sinc(x) * window, 0.0)


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def _cubic(a: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys, "Cubic convolution interpolation", 1981."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    weights: NDArray[np.float64] = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return weights


_pillow_cubic = functools.partial(_cubic, -0.5)
_opencv_cubic = functools.partial(_cubic, -0.75)

FILTERS: dict[str, Filter] = {
    "bilinear": Filter("bilinear, antialiased (Pillow)", triangle, 1.0, antialias=True),
    "bicubic": Filter("bicubic, antialiased (Pillow)", _pillow_cubic, 2.0, antialias=True),
    "nearest": Filter("nearest, half-pixel centres (Pillow)"),
    "plain bilinear": Filter(
        "bilinear without antialiasing (cv2.INTER_LINEAR, torch interpolate)", triangle
    ),
    "plain bicubic": Filter(
        "bicubic without antialiasing (cv2.INTER_CUBIC, torch interpolate)", _opencv_cubic
    ),
    "corner nearest": Filter("nearest (cv2.INTER_NEAREST, torch interpolate)", sampling="corner"),
    "area": Filter("area (cv2.INTER_AREA)", sampling="area"),
    "bins": Filter("average pooling (torch interpolate, area)", sampling="bins"),
    "box": Filter("box, antialiased (Pillow)", _box, 0.5, antialias=True),
    "hamming": Filter("Hamming, antialiased (Pillow)", _hamming, 1.0, antialias=True),
    "lanczos": Filter("Lanczos, antialiased (Pillow)", _lanczos, 3.0, antialias=True),
    "aligned bilinear": Filter(
        "bilinear with aligned corners (torch interpolate)", triangle, sampling="aligned"
    ),
    "corner bilinear": Filter(
        "bilinear without half-pixel centres (old TensorFlow)", triangle, sampling="corner"
    ),
}
"""The filters that are told apart, by a short name; the first three are the contract's."""


def _stretch(_: tuple[int, int], size: tuple[int, int]) -> Frame:
    return Frame(*size, 0, 0)


def _fit(
    ratio: Callable[[float, float], float],
    to_whole: Callable[[float], int],
    centred: bool,
    source: tuple[int, int],
    size: tuple[int, int],
) -> Frame:
    """Keep the picture's shape; both sides fit (`min`) or one is cut off (`max`)."""
    factor = ratio(size[0] / source[0], size[1] / source[1])
    height, width = (max(to_whole(factor * side + 1e-9), 1) for side in source)
    if not centred:
        return Frame(height, width, 0, 0)
    return Frame(height, width, (size[0] - height) // 2, (size[1] - width) // 2)


def _cut_margin(_: tuple[int, int], size: tuple[int, int]) -> Frame:
    height, width = (int(side / 0.875) for side in size)
    return Frame(height, width, -((height - size[0]) // 2), -((width - size[1]) // 2))


FRAMINGS: dict[str, Framing] = {
    "stretched to the whole frame": _stretch,
    "letterbox, centred": functools.partial(_fit, min, round, True),
    "letterbox, centred, rounded down": functools.partial(_fit, min, int, True),
    "letterbox, in the upper left corner": functools.partial(_fit, min, round, False),
    "letterbox, in the upper left corner, rounded down": functools.partial(_fit, min, int, False),
    "centre crop, shape kept": functools.partial(_fit, max, int, True),
    "centre crop of 0.875": _cut_margin,
}
"""How a picture comes to fill the frame; the first is the contract's."""

STRETCHED = next(iter(FRAMINGS))
