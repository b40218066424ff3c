"""Checkpoint files for tests, written byte by byte without torch and without `pickle`.

`write_legacy` and `write_zip` write a state dict of arrays as torch does; `encode` assembles any
pickle, honest or hostile, out of the records below.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Wrap = str | Callable[[object], object] | None

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "uint8": "ByteStorage",
    "int8": "CharStorage",
    "int16": "ShortStorage",
    "int32": "IntStorage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True)
class Global:
    """The name of a class or function."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A function called with arguments, then its items set (as for an OrderedDict)."""

    function: object
    arguments: object = ()
    items: Mapping[Any, object] | None = None


@dataclass(frozen=True)
class New:
    """An object of a class made without calling it, its state set afterwards."""

    kind: object
    state: object


@dataclass(frozen=True)
class Persistent:
    """What the file format itself resolves: a storage, or a class with its source."""

    identity: object


@dataclass(frozen=True)
class Raw:
    """Instructions as they are."""

    code: bytes


def encode(value: object) -> bytes:
    """Assemble a pickle of protocol 2."""
    return b"\x80\x02" + _code(value) + b"."


def ordered(items: Mapping[Any, object]) -> Call:
    """An OrderedDict, as torch's `state_dict()` gives it."""
    return Call(Global("collections", "OrderedDict"), (), items)


def storage(key: str, element: str, count: int, *, location: str = "cpu") -> tuple[object, ...]:
    """The persistent id of a storage (zip format; the legacy one has a sixth item)."""
    kind = Global(*STORAGES.get(element, element).rpartition(".")[::2])
    kind = kind if kind.module else Global("torch", kind.name)
    return ("storage", kind, key, location, count)


def tensor(
    identity: tuple[object, ...],
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None = None,
    offset: int = 0,
) -> Call:
    """A tensor on a storage; strides count elements, row-major where they are not given."""
    if strides is None:
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, (Persistent(identity), offset, shape, strides, False, ordered({})))


def module(name: str, **parts: Mapping[str, object]) -> New:
    """A whole pickled network: `parameters`, `buffers`, `modules`, `dropped` buffer names."""
    home, _, kind = name.rpartition(".")
    state: dict[str, object] = {
        "training": True,
        "_parameters": ordered(parts.get("parameters", {})),
        "_buffers": ordered(parts.get("buffers", {})),
        "_modules": ordered(parts.get("modules", {})),
        "_forward_hooks": ordered({}),
    }
    if "dropped" in parts:
        state["_non_persistent_buffers_set"] = Call(
            Global("__builtin__", "set"), ([*parts["dropped"]],)
        )
    return New(Global(home, kind), state)


def write_legacy(path: Path, tensors: Mapping[str, NDArray[Any]], *, wrap: Wrap = None) -> Path:
    """Write a state dict in the format of torch before 1.6.

    `wrap` is the key to put it under, or a function from the state dict to the whole content.
    """
    records = {str(94000 + i): array for i, array in enumerate(tensors.values())}
    entries = {
        name: tensor((*_identity(key, array), None), array.shape)
        for (key, array), name in zip(records.items(), tensors, strict=True)
    }
    return write_legacy_content(path, _wrapped(entries, wrap), records)


def write_legacy_content(path: Path, content: object, records: Mapping[str, NDArray[Any]]) -> Path:
    """Write any content in the legacy format, with the storages that it refers to."""
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"long": 4}}
    pickles = [encode(part) for part in (LEGACY_MAGIC, 1001, facts, content, [*records])]
    storages = [struct.pack("<q", array.size) + _bytes(array) for array in records.values()]
    path.write_bytes(b"".join(pickles + storages))
    return path


def write_zip(
    path: Path,
    tensors: Mapping[str, NDArray[Any]],
    *,
    wrap: Wrap = None,
    byte_order: str | None = "little",
) -> Path:
    """Write a state dict in the format of torch since 1.6; `wrap` as in `write_legacy`."""
    records = {str(i): array for i, array in enumerate(tensors.values())}
    entries = {
        name: tensor(_identity(key, array), array.shape)
        for (key, array), name in zip(records.items(), tensors, strict=True)
    }
    return write_zip_content(path, _wrapped(entries, wrap), records, byte_order=byte_order)


def write_zip_content(
    path: Path,
    content: object,
    records: Mapping[str, NDArray[Any]],
    *,
    byte_order: str | None = "little",
    extra: Mapping[str, bytes] | None = None,
) -> Path:
    """Write any content in the zip format, with the storages that it refers to."""
    root = path.stem
    files = {"data.pkl": content.code if isinstance(content, Raw) else encode(content)}
    files |= {"byteorder": byte_order.encode()} if byte_order else {}
    files |= {f"data/{key}": _bytes(array, byte_order) for key, array in records.items()}
    files |= {"version": b"3\n"} | dict(extra or {})
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"{root}/{name}", data)
    return path


def _identity(key: str, array: NDArray[Any]) -> tuple[object, ...]:
    return storage(key, array.dtype.name, array.size)


def _wrapped(entries: Mapping[str, object], wrap: Wrap) -> object:
    content = ordered(entries)
    if isinstance(wrap, str):
        return {wrap: content, "epoch": 120}
    return wrap(content) if wrap else content


def _bytes(array: NDArray[Any], byte_order: str | None = "little") -> bytes:
    if array.dtype.name == "bfloat16":
        array = array.view(np.uint16)
    return array.astype(array.dtype.newbyteorder(">" if byte_order == "big" else "<")).tobytes()


def _code(value: object) -> bytes:
    match value:
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            return _integer(value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return b"X" + struct.pack("<I", len(text)) + text
        case tuple():
            return b"(" + b"".join(map(_code, value)) + b"t"
        case list():
            return b"](" + b"".join(map(_code, value)) + b"e"
        case dict():
            return b"}" + _items(value)
        case _:
            return _record(value)


def _record(value: object) -> bytes:
    match value:
        case Global(home, name):
            return b"c" + f"{home}\n{name}\n".encode()
        case Call(function, arguments, items):
            return _code(function) + _code(arguments) + b"R" + (_items(items) if items else b"")
        case New(kind, state):
            return _code(kind) + b")\x81" + _code(state) + b"b"
        case Persistent(identity):
            return _code(identity) + b"Q"
        case Raw(code):
            return code
        case _:
            raise TypeError(f"cannot encode a {type(value).__name__}")


def _items(items: Mapping[Any, object]) -> bytes:
    return b"(" + b"".join(_code(key) + _code(item) for key, item in items.items()) + b"u"


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) < 256:
        return b"\x8a" + bytes([len(data)]) + data
    return b"\x8b" + struct.pack("<i", len(data)) + data
