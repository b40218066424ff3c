"""safetensors files: a JSON header and raw tensors; nothing in them could run."""

from __future__ import annotations

from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from reidkit.checkpoints._tensors import settle, shown_key, stored_type
from reidkit.errors import CheckpointError

_ELEMENTS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "BOOL": "bool",
    "C64": "complex64",
}


def looks_like_safetensors(data: bytes) -> bool:
    """Say whether a file starts with the length of a JSON header and its opening brace."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") < 1 << 32


def read_safetensors(data: bytes) -> dict[str, NDArray[Any]]:
    """Give the arrays of a safetensors file, in file order.

    Raises:
        CheckpointError: truncated, damaged, or element types that are not read.
    """
    try:
        found = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"is a truncated or damaged safetensors file of {len(data)} bytes "
            f"({str(error)[:200]}); get the file again"
        ) from error
    bad = [f"{shown_key(key)} ({item['dtype']})" for key, item in found if not _is_read(item)]
    if bad:
        raise CheckpointError(
            f"holds {len(bad)} tensors of types that reidkit does not read: {', '.join(bad[:5])}; "
            "save them as float32"
        )
    return {key: _array(item) for key, item in found}


def _is_read(item: dict[str, Any]) -> bool:
    return item["dtype"] in _ELEMENTS


def _array(item: dict[str, Any]) -> NDArray[Any]:
    element = _ELEMENTS[item["dtype"]]
    dtype = stored_type(element).newbyteorder("<")
    return settle(np.frombuffer(item["data"], dtype).reshape(item["shape"]), element)
