"""The learning rate of each epoch."""

from __future__ import annotations

import math
from bisect import bisect_right

from reidkit.errors import ArgumentError
from reidkit.training._recipe import Recipe


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Give the learning rate of an epoch, from 1 to `recipe.epochs`; it holds all epoch long.

    During the first `warmup_epochs` (W) a share of the rate is taken: `warmup_factor` of it
    ("constant"), or from `warmup_factor` before the first epoch up to the whole rate in epoch W
    ("linear"). As in the strong baseline the rate is set when an epoch starts, so that epoch 1 is
    one step into the warm-up already, and a milestone is the first epoch with the lower rate.

    - "multistep": the rate times `gamma` for each milestone reached.
    - "cosine": the whole rate until epoch max(W, 1), then along half a cosine wave to
      `final_factor` of it in the last epoch (Loshchilov and Hutter, "SGDR", ICLR 2017, without
      restarts).

    Raises:
        ArgumentError: the recipe has no such epoch.
    """
    if not 1 <= epoch <= recipe.epochs:
        raise ArgumentError(f"epoch is {epoch}, expected 1 to {recipe.epochs}, as in the recipe")
    decayed = _cosine(recipe, epoch) if recipe.schedule == "cosine" else _multistep(recipe, epoch)
    return recipe.learning_rate * _warmup(recipe, epoch) * decayed


def _warmup(recipe: Recipe, epoch: int) -> float:
    if epoch >= recipe.warmup_epochs:
        return 1.0
    if recipe.warmup_method == "constant":
        return recipe.warmup_factor
    done = epoch / recipe.warmup_epochs
    return recipe.warmup_factor * (1 - done) + done


def _multistep(recipe: Recipe, epoch: int) -> float:
    return float(recipe.gamma ** bisect_right(recipe.milestones, epoch))


def _cosine(recipe: Recipe, epoch: int) -> float:
    start = max(recipe.warmup_epochs, 1)
    if epoch <= start:
        return 1.0
    done = (epoch - start) / (recipe.epochs - start)
    final = recipe.final_factor
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
