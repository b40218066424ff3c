"""Which layers of a graph int8 may leave in float, and which of them go together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import onnx

OPERATORS = ("Conv", "Gemm", "MatMul")
"""The operators that are worth quantising, and so worth leaving in float."""

PASSING = ("MaxPool", "Relu")
"""Operators that compute on 8 bits as well as on floats, and so follow their neighbours."""

_SEPARATOR = re.compile(r"[./]")
_INNER = re.compile(r"downsample|shortcut|conv2[a-d]?|layers")
"""What numbers its parts within a block, where the block itself has a number before them."""


def read_graph(model_file: Path) -> onnx.ModelProto:
    """Read an ONNX file, with a name for every node.

    A node without one is named like the value it gives, as other engines do too.
    """
    model = onnx.load_model(model_file)
    taken = {node.name for node in model.graph.node}
    for node in model.graph.node:
        if not node.name:
            node.name = next(name for name in node.output if name)
            while node.name in taken:
                node.name += "_"
            taken.add(node.name)
    return model


def group_layers(model: onnx.ModelProto) -> list[tuple[str, ...]]:
    """Give the layers of a graph in groups of one residual block each, in graph order.

    Names tell the blocks, ours (`base.layer1.0.conv1`) and those of torch's exporters
    (`/layer1/layer1.0/conv1/Conv`); a layer whose name tells nothing is a group of its own.
    """
    groups: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in OPERATORS:
            groups.setdefault(_block_of(node.name), []).append(node.name)
    return [tuple(names) for names in groups.values()]


def list_float_nodes(model: onnx.ModelProto, float_layers: Iterable[str]) -> list[str]:
    """Name the nodes that stay in float with these layers.

    They are the layers, and the activations and pools that such a layer feeds or that no layer
    in 8 bits reads: rounding those would round what the float layers read and give.
    """
    floating = set(float_layers)
    makers: dict[str, str] = {}
    read: set[str] = set()
    for node in reversed(model.graph.node):
        layer = node.op_type in OPERATORS and node.name not in floating
        if layer or (node.op_type in PASSING and node.output[0] in read):
            read.update(node.input)
    for node in model.graph.node:
        if node.op_type in PASSING:
            fed_by_float = makers.get(node.input[0], "") in floating
            if fed_by_float or node.output[0] not in read:
                floating.add(node.name)
        makers.update(dict.fromkeys(node.output, node.name))
    return sorted(floating)


def _block_of(name: str) -> str:
    """Give the name of the block a layer belongs to: `base.layer1.0` for its convolutions.

    It ends with the last number that stands alone, but for those of a shortcut or an OSNet's
    streams within a block; without one it is whatever the layer's last part is in, if that is
    numbered.
    """
    parts = _SEPARATOR.split(name)
    numbered: list[int] = []
    for place, part in enumerate(parts):
        if part.isdecimal() and place and not (numbered and _INNER.fullmatch(parts[place - 1])):
            numbered.append(place)
    if numbered:
        return ".".join(parts[: numbered[-1] + 1])
    outer = ".".join(parts[:-1])
    return outer if any(map(str.isdecimal, outer)) else name
