"""From the record of a tensor to its array."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.checkpoints._values import ELEMENTS, Archive, Tensor, Unreadable, element_size
from reidkit.errors import CheckpointError

_COPIES = 4
_ALWAYS_ALLOWED = 64 << 20
"""What is copied may take this many times the file's size and this many bytes: a file of a few
bytes can hold a mask of a million equal values, but not fill the memory."""


def build_arrays(
    tensors: Mapping[str, Tensor | Unreadable], archive: Archive, file_size: int
) -> dict[str, NDArray[Any]]:
    """Give each tensor as a read-only array of its shape, C-contiguous, in native byte order.

    Raises:
        CheckpointError: tensors of kinds that are not read, or that reach out of their storage,
            or that repeat the file's bytes so often that they would fill the memory.
    """
    _refuse_unreadable(tensors)
    allowed = _COPIES * file_size + _ALWAYS_ALLOWED
    arrays, copied = {}, 0
    for key, tensor in tensors.items():
        if isinstance(tensor, Tensor):
            view = _view(key, tensor, archive)
            copied += _copied_size(view, tensor.element)
            if copied > allowed:
                raise CheckpointError(
                    f"has {file_size} bytes, but its tensors use the same bytes so often (as "
                    f"expanded or shared ones do) that they would take more than {allowed} bytes "
                    f"of memory, at {shown_key(key)}: save them with .clone()"
                )
            arrays[key] = settle(view, tensor.element)
    return arrays


def settle(view: NDArray[Any], element: str) -> NDArray[Any]:
    """Make an array plain: aligned, C-contiguous, native, read-only.

    bfloat16 comes as uint16, the same bits, and becomes float32.
    """
    array = view
    if not _is_plain(view):
        array = view.astype(view.dtype.newbyteorder("="), order="C")
    if element == "bfloat16":
        array = array.view(ELEMENTS[element]).astype(np.float32)
    elif element == "bool":
        array = array.view(np.uint8) != 0  # a byte that is neither 0 nor 1 is no numpy bool
    array = array.view()
    array.flags.writeable = False
    return array


def _copied_size(view: NDArray[Any], element: str) -> int:
    """Give the bytes that `settle` will allocate for an array."""
    laid_out = 0 if _is_plain(view) else view.nbytes
    if element == "bfloat16":
        return laid_out + 2 * view.nbytes
    return laid_out + (view.nbytes if element == "bool" else 0)


def stored_type(element: str) -> np.dtype[Any]:
    """Give the numpy type that an element's bits are read as."""
    return np.dtype("uint16") if element == "bfloat16" else ELEMENTS[element]


def shown_key(key: str) -> str:
    """Give a tensor's key as it may stand in a message, whatever is in it."""
    return ascii(key)[:100]


def _refuse_unreadable(tensors: Mapping[str, Tensor | Unreadable]) -> None:
    kinds = {key: _kind(tensor) for key, tensor in tensors.items()}
    bad = [f"{shown_key(key)} ({kind})" for key, kind in kinds.items() if kind]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise CheckpointError(
            f"holds {len(bad)} tensors of kinds that reidkit does not read: {', '.join(bad[:5])}"
            f"{more}; save them as dense floating-point tensors"
        )


def _kind(tensor: Tensor | Unreadable) -> str | None:
    if isinstance(tensor, Unreadable):
        return tensor.kind
    return None if tensor.element in ELEMENTS else ascii(tensor.element[:40])[1:-1]


def _view(key: str, tensor: Tensor, archive: Archive) -> NDArray[Any]:
    dtype, storage = stored_type(tensor.element), tensor.storage
    size = element_size(storage.element)
    data = archive.storages[storage.key][storage.start * size :][: storage.count * size]
    if len(tensor.shape) != len(tensor.strides):
        raise CheckpointError(
            f"is damaged: the tensor {shown_key(key)} has {len(tensor.shape)} axes and "
            f"{len(tensor.strides)} strides"
        )
    if math.prod(max(length, 1) for length in tensor.shape) * dtype.itemsize > 2**48:
        raise CheckpointError(f"is damaged: the tensor {shown_key(key)} has an impossible shape")
    if 0 in tensor.shape:
        return np.empty(tensor.shape, dtype)
    pairs = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((length - 1) * stride for length, stride in pairs)
    if (last + 1) * dtype.itemsize > len(data):
        raise CheckpointError(
            f"is damaged: the tensor {shown_key(key)} reaches to element {last} of a storage of "
            f"{len(data) // dtype.itemsize} elements"
        )
    strides = [
        stride * dtype.itemsize if length > 1 else dtype.itemsize
        for length, stride in zip(tensor.shape, tensor.strides, strict=True)
    ]
    dtype = dtype.newbyteorder(">" if archive.big_endian else "<")
    # numpy checks once more that shape and strides stay inside the buffer.
    return np.ndarray(tensor.shape, dtype, data, tensor.offset * dtype.itemsize, strides)


def _is_plain(array: NDArray[Any]) -> bool:
    flags = array.flags
    return flags.c_contiguous and flags.aligned and array.dtype.isnative
