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
"""Tensors that overlap may be copied to this many times the file's size, not without end."""


def build_arrays(
    tensors: Mapping[str, Tensor | Unreadable], archive: Archive, file_size: int
) -> dict[str, NDArray[Any]]:
    """Give each tensor as a read-only array of its shape, C-contiguous, in native byte order.

    Raises:
        CheckpointError: tensors of kinds that are not read, or that reach out of their storage.
    """
    _refuse_unreadable(tensors)
    arrays, budget = {}, _COPIES * file_size + 65536
    for key, tensor in tensors.items():
        if isinstance(tensor, Tensor):
            view = _view(key, tensor, archive)
            budget -= 0 if _is_plain(view) else view.nbytes
            if budget < 0:
                raise CheckpointError(
                    f"is damaged: its tensors overlap so that they take more than {_COPIES} times "
                    f"its {file_size} bytes, at {shown_key(key)}"
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
