"""The names that a checkpoint may call, each with what is done instead of calling it.

Every function here takes the call's arguments and gives a container or a record. None of them
looks anything up, and none is reachable but by its name in `CALLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reidkit.checkpoints._values import STORAGES, Inert, Name, Storage, Tensor, Unreadable
from reidkit.errors import CheckpointError, UnsafeCheckpointError

_REMEDY = (
    "nothing of it was run. If you trust where it comes from, load it with torch there and save "
    "only its state dict: torch.save(model.state_dict(), path)"
)

_LONGEST_KEY = 1000
_MOST_AXES = 32
_LARGEST_SIZE = 2**63 - 1

_ATTACKS = """
__builtin__ _functools _io _operator _pickle _winreg asyncio bdb builtins cPickle cProfile
cloudpickle code codeop commands ctypes dill ensurepip ftplib functools gc http imp importlib
inspect io joblib linecache marshal msvcrt multiprocessing nt operator os pdb pickle pip pkgutil
popen2 posix profile pty pydoc runpy shutil signal site smtplib socket sqlite3 subprocess sys
tempfile threading timeit trace types urllib venv webbrowser winreg zipimport
"""
_ATTACK_MODULES = frozenset(_ATTACKS.split())
"""Modules that no network is made of; whoever names one wants something run."""


def name_of(module: object, attribute: object) -> Name:
    """Give the record of a global; refuse those that only an attack would name."""
    if not (isinstance(module, str) and isinstance(attribute, str)):
        raise CheckpointError("is damaged: its pickle names a class that is not a text")
    if len(module) + len(attribute) > _LONGEST_KEY:
        raise CheckpointError("is damaged: its pickle names a class by an endless text")
    text = f"{module}.{attribute}"
    if (
        module.split(".")[0] in _ATTACK_MODULES
        and text not in CALLS
        and text not in _CLASSES.split()
    ):
        raise UnsafeCheckpointError(f"names {_short(text)}, which could run code: {_REMEDY}")
    return Name(text)


def call(function: object, arguments: object) -> object:
    """Do what is known for a call, or refuse it."""
    if not isinstance(arguments, tuple):
        raise CheckpointError("is damaged: its pickle calls something without a tuple")
    if not isinstance(function, Name):
        raise UnsafeCheckpointError(
            f"calls a {type(function).__name__} when it is loaded: {_REMEDY}"
        )
    if function.text not in CALLS:
        raise UnsafeCheckpointError(
            f"makes an unknown call when it is loaded, {_short(function.text)}, which may be "
            f"harmless or an attack: {_REMEDY}"
        )
    return CALLS[function.text](*arguments)


def make_inert(kind: object, *_arguments: object) -> Inert:
    """Give the record of an object; the class is not looked up, the arguments are dropped."""
    if not isinstance(kind, Name):
        raise UnsafeCheckpointError(f"makes an object of a {type(kind).__name__}: {_REMEDY}")
    return Inert(kind.text)


def storage_of(
    kind: object, key: object, _location: object, count: object, window: object = None
) -> Storage:
    """Give the record of a storage, from the persistent id that stands for it.

    `window` is `(key, start, count)` in files of old torch versions, where a storage could be
    a part of another.
    """
    if not (isinstance(kind, Name) and kind.text in STORAGES):
        shown = _short(kind.text) if isinstance(kind, Name) else type(kind).__name__
        raise CheckpointError(f"holds a storage of the unknown type {shown}")
    key = key.decode("latin-1") if isinstance(key, bytes) else key
    if not isinstance(key, str) or len(key) > _LONGEST_KEY:
        raise CheckpointError("is damaged: the key of a storage in it is not a short text")
    stored = _size(count)
    start, length = (0, stored) if window is None else _window(window)
    if start + length > stored:
        raise CheckpointError(
            f"is damaged: a storage ends at element {start + length} of {stored} elements"
        )
    return Storage(key, STORAGES[kind.text], stored, start, length)


def _window(window: object) -> tuple[int, int]:
    if not isinstance(window, tuple) or len(window) != 3:
        raise CheckpointError("is damaged: a storage's window is not three values")
    return _size(window[1]), _size(window[2])


def _tensor(
    storage: object, offset: object, shape: object, strides: object, *_rest: object
) -> Tensor:
    if not isinstance(storage, Storage):
        raise CheckpointError(f"is damaged: a tensor lies in a {type(storage).__name__}")
    return Tensor(storage, storage.element, _size(offset), _sizes(shape), _sizes(strides))


def _tensor_v2(*arguments: object) -> Tensor | Unreadable:
    metadata = arguments[6] if len(arguments) > 6 else None
    return Unreadable("lazily negated or conjugated") if metadata else _tensor(*arguments[:4])


def _tensor_v3(*arguments: object) -> Tensor | Unreadable:
    metadata = arguments[7] if len(arguments) > 7 else None
    kind = arguments[6]
    if metadata or not isinstance(kind, Name):
        return Unreadable("lazily negated or conjugated")
    tensor = _tensor(*arguments[:4])
    element = kind.text.removeprefix("torch.")
    return Tensor(tensor.storage, element, tensor.offset, tensor.shape, tensor.strides)


def _tensor_of_type(function: object, _kind: object, arguments: object, _state: object) -> object:
    if not (isinstance(function, Name) and CALLS.get(function.text) in _TENSOR_MAKERS):
        raise CheckpointError("is damaged: a tensor in it is made by something else than torch")
    return call(function, arguments)


def _first(value: object, *_rest: object) -> object:
    return value


def _refused(kind: str) -> Callable[..., Unreadable]:
    return lambda *_arguments: Unreadable(kind)


def _ignored(name: str) -> Callable[..., Inert]:
    return lambda *_arguments: Inert(name)


def _reconstructed(kind: object, _base: object, state: object) -> Inert:
    made = make_inert(kind)
    return Inert(made.name, items=state) if isinstance(state, dict) else made


def _mapping(pairs: object = (), *_rest: object) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key, value in pairs if isinstance(pairs, list) else ():
        made[hashable(key)] = value
    return made


def _set(members: object = ()) -> set[object]:
    if not isinstance(members, (list, tuple, set)):
        raise CheckpointError(f"is damaged: a set in it is made of a {type(members).__name__}")
    return {hashable(member) for member in members}


def hashable(key: object) -> object:
    """Give what stands for a key in a dict or set.

    Hashing nested tuples can take time that doubles with every level, and comparing long texts
    again and again takes for ever: such a key is replaced by a record of its own.
    """
    if isinstance(key, (str, bytes)):
        quick = len(key) <= _LONGEST_KEY
    elif isinstance(key, int):
        quick = key.bit_length() <= 64
    else:
        quick = isinstance(key, (float, type(None)))
    return key if quick else Inert("key")


def _size(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= _LARGEST_SIZE:
        raise CheckpointError("is damaged: a size or offset in it is not a number from 0 to 2^63")
    return value


def _sizes(values: object) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > _MOST_AXES:
        raise CheckpointError(
            f"is damaged: a tensor's shape is not a list of at most {_MOST_AXES} sizes"
        )
    return tuple(_size(value) for value in values)


def _short(text: str) -> str:
    return text if len(text) <= 100 and text.isprintable() else ascii(text[:100])


_CLASSES = """
builtins.object builtins.dict builtins.list builtins.tuple builtins.int builtins.float
builtins.bool builtins.str __builtin__.object __builtin__.dict __builtin__.list
__builtin__.tuple __builtin__.int __builtin__.long __builtin__.float __builtin__.bool
__builtin__.str __builtin__.unicode builtins.Ellipsis __builtin__.Ellipsis
"""
"""Built-in types that are named as values, such as the type of an option; harmless as a name."""

_IGNORED = """
_codecs.encode builtins.bytearray builtins.bytes builtins.complex builtins.range builtins.slice
__builtin__.bytearray __builtin__.bytes __builtin__.complex __builtin__.xrange __builtin__.slice
collections.Counter collections.defaultdict collections.deque datetime.date datetime.datetime
datetime.time datetime.timedelta datetime.timezone decimal.Decimal fractions.Fraction
numpy.core.multiarray.scalar numpy._core.multiarray.scalar numpy.dtype
numpy.random.__RandomState_ctor numpy.random._pickle.__bit_generator_ctor
numpy.random._pickle.__generator_ctor numpy.random._pickle.__randomstate_ctor
numpy.random.bit_generator.__pyx_unpickle_SeedSequence
pathlib.PosixPath pathlib.WindowsPath pathlib.PurePosixPath pathlib.PureWindowsPath
pathlib._local.PosixPath pathlib._local.WindowsPath random.Random
torch.device torch.nn.backends.thnn._get_thnn_function_backend torch.serialization._get_layout
types.SimpleNamespace
"""
"""What training scripts save beside a network, and what networks hold beside their tensors: of
no use here, so a record without content stands for it. (The backend is in whole networks that
torch before 1.2 saved.)"""

CALLS: Mapping[str, Callable[..., object]] = {
    **{name: _ignored(name) for name in _IGNORED.split()},
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
    "torch.nn.parameter.Parameter": _first,
    "torch.autograd.variable.Variable": _first,
    "torch._utils._rebuild_sparse_tensor": _refused("sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": _refused("sparse"),
    "torch._utils._rebuild_nested_tensor": _refused("nested"),
    "torch._utils._rebuild_qtensor": _refused("quantised"),
    "torch._utils._rebuild_meta_tensor_no_storage": _refused("meta, without values"),
    "torch._utils._rebuild_device_tensor_from_numpy": _refused("of another device"),
    "numpy.core.multiarray._reconstruct": _refused("numpy array"),
    "numpy._core.multiarray._reconstruct": _refused("numpy array"),
    "numpy.core.numeric._frombuffer": _refused("numpy array"),
    "numpy._core.numeric._frombuffer": _refused("numpy array"),
    "torch.Size": _first,
    "collections.OrderedDict": _mapping,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "builtins.frozenset": _set,
    "__builtin__.frozenset": _set,
    "copyreg._reconstructor": _reconstructed,
    "copy_reg._reconstructor": _reconstructed,
    "copyreg.__newobj__": make_inert,
    "copy_reg.__newobj__": make_inert,
}
"""What a checkpoint may call, by dotted name, and what is done then."""

_TENSOR_MAKERS = (_tensor, _tensor_v2, _tensor_v3)
