"""The OSNets, written out layer by layer in their papers' own key layout.

The plain networks and the AIN ones name the same parts differently. In a block, the streams of
one to four light convolutions are

    plain   conv2a   conv2b.0 conv2b.1   conv2c.0 ...        conv2d.0 ...
    AIN     conv2.0.layers.0   conv2.1.layers.0 conv2.1.layers.1   ...

and the convolutions before the average poolings are `conv2.2.0`, `conv3.2.0` against `pool2.0`,
`pool3.0`.
"""

from __future__ import annotations

from collections.abc import Iterator

from reidkit.networks.facts import OmniScaleFacts, Pool
from reidkit.networks.layers import (
    AveragePool,
    Backbone,
    Block,
    Dense,
    Layer,
    squeeze_and_excitation,
)

_POOL = Pool(kernel=3, stride=2, padding=1, ceil=False)
_STAGES = (2, 3, 4)
_STREAMS = 4
_NARROWING = 4
_GATE_REDUCTION = 16


def omniscale_backbone(facts: OmniScaleFacts) -> Backbone:
    """Write an OSNet out in the order of its papers' state dict.

    One departure: where an instance norm closes a block, it follows its convolution, before
    the shortcut.
    """
    narrow, *widths = facts.widths
    last = widths[-1]
    stem = Layer(
        "conv1.conv",
        3,
        narrow,
        kernel=7,
        stride=2,
        padding=3,
        norm="instance" if facts.instance_stem else "batch",
        norm_name="conv1.bn",
    )
    return Backbone(
        (stem,),
        _POOL,
        (*_body(facts), _pointwise("conv5", last, last)),
        prefix="",
        dense=Dense("fc", last, facts.embedding_size),
    )


def _body(facts: OmniScaleFacts) -> Iterator[Block | Layer | AveragePool]:
    for number, (stage, inputs, outputs) in enumerate(
        zip(_STAGES, facts.widths[:-1], facts.widths[1:], strict=True)
    ):
        yield _block(facts, (stage, 0), (inputs, outputs), facts.instance_blocks[2 * number])
        yield _block(facts, (stage, 1), (outputs, outputs), facts.instance_blocks[2 * number + 1])
        if stage != _STAGES[-1]:
            name = f"pool{stage}.0" if facts.indexed else f"conv{stage}.2.0"
            yield _pointwise(name, outputs, outputs)
            yield AveragePool(2)


def _block(
    facts: OmniScaleFacts, place: tuple[int, int], channels: tuple[int, int], instance: bool
) -> Block:
    stage, index = place
    name = f"conv{stage}.{index}"
    inputs, outputs = channels
    narrow = outputs // _NARROWING
    return Block(
        name,
        layers=(_pointwise(f"{name}.conv1", inputs, narrow),),
        streams=tuple(
            tuple(
                layer
                for place in range(length)
                for layer in _light(_stream_name(facts, name, length, place), narrow)
            )
            for length in range(1, _STREAMS + 1)
        ),
        gate=squeeze_and_excitation(f"{name}.gate", narrow, _GATE_REDUCTION),
        exit=(_exit(name, narrow, outputs, instance),),
        shortcut=_linear(f"{name}.downsample", *channels) if inputs != outputs else None,
    )


def _stream_name(facts: OmniScaleFacts, block: str, length: int, place: int) -> str:
    """Name one light convolution of the stream of so many."""
    if facts.indexed:
        return f"{block}.conv2.{length - 1}.layers.{place}"
    letter = "abcd"[length - 1]
    return f"{block}.conv2{letter}" + (f".{place}" if length > 1 else "")


def _light(name: str, channels: int) -> tuple[Layer, Layer]:
    """Give a light convolution: a pointwise one without norm, then one for each channel alone."""
    return (
        Layer(f"{name}.conv1", channels, channels, 1, 1, 0, norm="none", activation="none"),
        Layer(
            f"{name}.conv2", channels, channels, 3, 1, 1, groups=channels, norm_name=f"{name}.bn"
        ),
    )


def _exit(block: str, inputs: int, outputs: int, instance: bool) -> Layer:
    if not instance:
        return _linear(f"{block}.conv3", inputs, outputs)
    return Layer(
        f"{block}.conv3.conv",
        inputs,
        outputs,
        1,
        1,
        0,
        norm="instance",
        norm_name=f"{block}.IN",
        activation="none",
    )


def _pointwise(name: str, inputs: int, outputs: int) -> Layer:
    return Layer(f"{name}.conv", inputs, outputs, 1, 1, 0, norm_name=f"{name}.bn")


def _linear(name: str, inputs: int, outputs: int) -> Layer:
    return Layer(
        f"{name}.conv", inputs, outputs, 1, 1, 0, norm_name=f"{name}.bn", activation="none"
    )
