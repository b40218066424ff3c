"""Bias correction: give back what rounding the weights took from each channel's mean.

Rounding a convolution's weights moves the mean of each of its channels, which its bias can undo
(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019). A convolution is linear, so the mean of what it loses is what the lost weights make of the
mean of its inputs, padding and all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_MEAN = "/mean"
_AXES = "/axes"
_ERRORS_ONLY = 3


def measure_means(
    source: onnx.ModelProto, batches: Sequence[NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Give the mean picture of what every convolution reads: tensor name -> (1, C, H, W).

    `batches` are network inputs, all of one size.
    """
    names = sorted({node.input[0] for node in source.graph.node if node.op_type == "Conv"})
    model = onnx.ModelProto()
    model.CopyFrom(source)
    del model.graph.output[:]
    for name in names:
        _add_mean_over_pictures(model, name)
    session, feed = open_session(model)
    sums: list[Any] = [0.0] * len(names)
    for batch in batches:
        found = session.run(None, {feed: batch}) if names else []
        sums = [total + mean.astype(np.float64) for total, mean in zip(sums, found, strict=True)]
    return {
        name: (total / len(batches)).astype(np.float32)
        for name, total in zip(names, sums, strict=True)
    }


def correct_biases(
    quantised: onnx.ModelProto, source: onnx.ModelProto, means: Mapping[str, NDArray[np.float32]]
) -> int:
    """Correct the biases of a quantised graph in place; gives how many were.

    `means` are those of the source's convolution inputs. A convolution without a quantised weight
    or without a constant bias stays as it is.
    """
    originals = {node.name: node for node in source.graph.node if node.op_type == "Conv"}
    weights = {tensor.name: tensor for tensor in source.graph.initializer}
    kept = {tensor.name: tensor for tensor in quantised.graph.initializer}
    constants = _find_constants(quantised, kept)
    corrected = 0
    for node in quantised.graph.node:
        original = originals.get(node.name)
        if original is None or len(node.input) < 3 or original.input[1] not in weights:
            continue
        weight, bias = constants.get(node.input[1]), constants.get(node.input[2])
        if weight is None or (bias is None and node.input[2] not in kept):
            continue
        exact = numpy_helper.to_array(weights[original.input[1]])
        lost = (exact - weight.dequantise()).astype(np.float32)
        shift = _mean_output(original, means[original.input[0]], lost)
        if bias is not None:
            _shift_quantised(kept[bias.name], bias, shift)
        else:
            name = f"{node.name}/corrected_bias"
            moved = numpy_helper.to_array(kept[node.input[2]]) + shift.astype(np.float32)
            quantised.graph.initializer.append(numpy_helper.from_array(moved, name))
            node.input[2] = name
        corrected += 1
    return corrected


def shift_output(model: onnx.ModelProto, output: str, shift: NDArray[np.float32]) -> None:
    """Add `shift` (D,) to the output of a graph, in place."""
    before = f"{output}/uncorrected"
    for node in model.graph.node:
        # The output may be read inside the graph too, and is to mean the same there.
        node.input[:] = [before if name == output else name for name in node.input]
        node.output[:] = [before if name == output else name for name in node.output]
    constant = f"{output}/correction"
    model.graph.initializer.append(numpy_helper.from_array(shift, constant))
    model.graph.node.append(helper.make_node("Add", [before, constant], [output], constant))


def open_session(model: onnx.ModelProto) -> tuple[ort.InferenceSession, str]:
    """Open a model in memory on the CPU; gives the name of its input too."""
    settings = ort.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    session = ort.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    return session, session.get_inputs()[0].name


class _Constant(NamedTuple):
    """A constant kept in few bits: (values - zero) * scale, a scale for each row or one for all.

    `name` is that of the initializer which holds it.
    """

    name: str
    values: NDArray[Any]
    scale: NDArray[np.float32]
    zero: NDArray[Any]

    def dequantise(self) -> NDArray[np.float64]:
        shape = (-1,) + (1,) * (self.values.ndim - 1)
        result: NDArray[np.float64] = (
            self.values.astype(np.float64) - self.zero.astype(np.float64).reshape(shape)
        ) * self.scale.astype(np.float64).reshape(shape)
        return result


def _find_constants(
    quantised: onnx.ModelProto, kept: Mapping[str, onnx.TensorProto]
) -> dict[str, _Constant]:
    """Find the dequantised constants by the name of the value that is read.

    They are stored in few bits, or as floats that the graph itself rounds.
    """
    rounded: dict[str, _Constant] = {}
    found: dict[str, _Constant] = {}
    for node in quantised.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in kept:
            value, scale, zero = (numpy_helper.to_array(kept[name]) for name in node.input)
            shape = (-1,) + (1,) * (value.ndim - 1)
            bounds = np.iinfo(zero.dtype)
            steps = np.rint(value / scale.reshape(shape)) + zero.reshape(shape)
            steps = np.clip(steps, bounds.min, bounds.max)
            rounded[node.output[0]] = _Constant(node.input[0], steps, scale, zero)
        elif node.op_type == "DequantizeLinear" and node.input[0] in kept:
            arrays = [numpy_helper.to_array(kept[name]) for name in node.input]
            found[node.output[0]] = _Constant(node.input[0], *arrays)
        elif node.op_type == "DequantizeLinear" and node.input[0] in rounded:
            found[node.output[0]] = rounded[node.input[0]]
    return found


def _add_mean_over_pictures(model: onnx.ModelProto, name: str) -> None:
    graph = model.graph
    version = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version < 18:
        node = helper.make_node("ReduceMean", [name], [name + _MEAN], axes=[0])
    else:
        # The axes became an input.
        graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), name + _AXES))
        node = helper.make_node("ReduceMean", [name, name + _AXES], [name + _MEAN])
    graph.node.append(node)
    graph.output.append(helper.make_empty_tensor_value_info(name + _MEAN))


def _mean_output(
    convolution: onnx.NodeProto, mean: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Give the mean of each channel, (O,), that `weight` would make of the mean input."""
    node = onnx.NodeProto()
    node.CopyFrom(convolution)
    node.input[:], node.output[:] = ["mean", "weight"], ["channels"]
    graph = helper.make_graph(
        [node],
        "mean_output",
        [helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, mean.shape)],
        [helper.make_empty_tensor_value_info("channels")],
        [numpy_helper.from_array(weight, "weight")],
    )
    # Convolutions have meant the same in every version of the operators.
    opset = [helper.make_opsetid("", 13)]
    session, feed = open_session(helper.make_model(graph, opset_imports=opset, ir_version=8))
    (channels,) = session.run(None, {feed: mean})
    result: NDArray[np.float64] = channels.mean(
        axis=(0, *range(2, channels.ndim)), dtype=np.float64
    )
    return result


def _shift_quantised(stored: onnx.TensorProto, bias: _Constant, shift: NDArray[np.float64]) -> None:
    bounds = np.iinfo(np.int32)
    steps = np.rint(shift / bias.scale.astype(np.float64)).astype(np.int64)
    moved = np.clip(bias.values.astype(np.int64) + steps, bounds.min, bounds.max)
    stored.CopyFrom(numpy_helper.from_array(moved.astype(np.int32), stored.name))
