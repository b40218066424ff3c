"""Where in a checkpoint's content the network's tensors are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from reidkit.checkpoints._tensors import shown_key
from reidkit.checkpoints._values import Inert, Tensor, Unreadable
from reidkit.errors import CheckpointError

T = TypeVar("T")
Tensors = dict[str, Tensor | Unreadable]

_WRAPPERS = (
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "net_dict",
    "module",
    "weights",
    "params",
)
"""Keys under which training scripts save the network, the surest first."""

_DEEPEST = 64
_MOST_MODULES = 100_000


def find_tensors(content: object) -> tuple[str, Tensors]:
    """Give the form of a checkpoint's content and the network's tensors by key.

    A state dict, or a whole network, or either inside a dict: under one of the usual names, or
    under any name if nothing else in the dict holds tensors.

    Raises:
        CheckpointError: there are no such tensors, or more than one set of them.
    """
    trail: list[str] = []
    while len(trail) <= _DEEPEST:
        _refuse_optimizer(content)
        if _is_module(content):
            form, tensors = f"pickled module of class {_class(content)}", _of_module(content)
            break
        key = _wrapper(content)
        if key is None:
            form, tensors = "state dict", _of_dict(content)
            break
        trail.append(key)
        content = _entries(content)[key]
    else:
        raise CheckpointError(f"nests dicts more than {_DEEPEST} deep: save the state dict alone")
    if not tensors:
        raise CheckpointError(f"holds no tensors in its {form}: it is not a trained network")
    return form + (f" under {ascii('.'.join(trail))[:100]}" if trail else ""), tensors


def strip_module(tensors: dict[str, T]) -> dict[str, T]:
    """Take away the prefix `module.` that data-parallel training puts before every key."""
    prefix = "module."
    while all(key.startswith(prefix) and len(key) > len(prefix) for key in tensors):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _wrapper(content: object) -> str | None:
    """Find the key that the network is under; none where `content` is itself the state dict."""
    entries = _entries(content)
    holders = [key for key, value in entries.items() if isinstance(key, str) and _holds(value)]
    for key in _WRAPPERS:
        if key in holders:
            return key
    # A dict of dicts may have figures beside them, such as the best accuracy as a tensor.
    own = any(isinstance(value, Tensor) and value.shape for value in entries.values())
    if holders and (own or len(holders) > 1):
        names = ", ".join(shown_key(key) for key in holders[:5])
        raise CheckpointError(
            f"holds tensors in {len(holders) + own} places ({names}"
            f"{', and its own entries' if own else ''}): save the network's state dict alone"
        )
    return holders[0] if holders else None


def _holds(value: object) -> bool:
    """Say whether a value could be a network: a module, or a dict with tensors at some depth."""
    level: list[object] = [value]
    for _ in range(4):
        if any(_is_module(part) for part in level):
            return True
        below: list[object] = []
        for part in level:
            if not _is_optimizer(part):
                below.extend(_entries(part).values())
        if any(isinstance(part, (Tensor, Unreadable)) for part in below):
            return True
        level = [part for part in below if _is_module(part) or _entries(part)][:100]
    return False


def _of_dict(content: object) -> Tensors:
    entries = _entries(content)
    if not isinstance(content, dict) and not entries:
        kind = _class(content) if isinstance(content, Inert) else type(content).__name__.lower()
        raise CheckpointError(f"holds one {kind}, not a network: save its state dict")
    tensors: Tensors = {}
    for key, value in entries.items():
        if isinstance(value, (Tensor, Unreadable)):
            if not isinstance(key, str):
                raise CheckpointError(
                    "holds tensors under keys that are no texts: it is not a network's state dict"
                )
            tensors[key] = value
    if not tensors:
        names = ", ".join(shown_key(key) for key in entries if isinstance(key, str))[:300]
        raise CheckpointError(
            f"holds a dict without tensors (keys: {names or 'none'}): it is not a network"
        )
    return tensors


def _of_module(root: object) -> Tensors:
    """Collect what `state_dict()` of a network would give, in its order.

    A walk with its own stack: the file says how deep modules lie, and may say that a module
    lies in itself.
    """
    tensors: Tensors = {}
    waiting: list[tuple[str, object]] = [("", root)]
    for _ in range(_MOST_MODULES):
        if not waiting:
            return tensors
        prefix, module = waiting.pop()
        if len(prefix) > 2000:
            break
        for name, value in _own_tensors(module):
            tensors[prefix + name] = value
        children = _part(module, "_modules").items()
        below = [(f"{prefix}{name}.", child) for name, child in children if _is_module(child)]
        waiting.extend(reversed(below))
    raise CheckpointError(
        f"holds a pickled module with more than {_MOST_MODULES} parts, or one that holds itself"
    )


def _own_tensors(module: object) -> list[tuple[str, Tensor | Unreadable]]:
    state = module.state if isinstance(module, Inert) else {}
    names = state.get("_non_persistent_buffers_set")
    dropped = names if isinstance(names, set) else set()
    buffers = _part(module, "_buffers")
    named = [*_part(module, "_parameters").items()]
    named += [(name, value) for name, value in buffers.items() if name not in dropped]
    return [
        (name, value)
        for name, value in named
        if isinstance(name, str) and isinstance(value, (Tensor, Unreadable))
    ]


def _part(module: object, name: str) -> Mapping[Any, Any]:
    return _entries(module.state.get(name)) if isinstance(module, Inert) else {}


def _is_module(value: object) -> bool:
    return isinstance(value, Inert) and ("_modules" in value.state or "_parameters" in value.state)


def _is_optimizer(value: object) -> bool:
    return "param_groups" in (value.state if isinstance(value, Inert) else _entries(value))


def _refuse_optimizer(content: object) -> None:
    if _is_optimizer(content):
        raise CheckpointError(
            "holds an optimizer's state, not a network: use the file that was saved beside it "
            "for the model"
        )


def _entries(value: object) -> Mapping[Any, Any]:
    if isinstance(value, Inert):
        return value.items
    return value if isinstance(value, dict) else {}


def _class(value: object) -> str:
    return shown_key(value.name)[1:-1] if isinstance(value, Inert) else type(value).__name__
