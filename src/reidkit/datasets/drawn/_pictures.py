"""One picture: a subject in front of a camera, from the recipe's numbers alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reidkit.datasets.drawn._bodies import Pose, View, make_body
from reidkit.datasets.drawn._cameras import Camera, develop, make_camera, make_scene
from reidkit.datasets.drawn._figures import materials_of, shapes_of
from reidkit.datasets.drawn._occluders import occluder_shapes
from reidkit.datasets.drawn._outlines import MATERIALS, Figure
from reidkit.datasets.drawn._people import between, chance, make_look
from reidkit.datasets.drawn._raster import (
    SUPERSAMPLING,
    UNIT,
    Colour,
    Picture,
    Shape,
    colours_of,
    compose,
    cosine,
    ellipse,
    fill,
)
from reidkit.datasets.drawn._scenes import GROUND_ROW, SCENE_HEIGHT, SCENE_WIDTH

TEST, TRAIN, DISTRACTOR, JUNK, REFERENCE = range(5)
"""The groups of people: nobody belongs to two."""

_CROP_HEIGHT = 128
"""The crop height at which a scene is seen at its own size."""


class Shot(NamedTuple):
    """What one picture shows: together with the seed, all that it depends on."""

    group: int
    person: int
    camera: int
    number: int
    """Tells the pictures of one person in one camera apart."""
    subject: str = "person"
    """`person`, `background` (nobody), `half` (one half of a body) or `pair` (two people)."""


class Frame(NamedTuple):
    """A crop box being filled: its size in pixels and how it cuts the person.

    `x` and `ground` are the canvas place of the person's feet, `scale` the canvas pixels that an
    average body's height takes.
    """

    width: int
    height: int
    x: int
    ground: int
    scale: int


def draw_picture(seed: int, shot: Shot, size: tuple[int, int] | None = None) -> Picture:
    """Draw a shot as its camera sees it.

    Args:
        seed: of the whole data set.
        shot: what to draw.
        size: width and height in pixels; without it, the camera's own.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    camera = make_camera(seed, shot.camera)
    stream = chance(seed, 4, shot.group, shot.person, shot.camera, shot.number)
    frame = _frame(camera, stream, shot.subject, size or _crop_size(camera, stream))
    canvas = np.zeros((frame.height * SUPERSAMPLING, frame.width * SUPERSAMPLING), np.uint8)
    figures = _figures(seed, shot, camera, stream, frame)
    background = _background(seed, shot, stream, frame)
    for figure in figures:
        _cast_shadow(background, figure.view)
        for shape in shapes_of(figure):
            fill(canvas, _lit_from(shape, camera.shade_side))
    materials = _materials(figures)
    if between(stream, 0, 99) < camera.occlusion:
        shapes, colours = occluder_shapes(camera.occluder, stream, canvas.shape, len(materials))
        materials += colours
        for shape in shapes:
            fill(canvas, shape)
    return develop(compose(canvas, colours_of(materials), background), camera, stream)


def _crop_size(camera: Camera, stream: np.random.Generator) -> tuple[int, int]:
    if camera.size is not None:
        return camera.size
    height = between(stream, 128, 176)
    return max(48, min(80, height * between(stream, 34, 42) // 100)), height


def _frame(
    camera: Camera, stream: np.random.Generator, subject: str, size: tuple[int, int]
) -> Frame:
    width, height = size
    canvas_height, canvas_width = height * SUPERSAMPLING, width * SUPERSAMPLING
    jitter = camera.jitter
    filling = camera.filling + between(stream, -jitter, jitter)
    across, down = between(stream, -jitter, jitter), between(stream, -jitter // 2, jitter // 2)
    ground = canvas_height * (100 + filling + 2 * down) // 200 - canvas_height // 80
    scale = canvas_height * filling * UNIT // (100 * cosine(camera.elevation))
    x = canvas_width // 2 + canvas_width * across // 100
    if subject == "half":
        # Nearer than a whole body: its upper half, or its legs.
        scale = scale * between(stream, 150, 200) // 100
        legs = between(stream, 0, 1)
        ground = canvas_height * (92 if legs else between(stream, 150, 180)) // 100
    return Frame(width, height, x, ground, scale)


def _figures(
    seed: int, shot: Shot, camera: Camera, stream: np.random.Generator, frame: Frame
) -> list[Figure]:
    count = {"background": 0, "pair": 2}.get(shot.subject, 1)
    figures = []
    for place in range(count):
        look = make_look(seed, shot.group, shot.person + 1_000_000 * place)
        x = frame.x
        if count == 2:
            x += (2 * place - 1) * frame.width * SUPERSAMPLING * between(stream, 18, 30) // 100
        scale = frame.scale * look.stature // 100
        turn = _turn(seed, shot, camera) + between(stream, -18, 18)
        view = View(x, frame.ground, scale, turn, camera.elevation)
        body = make_body(look, _pose(stream, turn))
        figures.append(Figure(look, body, view, place * MATERIALS))
    return figures


def _turn(seed: int, shot: Shot, camera: Camera) -> int:
    """Give the way a person crosses a camera's view: the same in all pictures of the track."""
    track = chance(seed, 5, shot.group, shot.person, shot.camera)
    turn = camera.direction + between(track, -20, 20)
    return turn + 180 if between(track, 0, 99) < camera.against else turn


def _pose(stream: np.random.Generator, turn: int) -> Pose:
    walking = between(stream, 0, 5) > 0
    stride = between(stream, 14, 30) if walking else between(stream, 2, 6)
    bends = [between(stream, 8, 32), between(stream, 8, 32)]
    if between(stream, 0, 6) == 0:
        # Somebody looks at a telephone or carries something before the chest.
        bends[between(stream, 0, 1)] = between(stream, 80, 115)
    swing = stride + between(stream, -6, 6)
    return Pose(turn, between(stream, 0, 359), stride, max(2, swing), bends[0], bends[1])


def _background(seed: int, shot: Shot, stream: np.random.Generator, frame: Frame) -> Picture:
    scene = make_scene(seed, shot.camera)
    span = _CROP_HEIGHT * between(stream, 95, 120) // 100
    feet = min(frame.ground, frame.height * SUPERSAMPLING) // SUPERSAMPLING
    top = GROUND_ROW + between(stream, -12, 12) - feet * span // frame.height
    wide = max(1, span * frame.width // frame.height)
    left = between(stream, 0, SCENE_WIDTH)
    rows = top + np.arange(frame.height) * span // frame.height
    columns = left + np.arange(frame.width) * wide // frame.width
    background: Picture = scene[rows.clip(0, SCENE_HEIGHT - 1)][:, columns % SCENE_WIDTH]
    return background


def _cast_shadow(background: Picture, view: View) -> None:
    """Darken the ground under somebody's feet, in place."""
    shadow = np.zeros(background.shape[:2], np.uint8)
    x, y = view.x // SUPERSAMPLING, (view.ground - view.length(10)) // SUPERSAMPLING
    half_width = max(2, view.length(190) // SUPERSAMPLING)
    fill(shadow, Shape(ellipse(x, y, half_width, max(2, half_width // 5)), 1, 0))
    dark = shadow > 0
    background[dark] = background[dark].astype(np.int32) * 76 // 100


def _lit_from(shape: Shape, side: int) -> Shape:
    return shape._replace(shade=shape.shade * side) if 0 < shape.shade < 100 else shape


def _materials(figures: list[Figure]) -> list[tuple[Colour, Colour]]:
    return [pair for figure in figures for pair in materials_of(figure.look)]
