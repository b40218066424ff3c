"""A network and its weights as an ONNX graph, without the library that trained it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reidkit.errors import ArgumentError, IncompatibleCheckpointError
from reidkit.networks.facts import EPSILON, Pool
from reidkit.networks.layers import Backbone, Block, Layer, Network, backbone
from reidkit.networks.layout import check_tensors

OPSET = 17
"""Nothing that these graphs hold has changed since, and onnxruntime (from 1.12), OpenVINO,
TensorRT and ATC all read it; a newer number would only shut engines out."""

IR_VERSION = 8
"""The file format that belongs to opset 17."""

INPUT = "image"
OUTPUT = "embedding"
MINIMUM_SIDE = 16

_OPERATORS = {"relu": "Relu", "sigmoid": "Sigmoid"}


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
    drawing = _Drawing(tensors, fold)
    features = _draw_backbone(drawing, backbone(network))
    _draw_head(drawing, features, bnneck=network.bnneck and neck == "after")
    return _finish(drawing, network, (height, width))


@dataclass(frozen=True, slots=True, eq=False)
class _Drawing:
    """A graph in the making; a value in it is known by its name."""

    tensors: Mapping[str, NDArray[Any]]
    fold: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)


def _node(drawing: _Drawing, operator: str, inputs: list[str], name: str, **facts: Any) -> str:
    """Add a node with one output, which is called like the node."""
    drawing.nodes.append(helper.make_node(operator, inputs, [name], name, **facts))
    return name


def _weight(drawing: _Drawing, name: str, values: NDArray[Any]) -> str:
    """Add a constant, as float32 where it is floating point."""
    if values.dtype != np.int64:
        values = values.astype(np.float32, copy=False)
    drawing.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return name


def _folded(norm: str, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Give what the batch norm called `norm` was folded into, as float32."""
    try:
        with np.errstate(over="raise"):
            return values.astype(np.float32)
    except FloatingPointError as error:
        raise IncompatibleCheckpointError(
            f"folding the batch norm {norm} into the layer before it leads beyond float32: its "
            "weight or running_mean is too large for its running_var; take a checkpoint from "
            "before the training went wrong"
        ) from error


def _draw_backbone(drawing: _Drawing, described: Backbone) -> str:
    value = INPUT
    for layer in described.stem:
        value = _draw_layer(drawing, layer, value)
    value = _draw_pool(drawing, described.pool, value)
    for block in described.blocks:
        value = _draw_block(drawing, block, value)
    return value


def _draw_pool(drawing: _Drawing, pool: Pool, value: str) -> str:
    return _node(
        drawing,
        "MaxPool",
        [value],
        "base.pool",
        kernel_shape=[pool.kernel] * 2,
        strides=[pool.stride] * 2,
        pads=[pool.padding] * 4,
        ceil_mode=int(pool.ceil),
    )


def _draw_block(drawing: _Drawing, block: Block, entry: str) -> str:
    value = entry
    for layer in block.layers:
        value = _draw_layer(drawing, layer, value)
    if block.squeeze:
        gate = _node(drawing, "GlobalAveragePool", [value], f"base.{block.name}.squeeze")
        for layer in block.squeeze:
            gate = _draw_layer(drawing, layer, gate)
        value = _node(drawing, "Mul", [value, gate], f"base.{block.name}.gate")
    shortcut = _draw_layer(drawing, block.shortcut, entry) if block.shortcut else entry
    value = _node(drawing, "Add", [value, shortcut], f"base.{block.name}.add")
    return _node(drawing, "Relu", [value], f"base.{block.name}.relu")


def _draw_layer(drawing: _Drawing, layer: Layer, value: str) -> str:
    name = f"base.{layer.name}"
    weight = drawing.tensors[f"{name}.weight"]
    bias = drawing.tensors[f"{name}.bias"] if layer.norm == "none" else None
    if layer.norm != "none" and drawing.fold:
        norm = f"base.{layer.norm_name}" + (".BN" if layer.norm == "half_instance" else "")
        scale, shift = _fold_factors(drawing, layer, norm)
        weight = _folded(norm, weight.astype(np.float64) * scale[:, None, None, None])
        bias = _folded(norm, shift)
    value = _draw_convolution(drawing, layer, value, (weight, bias))
    if layer.norm == "half_instance":
        value = _draw_half_instance(drawing, layer, value)
    elif layer.norm == "batch" and not drawing.fold:
        value = _draw_batch_norm(drawing, f"base.{layer.norm_name}", value)
    if layer.activation == "none":
        return value
    operator = _OPERATORS[layer.activation]
    return _node(drawing, operator, [value], f"{name}.{layer.activation}")


def _draw_convolution(
    drawing: _Drawing, layer: Layer, value: str, weights: tuple[NDArray[Any], NDArray[Any] | None]
) -> str:
    name = f"base.{layer.name}"
    weight, bias = weights
    inputs = [value, _weight(drawing, f"{name}.weight", weight)]
    if bias is not None:
        inputs.append(_weight(drawing, f"{name}.bias", bias))
    return _node(
        drawing,
        "Conv",
        inputs,
        name,
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 4,
        group=layer.groups,
    )


def _draw_half_instance(drawing: _Drawing, layer: Layer, value: str) -> str:
    """Normalise half the channels by the picture's own statistics, which nothing can fold."""
    name = f"base.{layer.norm_name}"
    half = layer.outputs // 2
    sizes = _weight(drawing, f"{name}.sizes", np.array([half, layer.outputs - half]))
    parts = [f"{name}.first", f"{name}.second"]
    drawing.nodes.append(helper.make_node("Split", [value, sizes], parts, f"{name}.split", axis=1))
    affine = [
        _weight(drawing, f"{name}.IN.{part}", drawing.tensors[f"{name}.IN.{part}"])
        for part in ("weight", "bias")
    ]
    first = _node(
        drawing, "InstanceNormalization", [parts[0], *affine], f"{name}.IN", epsilon=EPSILON
    )
    second = parts[1] if drawing.fold else _draw_batch_norm(drawing, f"{name}.BN", parts[1])
    return _node(drawing, "Concat", [first, second], name, axis=1)


def _draw_batch_norm(drawing: _Drawing, name: str, value: str, output: str | None = None) -> str:
    inputs = [
        _weight(drawing, f"{name}.{part}", drawing.tensors[f"{name}.{part}"])
        for part in ("weight", "bias", "running_mean", "running_var")
    ]
    return _node(drawing, "BatchNormalization", [value, *inputs], output or name, epsilon=EPSILON)


def _draw_head(drawing: _Drawing, value: str, *, bnneck: bool) -> None:
    """Average over the picture, flatten for any batch, and pass the BNNeck where wanted."""
    value = _node(drawing, "GlobalAveragePool", [value], "average")
    value = _node(drawing, "Flatten", [value], "flat" if bnneck else OUTPUT, axis=1)
    if not bnneck:
        return
    if not drawing.fold:
        _draw_batch_norm(drawing, "bottleneck", value, OUTPUT)
        return
    # There is no convolution before the BNNeck; two plain nodes run the same on every engine.
    factors = _batch_norm_factors(drawing, "bottleneck")
    scale, shift = (
        _weight(drawing, f"bottleneck.{part}", _folded("bottleneck", values))
        for part, values in zip(("scale", "shift"), factors, strict=True)
    )
    value = _node(drawing, "Mul", [value, scale], "bottleneck")
    _node(drawing, "Add", [value, shift], OUTPUT)


def _fold_factors(
    drawing: _Drawing, layer: Layer, norm: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give what folding multiplies each output channel's weights by, and the bias it adds."""
    scale, shift = _batch_norm_factors(drawing, norm)
    if layer.norm == "batch":
        return scale, shift
    half = layer.outputs // 2
    return np.concatenate([np.ones(half), scale]), np.concatenate([np.zeros(half), shift])


def _batch_norm_factors(
    drawing: _Drawing, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Write a batch norm of fixed statistics as `x * scale + shift`, each (C,) float64.

    scale = weight / sqrt(variance + epsilon), shift = bias - mean * scale.
    """
    weight, bias, mean, variance = (
        drawing.tensors[f"{name}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / np.sqrt(variance + EPSILON)
    return scale, bias - mean * scale


def _finish(drawing: _Drawing, network: Network, size: tuple[int, int]) -> onnx.ModelProto:
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, *size])
    vector = helper.make_tensor_value_info(
        OUTPUT, TensorProto.FLOAT, ["batch", network.embedding_size]
    )
    graph = helper.make_graph(
        drawing.nodes, network.architecture, [image], [vector], drawing.weights
    )
    # No tool versions: the bytes, and so the hash, must depend on the weights alone.
    return helper.make_model(
        graph,
        producer_name="reidkit",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
