"""What a graph from elsewhere takes and gives: its picture input and its vector output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import TensorProto, helper, shape_inference

from reidkit.errors import ExportError
from reidkit.networks.layout import show_name
from reidkit.package import InputSpec

Layout = Literal["nchw", "nhwc"]
Dimensions = tuple[int | None, ...]

_INPUT_TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8}
_OUTPUT_TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}


@dataclass(frozen=True, slots=True)
class Image:
    """The one input: its tensor type and layout, and its fixed batch size, `None` for any."""

    name: str
    element: int
    layout: Layout
    batch: int | None


@dataclass(frozen=True, slots=True)
class Vector:
    """The output that is the vector.

    `flat` says whether it is (N, D) already; `size` is D, `None` where the file leaves it open.
    """

    name: str
    element: int
    flat: bool
    size: int | None


def find_image(graph: onnx.GraphProto, contract: InputSpec, layout: Layout | None) -> Image:
    """Find the one input, which must be a picture of the contract's size.

    Raises:
        ExportError: it is not.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ExportError(
            f"the model has {len(inputs)} inputs ({_listed(inputs)}), expected one, the picture"
        )
    (value,) = inputs
    element = value.type.tensor_type.elem_type
    if element not in _INPUT_TYPES:
        raise ExportError(
            f"the model's input {show_name(value.name)} is {_type_name(element)}, "
            "expected float32, float16 or uint8"
        )
    _check_raw(value.name, element, contract)
    dimensions = _dimensions(value)
    if dimensions is None or len(dimensions) != 4:
        raise ExportError(
            f"the model's input {_listed([value])} is not a picture: "
            "expected (N, 3, H, W) or (N, H, W, 3)"
        )
    layout = _find_layout(value, dimensions, layout)
    size = dimensions[2:] if layout == "nchw" else dimensions[1:3]
    _check_size(value, size, contract)
    return Image(value.name, element, layout, dimensions[0])


def _check_raw(name: str, element: int, contract: InputSpec) -> None:
    raw = (contract.scale, contract.mean, contract.std) == (1, (0, 0, 0), (1, 1, 1))
    if element == TensorProto.UINT8 and not raw:
        raise ExportError(
            f"the model's input {show_name(name)} is uint8, so it takes raw pixels: its contract "
            "needs scale 1, mean 0,0,0 and std 1,1,1"
        )


def _find_layout(
    value: onnx.ValueInfoProto, dimensions: Dimensions, layout: Layout | None
) -> Layout:
    possible: dict[Layout, int | None] = {"nchw": dimensions[1], "nhwc": dimensions[3]}
    if layout is not None:
        if possible.get(layout, 0) not in (3, None):
            raise ExportError(
                f"the model's input {_listed([value])} does not have three channels in the "
                f"layout {layout!r}"
            )
        return layout
    found = [name for name, channels in possible.items() if channels == 3]
    if len(found) != 1:
        what = "may have" if found else "does not show"
        raise ExportError(
            f"the model's input {_listed([value])} {what} its three channels in "
            "second or last place: say which with the layout nchw or nhwc"
        )
    return found[0]


def _check_size(value: onnx.ValueInfoProto, size: Dimensions, contract: InputSpec) -> None:
    wanted = (contract.height, contract.width)
    if any(fixed not in (None, asked) for fixed, asked in zip(size, wanted, strict=True)):
        shown = "x".join("?" if side is None else str(side) for side in size)
        raise ExportError(
            f"the model's input {show_name(value.name)} is fixed to {shown} (height x width), "
            f"the contract says {wanted[0]}x{wanted[1]}: make the package with the model's size"
        )


def find_vector(
    model: onnx.ModelProto, image: Image, contract: InputSpec, output: str | None
) -> Vector:
    """Find the output, the only one or the one called `output`, which must be a vector.

    Raises:
        ExportError: it is not.
    """
    outputs = {value.name: value for value in model.graph.output}
    if output is None and len(outputs) > 1:
        raise ExportError(
            f"the model has {len(outputs)} outputs ({_listed(model.graph.output)}): "
            "name the one that is the vector with output (--output)"
        )
    name = output or next(iter(outputs))
    if name not in outputs:
        raise ExportError(f"the model has no output {name!a}, it has {_listed(model.graph.output)}")
    element = outputs[name].type.tensor_type.elem_type
    if element not in _OUTPUT_TYPES:
        raise ExportError(
            f"the model's output {show_name(name)} is {_type_name(element)}, "
            "expected floating point"
        )
    dimensions = _dimensions(outputs[name])
    if dimensions is None or (len(dimensions) in (3, 4) and None in dimensions[1:]):
        # Shapes left open by the exporter often follow from the size of the input.
        dimensions = _infer_dimensions(model, image, contract, name)
    if len(dimensions) != 2 and _vector_size(dimensions) is None:
        raise ExportError(
            f"the model's output {show_name(name)} has shape {_shown(dimensions)}, "
            "expected one vector for each picture: (N, D), (N, D, 1), (N, D, 1, 1) or (N, 1, 1, D)"
        )
    return Vector(name, element, len(dimensions) == 2, _vector_size(dimensions))


def _vector_size(dimensions: Dimensions) -> int | None:
    """Give D of an output that is one vector a picture, `None` where it is not, or is open."""
    if len(dimensions) not in (2, 3, 4):
        return None
    sides = dimensions[1:]
    first, last = sides[1:], sides[:-1]
    vector = all(side == 1 for side in first) or (
        len(sides) == 3 and all(side == 1 for side in last)
    )
    known = [side for side in sides if side is not None]
    return math.prod(known) if vector and len(known) == len(sides) else None


def _infer_dimensions(
    model: onnx.ModelProto, image: Image, contract: InputSpec, name: str
) -> Dimensions:
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    shape = [image.batch or "batch", 3, contract.height, contract.width]
    if image.layout == "nhwc":
        shape = [shape[0], *shape[2:], 3]
    for value in sized.graph.input:
        if value.name == image.name:
            value.CopyFrom(helper.make_tensor_value_info(image.name, image.element, shape))
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = shape_inference.infer_shapes(sized, data_prop=True)
    except Exception as error:  # onnx raises several unrelated types
        raise ExportError(f"the shapes of the model do not fit together: {error}") from error
    for value in inferred.graph.output:
        dimensions = _dimensions(value)
        if value.name == name and dimensions is not None:
            return dimensions
    raise ExportError(
        f"the model's output {show_name(name)} has no known shape: export the model again with "
        "the shapes of its outputs, or simplify it"
    )


def _dimensions(value: onnx.ValueInfoProto) -> Dimensions | None:
    """Give a value's shape, None for each side that is open; None where even the rank is."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    # Some exporters write an open side as 0 or -1.
    return tuple(side.dim_value if side.dim_value > 0 else None for side in kind.shape.dim)


def _listed(values: Sequence[onnx.ValueInfoProto]) -> str:
    return (
        ", ".join(f"{show_name(value.name)} {_shown(_dimensions(value))}" for value in values)
        or "none"
    )


def _shown(dimensions: Dimensions | None) -> str:
    if dimensions is None:
        return "of unknown shape"
    return f"({', '.join('?' if side is None else str(side) for side in dimensions)})"


def _type_name(element: int) -> str:
    return TensorProto.DataType.Name(element).lower() if element else "not a tensor"
