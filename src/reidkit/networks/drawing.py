"""An ONNX graph in the making: nodes, weights, and the layers that every network is made of.

A value in the graph is known by its name, and a node is called like its one output. Weights keep
the names that they have in the state dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from reidkit.errors import IncompatibleCheckpointError
from reidkit.networks.facts import EPSILON
from reidkit.networks.layers import Dense, Layer

_OPERATORS = {"relu": "Relu", "sigmoid": "Sigmoid"}


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """The nodes and weights so far.

    `tensors` is the network's state dict, `prefix` what the names of its layers begin with
    there, `fold` whether batch norms are multiplied into what comes before them.
    """

    tensors: Mapping[str, NDArray[Any]]
    prefix: str
    fold: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)


def add_node(drawing: Drawing, operator: str, inputs: list[str], name: str, **facts: Any) -> str:
    """Add a node with one output, which is called like the node."""
    drawing.nodes.append(helper.make_node(operator, inputs, [name], name, **facts))
    return name


def add_weight(drawing: Drawing, name: str, values: NDArray[Any]) -> str:
    """Add a constant, as float32 where it is floating point; the same one is added once."""
    if name not in drawing.weights:
        if values.dtype != np.int64:
            values = values.astype(np.float32, copy=False)
        drawing.weights[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
    return name


def draw_layer(drawing: Drawing, layer: Layer, value: str, *, use: str = "") -> str:
    """Draw a convolution, its norm and its activation; give the name of what comes out.

    `use` tells one use of the layer from another where the network uses its weights repeatedly.
    """
    name = f"{drawing.prefix}{layer.name}"
    weight = drawing.tensors[f"{name}.weight"]
    bias = drawing.tensors[f"{name}.bias"] if layer.bias else None
    if layer.norm in ("batch", "half_instance") and drawing.fold:
        half = ".BN" if layer.norm == "half_instance" else ""
        norm = f"{drawing.prefix}{layer.norm_name}{half}"
        scale, shift = _fold_factors(drawing, layer, norm)
        weight = folded(norm, weight.astype(np.float64) * scale[:, None, None, None])
        bias = folded(norm, shift)
    value = _draw_convolution(drawing, layer, value, (weight, bias), use)
    norm = f"{drawing.prefix}{layer.norm_name}"
    if layer.norm == "half_instance":
        value = _draw_half_instance(drawing, layer, value)
    elif layer.norm == "instance":
        value = _draw_instance_norm(drawing, norm, value)
    elif layer.norm == "batch" and not drawing.fold:
        value = draw_batch_norm(drawing, norm, value)
    if layer.activation == "none":
        return value
    operator = _OPERATORS[layer.activation]
    return add_node(drawing, operator, [value], f"{name}{use}.{layer.activation}")


def draw_dense(drawing: Drawing, dense: Dense, value: str, output: str | None = None) -> str:
    """Draw a linear layer over (B, C), its batch norm and its ReLU, which is called `output`."""
    linear, norm = (f"{drawing.prefix}{dense.name}.{part}" for part in (0, 1))
    weight, bias = (drawing.tensors[f"{linear}.{part}"] for part in ("weight", "bias"))
    if drawing.fold:
        scale, shift = batch_norm_factors(drawing, norm)
        bias = folded(norm, bias.astype(np.float64) * scale + shift)
        weight = folded(norm, weight.astype(np.float64) * scale[:, None])
    inputs = [
        value,
        add_weight(drawing, f"{linear}.weight", weight),
        add_weight(drawing, f"{linear}.bias", bias),
    ]
    value = add_node(drawing, "Gemm", inputs, linear, transB=1)
    if not drawing.fold:
        value = draw_batch_norm(drawing, norm, value)
    return add_node(drawing, "Relu", [value], output or f"{drawing.prefix}{dense.name}.relu")


def draw_batch_norm(drawing: Drawing, name: str, value: str, output: str | None = None) -> str:
    """Draw the batch norm called `name` in the state dict as a node of its own."""
    inputs = [
        add_weight(drawing, f"{name}.{part}", drawing.tensors[f"{name}.{part}"])
        for part in ("weight", "bias", "running_mean", "running_var")
    ]
    return add_node(
        drawing, "BatchNormalization", [value, *inputs], output or name, epsilon=EPSILON
    )


def batch_norm_factors(
    drawing: Drawing, name: str
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


def folded(norm: str, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Give what the batch norm called `norm` was folded into, as float32.

    Raises:
        IncompatibleCheckpointError: that lies beyond float32.
    """
    try:
        with np.errstate(over="raise"):
            return values.astype(np.float32)
    except FloatingPointError as error:
        raise IncompatibleCheckpointError(
            f"folding the batch norm {norm} into the layer before it leads beyond float32: its "
            "weight or running_mean is too large for its running_var; take a checkpoint from "
            "before the training went wrong"
        ) from error


def _draw_convolution(
    drawing: Drawing,
    layer: Layer,
    value: str,
    weights: tuple[NDArray[Any], NDArray[Any] | None],
    use: str,
) -> str:
    name = f"{drawing.prefix}{layer.name}"
    weight, bias = weights
    inputs = [value, add_weight(drawing, f"{name}.weight", weight)]
    if bias is not None:
        inputs.append(add_weight(drawing, f"{name}.bias", bias))
    return add_node(
        drawing,
        "Conv",
        inputs,
        f"{name}{use}",
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 4,
        group=layer.groups,
    )


def _draw_half_instance(drawing: Drawing, layer: Layer, value: str) -> str:
    """Normalise half the channels by the picture's own statistics, which nothing can fold."""
    name = f"{drawing.prefix}{layer.norm_name}"
    half = layer.outputs // 2
    sizes = add_weight(drawing, f"{name}.sizes", np.array([half, layer.outputs - half]))
    parts = [f"{name}.first", f"{name}.second"]
    drawing.nodes.append(helper.make_node("Split", [value, sizes], parts, f"{name}.split", axis=1))
    first = _draw_instance_norm(drawing, f"{name}.IN", parts[0])
    second = parts[1] if drawing.fold else draw_batch_norm(drawing, f"{name}.BN", parts[1])
    return add_node(drawing, "Concat", [first, second], name, axis=1)


def _draw_instance_norm(drawing: Drawing, name: str, value: str) -> str:
    affine = [
        add_weight(drawing, f"{name}.{part}", drawing.tensors[f"{name}.{part}"])
        for part in ("weight", "bias")
    ]
    return add_node(drawing, "InstanceNormalization", [value, *affine], name, epsilon=EPSILON)


def _fold_factors(
    drawing: Drawing, layer: Layer, norm: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give what folding multiplies each output channel's weights by, and the bias it adds."""
    scale, shift = batch_norm_factors(drawing, norm)
    if layer.norm == "batch":
        return scale, shift
    half = layer.outputs // 2
    return np.concatenate([np.ones(half), scale]), np.concatenate([np.zeros(half), shift])
