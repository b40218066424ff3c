"""The residual networks of the strong baseline, written out layer by layer."""

from __future__ import annotations

from reidkit.networks.facts import STAGE_WIDTHS, ResidualFacts, StemFacts
from reidkit.networks.layers import Backbone, Block, Layer, squeeze_and_excitation


def residual_backbone(facts: ResidualFacts, last_stride: int) -> Backbone:
    """Write a residual network out in the order of the strong baseline's state dict."""
    blocks = []
    channels = facts.stem.layers[-1].outputs
    for stage, depth in enumerate(facts.depths):
        stride = (1, 2, 2, last_stride)[stage]
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


def _block(facts: ResidualFacts, place: tuple[int, int], channels: int, stride: int) -> Block:
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
    gate: tuple[Layer, ...] = ()
    if facts.block.reduction:
        gate = squeeze_and_excitation(f"{name}.se_module", inputs, facts.block.reduction)
    shortcut = None
    if stride != 1 or channels != inputs:
        kernel = facts.shortcut_kernel if stage else 1
        shortcut = _shortcut(name, (channels, inputs), kernel, stride)
    return Block(name, tuple(layers), gate, shortcut)


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
