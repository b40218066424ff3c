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

_TRAINED_ALONE = ("gem", "bottleneck", "classifier")
"""The parts of a network that go on learning while its backbone is frozen.

They are what `ReidNetwork.backbone_parameters` leaves out; the dense layer is frozen too.
"""


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
        self._frozen: bool | None = None
        self._taken = 0
        self.rate = 0.0

    def begin(self, *, rate: float, frozen: bool) -> None:
        """Begin an epoch at a learning rate, with or without the backbone."""
        network = self.objective.network
        network.train()
        for name, child in network.named_children():
            if name not in _TRAINED_ALONE:
                child.train(not frozen)
        if frozen != self._frozen:
            for _, parameter in network.backbone_parameters():
                parameter.requires_grad_(not frozen)
            self._wrapped = self._wrap()
            self._frozen = frozen
        set_learning_rate(self._optimiser, rate)
        self.rate = rate
        self._forget_gradients()
        self._taken = 0

    def step(self, batch: Batch, *, last: bool) -> Step:
        """Learn from one batch; every `accumulate` batches, and the `last`, change the weights.

        They learn from the mean over the batches since the weights changed, which after the last
        one of an epoch may be fewer than `accumulate`.
        """
        self._taken += 1
        size = self._recipe.accumulate
        complete = last or self._taken == size
        images, labels = self.images(batch)
        waits = isinstance(self._wrapped, DistributedDataParallel) and not complete
        with self._wrapped.no_sync() if waits else nullcontext():
            losses: Losses = self._wrapped(images, labels)
            self._scaler.scale(losses.total / size).backward()
        if complete:
            if self._taken < size:
                self._enlarge_gradients(size / self._taken)
            self._update()
            self._taken = 0
        return Step(images, labels, Losses(losses.total.detach(), *losses[1:]))

    def images(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Bring a batch to the device, normalised and erased: (B, 3, H, W) float32, labels (B,)."""
        device = self._ranks.device
        pixels = _to_device(torch.from_numpy(batch.pixels), device)
        labels = _to_device(torch.from_numpy(batch.labels), device)
        images = normalise(pixels, self._table, self._recipe.contract.colour)
        if batch.erased.any():
            erased = _to_device(torch.from_numpy(batch.erased), device)
            images = torch.where(_inside(erased, *images.shape[2:]), self._fill, images)
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
        before = self._scale()
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._step_centers(before)
        self._forget_gradients()
        if self._average is not None:
            self._average.update(self.objective.network)

    def _scale(self) -> torch.Tensor:
        """Give the scale of half-precision gradients, or 1, without waiting for the device."""
        one = torch.ones((), device=self._ranks.device)
        scale: torch.Tensor = self._scaler.scale(one)
        return scale

    def _step_centers(self, before: torch.Tensor) -> None:
        """Step the centres, given the scale of their gradients, where the network stepped too."""
        centers = self.objective.centers
        if self._center_optimiser is None or centers is None:
            return
        if self._scaler.is_enabled() and centers.grad is not None:
            # Only gradients that were too large lower the scale, and then the network kept still.
            skipped = self._scale() < before
            centers.grad = torch.where(skipped, 0.0, centers.grad / before)
        step_centers(self._center_optimiser, centers, self._recipe.center_weight)

    def _enlarge_gradients(self, factor: float) -> None:
        parameters = self.objective.parameters()
        gradients = [each.grad for each in parameters if each.grad is not None]
        torch._foreach_mul_(gradients, factor)

    def _forget_gradients(self) -> None:
        self._optimiser.zero_grad(set_to_none=True)
        if self._center_optimiser is not None:
            self._center_optimiser.zero_grad(set_to_none=True)


def _to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to the device, since the reader fills its memory again."""
    if device.type == "cpu":
        return tensor.clone()
    return tensor.pin_memory().to(device, non_blocking=True)


def _inside(rectangles: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Mark the pixels within rectangles (B, 4), each top, left, height, width: (B, 1, H, W)."""
    top, left, tall, wide = rectangles[:, :, None].unbind(1)
    down = torch.arange(height, device=rectangles.device)
    across = torch.arange(width, device=rectangles.device)
    rows = (down >= top) & (down < top + tall)
    columns = (across >= left) & (across < left + wide)
    return rows[:, None, :, None] & columns[:, None, None, :]
