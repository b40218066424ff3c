"""Operations around an IR from elsewhere, so that it takes `image` and gives `embedding`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from reidkit.errors import ExportError
from reidkit.exporting._interface import Image, Layout, Vector, find_image, find_vector
from reidkit.networks.graph import INPUT, OUTPUT
from reidkit.package import InputSpec
from reidkit.runtimes._openvino_library import explain, import_openvino

_ELEMENTS = {
    "f32": TensorProto.FLOAT,
    "f16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "f64": TensorProto.DOUBLE,
    "u8": TensorProto.UINT8,
    "i8": TensorProto.INT8,
    "i32": TensorProto.INT32,
    "i64": TensorProto.INT64,
    "boolean": TensorProto.BOOL,
}
"""OpenVINO's types by ONNX's numbers; `_interface` judges both kinds of file."""

TYPES: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.UINT8: np.uint8,
}
"""numpy's types of the inputs that a package can feed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made of which file."""

    path: Path
    contract: InputSpec
    layout: Layout | None
    output: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """An adapted model, its picture input as it was, and the batch size it has now."""

    model: Any
    image: Image
    batch: int | None


def adapt_ir(model: Any, wanted: Wanted, *, free: bool) -> Adapted:
    """Put adapters around a model; `free` tries to set a fixed batch size free."""
    if not model.inputs or not model.outputs:
        raise ExportError(f"{wanted.path} is not an OpenVINO model: it has no input or no output")
    image = find_image(_describe_ports(model, wanted.output), wanted.contract, wanted.layout)
    _reshape(model, image, wanted.contract, image.batch)
    vector = _find_vector(model, image, wanted)
    batch = image.batch
    if free and batch is not None and _is_free(model, image, vector, wanted):
        batch = None
    return Adapted(_surround(model, image, vector, batch, wanted), image, batch)


def _describe_ports(model: Any, output: str | None) -> onnx.GraphProto:
    """Describe what a model takes and gives as ONNX does, for the checks of `_interface`."""
    return helper.make_graph(
        [],
        "ports",
        [_describe_port(port, None) for port in model.inputs],
        [_describe_port(port, output) for port in model.outputs],
    )


def _describe_port(port: Any, wanted: str | None) -> onnx.ValueInfoProto:
    shape = port.get_partial_shape()
    sides = None
    if not shape.rank.is_dynamic:
        sides = [None if side.is_dynamic else side.get_length() for side in shape]
    element = _ELEMENTS.get(port.get_element_type().get_type_name(), TensorProto.UNDEFINED)
    return helper.make_tensor_value_info(_name(port, wanted), element, sides)


def _name(port: Any, wanted: str | None) -> str:
    """Give a port's name, the wanted one if it has several; an IR may also have none."""
    names: list[str] = sorted(port.get_names())
    if wanted in names:
        return str(wanted)
    node = port.get_node()
    if node.get_type_name() == "Result":
        node = node.input_value(0).get_node()
    return names[0] if names else str(node.get_friendly_name())


def _reshape(model: Any, image: Image, contract: InputSpec, batch: int | None) -> None:
    """Give the input the contract's size and a batch size, `None` for any.

    Raises:
        ExportError: the shapes inside do not fit that.
    """
    sides = [3, contract.height, contract.width]
    if image.layout == "nhwc":
        sides = [*sides[1:], 3]
    try:
        model.reshape(import_openvino().PartialShape([-1 if batch is None else batch, *sides]))
    except RuntimeError as error:
        raise ExportError(
            f"the shapes of the model do not fit together: {explain(error)}"
        ) from error


def _find_vector(model: Any, image: Image, wanted: Wanted) -> Vector:
    ports = helper.make_model(_describe_ports(model, wanted.output))
    return find_vector(ports, image, wanted.contract, wanted.output)


def _is_free(model: Any, image: Image, vector: Vector, wanted: Wanted) -> bool:
    """Set a fixed batch size free, if the shape of the output follows; else change nothing."""
    try:
        _reshape(model, image, wanted.contract, None)
        found = _find_vector(model, image, wanted)
        port = output_port(model, vector.name)
        if port.get_partial_shape()[0].is_dynamic and found.size == vector.size:
            return True
    except ExportError:
        pass  # The graph holds its batch size somewhere inside.
    _reshape(model, image, wanted.contract, image.batch)
    return False


def output_port(model: Any, name: str) -> Any:
    return next(port for port in model.outputs if _name(port, name) == name)


def _surround(model: Any, image: Image, vector: Vector, batch: int | None, wanted: Wanted) -> Any:
    openvino = import_openvino()
    operators = openvino.opset8
    source = output_port(model, vector.name).get_node().input_value(0)
    _free_names(model)
    height, width = wanted.contract.height, wanted.contract.width
    shape = openvino.PartialShape([-1 if batch is None else batch, 3, height, width])
    parameter = operators.parameter(shape, np.float32, name=INPUT)
    parameter.output(0).set_names({INPUT})
    value = parameter
    if image.element != TensorProto.FLOAT:
        value = operators.convert(
            value, np.dtype(TYPES[image.element]), name=f"{INPUT}.adapter.convert"
        )
    if image.layout == "nhwc":
        order = np.array([0, 2, 3, 1], np.int64)
        value = operators.transpose(value, order, name=f"{INPUT}.adapter.transpose")
    (old,) = model.get_parameters()
    for target in old.output(0).get_target_inputs():
        target.replace_source_output(value.output(0))
    if vector.element != TensorProto.FLOAT:
        name = f"{OUTPUT}.adapter.convert"
        source = operators.convert(source, np.dtype(np.float32), name=name).output(0)
    if not vector.flat:
        # 0 keeps the first side, whatever it is; -1 is all the others together.
        sides, name = np.array([0, -1], np.int64), f"{OUTPUT}.adapter.reshape"
        source = operators.reshape(source, sides, True, name=name).output(0)
    source.set_names({*source.get_names(), OUTPUT})
    result = operators.result(source, name=OUTPUT)
    return openvino.Model([result], [parameter], "network")


def _free_names(model: Any) -> None:
    """Take the package's own two names from whatever else has them."""
    for operation in model.get_ops():
        for port in operation.outputs():
            port.set_names({name for name in port.get_names() if name not in (INPUT, OUTPUT)})
        if operation.get_friendly_name() in (INPUT, OUTPUT):
            operation.set_friendly_name(f"source/{operation.get_friendly_name()}")
