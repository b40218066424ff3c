"""The learning rate of each epoch: the reference's, and the cosine."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit.errors import ArgumentError
from reidkit.training._recipe import Recipe
from reidkit.training._schedule import learning_rate

GOLDEN = Path(__file__).parent / "golden" / "training.npz"
COSINE = Recipe(schedule="cosine", epochs=50, warmup_epochs=5)


def rates(recipe: Recipe) -> list[float]:
    return [learning_rate(recipe, epoch) for epoch in range(1, recipe.epochs + 1)]


def test_defaults_give_the_reference_schedule() -> None:
    wanted = np.load(GOLDEN)["lr_epoch_1_to_120"]
    np.testing.assert_allclose(rates(Recipe()), wanted, rtol=0, atol=1e-12)


def test_constant_warm_up_ends_with_its_last_epoch() -> None:
    recipe = Recipe(warmup_method="constant", warmup_epochs=3, epochs=5, warmup_factor=0.1)
    np.testing.assert_allclose(rates(recipe), np.array([0.1, 0.1, 1, 1, 1]) * 3.5e-4)


def test_without_warm_up_the_first_epoch_has_the_whole_rate() -> None:
    assert learning_rate(Recipe(warmup_epochs=0), 1) == 3.5e-4
    assert learning_rate(replace(COSINE, warmup_epochs=0), 1) == 3.5e-4


def test_milestones_count_during_warm_up_too() -> None:
    recipe = Recipe(milestones=(2, 4), warmup_epochs=4, warmup_factor=0.0, epochs=4)
    np.testing.assert_allclose(rates(recipe), np.array([0.25, 0.05, 0.075, 0.01]) * 3.5e-4)


def test_without_milestones_the_rate_stays() -> None:
    assert learning_rate(Recipe(milestones=()), 120) == 3.5e-4


def test_cosine_goes_from_the_whole_rate_to_the_final_one() -> None:
    found = np.array(rates(COSINE)) / COSINE.learning_rate
    assert found[4] == 1
    assert found[49] == pytest.approx(0.002)
    halfway = found[4:]
    # Point-symmetric around the middle of the wave, falling all the way.
    np.testing.assert_allclose(halfway + halfway[::-1], 1.002)
    assert (np.diff(halfway) < 0).all()


def test_cosine_at_a_quarter() -> None:
    recipe = replace(COSINE, epochs=45, final_factor=0.0)
    wanted = (1 + math.cos(math.pi / 4)) / 2 * recipe.learning_rate
    assert learning_rate(recipe, 15) == pytest.approx(wanted)


@pytest.mark.parametrize("warmup", [0, 1, 3, 10])
def test_short_trainings_have_a_cosine_too(warmup: int) -> None:
    for epochs in (1, 2, 3):
        found = rates(replace(COSINE, epochs=epochs, warmup_epochs=warmup))
        assert all(0 < rate <= COSINE.learning_rate for rate in found)


@given(
    st.sampled_from(["multistep", "cosine"]),
    st.sampled_from(["linear", "constant"]),
    st.integers(0, 15),
    st.integers(1, 40),
    st.floats(0, 1),
)
def test_rates_stay_between_nothing_and_the_whole(
    schedule: Literal["multistep", "cosine"],
    method: Literal["linear", "constant"],
    warmup: int,
    epochs: int,
    factor: float,
) -> None:
    recipe = Recipe(
        schedule=schedule,
        warmup_method=method,
        warmup_epochs=warmup,
        warmup_factor=factor,
        epochs=epochs,
        milestones=(20, 30),
    )
    found = np.array(rates(recipe))
    assert (found >= 0).all()
    assert (found <= recipe.learning_rate * (1 + 1e-12)).all()
    # After the warm-up the rate never rises.
    assert (np.diff(found[max(warmup - 1, 0) :]) <= 1e-18).all()


@pytest.mark.parametrize("epoch", [0, -1, 121])
def test_an_epoch_outside_the_training_is_refused(epoch: int) -> None:
    with pytest.raises(ArgumentError, match=f"epoch is {epoch}, expected 1 to 120"):
        learning_rate(Recipe(), epoch)
