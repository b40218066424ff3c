"""What changes the weights: the optimisers of a network and of class centres, and an average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from reidkit.errors import ArgumentError, MismatchError, name_some
from reidkit.training._recipe import Recipe


def make_optimiser(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the recipe's optimiser of all tensors of a module that have a gradient now.

    A tensor with `bias` in its name has `bias_weight_decay`, and the learning rate times
    `bias_learning_rate_factor`. Weight decay is part of the gradient with "adam" and "sgd" (L2),
    apart from it with "adamw". The strong baseline has a group for each tensor; tensors of equal
    settings are one group here, which computes the same and takes a fraction of the time. A
    group's `factor` is its share of the learning rate, for `set_learning_rate`.

    Tensors that are frozen later, for some epochs, may stay: one without a gradient is left alone.

    Raises:
        ArgumentError: no tensor has a gradient.
    """
    groups: dict[tuple[float, float], list[torch.Tensor]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            is_bias = "bias" in name
            factor = recipe.bias_learning_rate_factor if is_bias else 1.0
            decay = recipe.bias_weight_decay if is_bias else recipe.weight_decay
            groups.setdefault((factor, decay), []).append(parameter)
    if not groups:
        raise ArgumentError("no tensor of the module has a gradient: there is nothing to train")
    settings = [
        {
            "params": parameters,
            "lr": recipe.learning_rate * factor,
            "weight_decay": decay,
            "factor": factor,
        }
        for (factor, decay), parameters in groups.items()
    ]
    optimiser = _optimiser(settings, recipe)
    _begin_momentum(optimiser)
    optimiser.register_load_state_dict_post_hook(_follow_layouts)
    return optimiser


def _optimiser(settings: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    # Fused: one pass over each tensor instead of one for each term of the update.
    match recipe.optimiser:
        case "sgd":
            return torch.optim.SGD(settings, momentum=recipe.momentum, fused=True)
        case "adamw":
            return torch.optim.AdamW(settings, fused=True)
        case _:
            return torch.optim.Adam(settings, fused=True)


def _begin_momentum(optimiser: torch.optim.Optimizer) -> None:
    """Begin the momentum of SGD at zero, which gives the same first step as none.

    A fused step otherwise makes it only where no tensor of a group has one, so it fails once some
    are no longer frozen; and where the scaler skips the first step it leaves it undefined.
    """
    for group in optimiser.param_groups:
        if group.get("momentum"):
            for parameter in group["params"]:
                momentum = torch.zeros_like(parameter)
                optimiser.state[parameter]["momentum_buffer"] = momentum


def _follow_layouts(optimiser: torch.optim.Optimizer) -> None:
    """Lay out what was loaded as the parameters are.

    A fused step goes through memory in order, and does not look whether a parameter and its
    moments are laid out alike: channels-last and not would mix up their values.
    """
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if value is not None and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of an optimiser of `make_optimiser`, times each group's factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def make_center_optimiser(centers: nn.Parameter, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimiser of class centres: plain SGD, always at `center_learning_rate`."""
    return torch.optim.SGD([centers], lr=recipe.center_learning_rate)


def step_centers(optimiser: torch.optim.Optimizer, centers: nn.Parameter, weight: float) -> None:
    """Step the centres as if the centre loss had not been weighted.

    The loss that gradients come from holds `weight` times the centre loss (times the scale of a
    gradient scaler, if any: give the product). Centres without a gradient stay.

    Raises:
        ArgumentError: a weight that is not positive.
    """
    if not weight > 0:
        raise ArgumentError(f"weight is {weight}, expected more than 0: the centre loss's share")
    if centers.grad is not None:
        centers.grad.mul_(1 / weight)
    optimiser.step()


class Average:
    """The exponential moving average of a module's parameters.

    After update n (from 1) it keeps d = min(decay, (1 + n) / (10 + n)) of itself and takes 1 - d
    of the parameters: the first, hardly trained, weights would stay in it for long otherwise.
    Buffers, such as running statistics, are not averaged: the module's own go with the average.
    Deterministic; the average is on the parameters' devices, in their types.

    Raises:
        ArgumentError: a decay that is not from 0 to below 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ArgumentError(f"decay is {decay}, expected a number from 0 to below 1")
        self.decay = decay
        self.updates = 0
        self._tensors = {
            name: parameter.detach().clone() for name, parameter in module.named_parameters()
        }

    def update(self, module: nn.Module) -> None:
        """Take in the parameters of the module, after a step."""
        self.updates += 1
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = self._pairs(module)
        move = torch.optim.swa_utils.get_ema_multi_avg_fn(kept)
        move([mean for _, mean in pairs], [parameter.detach() for parameter, _ in pairs], None)

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """Put the average into the module meanwhile, and its own parameters back afterwards."""
        pairs = self._pairs(module)
        own = [parameter.detach().clone() for parameter, _ in pairs]
        _copy([parameter for parameter, _ in pairs], [mean for _, mean in pairs])
        try:
            yield
        finally:
            _copy([parameter for parameter, _ in pairs], own)

    def state_dict(self) -> dict[str, Any]:
        """Give what a later `load_state_dict` goes on from: `updates` and `tensors` by name.

        The tensors are the average's own, which the next update changes.
        """
        return {"updates": self.updates, "tensors": dict(self._tensors)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            MismatchError: it is of a module with other parameters.
        """
        given: Mapping[str, torch.Tensor] = state["tensors"]
        other = {
            name
            for name in given.keys() | self._tensors.keys()
            if name not in given
            or name not in self._tensors
            or given[name].shape != self._tensors[name].shape
        }
        if other:
            raise MismatchError(
                f"the average is of another network: {len(other)} tensors are missing, unknown or "
                f"of another shape: {name_some(sorted(other))}. Go on with the recipe it is from"
            )
        self.updates = int(state["updates"])
        _copy(list(self._tensors.values()), [given[name] for name in self._tensors])

    def _pairs(self, module: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Give each parameter with its average.

        Raises:
            MismatchError: the module has other parameters.
        """
        parameters = dict(module.named_parameters())
        if parameters.keys() != self._tensors.keys():
            names = sorted(parameters.keys() ^ self._tensors.keys())
            raise MismatchError(
                f"the module is not the averaged one: {len(names)} parameters belong to one of "
                f"them only: {name_some(names)}"
            )
        return [(parameters[name], mean) for name, mean in self._tensors.items()]


def _copy(targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
