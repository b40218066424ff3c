"""Who the drawn people are: a look each, kept across all pictures.

Clothes take their colours from a palette weighted as on real streets: mostly black, grey, blue,
white and beige. Many people share colours, so patterns, shoes, bags, hair and build must tell.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

# At once, not on first use: a Ctrl-C while numpy loads this module is lost.
from numpy.random import PCG64, Generator, SeedSequence

from reidkit.datasets.drawn._raster import Colour

CLOTHES: tuple[tuple[Colour, int], ...] = (
    ((32, 32, 36), 11),
    ((62, 64, 70), 7),
    ((104, 107, 112), 7),
    ((160, 163, 166), 5),
    ((226, 226, 222), 9),
    ((30, 40, 74), 8),
    ((56, 84, 130), 8),
    ((112, 146, 186), 6),
    ((196, 178, 148), 7),
    ((112, 84, 62), 6),
    ((86, 92, 62), 5),
    ((152, 44, 46), 6),
    ((104, 34, 50), 4),
    ((44, 104, 80), 4),
    ((206, 160, 58), 4),
    ((206, 124, 140), 4),
    ((38, 124, 134), 4),
    ((108, 76, 134), 3),
    ((210, 104, 52), 3),
)
TROUSERS: tuple[tuple[Colour, int], ...] = (
    ((30, 30, 34), 14),
    ((60, 62, 68), 8),
    ((32, 42, 72), 12),
    ((58, 82, 122), 14),
    ((110, 138, 172), 8),
    ((182, 164, 134), 10),
    ((110, 112, 114), 6),
    ((214, 212, 204), 8),
    ((96, 78, 62), 6),
    ((84, 90, 64), 6),
    ((128, 44, 50), 5),
)
SHOES: tuple[tuple[Colour, int], ...] = (
    ((28, 28, 30), 9),
    ((226, 226, 224), 8),
    ((120, 80, 52), 5),
    ((120, 122, 126), 3),
    ((176, 50, 48), 2),
    ((46, 70, 128), 2),
    ((200, 178, 60), 1),
)
SKINS: tuple[tuple[Colour, int], ...] = (
    ((240, 206, 180), 5),
    ((226, 184, 152), 6),
    ((206, 160, 124), 4),
    ((168, 122, 88), 3),
    ((120, 82, 58), 3),
    ((84, 58, 44), 2),
)
HAIRS: tuple[tuple[Colour, int], ...] = (
    ((28, 24, 24), 10),
    ((62, 44, 34), 7),
    ((104, 72, 46), 4),
    ((186, 150, 96), 3),
    ((150, 148, 146), 3),
    ((142, 68, 40), 1),
)
BAGS: tuple[tuple[Colour, int], ...] = (
    ((36, 36, 40), 7),
    ((112, 76, 50), 4),
    ((168, 46, 48), 3),
    ((40, 62, 116), 3),
    ((92, 100, 68), 2),
    ((208, 190, 150), 2),
    ((214, 168, 52), 1),
    ((50, 132, 136), 1),
)
HAIR_STYLES = ("short", "short", "short", "full", "full", "long", "long", "tail", "bun", "bald")
UPPERS = ("tee", "tee", "tee", "shirt", "shirt", "jacket", "jacket", "hoodie", "coat", "dress")
LOWERS = ("trousers", "trousers", "trousers", "trousers", "slim", "shorts", "shorts", "skirt")
PATTERNS = (
    *("plain",) * 9,
    *("stripes", "stripes", "checks", "tartan", "pinstripes", "dots", "yoke", "band"),
    *("halves", "diagonal"),
)
BAG_KINDS = (*("none",) * 4, "backpack", "backpack", "backpack", "shoulder", "shoulder", "tote")
HATS = (*("none",) * 7, "cap", "beanie", "brim")


@dataclass(frozen=True, slots=True)
class Look:
    """One person's appearance; colours are RGB, lengths in 1/1000 of an average body's height.

    `logo` is `none`, `chest` or `back`; `girth` and `stature` are per cent of the average.
    """

    skin: Colour
    hair: Colour
    hair_style: str
    hat: str
    hat_colour: Colour
    upper: str
    upper_colours: tuple[Colour, Colour]
    upper_pattern: str
    pitch: int
    inner: Colour
    lower: str
    lower_colours: tuple[Colour, Colour]
    lower_pattern: str
    shoes: Colour
    boots: bool
    tights: bool
    bag: str
    bag_colour: Colour
    logo: str
    logo_colour: Colour
    scarf: Colour | None
    stature: int
    girth: int
    left_handed: bool


def chance(*key: int) -> Generator:
    """Give the stream of whole numbers that belongs to a key of numbers >= 0."""
    return Generator(PCG64(SeedSequence(key)))


def between(stream: Generator, low: int, high: int) -> int:
    """Draw a whole number, `high` included."""
    return int(stream.integers(low, high + 1))


def choose(stream: Generator, names: Sequence[str]) -> str:
    """Draw one of the names."""
    return names[int(stream.integers(len(names)))]


def choose_colour(
    stream: Generator, palette: Sequence[tuple[Colour, int]], spread: int = 5
) -> Colour:
    """Draw a colour by weight, a little off the palette's own."""
    place = int(stream.integers(sum(weight for _, weight in palette)))
    weighted = itertools.accumulate(weight for _, weight in palette)
    colour = next(colour for (colour, _), end in zip(palette, weighted, strict=True) if place < end)
    red, green, blue = (max(0, c + between(stream, -spread, spread)) for c in colour)
    return red, green, blue


@functools.lru_cache(maxsize=512)
def make_look(seed: int, group: int, person: int) -> Look:
    """Give the look of a person of a group; the same key gives the same look."""
    stream = chance(seed, 1, group, person)
    upper = choose(stream, UPPERS)
    upper_colour = choose_colour(stream, CLOTHES)
    lower_colour = choose_colour(stream, TROUSERS)
    return Look(
        skin=choose_colour(stream, SKINS),
        hair=choose_colour(stream, HAIRS),
        hair_style=choose(stream, HAIR_STYLES),
        hat=choose(stream, HATS),
        hat_colour=choose_colour(stream, CLOTHES),
        upper=upper,
        upper_colours=(upper_colour, _other_colour(stream, upper_colour)),
        upper_pattern=choose(stream, PATTERNS),
        pitch=between(stream, 34, 62),
        inner=_other_colour(stream, upper_colour),
        lower=choose(stream, LOWERS),
        lower_colours=(lower_colour, _other_colour(stream, lower_colour)),
        lower_pattern=choose(stream, (*("plain",) * 8, "halves", "checks", "band")),
        shoes=choose_colour(stream, SHOES),
        boots=between(stream, 0, 4) == 0,
        tights=between(stream, 0, 2) == 0,
        bag=choose(stream, BAG_KINDS),
        bag_colour=choose_colour(stream, BAGS),
        logo=choose(stream, ("none", "none", "none", "chest", "back")),
        logo_colour=_other_colour(stream, upper_colour),
        scarf=choose_colour(stream, BAGS) if between(stream, 0, 7) == 0 else None,
        stature=between(stream, 94, 106),
        girth=between(stream, 98, 140),
        left_handed=between(stream, 0, 2) == 0,
    )


def _other_colour(stream: Generator, colour: Colour) -> Colour:
    """Draw a colour that can be told from `colour` in a dark, small picture."""
    other = choose_colour(stream, CLOTHES)
    for _ in range(20):
        if sum(abs(a - b) for a, b in zip(colour, other, strict=True)) > 150:
            break
        other = choose_colour(stream, CLOTHES)
    return other
