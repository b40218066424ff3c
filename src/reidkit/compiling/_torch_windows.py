"""ONNX's operators that slide a window over the picture, in torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch.nn import functional

from reidkit.errors import CompileError

Facts = Mapping[str, Any]
"""A node's attributes by name; `opset` and `outputs`, the number of outputs, are always there."""


def convolve(facts: Facts, values: Any, weight: Any, bias: Any = None) -> Any:
    convolve = {3: functional.conv1d, 4: functional.conv2d}[values.ndim]
    strides, dilations = _window(facts, values)
    before, after = _padding(facts, values, weight.shape[2:])
    if before != after:
        values, before = _pad_sides(values, before, after, 0.0), [0] * len(before)
    return convolve(values, weight, bias, strides, before, dilations, facts.get("group", 1))


def pool_maximum(facts: Facts, values: Any) -> Any:
    kernel, (strides, dilations) = facts["kernel_shape"], _window(facts, values)
    before, after = _padding(facts, values, kernel)
    ceil = bool(facts.get("ceil_mode", 0))
    if before != after or any(2 * side > size for side, size in zip(before, kernel, strict=True)):
        _refuse_uneven(ceil)
        values, before = _pad_sides(values, before, after, -math.inf), [0] * len(before)
    return functional.max_pool2d(values, kernel, strides, before, dilations, ceil)


def pool_average(facts: Facts, values: Any) -> Any:
    kernel, (strides, _) = facts["kernel_shape"], _window(facts, values)
    before, after = _padding(facts, values, kernel)
    ceil, counted = bool(facts.get("ceil_mode", 0)), bool(facts.get("count_include_pad", 0))
    if before != after:
        _refuse_uneven(ceil or not counted)
        values, before = _pad_sides(values, before, after, 0.0), [0] * len(before)
    return functional.avg_pool2d(values, kernel, strides, before, ceil, counted)


def _window(facts: Facts, values: Any) -> tuple[list[int], list[int]]:
    """Give the strides and dilations of a sliding window."""
    ones = [1] * (values.ndim - 2)
    return list(facts.get("strides", ones)), list(facts.get("dilations", ones))


def _padding(facts: Facts, values: Any, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Give the padding before and after each spatial axis."""
    sides = len(kernel)
    kind = facts.get("auto_pad", "NOTSET")
    if kind in ("NOTSET", "VALID"):
        pads = facts.get("pads", [0] * 2 * sides) if kind == "NOTSET" else [0] * 2 * sides
        return list(pads[:sides]), list(pads[sides:])
    strides, dilations = _window(facts, values)
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    lengths = values.shape[2:]
    totals = [
        max((math.ceil(length / stride) - 1) * stride + span - length, 0)
        for length, stride, span in zip(lengths, strides, spans, strict=True)
    ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (small, large) if kind == "SAME_UPPER" else (large, small)


def _pad_sides(values: Any, before: list[int], after: list[int], filling: float) -> Any:
    pairs = reversed(list(zip(before, after, strict=True)))
    return functional.pad(values, [side for pair in pairs for side in pair], value=filling)


def _refuse_uneven(refused: bool) -> None:
    if refused:
        raise CompileError(
            "the torch target does not take a pooling with uneven padding that also rounds up or "
            "leaves the padding out of its average: compile for onnxruntime or openvino"
        )
