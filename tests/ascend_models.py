"""Small models and files for the guide's inference tool: inputs show in the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

SHAPE = (3, 4, 2)
"""A picture's."""

PICTURE = 3 * 4 * 2 * 4
"""Its bytes in float32."""


def write_model(path: Path, batch: int | None = None, shape: Sequence[int | str] = SHAPE) -> Path:
    """Write a model with one input; its output `class` holds each picture's values negated."""
    rows = batch or "batch"
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("Neg", ["flat"], ["class"]),
        ],
        "one",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [rows, *shape])],
        [helper.make_tensor_value_info("class", TensorProto.FLOAT, [rows, None])],
    )
    return _save(path, graph)


def write_two_outputs(path: Path, batch: int | None = None) -> Path:
    """Write a model with outputs `double` (N, 3, 4, 2) float32 and `rounded` (N, 24) int32."""
    rows = batch or "batch"
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["image", "image"], ["double"]),
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("Cast", ["flat"], ["rounded"], to=TensorProto.INT32),
        ],
        "two",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [rows, *SHAPE])],
        [
            helper.make_tensor_value_info("double", TensorProto.FLOAT, [rows, *SHAPE]),
            helper.make_tensor_value_info("rounded", TensorProto.INT32, [rows, 24]),
        ],
    )
    return _save(path, graph)


def write_two_inputs(path: Path, batch: int | None = None) -> Path:
    """Write a model with inputs `left` and `right`, (N, 3) float32: their difference."""
    rows = batch or "batch"
    graph = helper.make_graph(
        [helper.make_node("Sub", ["left", "right"], ["difference"])],
        "pair",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, 3])
            for name in ("left", "right")
        ],
        [helper.make_tensor_value_info("difference", TensorProto.FLOAT, [rows, 3])],
    )
    return _save(path, graph)


def write_pictures(folder: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Write a raw float32 file for each name and give the arrays, in the order of the names."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = []
    for place, name in enumerate(names):
        array = np.random.default_rng(place).standard_normal(SHAPE).astype(np.float32)
        (folder / name).write_bytes(array.tobytes())
        arrays.append(array)
    return arrays


def expected(array: np.ndarray) -> bytes:
    """Give what `write_model`'s model makes of one picture."""
    return (-array.reshape(-1)).tobytes()


def _save(path: Path, graph: onnx.GraphProto) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
