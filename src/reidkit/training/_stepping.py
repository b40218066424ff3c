"""One step of training after another, and all that has to be kept to go on with them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from reidkit import preprocess
from reidkit.training._distributed import Ranks
from reidkit.training._feeding import Batch
from reidkit.training._objective import Losses, Objective
from reidkit.training._optimising import (
    Average,
    make_center_optimiser,
    make_optimiser,
    set_learning_rate,
    step_centers,
)
from reidkit.training._recipe import Recipe
from reidkit.training._runtime import normalise

_TRAINED_ALONE = ("bottleneck", "classifier")
"""The parts of a network that go on learning while its backbone is frozen."""


class Step(NamedTuple):
    """What one step was shown, on its device, and the losses (scalars) that it gave."""

    images: torch.Tensor
    labels: torch.Tensor
    losses: Losses


class Stepper:
    """A network in training: batches in, losses out.

    It owns the optimisers, the running average and the scaling of half-precision gradients;
    `state` and `restore` are all of it.
    """

    def __init__(self, objective: Objective, recipe: Recipe, ranks: Ranks) -> None:
        self.objective = objective.to(ranks.device)
        if recipe.channels_last:
            self.objective.network.to(memory_format=torch.channels_last)
        self._recipe, self._ranks = recipe, ranks
        self._optimiser = make_optimiser(objective.network, recipe)
        centers = objective.centers
        self._center_optimiser = None if centers is None else make_center_optimiser(centers, recipe)
        network = objective.network
        self._average = Average(network, recipe.ema_decay) if recipe.ema_decay else None
        half = recipe.precision == "float16"
        self._scaler = torch.amp.GradScaler(ranks.device.type, enabled=half)
        self._table = torch.from_numpy(preprocess.normalised_values(recipe.contract).copy())
        self._table = self._table.to(ranks.device)
        self._fill = torch.tensor(recipe.mean, device=ranks.device)[:, None, None]
        self._wrapped: nn.Module = objective
        self._taken = 0
        self.rate = 0.0

    def begin(self, *, rate: float, frozen: bool) -> None:
        """Begin an epoch at a learning rate, with or without the backbone."""
        network = self.objective.network
        network.train()
        for name, child in network.named_children():
            if name not in _TRAINED_ALONE:
                child.train(not frozen)
        for _, parameter in network.backbone_parameters():
            parameter.requires_grad_(not frozen)
        set_learning_rate(self._optimiser, rate)
        self.rate = rate
        self._forget_gradients()
        self._wrapped = self._wrap()
        self._taken = 0

    def step(self, batch: Batch, *, last: bool) -> Step:
        """Learn from one batch; every `accumulate` batches, and the `last`, change the weights."""
        self._taken += 1
        size = self._recipe.accumulate
        complete = last or self._taken % size == 0
        images, labels = self.images(batch)
        waits = isinstance(self._wrapped, DistributedDataParallel) and not complete
        with self._wrapped.no_sync() if waits else nullcontext():
            losses: Losses = self._wrapped(images, labels)
            self._scaler.scale(losses.total / size).backward()
        if complete:
            self._update()
        return Step(images, labels, Losses(losses.total.detach(), *losses[1:]))

    def images(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Bring a batch to the device, normalised and erased: (B, 3, H, W) float32, labels (B,)."""
        device = self._ranks.device
        pixels = _to_device(torch.from_numpy(batch.pixels), device)
        labels = _to_device(torch.from_numpy(batch.labels), device)
        images = normalise(pixels, self._table, self._recipe.contract.colour)
        for row, (top, left, height, width) in enumerate(batch.erased.tolist()):
            if height:
                images[row, :, top : top + height, left : left + width] = self._fill
        if self._recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, labels

    def averaged(self) -> Any:
        """Give a context in which the network holds its running average, if it keeps one."""
        if self._average is None:
            return nullcontext()
        return self._average.swapped(self.objective.network)

    def state(self) -> dict[str, Any]:
        """Give all that training goes on from, as dicts of tensors and numbers."""
        return {
            "objective": self.objective.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "center_optimiser": self._center_optimiser and self._center_optimiser.state_dict(),
            "average": self._average and self._average.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        self.objective.load_state_dict(state["objective"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._center_optimiser is not None:
            self._center_optimiser.load_state_dict(state["center_optimiser"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._scaler.load_state_dict(state["scaler"])

    def _wrap(self) -> nn.Module:
        """Put the module that averages gradients over processes around the objective.

        It has to be made again whenever other parameters learn.
        """
        if self._ranks.count == 1:
            return self.objective
        if self._ranks.device.type == "cuda":
            return DistributedDataParallel(self.objective, device_ids=[self._ranks.device])
        return DistributedDataParallel(self.objective)

    def _update(self) -> None:
        self._scaler.step(self._optimiser)
        if self._center_optimiser is not None:
            weight = self._recipe.center_weight * self._scaler.get_scale()
            step_centers(self._center_optimiser, self.objective.centers, weight)
        self._scaler.update()
        self._forget_gradients()
        if self._average is not None:
            self._average.update(self.objective.network)

    def _forget_gradients(self) -> None:
        self._optimiser.zero_grad(set_to_none=True)
        if self._center_optimiser is not None:
            self._center_optimiser.zero_grad(set_to_none=True)


def _to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to the device, since the reader fills its memory again."""
    if device.type == "cpu":
        return tensor.clone()
    return tensor.pin_memory().to(device, non_blocking=True)
