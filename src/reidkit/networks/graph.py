"""A network and its weights as an ONNX graph, without the library that trained it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from reidkit.errors import ArgumentError
from reidkit.networks.backbones import backbone
from reidkit.networks.drawing import (
    Drawing,
    add_node,
    add_weight,
    batch_norm_factors,
    draw_batch_norm,
    draw_dense,
    draw_layer,
    folded,
)
from reidkit.networks.facts import SMALLEST_ACTIVATION, Pool
from reidkit.networks.layers import AveragePool, Backbone, Block, Layer, Network
from reidkit.networks.layout import GEM_POWER, check_tensors

OPSET = 17
"""Nothing that these graphs hold has changed since, and onnxruntime (from 1.12), OpenVINO,
TensorRT and ATC all read it; a newer number would only shut engines out."""

IR_VERSION = 8
"""The file format that belongs to opset 17."""

INPUT = "image"
OUTPUT = "embedding"

MINIMUM_SIDE = 16
"""In pixels: what every network here needs for its last map to have one place at least. OSNet's
average pools drop what they cannot fill, so less than 13 would leave it nothing."""


def build_model(
    network: Network,
    tensors: Mapping[str, NDArray[Any]],
    *,
    height: int,
    width: int,
    neck: Literal["after", "before"] = "after",
    fold: bool = True,
) -> onnx.ModelProto:
    """Build the network's graph around its weights.

    Args:
        network: what to build.
        tensors: its state dict; only what the vectors depend on is used.
        height: the input's height in pixels, fixed in the graph.
        width: its width.
        neck: where the vector is taken; without a BNNeck both places are the same.
        fold: multiply batch norms into the convolutions before them, in float64.

    Returns:
        A model with one input `image` (batch, 3, height, width) float32 and one output
        `embedding` (batch, D) float32, not of unit length; the batch is free. The same weights
        always give the same bytes.

    Raises:
        IncompatibleCheckpointError: the tensors are not those of the network.
        ArgumentError: an unknown neck, or a picture too small for the network's strides.
    """
    if neck not in ("after", "before"):
        raise ArgumentError(f"neck is {neck!r}, expected 'after' or 'before' for this network")
    if min(height, width) < MINIMUM_SIDE:
        raise ArgumentError(
            f"the input size is {height}x{width}, expected at least {MINIMUM_SIDE} pixels a side"
        )
    check_tensors(network, tensors)
    described = backbone(network)
    drawing = Drawing(tensors, described.prefix, fold)
    value = _draw_backbone(drawing, described)
    _draw_head(drawing, network, value, bnneck=network.bnneck and neck == "after")
    return _finish(drawing, network, (height, width))


def _draw_backbone(drawing: Drawing, described: Backbone) -> str:
    value = INPUT
    for layer in described.stem:
        value = draw_layer(drawing, layer, value)
    value = _draw_pool(drawing, described.pool, value)
    for part in described.body:
        match part:
            case Block():
                value = _draw_block(drawing, part, value)
            case Layer():
                value = draw_layer(drawing, part, value)
            case AveragePool():
                value = _draw_average_pool(drawing, part, value)
    return value


def _draw_pool(drawing: Drawing, pool: Pool, value: str) -> str:
    return add_node(
        drawing,
        "MaxPool",
        [value],
        f"{drawing.prefix}pool",
        kernel_shape=[pool.kernel] * 2,
        strides=[pool.stride] * 2,
        pads=[pool.padding] * 4,
        ceil_mode=int(pool.ceil),
    )


def _draw_average_pool(drawing: Drawing, pool: AveragePool, value: str) -> str:
    # It has no name in the state dict, so it is called after the layer before it.
    sides = [pool.size] * 2
    return add_node(
        drawing, "AveragePool", [value], f"{value}.pool", kernel_shape=sides, strides=sides
    )


def _draw_block(drawing: Drawing, block: Block, entry: str) -> str:
    name = f"{drawing.prefix}{block.name}"
    value = entry
    for layer in block.layers:
        value = draw_layer(drawing, layer, value)
    value = _draw_streams(drawing, block, value)
    for layer in block.exit:
        value = draw_layer(drawing, layer, value)
    shortcut = draw_layer(drawing, block.shortcut, entry) if block.shortcut else entry
    value = add_node(drawing, "Add", [value, shortcut], f"{name}.add")
    return add_node(drawing, "Relu", [value], f"{name}.relu")


def _draw_streams(drawing: Drawing, block: Block, entry: str) -> str:
    """Draw the streams side by side, each through the gate, and add them up."""
    total = None
    for number, stream in enumerate(block.streams):
        # A block without streams has one, whose nodes need no number.
        use = f"_{number}" if len(block.streams) > 1 else ""
        value = entry
        for layer in stream:
            value = draw_layer(drawing, layer, value)
        if block.gate:
            value = _draw_gate(drawing, block, value, use)
        if total is not None:
            value = add_node(
                drawing, "Add", [total, value], f"{drawing.prefix}{block.name}.sum{use}"
            )
        total = value
    return total or entry


def _draw_gate(drawing: Drawing, block: Block, value: str, use: str) -> str:
    name = f"{drawing.prefix}{block.name}"
    gate = add_node(drawing, "GlobalAveragePool", [value], f"{name}.squeeze{use}")
    for layer in block.gate:
        gate = draw_layer(drawing, layer, gate, use=use)
    return add_node(drawing, "Mul", [value, gate], f"{name}.gate{use}")


def _draw_head(drawing: Drawing, network: Network, value: str, *, bnneck: bool) -> None:
    """Pool over the picture, flatten for any batch, and pass the dense layer and the BNNeck."""
    dense = backbone(network).dense
    if network.pooling == "gem":
        value = _draw_generalised_mean(drawing, value)
    else:
        value = add_node(drawing, "GlobalAveragePool", [value], "average")
    last = None if bnneck else OUTPUT
    value = add_node(drawing, "Flatten", [value], "flat" if dense else last or "flat", axis=1)
    if dense:
        value = draw_dense(drawing, dense, value, last)
    if bnneck:
        _draw_bnneck(drawing, value)


def _draw_generalised_mean(drawing: Drawing, value: str) -> str:
    """Draw mean(clamp(x, min=1e-6) ** p) ** (1 / p) over the picture."""
    power = drawing.tensors[GEM_POWER].astype(np.float64)
    smallest = add_weight(drawing, "gem.smallest", np.array(SMALLEST_ACTIVATION))
    value = add_node(drawing, "Clip", [value, smallest], "gem.clip")
    value = add_node(drawing, "Pow", [value, add_weight(drawing, GEM_POWER, power)], "gem.power")
    value = add_node(drawing, "GlobalAveragePool", [value], "gem.average")
    root = add_weight(drawing, "gem.inverse", 1 / power)
    return add_node(drawing, "Pow", [value, root], "gem.root")


def _draw_bnneck(drawing: Drawing, value: str) -> None:
    if not drawing.fold:
        draw_batch_norm(drawing, "bottleneck", value, OUTPUT)
        return
    # There is no convolution before the BNNeck; two plain nodes run the same on every engine.
    factors = batch_norm_factors(drawing, "bottleneck")
    scale, shift = (
        add_weight(drawing, f"bottleneck.{part}", folded("bottleneck", values))
        for part, values in zip(("scale", "shift"), factors, strict=True)
    )
    value = add_node(drawing, "Mul", [value, scale], "bottleneck")
    add_node(drawing, "Add", [value, shift], OUTPUT)


def _finish(drawing: Drawing, network: Network, size: tuple[int, int]) -> onnx.ModelProto:
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, *size])
    vector = helper.make_tensor_value_info(
        OUTPUT, TensorProto.FLOAT, ["batch", network.embedding_size]
    )
    graph = helper.make_graph(
        drawing.nodes, network.architecture, [image], [vector], list(drawing.weights.values())
    )
    # No tool versions: the bytes, and so the hash, must depend on the weights alone.
    return helper.make_model(
        graph,
        producer_name="reidkit",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
