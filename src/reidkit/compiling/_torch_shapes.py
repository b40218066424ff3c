"""ONNX's operators that move values about or compute shapes, in torch.

Shapes are lists of whole numbers, not tensors, so that they are known while torch traces.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from reidkit.compiling._torch_windows import Facts
from reidkit.errors import CompileError


def flatten(facts: Facts, values: Any) -> Any:
    axis = facts.get("axis", 1)
    if axis == 1:
        return values.flatten(1) if values.ndim > 1 else values.unsqueeze(1)
    return values.reshape(math.prod(values.shape[:axis]), -1)


def reshape(facts: Facts, values: Any, shape: Any) -> Any:
    if not isinstance(shape, list):
        raise CompileError(
            "the torch target takes only a Reshape whose shape does not depend on the picture: "
            "export the network again with a fixed shape"
        )
    if not facts.get("allowzero", 0):
        shape = [values.shape[i] if side == 0 else side for i, side in enumerate(shape)]
    return values.reshape(shape)


def transpose(facts: Facts, values: Any) -> Any:
    return values.permute(facts.get("perm", list(reversed(range(values.ndim)))))


def split(facts: Facts, values: Any, sizes: list[int] | None = None) -> Any:
    axis = facts.get("axis", 0)
    sizes = sizes or facts.get("split")
    return torch.split(values, sizes or -(-values.shape[axis] // facts["outputs"]), axis)


def concatenate(facts: Facts, *parts: Any) -> Any:
    if all(isinstance(part, list) for part in parts):
        return [number for part in parts for number in part]
    return torch.cat(parts, facts["axis"])


def unsqueeze(facts: Facts, values: Any, axes: list[int] | None = None) -> Any:
    axes = axes or facts["axes"]
    if not isinstance(values, torch.Tensor):
        return [values]
    rank = values.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        values = values.unsqueeze(axis)
    return values


def squeeze(facts: Facts, values: Any, axes: list[int] | None = None) -> Any:
    axes = axes or facts.get("axes")
    if isinstance(values, list):
        return values[0]
    return values.squeeze(axes) if axes else values.squeeze()


def gather(facts: Facts, values: Any, places: Any) -> Any:
    if isinstance(values, list):
        return [values[place] for place in places] if isinstance(places, list) else values[places]
    axis = facts.get("axis", 0)
    if isinstance(places, list):
        return torch.stack([values.select(axis, place) for place in places], axis)
    return values.select(axis, places)


def cut(facts: Facts, values: Any, *inputs: Any) -> Any:
    starts, ends, axes, steps = list(inputs) + [None] * (4 - len(inputs))
    starts, ends = starts or facts["starts"], ends or facts["ends"]
    axes = axes or facts.get("axes") or list(range(len(starts)))
    steps = steps or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if isinstance(values, list):
            values = values[start:end:step]
        else:
            values = values[(slice(None),) * (axis % values.ndim) + (slice(start, end, step),)]
    return values


def pad(facts: Facts, values: Any, *inputs: Any) -> Any:
    pads, filling, axes = list(inputs) + [None] * (3 - len(inputs))
    pads = pads or facts["pads"]
    axes = axes or list(range(values.ndim))
    pairs = [(0, 0)] * values.ndim
    for place, axis in enumerate(axes):
        pairs[axis] = (pads[place], pads[place + len(axes)])
    while len(pairs) > 1 and pairs[0] == (0, 0):
        del pairs[0]
    sides = [side for pair in reversed(pairs) for side in pair]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[
        facts.get("mode", "constant")
    ]
    if mode != "constant":
        return functional.pad(values, sides, mode)
    return functional.pad(values, sides, value=filling or facts.get("value", 0.0))


def tell_shape(facts: Facts, values: Any) -> Any:
    return list(values.shape)[facts.get("start", 0) : facts.get("end")]
