"""What people wear on the head and carry: hats and bags, as parts of a figure."""

from __future__ import annotations

from collections.abc import Iterator

from reidkit.datasets.drawn._bodies import HEAD
from reidkit.datasets.drawn._outlines import BAG, HAT, IN_SHADE, Figure, Part, raised, rounded
from reidkit.datasets.drawn._raster import Shape, capsule, ellipse, polygon


def hat_of(figure: Figure) -> Iterator[Part]:
    """Give the parts of a cap, a beanie or a brimmed hat."""
    look, view = figure.look, figure.view
    x, y = view.see(raised(figure, 0, HEAD + 20, -4))
    half_width, half_height = view.length(61), view.length(66)
    dome = ellipse(x, y, half_width, half_height)
    dome[:, 1] = dome[:, 1].clip(max=y)
    yield 86, Shape(dome, figure.number(HAT))
    if look.hat == "cap":
        ends = (raised(figure, 0, HEAD + 24, 30), raised(figure, 0, HEAD + 18, 96))
        near = 87 if view.frontal > -200 else 79
        yield (
            near,
            Shape(capsule(view.disc(ends[0], 20), view.disc(ends[1], 13)), figure.number(HAT), 60),
        )
    if look.hat == "brim":
        yield 87, Shape(ellipse(x, y, view.length(98), view.length(20)), figure.number(HAT), 50)


def bag_of(figure: Figure) -> Iterator[Part]:
    """Give the parts of whatever bag a person has."""
    bags = {"backpack": _backpack, "shoulder": _shoulder_bag, "tote": _tote}
    if figure.look.bag in bags:
        yield from bags[figure.look.bag](figure)


def _backpack(figure: Figure) -> Iterator[Part]:
    view, number = figure.view, figure.number(BAG)
    behind = 300 if view.frontal < 0 else -310
    x, top = view.see(raised(figure, 0, 820, -112))
    bottom = view.see(raised(figure, 0, 588, -116))[1]
    half, corner = view.half_width(88, 58), max(1, view.length(24))
    yield behind, Shape(rounded(x - half, top, x + half, bottom, corner), number)
    pocket = (top + 3 * bottom) // 4
    points = rounded(
        x - half * 2 // 3, pocket - corner, x + half * 2 // 3, bottom - corner // 2, corner // 2
    )
    yield behind + 1, Shape(points, number, IN_SHADE)
    for side in (-1, 1):
        ends = (raised(figure, side * 70, 832, 20), raised(figure, side * 82, 690, 74))
        if view.depth(ends[1]) > 0:
            yield 30, Shape(capsule(*(view.disc(end, 14) for end in ends)), number, 0)


def _shoulder_bag(figure: Figure) -> Iterator[Part]:
    view, number = figure.view, figure.number(BAG)
    side = 1 if figure.look.left_handed else -1
    surface = 66 if view.frontal > 0 else -66
    ends = (
        raised(figure, -side * 70, 836, surface // 2),
        raised(figure, side * 100, 545, surface),
    )
    yield 40, Shape(capsule(*(view.disc(end, 10) for end in ends)), number, IN_SHADE)
    place = raised(figure, side * 122, 500, 10)
    x, y = view.see(place)
    half, tall = view.half_width(50, 84), view.length(62)
    near = 280 if view.depth(place) > -45 else -320
    yield near, Shape(rounded(x - half, y - tall, x + half, y + tall, view.length(16)), number)


def _tote(figure: Figure) -> Iterator[Part]:
    view, number = figure.view, figure.number(BAG)
    hand = figure.body.arms[1 if figure.look.left_handed else -1].end
    x, y = view.see(hand)
    half, tall = view.half_width(34, 84), view.length(150)
    near = 270 if view.depth(hand) > -45 else -330
    strap = polygon(((x, y), (x + half, y + tall // 3), (x - half, y + tall // 3)))
    yield near, Shape(strap, number, IN_SHADE)
    yield (
        near + 1,
        Shape(rounded(x - half, y + tall // 3, x + half, y + tall, view.length(8)), number),
    )
