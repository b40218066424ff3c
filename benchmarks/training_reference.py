"""A step of training as reid-strong-baseline takes it, with its own network, losses and optimisers.

Nothing of it is part of this project: its modules are imported from the checkout given. Its
trainer needs a library that is not installed here; what that does in a step is worded again.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from reidkit.training import Recipe


class Reference:
    """The strong baseline's training with centre loss; its defaults are those of a `Recipe`."""

    def __init__(self, checkout: Path, recipe: Recipe, *, classes: int, device: str) -> None:
        self._device = device
        self._weight = recipe.center_weight
        modeling, layers, solver = _import(checkout)
        settings = _settings(recipe)
        with self._usable(), contextlib.redirect_stdout(io.StringIO()):
            self._model = modeling.build_model(settings, classes)
            self._losses, self._centers = layers.make_loss_with_center(settings, classes)
        self._model.to(device)
        self._optimiser, self._center_optimiser = solver.make_optimizer_with_center(
            settings, self._model, self._centers
        )

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over the weights and centres of an `Objective`'s state."""
        start = "network."
        weights = {name.removeprefix(start): state[name] for name in state if start in name}
        self._model.load_state_dict(weights)
        self._centers.load_state_dict({"centers": state["centers"]})

    def step(self, images: Any, labels: Any) -> float:
        """Learn from images (B, 3, H, W) float32 and labels (B,), in memory; give the loss."""
        with self._usable():
            self._model.train()
            self._optimiser.zero_grad()
            self._center_optimiser.zero_grad()
            images, labels = images.to(self._device), labels.to(self._device)
            scores, features = self._model(images)
            loss = self._losses(scores, features, labels)
            loss.backward()
            self._optimiser.step()
            for parameter in self._centers.parameters():
                parameter.grad.data *= 1.0 / self._weight
            self._center_optimiser.step()
            # It looks at the loss and the share of people told apart after every step.
            right = (scores.max(1)[1] == labels).float().mean()
            found: tuple[float, float] = loss.item(), right.item()
        return found[0]

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Let its calls of `Tensor.cuda` do nothing where it trains on a CPU."""
        if self._device != "cpu":
            yield
            return
        before = torch.Tensor.cuda
        torch.Tensor.cuda = lambda tensor: tensor
        try:
            yield
        finally:
            torch.Tensor.cuda = before


def _import(checkout: Path) -> list[Any]:
    place = str(checkout.absolute())
    # It calls torch in a way that is out of use.
    warnings.filterwarnings("ignore", "This overload of addmm_", UserWarning)
    sys.path.insert(0, place)
    try:
        names = ("modeling", "layers", "solver")
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(place)


def _settings(recipe: Recipe) -> SimpleNamespace:
    """Say under its names what a recipe says; what it needs for the full recipe."""
    return SimpleNamespace(
        MODEL=SimpleNamespace(
            NAME=recipe.architecture,
            LAST_STRIDE=recipe.last_stride,
            PRETRAIN_PATH="",
            PRETRAIN_CHOICE="self",
            NECK="bnneck",
            METRIC_LOSS_TYPE="triplet_center",
            IF_LABELSMOOTH="on",
        ),
        TEST=SimpleNamespace(NECK_FEAT=recipe.neck_feature),
        DATALOADER=SimpleNamespace(SAMPLER="softmax_triplet"),
        SOLVER=SimpleNamespace(
            OPTIMIZER_NAME="Adam",
            MARGIN=recipe.margin,
            BASE_LR=recipe.learning_rate,
            BIAS_LR_FACTOR=recipe.bias_learning_rate_factor,
            WEIGHT_DECAY=recipe.weight_decay,
            WEIGHT_DECAY_BIAS=recipe.bias_weight_decay,
            CENTER_LR=recipe.center_learning_rate,
            CENTER_LOSS_WEIGHT=recipe.center_weight,
        ),
    )
