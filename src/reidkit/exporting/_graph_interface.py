"""What an ONNX file takes and gives, as it says itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from reidkit.errors import ExportError
from reidkit.networks.layout import show_name
from reidkit.runtimes.sessions import TensorSpec


def read_interface(path: str | Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Give the inputs and the outputs of an ONNX file; its weights are not read.

    Every size that the file leaves open, by a name (also one such as "-1"), 0 or a negative
    number, is -1. A tensor whose number of dimensions is open has the shape ().

    Raises:
        ExportError: there is no such file, or it is not an ONNX model.
    """
    path = Path(path)
    try:
        graph = onnx.load_model(path, load_external_data=False).graph
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # protobuf's two implementations raise different types
        raise ExportError(f"{path} is not an ONNX model, or is damaged: {error}") from error
    if not graph.node or not graph.output:
        # Many a file of another kind parses as a model with nothing in it.
        raise ExportError(f"{path} is not an ONNX model: it holds no graph")
    weights = {tensor.name for tensor in graph.initializer}
    inputs = (value for value in graph.input if value.name not in weights)
    return tuple(map(_describe, inputs)), tuple(map(_describe, graph.output))


def _describe(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    if not kind.elem_type:
        raise ExportError(f"{show_name(value.name)} of the model is not a tensor")
    sizes = tuple(side.dim_value if side.dim_value > 0 else -1 for side in kind.shape.dim)
    return TensorSpec(value.name, np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)), sizes)
