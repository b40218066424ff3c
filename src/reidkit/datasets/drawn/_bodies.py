"""Where a body's joints are, and how a camera sees them: a skeleton in whole numbers.

Body space is measured in 1/1000 of the person's height: x to the person's left, y up from the
ground, z ahead. The camera looks along the street, from above by its elevation; projection is
parallel, since a crop is small against the distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from reidkit.datasets.drawn._people import Look
from reidkit.datasets.drawn._raster import UNIT, cosine, sine

HIP, SHOULDER, HEAD = 515, 812, 922
THIGH, SHIN = 235, 235
UPPER_ARM, FOREARM = 158, 148


class Point(NamedTuple):
    """A place in body space."""

    x: int
    y: int
    z: int


@dataclass(frozen=True, slots=True)
class Pose:
    """How a person stands or walks; all in degrees.

    `turn` is 0 when facing the camera, 180 when walking away. `phase` runs once around for two
    steps. `bend_left` and `bend_right` are the elbows.
    """

    turn: int
    phase: int
    stride: int
    swing: int
    bend_left: int
    bend_right: int


@dataclass(frozen=True, slots=True)
class View:
    """From body space to canvas pixels: `scale` is canvas pixels per body height."""

    x: int
    ground: int
    scale: int
    turn: int
    elevation: int

    def see(self, point: Point) -> tuple[int, int]:
        """Give the canvas column and row of a point."""
        turn_sine, turn_cosine = sine(self.turn), cosine(self.turn)
        across = (point.x * turn_cosine + point.z * turn_sine) // UNIT
        height = (point.y * cosine(self.elevation) - self.depth(point) * sine(self.elevation)) // (
            UNIT
        )
        return self.x + across * self.scale // 1000, self.ground - height * self.scale // 1000

    def depth(self, point: Point) -> int:
        """Say how much nearer to the camera than the body's axis a point is."""
        return (point.z * cosine(self.turn) - point.x * sine(self.turn)) // UNIT

    def length(self, units: int) -> int:
        """Give a length in canvas pixels, at least 1."""
        return max(1, units * self.scale // 1000)

    def half_width(self, wide: int, deep: int) -> int:
        """Give the half width, in canvas pixels, of an elliptical trunk seen from its turn."""
        across, along = wide * cosine(self.turn) // UNIT, deep * sine(self.turn) // UNIT
        return self.length(math.isqrt(across * across + along * along))

    def disc(self, point: Point, radius: int) -> tuple[int, int, int]:
        """Give a ball's column, row and radius on the canvas."""
        return (*self.see(point), self.length(radius))

    @property
    def frontal(self) -> int:
        """1024 when the person faces the camera, -1024 when seen from behind."""
        return cosine(self.turn)

    @property
    def sideways(self) -> int:
        """1024 when the person walks to the right of the picture, -1024 to the left."""
        return sine(self.turn)


class Limb(NamedTuple):
    """Three joints, from the trunk outwards."""

    root: Point
    middle: Point
    end: Point


class Body(NamedTuple):
    """The joints that move: side 1 is the person's left."""

    legs: dict[int, Limb]
    arms: dict[int, Limb]
    lift: int
    """How far the trunk moved up or down so that the standing foot is on the ground."""


def make_body(look: Look, pose: Pose) -> Body:
    """Give a person's joints in a pose."""
    legs = {side: _leg(look, pose, side) for side in (1, -1)}
    lift = 48 - min(leg.end.y for leg in legs.values())
    raised = {side: Limb(*(Point(p.x, p.y + lift, p.z) for p in leg)) for side, leg in legs.items()}
    arms = {side: _arm(look, pose, side, lift) for side in (1, -1)}
    return Body(raised, arms, lift)


def swung(start: Point, length: int, degrees: int, outwards: int = 0) -> Point:
    """Go down `length` from a joint, ahead by an angle and sideways by `outwards`."""
    ahead, down = length * sine(degrees) // UNIT, length * cosine(degrees) // UNIT
    return Point(start.x + outwards, start.y - down, start.z + ahead)


def _leg(look: Look, pose: Pose, side: int) -> Limb:
    phase = pose.phase if side == 1 else pose.phase + 180
    angle = pose.stride * sine(phase) // UNIT
    # The knee bends while its foot swings ahead, that is while the leg's angle grows.
    bend = 4 + pose.stride * max(0, cosine(phase)) * 3 // (2 * UNIT)
    root = Point(side * 48 * look.girth // 100, HIP, 0)
    knee = swung(root, THIGH, angle + bend // 3)
    return Limb(root, knee, swung(knee, SHIN, angle + bend // 3 - bend))


def _arm(look: Look, pose: Pose, side: int, lift: int) -> Limb:
    phase = pose.phase + 180 if side == 1 else pose.phase
    angle = pose.swing * sine(phase) // UNIT
    bend = pose.bend_left if side == 1 else pose.bend_right
    root = Point(side * 100 * look.girth // 100, SHOULDER - 14 + lift, 0)
    elbow = swung(root, UPPER_ARM, angle, side * 22)
    return Limb(root, elbow, swung(elbow, FOREARM, angle + bend, side * (4 - bend // 4)))
