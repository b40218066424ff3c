"""A network's convolutions as torch modules: the tree that names them, and what is computed.

Modules are there for their tensors alone: a module's place in the tree is its tensors' name in
the state dict. What is computed with them is written in plain functions over values that refer
to these modules, since a layer's convolution and its norm stand side by side in the tree. So
these modules cannot be replaced by others, only their tensors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidkit.networks.facts import EPSILON, Activation, Pool
from reidkit.networks.layers import AveragePool, Backbone, Block, Layer


class Step(NamedTuple):
    """A layer: a convolution, perhaps a norm, and an activation.

    `fresh` tells that nobody else needs what comes out of it, so that it may be overwritten.
    """

    convolution: Any
    norm: Any
    activation: Activation
    fresh: bool


class Residual(NamedTuple):
    """A block; see `networks.layers.Block`."""

    entry: tuple[Step, ...]
    streams: tuple[tuple[Step, ...], ...]
    gate: tuple[Step, ...]
    exit: tuple[Step, ...]
    shortcut: Step | None


Trunk = tuple[Step | Residual | Pool | AveragePool, ...]
"""What happens to the images, in this order."""


def build_trunk(root: nn.Module, described: Backbone) -> Trunk:
    """Put the modules of a backbone's stem and body into the tree under `root`."""
    prefix = described.prefix
    stem = tuple(_build_step(root, layer, prefix) for layer in described.stem)
    body = tuple(_build_part(root, part, prefix) for part in described.body)
    return (*stem, described.pool, *body)


def place(root: nn.Module, name: str, leaf: nn.Module | Tensor) -> Any:
    """Put a module, or a tensor that nothing learns, into the tree under a dotted name.

    Modules on the way to it that do not exist are made. Returns `leaf`.
    """
    *path, last = name.split(".")
    holder = root
    for part in path:
        if part not in holder._modules:
            holder.add_module(part, nn.Module())
        holder = holder._modules[part]
    if isinstance(leaf, Tensor):
        holder.register_buffer(last, leaf)
    else:
        holder.add_module(last, leaf)
    return leaf


def run_trunk(trunk: Trunk, value: Tensor) -> Tensor:
    """Compute the last feature map (B, C, h, w) of images (B, 3, H, W)."""
    for part in trunk:
        if isinstance(part, Residual):
            value = _run_block(part, value)
        elif isinstance(part, Step):
            value = _run_step(part, value)
        elif isinstance(part, Pool):
            value = functional.max_pool2d(
                value, part.kernel, part.stride, part.padding, ceil_mode=part.ceil
            )
        else:
            value = functional.avg_pool2d(value, part.size)
    return value


class _HalfInstanceNorm(nn.Module):  # type: ignore[misc] # torch's modules are untyped here
    """An instance norm over the first half of the channels, a batch norm over the others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.IN = nn.InstanceNorm2d(self.half, EPSILON, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.half, EPSILON)

    def forward(self, value: Tensor) -> Tensor:
        first, second = value[:, : self.half], value[:, self.half :]
        # torch's norms are several times slower on tensors that do not lie in one piece.
        return torch.cat([self.IN(first.contiguous()), self.BN(second.contiguous())], 1)


def _build_part(
    root: nn.Module, part: Block | Layer | AveragePool, prefix: str
) -> Step | Residual | AveragePool:
    if isinstance(part, AveragePool):
        return part
    if isinstance(part, Layer):
        return _build_step(root, part, prefix)

    def steps(layers: tuple[Layer, ...]) -> tuple[Step, ...]:
        return tuple(_build_step(root, layer, prefix) for layer in layers)

    return Residual(
        entry=steps(part.layers),
        streams=tuple(steps(stream) for stream in part.streams),
        gate=steps(part.gate),
        exit=steps(part.exit),
        shortcut=_build_step(root, part.shortcut, prefix) if part.shortcut else None,
    )


def _build_step(root: nn.Module, layer: Layer, prefix: str) -> Step:
    convolution = nn.Conv2d(
        layer.inputs,
        layer.outputs,
        layer.kernel,
        layer.stride,
        layer.padding,
        groups=layer.groups,
        bias=layer.bias,
    )
    place(root, prefix + layer.name, convolution)
    norm = None if layer.norm == "none" else _build_norm(layer)
    if norm is not None:
        place(root, prefix + layer.norm_name, norm)
    # torch's instance norm gives a view, and overwriting a view makes its gradient costly.
    return Step(convolution, norm, layer.activation, fresh=layer.norm != "instance")


def _build_norm(layer: Layer) -> nn.Module:
    if layer.norm == "batch":
        return nn.BatchNorm2d(layer.outputs, EPSILON)
    if layer.norm == "instance":
        return nn.InstanceNorm2d(layer.outputs, EPSILON, affine=True)
    return _HalfInstanceNorm(layer.outputs)


def _run_block(block: Residual, entry: Tensor) -> Tensor:
    value = _run_steps(block.entry, entry)
    values = [_run_steps(stream, value) for stream in block.streams]
    value = _sum_gated(values, block.gate) if block.gate else sum(values[1:], values[0])
    value = _run_steps(block.exit, value)
    shortcut = entry if block.shortcut is None else _run_step(block.shortcut, entry)
    last = (*block.entry, *block.exit)[-1]
    value = value.add_(shortcut) if last.fresh else value + shortcut
    return functional.relu(value, inplace=True)


def _sum_gated(values: list[Tensor], gate: tuple[Step, ...]) -> Tensor:
    """Multiply each stream's channels by its gate, and add the streams up.

    One pass through the gate serves all streams, and each is added as it is multiplied.
    """
    means = [value.mean((2, 3), keepdim=True) for value in values]
    gates = _run_steps(gate, torch.cat(means)).chunk(len(values))
    total = values[0] * gates[0]
    for value, factor in zip(values[1:], gates[1:], strict=True):
        total = total.addcmul_(value, factor)
    return total


def _run_steps(steps: tuple[Step, ...], value: Tensor) -> Tensor:
    for step in steps:
        value = _run_step(step, value)
    return value


def _run_step(step: Step, value: Tensor) -> Tensor:
    value = step.convolution(value)
    if step.norm is not None:
        value = step.norm(value)
    if step.activation == "relu":
        return functional.relu(value, inplace=step.fresh)
    return value.sigmoid() if step.activation == "sigmoid" else value
