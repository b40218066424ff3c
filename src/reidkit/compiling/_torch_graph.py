"""From an ONNX graph to a torch module that torch can export and compile."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reidkit import preprocess
from reidkit.compiling._torch_operators import OPERATORS
from reidkit.errors import CompileError
from reidkit.networks.layout import show_name
from reidkit.package import InputSpec

_WHOLE: dict[int, Any] = {
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}
_FLOATING = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger")


def draw_module(
    model: onnx.ModelProto, dtype: torch.dtype, *, contract: InputSpec | None = None
) -> torch.fx.GraphModule:
    """Draw an ONNX graph with one input and one output as a torch module.

    Args:
        model: the graph; its weights must be in it.
        dtype: what it computes with wherever the graph has floating point, whatever the
            graph's own precision.
        contract: normalise by this inside the module, which then takes (B, H, W, 3) uint8 RGB
            pixels and feeds the network the same float32 bits as `preprocess` does; without it
            the module takes (B, 3, H, W) float32.

    Returns:
        A module that gives (B, D) float32; the weights are its buffers.

    Raises:
        CompileError: the graph holds an operator that is not in the table.
    """
    graph = model.graph
    drawing = _Drawing(dtype, _opset(model))
    for tensor in graph.initializer:
        drawing.constants[tensor.name] = numpy_helper.to_array(tensor)
    value = drawing.graph.placeholder("picture")
    if contract is not None:
        value = _draw_normalisation(drawing, contract, value)
    (name,) = (entry.name for entry in graph.input if entry.name not in drawing.constants)
    drawing.values[name] = drawing.graph.call_method("to", (value, dtype))
    for node in graph.node:
        _draw_node(drawing, node)
    vector = drawing.values[graph.output[0].name]
    drawing.graph.output(drawing.graph.call_method("to", (vector, torch.float32)))
    return torch.fx.GraphModule(drawing.weights, drawing.graph)


@dataclass(slots=True)
class _Drawing:
    """A torch graph in the making; ONNX's values in it are known by their ONNX names."""

    dtype: torch.dtype
    opset: int
    graph: torch.fx.Graph = field(default_factory=torch.fx.Graph)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)


def _opset(model: onnx.ModelProto) -> int:
    versions = [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")]
    return versions[0] if versions else 1


def _draw_normalisation(drawing: _Drawing, contract: InputSpec, pixels: Any) -> Any:
    """Look every pixel up in a table, which is exact where arithmetic would round otherwise."""
    table = _buffer(drawing, torch.from_numpy(preprocess.normalised_values(contract).flatten()))
    if contract.colour == "bgr":
        pixels = drawing.graph.call_method("flip", (pixels, [3]))
    starts = _buffer(drawing, torch.arange(3, dtype=torch.int32) * 256)
    places = drawing.graph.call_function(torch.add, (pixels, starts))
    found = drawing.graph.call_function(torch.ops.aten.index.Tensor, (table, [places]))
    # A view: the picture stays channels-last in memory, as fast convolutions want it.
    return drawing.graph.call_method("permute", (found, [0, 3, 1, 2]))


def _draw_node(drawing: _Drawing, node: onnx.NodeProto) -> None:
    facts = {one.name: _attribute(one) for one in node.attribute}
    if node.op_type == "Constant":
        drawing.constants[node.output[0]] = _constant(facts)
        return
    if node.op_type == "BatchNormalization":
        values = _draw_batch_norm(drawing, node, facts)
    elif node.op_type == "Cast":
        values = _draw_cast(drawing, node, facts["to"])
    else:
        inputs = [_value(drawing, name) for name in node.input]
        values = _call(drawing, node, facts, inputs)
    if len(node.output) == 1 or node.op_type != "Split":
        drawing.values[node.output[0]] = values
        return
    for place, name in enumerate(node.output):
        part = drawing.graph.call_function(operator.getitem, (values, place))
        drawing.values[name] = part


def _call(
    drawing: _Drawing, node: onnx.NodeProto, facts: Mapping[str, Any], inputs: list[Any]
) -> Any:
    kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    if kind not in OPERATORS:
        hint = "compile this package for onnxruntime or openvino"
        if node.op_type in _QUANTISED:
            hint = "compile the package of full precision that it was made from"
        raise CompileError(
            f"the torch target does not know the operator {kind} (node {show_name(node.name)}): "
            + hint
        )
    facts = dict(facts, opset=drawing.opset, outputs=len(node.output))
    return drawing.graph.call_function(OPERATORS[kind], (facts, *inputs))


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return list(value) if attribute.type in _LISTS else value


_LISTS = (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS)


def _constant(facts: Mapping[str, Any]) -> NDArray[Any]:
    """Give the value of a Constant node, in whichever attribute it has it."""
    ((kind, value),) = facts.items()
    if kind == "value":
        return numpy_helper.to_array(value)
    return np.array(value, np.int64 if kind.startswith("value_int") else np.float32)


def _value(drawing: _Drawing, name: str) -> Any:
    """Give an input of a node: a value, plain numbers, a weight, or `None` if it is left out."""
    if not name:
        return None
    if name in drawing.values:
        return drawing.values[name]
    if name not in drawing.constants:
        raise CompileError(
            f"the torch target does not compute {show_name(name)}, the second output of a node: "
            "compile this package for onnxruntime or openvino"
        )
    array = drawing.constants[name]
    if array.ndim == 0:
        return array.astype(np.float64 if _is_floating(array) else np.int64).item()
    if array.dtype == np.int64 and array.ndim == 1:
        return array.tolist()
    drawing.values[name] = _weight(drawing, array)
    return drawing.values[name]


def _weight(drawing: _Drawing, array: NDArray[Any]) -> Any:
    if not _is_floating(array):
        return _buffer(drawing, torch.from_numpy(array.copy()))
    values = torch.from_numpy(np.array(array, np.float32))
    return _buffer(drawing, values.to(drawing.dtype))


def _buffer(drawing: _Drawing, values: torch.Tensor) -> Any:
    name = f"weight_{len(drawing.weights)}"
    drawing.weights[name] = values
    return drawing.graph.get_attr(name)


def _is_floating(array: NDArray[Any]) -> bool:
    # numpy does not count bfloat16, a type from outside, among its floating types.
    return bool(np.issubdtype(array.dtype, np.floating)) or array.dtype.name == "bfloat16"


def _draw_batch_norm(drawing: _Drawing, node: onnx.NodeProto, facts: Mapping[str, Any]) -> Any:
    """Write a batch norm as factor and term, taken in float64: half types would lose too much."""
    missing = [name for name in node.input[1:] if name not in drawing.constants]
    if missing or facts.get("training_mode", 0):
        raise CompileError(
            f"the batch norm {show_name(node.name)} computes its statistics from the batch: "
            "export the network in evaluation mode"
        )
    weight, bias, mean, variance = (
        drawing.constants[name].astype(np.float64) for name in node.input[1:5]
    )
    scale = weight / np.sqrt(variance + facts.get("epsilon", 1e-5))
    factors = [_weight(drawing, values) for values in (scale, bias - mean * scale)]
    return _call(drawing, node, {}, [_value(drawing, node.input[0]), *factors])


def _draw_cast(drawing: _Drawing, node: onnx.NodeProto, kind: int) -> Any:
    if kind not in _FLOATING and kind not in _WHOLE:
        raise CompileError(
            f"the torch target does not cast to {TensorProto.DataType.Name(kind).lower()} (node "
            f"{show_name(node.name)}): compile this package for onnxruntime or openvino"
        )
    dtype = drawing.dtype if kind in _FLOATING else _WHOLE[kind]
    return drawing.graph.call_function(_cast, (_value(drawing, node.input[0]), dtype))


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """Cast a tensor; the numbers of a computed shape stay as they are."""
    return values.to(dtype) if isinstance(values, torch.Tensor) else values
