"""The cameras: each with a fixed character and a street of its own."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets.drawn._occluders import OCCLUDERS
from reidkit.datasets.drawn._people import between, chance
from reidkit.datasets.drawn._raster import Picture
from reidkit.datasets.drawn._scenes import SCENES, draw_scene

_EXPOSURE = 118
"""The grey that a camera makes of its street on the whole: it sets exposure and white balance."""

_PAVED_ROWS = slice(80, 240)
"""The rows of a scene that are behind people."""


@dataclass(frozen=True, slots=True)
class Camera:
    """How one camera sees.

    `light`, in grey levels, differs little, for cameras expose automatically; `contrast`, `cast`
    (added to the contrast of each channel, so that dark and bright things are tinted in opposite
    colours) and `saturation` are per cent; `bend` bends the tone curve around the middle grey, in
    per cent; `falloff` is the light gained from the left edge to the right, per cent;
    `shade_side` is 1 where shade falls on the right of things, -1 on the left.
    `direction` is how most people walk, in degrees of `Pose.turn`; `against` is the per cent of
    people who walk the other way. `elevation` is in degrees, `filling` the per cent of the crop's
    height that a person of average stature takes, `jitter` the crop box's error in per cent.
    `occlusion` is the per cent of pictures with an occluder. `size` is the fixed width and height
    of its crops, if fixed; `blur` counts passes, `noise` is in grey levels, `quality` is JPEG's.
    """

    light: int
    cast: tuple[int, int, int]
    contrast: int
    saturation: int
    bend: int
    falloff: int
    shade_side: int
    direction: int
    against: int
    elevation: int
    filling: int
    jitter: int
    occluder: str
    occlusion: int
    size: tuple[int, int] | None
    blur: int
    noise: int
    quality: int


@functools.lru_cache(maxsize=128)
def make_camera(seed: int, camera: int) -> Camera:
    """Give the character of a camera of the data set drawn from `seed`."""
    stream = chance(seed, 2, camera)
    warm = between(stream, -9, 9)
    return Camera(
        light=between(stream, 12, 16),
        cast=(warm, between(stream, -5, 5), -warm),
        contrast=between(stream, 84, 110),
        saturation=between(stream, 80, 118),
        bend=between(stream, -15, 15),
        falloff=between(stream, -30, 30),
        shade_side=1 if between(stream, 0, 1) else -1,
        direction=90 * (camera % 4) + between(stream, -35, 35),
        against=between(stream, 10, 45),
        elevation=between(stream, 2, 24),
        filling=between(stream, 84, 91),
        jitter=between(stream, 2, 7),
        occluder=OCCLUDERS[(camera + seed) % len(OCCLUDERS)],
        occlusion=between(stream, 6, 24),
        size=(64, 128) if camera % 3 == 1 else None,
        blur=between(stream, 0, 2),
        noise=between(stream, 2, 12),
        quality=between(stream, 50, 92),
    )


@functools.lru_cache(maxsize=128)
def make_scene(seed: int, camera: int) -> Picture:
    """Give a camera's street, (SCENE_HEIGHT, SCENE_WIDTH, 3) uint8, in neutral light."""
    kind = SCENES[(camera + seed) % len(SCENES)]
    scene = soften(draw_scene(kind, chance(seed, 3, camera)).astype(np.int32), 2)
    mean = scene[_PAVED_ROWS].sum(axis=(0, 1), dtype=np.int64) // scene[_PAVED_ROWS, :, 0].size
    # Haze: streets differ in what they show more than in their mean colour, and people stand out.
    hazy = _EXPOSURE + (scene - mean) * 42 // 100
    picture: Picture = hazy.clip(0, 255).astype(np.uint8)
    picture.setflags(write=False)
    return picture


def develop(picture: Picture, camera: Camera, stream: np.random.Generator) -> Picture:
    """Give what a camera makes of a picture (H, W, 3) uint8 in neutral light."""
    red, green, blue = (picture[:, :, channel].astype(np.int32) for channel in range(3))
    grey = (77 * red + 150 * green + 29 * blue) >> 8
    light = camera.light + between(stream, -1, 1)
    values = np.empty(picture.shape, np.int32)
    for channel, plane in enumerate((red, green, blue)):
        coloured = grey + (plane - grey) * camera.saturation // 100
        curve = _tone_curve(camera, light, camera.cast[channel])
        values[:, :, channel] = np.take(curve, coloured, mode="clip")
    values = soften(_unevenly_lit(values, camera.falloff), camera.blur)
    values += _noise(values.shape, camera.noise, stream)
    seen: Picture = values.clip(0, 255).astype(np.uint8)
    return seen


def soften(values: NDArray[np.int32], passes: int) -> NDArray[np.int32]:
    """Blur (H, W, C) with 1 2 1 in both directions, again for each pass."""
    for _ in range(passes):
        padded = np.concatenate((values[:1], values, values[-1:]))
        values = (padded[:-2] + 2 * padded[1:-1] + padded[2:] + 2) >> 2
        padded = np.concatenate((values[:, :1], values, values[:, -1:]), axis=1)
        values = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:] + 2) >> 2
    return values


def _tone_curve(camera: Camera, light: int, cast: int) -> NDArray[np.int32]:
    """Give what becomes of the values 0 to 255 in a channel."""
    values = np.arange(256, dtype=np.int32) - _EXPOSURE
    values = _EXPOSURE + light + values * (camera.contrast + cast) // 100
    values = values.clip(0, 255)
    # A parabola through black, middle and white: a gamma without powers, which differ between
    # machines in their last bit.
    bent = values * (255 - values) * (values - _EXPOSURE) // (128 * 255)
    return values + bent * camera.bend // 100


def _unevenly_lit(values: NDArray[np.int32], falloff: int) -> NDArray[np.int32]:
    width = values.shape[1]
    columns = np.arange(width, dtype=np.int32)
    gain = 1024 + falloff * (2 * columns - width) * 10 // (2 * width)
    lit: NDArray[np.int32] = values * gain[:, None] >> 10
    return lit


def _noise(shape: tuple[int, ...], strength: int, stream: np.random.Generator) -> NDArray[np.int32]:
    grain = np.frombuffer(stream.bytes(shape[0] * shape[1] * shape[2]), np.uint8).reshape(shape)
    return (grain.astype(np.int32) - 128) * strength // 128
