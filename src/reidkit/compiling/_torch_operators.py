"""What each ONNX operator is in torch: the operators of ReID networks, ours and others'.

Every function takes the node's attributes and its inputs. An input is a tensor, `None` where it
is left out, or plain Python: whole numbers that a graph computes its shapes with, and constants
without a dimension. That way shapes are known while torch traces, even where the batch is free.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from reidkit.compiling import _torch_shapes, _torch_windows
from reidkit.compiling._torch_windows import Facts
from reidkit.errors import CompileError

Function = Callable[..., Any]


def _scale_channels(facts: Facts, values: Any, scale: Any, shift: Any) -> Any:
    """Apply a batch norm of fixed statistics, written as one factor and one term a channel."""
    shape = [-1] + [1] * (values.ndim - 2)
    return values * scale.reshape(shape) + shift.reshape(shape)


def _normalise_instance(facts: Facts, values: Any, scale: Any, shift: Any) -> Any:
    axes = list(range(2, values.ndim))
    variance, mean = torch.var_mean(values.float(), axes, correction=0, keepdim=True)
    shape = [-1] + [1] * len(axes)
    factor = torch.rsqrt(variance + facts.get("epsilon", 1e-5)) * scale.float().reshape(shape)
    normal = (values.float() - mean) * factor + shift.float().reshape(shape)
    return normal.to(values.dtype)


def _normalise_layer(facts: Facts, values: Any, scale: Any, shift: Any = None) -> Any:
    shape = values.shape[facts.get("axis", -1) :]
    return functional.layer_norm(values, shape, scale, shift, facts.get("epsilon", 1e-5))


def _multiply_matrices(facts: Facts, values: Any, weight: Any, bias: Any = None) -> Any:
    values = values.T if facts.get("transA", 0) else values
    weight = weight.T if facts.get("transB", 0) else weight
    product = values @ weight
    if facts.get("alpha", 1.0) != 1:
        product = product * facts["alpha"]
    return product if bias is None else product + bias * facts.get("beta", 1.0)


def _reduce(function: Function) -> Function:
    """Reduce over axes, which are an attribute or, in newer graphs, an input."""

    def reduce(facts: Facts, values: Any, axes: list[int] | None = None) -> Any:
        axes = axes or facts.get("axes")
        if not axes and facts.get("noop_with_empty_axes", 0):
            return values
        axes = list(axes or range(values.ndim))
        return function(values, axes, bool(facts.get("keepdims", 1)))

    return reduce


def _pool_globally(function: Function) -> Function:
    def pool(facts: Facts, values: Any) -> Any:
        return function(values, list(range(2, values.ndim)), True)

    return pool


def _compute(function: Function) -> Function:
    """Apply a function of tensors, or of numbers and lists of them where a shape is computed."""

    def compute(facts: Facts, first: Any, second: Any) -> Any:
        if not isinstance(first, list) and not isinstance(second, list):
            return function(first, second)
        if isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor):
            raise CompileError("the torch target does not mix computed shapes with pictures")
        first, second = (one if isinstance(one, list) else [one] for one in (first, second))
        length = max(len(first), len(second))
        pairs = zip(_stretch(first, length), _stretch(second, length), strict=True)
        return [function(one, two) for one, two in pairs]

    return compute


def _stretch(numbers: list[Any], length: int) -> list[Any]:
    return numbers * length if len(numbers) == 1 else numbers


def _divide(first: Any, second: Any) -> Any:
    tensors = isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor)
    if not tensors and not isinstance(first, float) and not isinstance(second, float):
        return first // second
    return first / second


def _map(function: Function) -> Function:
    """Apply a function of one tensor that has no attributes."""

    def apply(facts: Facts, values: Any) -> Any:
        return function(values)

    return apply


def _clip(facts: Facts, values: Any, least: Any = None, most: Any = None) -> Any:
    least = facts.get("min") if least is None else least
    most = facts.get("max") if most is None else most
    return values if least is None and most is None else torch.clamp(values, least, most)


def _leak(facts: Facts, values: Any) -> Any:
    return functional.leaky_relu(values, facts.get("alpha", 0.01))


def _leak_by_channel(facts: Facts, values: Any, slope: Any) -> Any:
    return torch.where(values < 0, values * slope, values)


def _grow_exponentially(facts: Facts, values: Any) -> Any:
    return functional.elu(values, facts.get("alpha", 1.0))


def _ramp(facts: Facts, values: Any) -> Any:
    return torch.clamp(values * facts.get("alpha", 0.2) + facts.get("beta", 0.5), 0, 1)


def _gaussian_units(facts: Facts, values: Any) -> Any:
    return functional.gelu(values, approximate=facts.get("approximate", "none"))


def _soften(facts: Facts, values: Any) -> Any:
    if facts["opset"] >= 13:
        return torch.softmax(values, facts.get("axis", -1))
    # Older graphs mean the softmax over all axes from this one on.
    return torch.softmax(values.flatten(facts.get("axis", 1)), -1).reshape(values.shape)


def _divide_by_length(facts: Facts, values: Any) -> Any:
    axis = facts.get("axis", -1)
    return values / torch.linalg.vector_norm(values, facts.get("p", 2), axis, keepdim=True)


def _pass(facts: Facts, values: Any, *unused: Any) -> Any:
    return values


OPERATORS: dict[str, Function] = {
    "Abs": _map(torch.abs),
    "Add": _compute(operator.add),
    "AveragePool": _torch_windows.pool_average,
    "BatchNormalization": _scale_channels,
    "Clip": _clip,
    "Concat": _torch_shapes.concatenate,
    "Conv": _torch_windows.convolve,
    "Div": _compute(_divide),
    "Dropout": _pass,
    "Elu": _grow_exponentially,
    "Erf": _map(torch.erf),
    "Exp": _map(torch.exp),
    "Flatten": _torch_shapes.flatten,
    "Gather": _torch_shapes.gather,
    "Gelu": _gaussian_units,
    "Gemm": _multiply_matrices,
    "GlobalAveragePool": _pool_globally(torch.mean),
    "GlobalMaxPool": _pool_globally(torch.amax),
    "HardSigmoid": _ramp,
    "HardSwish": _map(functional.hardswish),
    "Identity": _pass,
    "InstanceNormalization": _normalise_instance,
    "LayerNormalization": _normalise_layer,
    "LeakyRelu": _leak,
    "Log": _map(torch.log),
    "LpNormalization": _divide_by_length,
    "MatMul": _compute(torch.matmul),
    "MaxPool": _torch_windows.pool_maximum,
    "Mul": _compute(operator.mul),
    "Neg": _map(torch.neg),
    "PRelu": _leak_by_channel,
    "Pad": _torch_shapes.pad,
    "Pow": _compute(operator.pow),
    "Reciprocal": _map(torch.reciprocal),
    "ReduceL2": _reduce(lambda values, axes, kept: torch.linalg.vector_norm(values, 2, axes, kept)),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _map(functional.relu),
    "Reshape": _torch_shapes.reshape,
    "Shape": _torch_shapes.tell_shape,
    "Sigmoid": _map(torch.sigmoid),
    "Slice": _torch_shapes.cut,
    "Softmax": _soften,
    "Softplus": _map(functional.softplus),
    "Split": _torch_shapes.split,
    "Sqrt": _map(torch.sqrt),
    "Squeeze": _torch_shapes.squeeze,
    "Sub": _compute(operator.sub),
    "Tanh": _map(torch.tanh),
    "Transpose": _torch_shapes.transpose,
    "Unsqueeze": _torch_shapes.unsqueeze,
}
"""ONNX's name -> torch. `Cast` and `Constant` are taken care of where the graph is drawn."""
