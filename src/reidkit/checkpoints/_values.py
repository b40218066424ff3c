"""What a pickled checkpoint is made of: records without any behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Name:
    """The dotted name of a class or function; the thing itself is never looked up."""

    text: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Inert:
    """An object of a class that is not imported: its class's name and its attributes.

    `items` are the entries of an object that is a kind of dict.
    """

    name: str
    state: dict[Any, Any] = field(default_factory=dict)
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Storage:
    """A run of `count` elements of the bytes stored as `key`, from element `start` on.

    `stored` is the number of elements that are stored as `key`; it is more than `count` where
    this is a window on them.
    """

    key: str
    element: str
    stored: int
    start: int
    count: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tensor:
    """A tensor as it is described in the pickle; `offset` and `strides` count elements."""

    storage: Storage
    element: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Unreadable:
    """A tensor of a kind that is refused, and which kind."""

    kind: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Archive:
    """One file taken apart: what it holds, and the bytes of every storage in it."""

    container: str
    content: object
    storages: Mapping[str, memoryview]
    big_endian: bool = False


ELEMENTS: Mapping[str, np.dtype[Any]] = {
    "float32": np.dtype("float32"),
    "float64": np.dtype("float64"),
    "float16": np.dtype("float16"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "uint8": np.dtype("uint8"),
    "uint16": np.dtype("uint16"),
    "uint32": np.dtype("uint32"),
    "uint64": np.dtype("uint64"),
    "int8": np.dtype("int8"),
    "int16": np.dtype("int16"),
    "int32": np.dtype("int32"),
    "int64": np.dtype("int64"),
    "bool": np.dtype("bool"),
    "complex64": np.dtype("complex64"),
    "complex128": np.dtype("complex128"),
}
"""The element types that are read, by torch's name of the type."""

_QUANTISED_SIZES = {"qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1}

_TYPED_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
    "_UntypedStorage": "uint8",
}

STORAGES: Mapping[str, str] = {
    f"{module}.{name}": element
    for module in ("torch", "torch.cuda", "torch.storage")
    for name, element in _TYPED_STORAGES.items()
}
"""The element type of each storage class, by the class's dotted name."""


def element_size(element: str) -> int:
    """Give the bytes that one element of a storage takes."""
    return _QUANTISED_SIZES[element] if element in _QUANTISED_SIZES else ELEMENTS[element].itemsize
