"""A network written out layer by layer: plain data, without any library that runs networks.

The ONNX graph, the key layout of a checkpoint and the modules for training are all made from
what `backbone` gives, so they cannot disagree.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from reidkit.errors import ArgumentError
from reidkit.networks.facts import (
    ARCHITECTURES,
    STAGE_WIDTHS,
    Activation,
    Architecture,
    Pool,
    StemFacts,
)

NormKind = Literal["none", "batch", "half_instance"]


@dataclass(frozen=True, slots=True)
class Network:
    """One network: a backbone, global average pooling, and perhaps a BNNeck.

    `last_stride` is the stride of the last stage, which no checkpoint records; `classes` the
    number of people its classifier tells apart, `None` where it has none.

    Raises:
        ArgumentError: an unknown architecture, or a last stride other than 1 and 2.
    """

    architecture: str
    bnneck: bool = True
    last_stride: int = 1
    classes: int | None = None

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ArgumentError(
                f"the architecture is {self.architecture!r}, "
                f"expected one of {', '.join(ARCHITECTURES)}"
            )
        if self.last_stride not in (1, 2):
            raise ArgumentError(f"the last stride is {self.last_stride}, expected 1 or 2")
        if self.classes is not None and self.classes < 1:
            raise ArgumentError(f"{self.classes} classes, expected at least 1, or None")

    @property
    def embedding_size(self) -> int:
        """The length D of the vectors."""
        return ARCHITECTURES[self.architecture].embedding_size


@dataclass(frozen=True, slots=True)
class Layer:
    """A square convolution, the norm behind it, and the activation behind that.

    `name` and `norm_name` are where its tensors sit in a state dict. A `half_instance` norm is
    an instance norm (`norm_name.IN`) over the first half of the channels, rounded down, and a
    batch norm (`norm_name.BN`) over the rest. Only a layer without norm has a bias.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    groups: int = 1
    norm: NormKind = "batch"
    norm_name: str = ""
    activation: Activation = "relu"


@dataclass(frozen=True, slots=True)
class Block:
    """A residual block: relu(squeeze(layers(x)) + shortcut(x)).

    `squeeze` are the two layers of a squeeze-and-excitation gate, which sees the average over
    the picture and multiplies the channels; empty where there is none. `shortcut` is `None`
    where the input itself is added.
    """

    name: str
    layers: tuple[Layer, ...]
    squeeze: tuple[Layer, ...]
    shortcut: Layer | None


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network up to its last feature map; names are relative to `base.` of the state dict.

    `leftovers` are tensors, by name and shape, that the state dict holds and nothing uses.
    """

    stem: tuple[Layer, ...]
    pool: Pool
    blocks: tuple[Block, ...]
    leftovers: tuple[tuple[str, tuple[int, ...]], ...]


@functools.lru_cache(maxsize=64)
def backbone(network: Network) -> Backbone:
    """Write a network out layer by layer, in the order of the reference's state dict."""
    facts = ARCHITECTURES[network.architecture]
    blocks = []
    channels = facts.stem.layers[-1].outputs
    for stage, depth in enumerate(facts.depths):
        stride = (1, 2, 2, network.last_stride)[stage]
        for index in range(depth):
            blocks.append(_block(facts, (stage, index), channels, stride if index == 0 else 1))
            channels = STAGE_WIDTHS[stage] * facts.block.steps[-1].width
    return Backbone(_stem(facts.stem), facts.stem.pool, tuple(blocks), facts.leftovers)


def _stem(facts: StemFacts) -> tuple[Layer, ...]:
    layers = []
    channels = 3
    for number, layer in enumerate(facts.layers, 1):
        layers.append(
            Layer(
                f"{facts.prefix}conv{number}",
                channels,
                layer.outputs,
                layer.kernel,
                layer.stride,
                layer.kernel // 2,
                norm_name=f"{facts.prefix}bn{number}",
                activation=facts.activation,
            )
        )
        channels = layer.outputs
    return tuple(layers)


def _block(facts: Architecture, place: tuple[int, int], channels: int, stride: int) -> Block:
    stage, index = place
    name = f"layer{stage + 1}.{index}"
    layers = []
    inputs = channels
    for number, step in enumerate(facts.block.steps, 1):
        outputs = STAGE_WIDTHS[stage] * step.width
        half_instance = number == 1 and stage < facts.instance_stages
        layers.append(
            Layer(
                f"{name}.conv{number}",
                inputs,
                outputs,
                step.kernel,
                stride if step.strided else 1,
                step.kernel // 2,
                step.groups,
                "half_instance" if half_instance else "batch",
                f"{name}.bn{number}",
                # The last activation comes after the addition.
                "none" if number == len(facts.block.steps) else "relu",
            )
        )
        inputs = outputs
    squeeze = _squeeze(name, inputs, facts.block.reduction) if facts.block.reduction else ()
    shortcut = None
    if stride != 1 or channels != inputs:
        kernel = facts.shortcut_kernel if stage else 1
        shortcut = _shortcut(name, (channels, inputs), kernel, stride)
    return Block(name, tuple(layers), squeeze, shortcut)


def _squeeze(name: str, channels: int, reduction: int) -> tuple[Layer, Layer]:
    narrow = channels // reduction
    return (
        Layer(f"{name}.se_module.fc1", channels, narrow, 1, 1, 0, norm="none"),
        Layer(
            f"{name}.se_module.fc2", narrow, channels, 1, 1, 0, norm="none", activation="sigmoid"
        ),
    )


def _shortcut(name: str, channels: tuple[int, int], kernel: int, stride: int) -> Layer:
    return Layer(
        f"{name}.downsample.0",
        *channels,
        kernel,
        stride,
        kernel // 2,
        norm_name=f"{name}.downsample.1",
        activation="none",
    )
