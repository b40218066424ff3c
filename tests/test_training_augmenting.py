"""Flip, padding, crop and erasing: exact against plain loops, and as often as promised."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit.training._augmenting import (
    ERASED_AREA,
    ERASED_ASPECT,
    TRIES,
    Changes,
    change_into,
    draw_changes,
)
from reidkit.training._recipe import Recipe


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(height: int = 7, width: int = 5) -> NDArray[np.uint8]:
    """Give a picture without black pixels."""
    return chance().integers(1, 256, (height, width, 3), dtype=np.uint8)


def naive(pixels: NDArray[np.uint8], flipped: bool, top: int, left: int) -> NDArray[np.uint8]:
    """Change a picture pixel by pixel."""
    height, width, _ = pixels.shape
    out = np.zeros_like(pixels)
    for y, x in itertools.product(range(height), range(width)):
        row, column = y + top, x + left
        if 0 <= row < height and 0 <= column < width:
            out[y, x] = pixels[row, width - 1 - column if flipped else column]
    return out


@pytest.mark.parametrize("flipped", [False, True])
def test_pictures_are_flipped_padded_and_cropped_exactly(flipped: bool) -> None:
    pixels = picture()
    for top, left in itertools.product(range(-9, 10), range(-9, 10)):
        out = np.full_like(pixels, 77)
        change_into(out, pixels, flipped=flipped, top=top, left=left)
        assert np.array_equal(out, naive(pixels, flipped, top, left)), (top, left)


def test_a_change_is_a_crop_of_the_padded_mirror_image() -> None:
    """The reference's order: flip, then pad, then crop."""
    pixels, padding = picture(), 3
    padded = np.pad(pixels[:, ::-1], ((padding, padding), (padding, padding), (0, 0)))
    for top, left in itertools.product(range(2 * padding + 1), repeat=2):
        out = np.empty_like(pixels)
        change_into(out, pixels, flipped=True, top=top - padding, left=left - padding)
        assert np.array_equal(out, padded[top : top + 7, left : left + 5])


def test_a_row_of_a_batch_is_written_and_no_other() -> None:
    batch = np.full((3, 7, 5, 3), 9, np.uint8)
    pixels = picture()
    pixels.setflags(write=False)
    change_into(batch[1], pixels, flipped=True, top=2, left=-1)
    assert np.array_equal(batch[1], naive(pixels, True, 2, -1))
    assert (batch[[0, 2]] == 9).all()


def draw(count: int = 40_000, seed: int = 0, **settings: float) -> Changes:
    return draw_changes(count, Recipe(**settings), chance(seed))  # type: ignore[arg-type]


def test_flips_and_corners_are_drawn_evenly() -> None:
    changes = draw(flip_probability=0.3)
    assert changes.flipped.mean() == pytest.approx(0.3, abs=0.01)
    for column in changes.corners.T:
        values, times = np.unique(column, return_counts=True)
        assert values.tolist() == list(range(-10, 11))
        np.testing.assert_allclose(times / 40_000, 1 / 21, atol=0.006)
    flipped = changes.flipped.astype(float)
    for other in (*changes.corners.T, changes.erased[:, 2] > 0):
        assert abs(np.corrcoef(flipped, other)[0, 1]) < 0.02


def test_probabilities_of_0_and_1_are_never_and_always() -> None:
    never = draw(2000, flip_probability=0, padding=0, erasing_probability=0)
    assert not never.flipped.any()
    assert not never.corners.any()
    assert not never.erased.any()
    always = draw(2000, flip_probability=1, erasing_probability=1)
    assert always.flipped.all()
    assert (always.erased[:, 2:] > 0).all()


def naive_erased(recipe: Recipe, draws: random.Random) -> tuple[int, int, int, int]:
    """Draw one rectangle by the rule, one number after the other."""
    if draws.random() >= recipe.erasing_probability:
        return (0, 0, 0, 0)
    for _ in range(TRIES):
        area = draws.uniform(*ERASED_AREA) * recipe.height * recipe.width
        aspect = draws.uniform(*ERASED_ASPECT)
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height < recipe.height and width < recipe.width:
            top = draws.randint(0, recipe.height - height)
            return (top, draws.randint(0, recipe.width - width), height, width)
    return (0, 0, 0, 0)


@pytest.mark.parametrize(("height", "width"), [(256, 128), (128, 128), (60, 160)])
def test_erased_rectangles_are_distributed_as_the_rule_has_it(height: int, width: int) -> None:
    recipe = Recipe(height=height, width=width)
    erased = draw_changes(20_000, recipe, chance(1)).erased
    draws = random.Random(2)
    expected = np.array([naive_erased(recipe, draws) for _ in range(20_000)])
    assert (erased[:, 2] > 0).mean() == pytest.approx(0.5, abs=0.02)
    for ours, wanted in zip(columns(erased), columns(expected), strict=True):
        assert distance(ours, wanted) < 0.03  # 0.028 would be exceeded by one in 1000


def columns(erased: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Give area, aspect and place of the rectangles there are."""
    top, left, height, width = erased[erased[:, 2] > 0].astype(float).T
    return [height * width, height / width, top, left]


def distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Give the Kolmogorov-Smirnov distance of two samples."""
    every = np.concatenate((first, second))
    shares = (
        np.searchsorted(np.sort(values), every, side="right") / len(values)
        for values in (first, second)
    )
    return float(np.abs(next(shares) - next(shares)).max())


def test_erased_rectangles_lie_within_the_picture_and_the_bounds() -> None:
    erased = draw(erasing_probability=1).erased
    top, left, height, width = erased.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 256).all()
    assert (left + width <= 128).all()
    assert (height < 256).all()
    assert (width < 128).all()
    assert (top + height).max() == 256
    assert (left + width).max() == 128
    share = height * width / (256 * 128)
    assert share.min() >= 0.019
    assert share.max() <= 0.405
    assert share.max() > 0.39
    aspect = height / width
    assert aspect.min() >= 0.29
    assert aspect.max() <= 3.45


def test_pictures_too_narrow_for_any_rectangle_stay_whole() -> None:
    """The narrowest rectangle of this area is 20 pixels wide: none is drawn."""
    recipe = Recipe(height=4096, width=16, erasing_probability=1)
    erased = draw_changes(200, recipe, chance()).erased
    assert not erased.any()


def test_changes_are_the_same_for_the_same_chance() -> None:
    first, again, other = draw(50), draw(50), draw(50, seed=1)
    for a, b, c in zip(first, again, other, strict=True):
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)
    part = first.select(slice(10, 20))
    for a, b in zip(first, part, strict=True):
        assert np.array_equal(a[10:20], b)
    assert [column.dtype.name for column in first] == ["bool", "int64", "int64"]
