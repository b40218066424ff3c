"""Nodes around a graph from elsewhere, so that it takes `image` and gives `embedding`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto, compose, helper

from reidkit.exporting._interface import Image, Layout, Vector, find_image, find_vector
from reidkit.networks.graph import INPUT, OPSET, OUTPUT
from reidkit.package import InputSpec

_PREFIX = "source/"

Step = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """An adapted model; `batch` is its fixed batch size, `None` for any.

    `converts` says whether the adapters do more than give names.
    """

    model: onnx.ModelProto
    batch: int | None
    converts: bool


def adapt(
    model: onnx.ModelProto,
    contract: InputSpec,
    *,
    layout: Layout | None = None,
    output: str | None = None,
) -> Adapted:
    """Put adapters around a model: it then takes (N, 3, H, W) float32 and gives (N, D) float32.

    Args:
        model: changed in place, where that spares a copy of its weights.
        contract: the size of the input, and whether it is raw pixels.
        layout: where the input has its channels; by default seen from its shape.
        output: which output is the vector; needed where there are several.

    Raises:
        ExportError: the model has no such input or output, or contradicts the contract.
    """
    image = find_image(model.graph, contract, layout)
    vector = find_vector(model, image, contract, output)
    converts = _input_steps(image) + _output_steps(vector) != [] or len(model.graph.output) > 1
    model, image, vector = _free_names(model, image, vector)
    _surround(model, image, vector, contract)
    return Adapted(model, image.batch, converts)


def _free_names(
    model: onnx.ModelProto, image: Image, vector: Vector
) -> tuple[onnx.ModelProto, Image, Vector]:
    """Rename everything in a graph that uses one of the package's own two names."""
    graph = model.graph
    names = {value.name for value in (*graph.input, *graph.output)}
    names |= {tensor.name for tensor in graph.initializer}
    names |= {name for node in graph.node for name in (*node.input, *node.output)}
    if not any(name.split(".")[0] in (INPUT, OUTPUT) for name in names):
        return model, image, vector
    prefixed = compose.add_prefix(model, _PREFIX)
    return (
        prefixed,
        Image(_PREFIX + image.name, image.element, image.layout, image.batch),
        Vector(_PREFIX + vector.name, vector.element, vector.flat, vector.size),
    )


def _surround(model: onnx.ModelProto, image: Image, vector: Vector, contract: InputSpec) -> None:
    graph = model.graph
    before = _chain(_input_steps(image), (INPUT, image.name), INPUT)
    after = _chain(_output_steps(vector), (vector.name, OUTPUT), OUTPUT)
    nodes = [*before, *graph.node, *after]
    weights = [value for value in graph.input if value.name != image.name]
    batch = image.batch or "batch"
    size = (contract.height, contract.width)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [batch, 3, *size]))
    graph.input.extend(weights)
    graph.output.append(
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, vector.size])
    )
    if not any(opset.domain in ("", "ai.onnx") for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", OPSET))


def _input_steps(image: Image) -> list[Step]:
    steps: list[Step] = []
    if image.element != TensorProto.FLOAT:
        steps.append(("Cast", {"to": image.element}))
    if image.layout == "nhwc":
        steps.append(("Transpose", {"perm": [0, 2, 3, 1]}))
    return steps


def _output_steps(vector: Vector) -> list[Step]:
    steps: list[Step] = []
    if vector.element != TensorProto.FLOAT:
        steps.append(("Cast", {"to": TensorProto.FLOAT}))
    if not vector.flat:
        steps.append(("Flatten", {"axis": 1}))
    return steps


def _chain(steps: list[Step], ends: tuple[str, str], prefix: str) -> list[onnx.NodeProto]:
    """Make one node for each step from the first end to the second, at least an Identity."""
    steps = steps or [("Identity", {})]
    inner = [f"{prefix}.{operator}" for operator, _ in steps[:-1]]
    names = [ends[0], *inner, ends[1]]
    return [
        helper.make_node(operator, [source], [target], f"{prefix}.adapter.{operator}", **facts)
        for (operator, facts), source, target in zip(steps, names, names[1:], strict=False)
    ]
