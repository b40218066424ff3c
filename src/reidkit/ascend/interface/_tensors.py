"""What an `InferSession` takes and gives: tensors, their descriptions, and feeds of many kinds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reidkit.errors import AscendError
from reidkit.runtimes._ascend_model import ACL_TYPES
from reidkit.runtimes.sessions import Array, TensorSpec

_TYPE_NUMBERS = {dtype: number for number, dtype in ACL_TYPES.items()}

_NCHW, _NHWC, _OTHER_FORMAT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class TensorDesc:
    """An input or output as the guide's tool describes it.

    Fields:
        name: its name in the model.
        datatype: its type by the toolkit's numbers: 0 float32, 1 float16, 2 int8, 3 int32,
            4 uint8, 6 int16, 7 uint16, 8 uint32, 9 int64, 10 uint64, 11 float64, 12 bool.
        format: 0 NCHW, 1 NHWC, 2 any other.
        shape: its shape, -1 for what the model leaves free.
        size: bytes for the largest gear; 0 where the model leaves it free.
        realsize: bytes for the sizes that were set; 0 where they are not.
    """

    name: str
    datatype: int
    format: int
    shape: list[int]
    size: int
    realsize: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An array in the place of the tool's device tensor: it is copied to the device by a run."""

    array: Array

    @property
    def shape(self) -> list[int]:
        """Its shape."""
        return list(self.array.shape)

    def to_device(self, device_id: int) -> None:
        """Do nothing: a run copies it to its session's device."""

    def to_host(self) -> None:
        """Do nothing: it is there."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype=dtype, copy=copy)


def describe_tensor(spec: TensorSpec, shape: Sequence[int], largest: Sequence[int]) -> TensorDesc:
    """Describe an input or output that has `shape` now and `largest` at most."""
    return TensorDesc(
        name=spec.name,
        datatype=_TYPE_NUMBERS[spec.dtype],
        format=_find_format(spec.shape),
        shape=list(spec.shape),
        size=_bytes_of(largest, spec),
        realsize=_bytes_of(shape, spec),
    )


def take_feed(value: object) -> Array:
    """Make a C-contiguous array of an array, a numpy scalar, a CPU torch tensor or a `Tensor`.

    Raises:
        AscendError: it is something else, or a torch tensor of a type that numpy has not.
    """
    if isinstance(value, Tensor):
        value = value.array
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value, order="C")
    if callable(getattr(value, "detach", None)):  # torch is not imported for this
        tensor: Any = value
        try:
            return np.asarray(tensor.detach().cpu().numpy(), order="C")
        except TypeError as error:
            raise AscendError(
                f"a torch tensor of {tensor.dtype} cannot be taken ({error}): convert it with "
                ".float() or .half()"
            ) from error
    raise AscendError(
        f"type:{type(value)} invalid: a feed is a numpy array or scalar, a torch tensor on the "
        "CPU, or a Tensor"
    )


def fit_feed(array: Array, index: int, spec: TensorSpec, shape: Sequence[int]) -> Array:
    """Give an array the shape of input `index`; what has it already stays as it is.

    A flat array of the input's type, or flat int8 or uint8 bytes as a file reader gives them, is
    taken as the tensor's content. Anything else of another type or shape is refused, also where
    its bytes would fit: the tool takes a picture with its axes in another order without a word.

    Raises:
        AscendError: it does not fit.
    """
    if array.dtype == spec.dtype and _is_shape(array.shape, shape):
        return array
    if array.ndim == 1 and array.dtype in (spec.dtype, np.int8, np.uint8):
        filled = _fill(shape, array.nbytes, spec.dtype.itemsize)
        if filled is not None:
            return array.view(np.uint8).view(spec.dtype).reshape(filled)
    raise AscendError(
        f"Check i:{index} name:{spec.name} in size:{array.nbytes} "
        f"needsize:{_bytes_of(shape, spec)} not match: the model takes {spec.dtype} "
        f"{tuple(shape)}, got {array.dtype} {array.shape}"
    )


def read_files(desc: TensorDesc, files: Sequence[str | Path]) -> Tensor:
    """Read `.npy` files, and files of bare bytes, one after the other into one tensor.

    Raises:
        AscendError: a file cannot be read, or together they are not the tensor's size.
    """
    parts = [_read_bytes(Path(file)) for file in files]
    spec = TensorSpec(desc.name, ACL_TYPES[desc.datatype], tuple(desc.shape))
    content = np.frombuffer(b"".join(parts), np.uint8)
    shape = _fill(spec.shape, content.nbytes, spec.dtype.itemsize)
    if shape is None or desc.realsize not in (0, content.nbytes):
        raise AscendError(
            f"ndata size:{content.nbytes} not match {desc.realsize}: {len(files)} files for "
            f"{desc.name}, {spec.dtype} {spec.shape}"
        )
    return Tensor(content.view(spec.dtype).reshape(shape))


def _read_bytes(path: Path) -> bytes:
    try:
        if path.suffix.lower() == ".npy":
            array: Array = np.load(path, allow_pickle=False)
            return array.tobytes()
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise AscendError(f"{path} cannot be read: {error}") from error


def _is_shape(found: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(found) == len(wanted) and all(
        size in (-1, there) for size, there in zip(wanted, found, strict=True)
    )


def _fill(shape: Sequence[int], size: int, itemsize: int) -> tuple[int, ...] | None:
    """Give the shape that so many bytes fill, with at most one size that they decide."""
    known = math.prod(size for size in shape if size != -1) * itemsize
    free = list(shape).count(-1)
    if free == 0 and size == known:
        return tuple(shape)
    if free == 1 and size and known and size % known == 0:
        return tuple(size // known if length == -1 else length for length in shape)
    return None


def _bytes_of(shape: Sequence[int], spec: TensorSpec) -> int:
    return 0 if -1 in shape else math.prod(shape) * spec.dtype.itemsize


def _find_format(shape: Sequence[int]) -> int:
    if len(shape) != 4:
        return _OTHER_FORMAT
    return _NHWC if shape[3] == 3 and shape[1] != 3 else _NCHW
