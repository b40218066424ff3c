"""A person drawn: a look on a body in a view, as shapes from the farthest to the nearest."""

from __future__ import annotations

from collections.abc import Iterator

from reidkit.datasets.drawn._belongings import bag_of, hat_of
from reidkit.datasets.drawn._bodies import HEAD, HIP, SHOULDER, Limb, Point, View
from reidkit.datasets.drawn._outlines import (
    BAG,
    DARK,
    HAIR,
    HAT,
    IN_SHADE,
    INNER,
    LOGO,
    LOWER,
    MATERIALS,
    SCARF,
    SHOES,
    SKIN,
    UPPER,
    Figure,
    Part,
    ball,
    raised,
    sheet,
)
from reidkit.datasets.drawn._people import Look
from reidkit.datasets.drawn._raster import (
    UNIT,
    Colour,
    Pattern,
    Shape,
    capsule,
    ellipse,
    polygon,
)

HEMS = {"tee": 488, "shirt": 478, "hoodie": 480, "jacket": 470, "coat": 330, "dress": 318}
_NOWHERE = polygon(())


def materials_of(look: Look) -> list[tuple[Colour, Colour]]:
    """Give a look's colours in the order of the material places."""
    plain = {
        SKIN: look.skin,
        HAIR: look.hair,
        HAT: look.hat_colour,
        INNER: look.inner,
        SHOES: look.shoes,
        BAG: look.bag_colour,
        LOGO: look.logo_colour,
        SCARF: look.scarf or look.inner,
        DARK: (38, 34, 36),
    }
    patterned = {UPPER: look.upper_colours, LOWER: look.lower_colours}
    return [
        patterned[place] if place in patterned else (plain[place], plain[place])
        for place in range(MATERIALS)
    ]


def shapes_of(figure: Figure) -> list[Shape]:
    """Give a person's shapes in the order in which they are painted."""
    parts = [*_legs(figure), *_trunk(figure), *_arms(figure), *_head(figure), *bag_of(figure)]
    return [shape for _, shape in sorted(parts, key=lambda part: part[0])]


def _legs(figure: Figure) -> Iterator[Part]:
    look, view = figure.look, figure.view
    girth = look.girth * (80 if look.lower == "slim" else 100) // 100
    cloth = Shape(_NOWHERE, figure.number(LOWER), pattern=_lower_pattern(figure))
    bare = Shape(_NOWHERE, figure.number(DARK if look.tights else SKIN))
    skirted = look.upper == "dress" or look.lower == "skirt"
    thigh, shin = bare if skirted else cloth, bare if look.lower == "shorts" or skirted else cloth
    radii = (58 * girth // 100, 41 * girth // 100, (24 if shin is bare else 31) * girth // 100)
    for leg in figure.body.legs.values():
        near = view.depth(Point(leg.root.x, 0, leg.end.z // 4))
        shade = 28 if near >= -10 else IN_SHADE
        kinds = (thigh._replace(shade=shade), shin._replace(shade=shade))
        upper, lower = _limb(view, leg, radii, kinds)
        yield near - 601, lower
        yield near - 600, upper
        yield from ((near - 602 + boot, shape) for boot, shape in _shoe(figure, leg, shade))
    if look.lower == "skirt" and look.upper != "dress":
        yield -400, cloth._replace(points=sheet(figure, ((575, 80, 62), (320, 108, 88))))


def _shoe(figure: Figure, leg: Limb, shade: int) -> Iterator[Part]:
    ankle, view, number = leg.end, figure.view, figure.number(SHOES)
    heel = view.disc(Point(ankle.x, ankle.y - 20, ankle.z - 14), 26)
    toe = view.disc(Point(ankle.x + ankle.x // 6, ankle.y - 27, ankle.z + 72), 21)
    yield 3, Shape(capsule(heel, toe), number, shade)
    if figure.look.boots:
        middle = leg.middle
        shaft = Point(
            (ankle.x + middle.x) // 2, (ankle.y + middle.y) // 2, (ankle.z + middle.z) // 2
        )
        yield 3, Shape(capsule(view.disc(shaft, 36), view.disc(ankle, 29)), number, shade)


def _trunk(figure: Figure) -> Iterator[Part]:
    look, view = figure.look, figure.view
    hem = HEMS[look.upper]
    wide = 128 if look.upper == "dress" else 104
    levels = (
        (852, 40, 40),
        (SHOULDER + 12, 104, 50),
        (750, 108, 68),
        (640, 86 if look.upper == "dress" else 96, 64),
        (HIP + 25, 98, 72),
        (min(hem, HIP), wide, 74),
        (hem, wide, 80),
    )
    yield 0, Shape(sheet(figure, levels), figure.number(UPPER), pattern=_upper_pattern(figure))
    neck = view.disc(raised(figure, 0, 862, 4), 34)
    chin = view.disc(raised(figure, 0, 884, 8), 32)
    yield 1, Shape(capsule(neck, chin), figure.number(SKIN), 50)
    yield from _front(figure, hem)
    if look.upper == "hoodie":
        hood = view.disc(raised(figure, 0, 838, -34), 58)
        yield (-1 if view.frontal > 0 else 60), ball(hood, figure.number(UPPER), IN_SHADE)
    if look.scarf is not None:
        ends = (raised(figure, -34, 852, 6), raised(figure, 34, 852, 6))
        yield 70, Shape(capsule(*(view.disc(end, 32) for end in ends)), figure.number(SCARF))


def _front(figure: Figure, hem: int) -> Iterator[Part]:
    """Draw what is on the chest or the back: an open jacket's inside, a logo, a belt."""
    look, view = figure.look, figure.view
    if look.upper in ("jacket", "coat") and view.frontal > 200:
        top, bottom = raised(figure, 0, 835, 55), raised(figure, 0, hem + 24, 75)
        points = capsule(view.disc(top, 24), view.disc(bottom, 34))
        yield 5, Shape(points, figure.number(INNER))
    facing = view.frontal if look.logo == "chest" else -view.frontal
    if look.logo != "none" and facing > 350 and look.upper not in ("jacket", "coat"):
        x, y = view.see(raised(figure, 0, 742, 64 if look.logo == "chest" else -64))
        half_width = view.length(46) * facing // UNIT
        half_height = view.length(32 if look.logo == "chest" else 52)
        yield 6, Shape(ellipse(x, y, half_width, half_height), figure.number(LOGO), 0)
    if look.upper in ("coat", "dress") and look.pitch % 2:
        levels = ((606, 99, 70), (584, 100, 71))
        yield 7, Shape(sheet(figure, levels), figure.number(DARK), 0)


def _arms(figure: Figure) -> Iterator[Part]:
    look, view = figure.look, figure.view
    sleeve = Shape(_NOWHERE, figure.number(UPPER), pattern=_upper_pattern(figure))
    bare = Shape(_NOWHERE, figure.number(SKIN))
    short = look.upper in ("tee", "dress")
    thick = look.girth * (100 if short else 112) // 100
    radii = (40 * thick // 100, (27 if short else 30) * thick // 100, 21 * thick // 100)
    for arm in figure.body.arms.values():
        near = view.depth(arm.root)
        shade = 28 if near > -35 else IN_SHADE
        depth = 200 + near if near > -35 else -300 + near
        kinds = (sleeve._replace(shade=shade), (bare if short else sleeve)._replace(shade=shade))
        upper, lower = _limb(view, arm, radii, kinds)
        yield depth, lower
        yield depth + 1, upper
        yield depth - 1, ball(view.disc(arm.end, 25), figure.number(SKIN), shade)


def _limb(
    view: View, limb: Limb, radii: tuple[int, int, int], kinds: tuple[Shape, Shape]
) -> tuple[Shape, Shape]:
    root, middle, end = (view.disc(p, r) for p, r in zip(limb, radii, strict=True))
    return (
        kinds[0]._replace(points=capsule(root, middle)),
        kinds[1]._replace(points=capsule(middle, end)),
    )


def _head(figure: Figure) -> Iterator[Part]:
    look, view = figure.look, figure.view
    crown = SKIN if look.hair_style == "bald" else HAIR
    full = 7 if look.hair_style in ("full", "long") else 0
    x, y = view.see(raised(figure, 0, HEAD + 8, -8))
    skull = ellipse(x, y, view.length(55 + full), view.length(68 + full))
    yield 80, Shape(skull, figure.number(crown))
    if view.frontal > -420:
        yield from _face(figure)
    behind = 90 if view.frontal < 0 else -20
    if look.hair_style == "long":
        ends = (raised(figure, 0, 905, -22), raised(figure, 0, 785, -46))
        points = capsule(view.disc(ends[0], 60), view.disc(ends[1], 54))
        yield behind, Shape(points, figure.number(HAIR))
    if look.hair_style == "tail":
        ends = (raised(figure, 0, 950, -66), raised(figure, 0, 810, -88))
        points = capsule(view.disc(ends[0], 26), view.disc(ends[1], 17))
        yield behind, Shape(points, figure.number(HAIR))
    if look.hair_style == "bun":
        yield 80, ball(view.disc(raised(figure, 0, 985, -46), 32), figure.number(HAIR), 28)
    if look.hat != "none":
        yield from hat_of(figure)


def _face(figure: Figure) -> Iterator[Part]:
    view = figure.view
    x, y = view.see(raised(figure, 0, HEAD - 8, 26))
    half_width = view.length(30 + 15 * abs(view.frontal) // UNIT)
    yield 84, Shape(ellipse(x, y, half_width, view.length(56)), figure.number(SKIN), 34)
    for side in (-1, 1):
        eye = raised(figure, side * 20, HEAD + 2, 46)
        if view.depth(eye) > 22:
            column, row = view.see(eye)
            points = ellipse(column, row, view.length(9), view.length(8))
            yield 85, Shape(points, figure.number(DARK), 0)


def _upper_pattern(figure: Figure) -> Pattern | None:
    look = figure.look
    if look.upper_pattern == "plain":
        return None
    x, y = figure.view.see(raised(figure, 0, SHOULDER + 20, 0))
    shift = figure.view.sideways * figure.view.length(60) // UNIT
    return Pattern(look.upper_pattern, figure.view.length(look.pitch), x + shift, y)


def _lower_pattern(figure: Figure) -> Pattern | None:
    look = figure.look
    if look.lower_pattern == "plain":
        return None
    x, y = figure.view.see(raised(figure, 0, HIP, 0))
    return Pattern(look.lower_pattern, figure.view.length(44), x, y)
