"""Inference requests and responses of the Open Inference Protocol: JSON and binary tensors.

A binary request is JSON followed by the tensor's little-endian bytes; the header
`Inference-Header-Content-Length` says where the JSON ends.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.errors import ReidkitError
from reidkit.package import Inputs, InputSpec, Takes

OUTPUT = "embedding"
MOST_ROWS = 2**16

_DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "UINT8": np.dtype(np.uint8)}


class TensorError(ReidkitError):
    """An inference request that is not as the protocol or the model wants it."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of the model: `shape` holds -1 for any number of pictures."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def as_json(self) -> dict[str, object]:
        """Give it as the protocol's metadata says it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    """What is asked: `inputs` as the model's runtime takes them, and how to answer."""

    inputs: Inputs
    id: str | None
    binary: bool


def describe_inputs(contract: InputSpec, takes: Takes) -> dict[str, TensorSpec]:
    """Give the tensors that a request may hold one of, by name.

    `image` is what the engine takes. `pixels` are resized RGB crops, a quarter of the bytes of a
    normalised tensor, which the contract turns into it.
    """
    height, width = contract.height, contract.width
    pixels = TensorSpec("pixels", "UINT8", (-1, height, width, 3))
    if takes == "pixels":
        return {"image": TensorSpec("image", "UINT8", pixels.shape), "pixels": pixels}
    return {"image": TensorSpec("image", "FP32", (-1, 3, height, width)), "pixels": pixels}


def split_body(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    """Split a request's body into its JSON and what follows it.

    Raises:
        TensorError: the header is no length within the body.
    """
    if header_length is None:
        return body, b""
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 12):
        raise TensorError("Inference-Header-Content-Length is no number of bytes")
    length = int(header_length)
    if length > len(body):
        raise TensorError(
            f"Inference-Header-Content-Length is {length}, but the body has {len(body)} bytes"
        )
    return body[:length], body[length:]


def parse_request(header: bytes, binary: bytes, contract: InputSpec, takes: Takes) -> InferRequest:
    """Read an inference request.

    Raises:
        TensorError: no such request, or tensors of another name, type, shape or size, or with
            NaN or infinity.
    """
    try:
        fields = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise TensorError("the request is no JSON") from error
    if not isinstance(fields, dict):
        raise TensorError("the request is no JSON object")
    identity = fields.get("id")
    if identity is not None and not isinstance(identity, str):
        raise TensorError("id is no text")
    entry = _only_input(fields)
    known = describe_inputs(contract, takes)
    spec = known.get(str(entry.get("name")))
    if spec is None:
        raise TensorError(f"the input's name is none of {', '.join(known)}")
    tensor = _read_tensor(entry, binary, spec)
    return InferRequest(_as_taken(tensor, spec, contract, takes), identity, _wants_binary(fields))


def answer(
    vectors: NDArray[np.float32], request: InferRequest, model: str, version: str
) -> tuple[bytes, int | None]:
    """Write the response's body, and the length of its JSON where a tensor follows it."""
    output: dict[str, object] = {
        "name": OUTPUT,
        "datatype": "FP32",
        "shape": list(vectors.shape),
    }
    fields: dict[str, object] = {"model_name": model, "model_version": version}
    if request.id is not None:
        fields["id"] = request.id
    data = b""
    if request.binary:
        data = vectors.astype("<f4", copy=False).tobytes()
        output["parameters"] = {"binary_data_size": len(data)}
    else:
        output["data"] = vectors.ravel().tolist()
    header = json.dumps(fields | {"outputs": [output]}).encode()
    return header + data, len(header) if request.binary else None


def _only_input(fields: Mapping[str, Any]) -> dict[str, Any]:
    entries = fields.get("inputs")
    if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict):
        raise TensorError("inputs must be a list of one tensor")
    return entries[0]


def _parameters(entry: Mapping[str, Any]) -> dict[str, Any]:
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict):
        raise TensorError("parameters are no JSON object")
    for name in ("shared_memory_region", "classification"):
        if parameters.get(name):
            raise TensorError(f"{name} is not supported")
    return parameters


def _wants_binary(fields: Mapping[str, Any]) -> bool:
    """Tell how the output is wanted; what an output asks for goes before the whole request's."""
    outputs = fields.get("outputs", [])
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise TensorError("outputs must be a list of tensors")
    wanted = _parameters(fields).get("binary_data_output", False)
    for output in outputs:
        if output.get("name") != OUTPUT:
            raise TensorError(f"the model's only output is {OUTPUT}")
        wanted = _parameters(output).get("binary_data", wanted)
    if not isinstance(wanted, bool):
        raise TensorError("binary_data is neither true nor false")
    return wanted


def _read_tensor(
    entry: Mapping[str, Any], binary: bytes, spec: TensorSpec
) -> NDArray[np.float32 | np.uint8]:
    if entry.get("datatype") != spec.datatype:
        raise TensorError(f"{spec.name} must have the datatype {spec.datatype}")
    shape = _check_shape(entry.get("shape"), spec)
    count, dtype = math.prod(shape), _DTYPES[spec.datatype]
    size = _parameters(entry).get("binary_data_size")
    if size is None:
        if binary:
            raise TensorError(f"{len(binary)} bytes follow the JSON, but no tensor claims them")
        return _read_numbers(entry.get("data"), count, dtype, spec.name).reshape(shape)
    wanted = count * dtype.itemsize
    if type(size) is not int or size != wanted or len(binary) != wanted or "data" in entry:
        raise TensorError(
            f"{spec.name} of shape {list(shape)} has {wanted} bytes, but {len(binary)} follow the "
            "JSON and binary_data_size must say the same"
        )
    tensor: NDArray[Any] = np.frombuffer(binary, dtype).reshape(shape)
    return _check_finite(tensor, spec.name)


def _check_shape(shape: object, spec: TensorSpec) -> tuple[int, ...]:
    good = (
        isinstance(shape, list)
        and len(shape) == len(spec.shape)
        and all(type(size) is int for size in shape)
        and 1 <= shape[0] <= MOST_ROWS
        and tuple(shape[1:]) == spec.shape[1:]
    )
    if not good or not isinstance(shape, list):
        raise TensorError(f"{spec.name} must have the shape {list(spec.shape)}, -1 being 1 or more")
    return tuple(shape)


def _read_numbers(data: object, count: int, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    if not isinstance(data, list):
        raise TensorError(f"{name} has no list of data")
    try:
        numbers = np.asarray(data)
    except (ValueError, OverflowError, RecursionError) as error:
        raise TensorError(f"the data of {name} are no numbers in rows of one length") from error
    if numbers.dtype.kind not in ("iu" if dtype.kind == "u" else "iuf"):
        raise TensorError(f"the data of {name} are no {'whole ' * (dtype.kind == 'u')}numbers")
    if numbers.size != count:
        raise TensorError(f"{name} has {numbers.size} numbers, its shape says {count}")
    if dtype.kind == "u" and (numbers.min() < 0 or numbers.max() > 255):
        raise TensorError(f"the data of {name} are not all within 0 to 255")
    with np.errstate(over="ignore"):  # what does not fit becomes infinity, which is refused
        return _check_finite(numbers.astype(dtype), name)


def _check_finite(tensor: NDArray[Any], name: str) -> NDArray[Any]:
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise TensorError(f"{name} holds NaN or infinity, or numbers too large for FP32")
    return tensor


def _as_taken(tensor: NDArray[Any], spec: TensorSpec, contract: InputSpec, takes: Takes) -> Inputs:
    """Turn a tensor into what the runtime takes."""
    if takes == "pixels" or spec.name == "image":
        return np.asarray(tensor, np.uint8 if takes == "pixels" else np.float32)
    inputs = preprocess.empty_batch(len(tensor), contract, takes)
    for row, pixels in zip(inputs, tensor, strict=True):
        preprocess.fill(pixels, contract, row, takes=takes)
    return inputs
