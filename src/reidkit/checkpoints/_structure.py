"""Where in a checkpoint's content the network's tensors are."""

from __future__ import annotations

import re
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
"""Keys under which training scripts save the network. One of them wins over any other key, such
as an `ema` beside it; two of them that hold different things refuse the file."""

_DEEPEST = 64
_PARTS = ("_parameters", "_buffers", "_modules")
_MOST_PARTS = 100_000
_LONGEST_PREFIX = 1000


def find_tensors(content: object) -> tuple[str, Tensors]:
    """Give the form of a checkpoint's content and the network's tensors by key.

    A state dict, or a whole network, or either inside a dict: under one of the usual names
    (which wins over tensors under any other name, such as a running average of the weights), or
    under any name if nothing else in the dict holds tensors.

    Raises:
        CheckpointError: there are no such tensors, or more than one set of them.
    """
    holders = _find_holders(content)
    trail: list[str] = []
    passed: set[int] = set()
    while len(trail) <= _DEEPEST and id(content) not in passed:
        passed.add(id(content))
        _refuse_optimizer(content)
        if _is_module(content):
            form, tensors = f"pickled module of class {_class(content)}", _of_module(content)
            break
        key = _wrapper(content, holders)
        if key is None:
            form, tensors = "state dict", _of_dict(content)
            break
        trail.append(key)
        content = _entries(content)[key]
    else:
        raise CheckpointError(
            f"nests dicts more than {_DEEPEST} deep, or in themselves: save the state dict alone"
        )
    if not tensors:
        raise CheckpointError(f"holds no tensors in its {form}: it is not a trained network")
    return form + (f" under {ascii('.'.join(trail))[:100]}" if trail else ""), tensors


def strip_module(tensors: dict[str, T]) -> dict[str, T]:
    """Take away the prefix `module.` (or several) of every key, left by data-parallel training."""
    shared = min((_length_of_prefix(key) for key in tensors), default=0)
    return {key[shared:]: tensor for key, tensor in tensors.items()}


def _length_of_prefix(key: str) -> int:
    found = re.match(r"(module\.)*(?=.)", key, re.DOTALL)
    return found.end() if found else 0


def _wrapper(content: object, found: set[int]) -> str | None:
    """Find the key that the network is under; none where `content` is itself the state dict."""
    entries = _entries(content)
    holders = [k for k, value in entries.items() if isinstance(k, str) and id(value) in found]
    usual = [key for key in _WRAPPERS if key in entries and id(entries[key]) in found]
    if len({id(entries[key]) for key in usual}) > 1:
        raise CheckpointError(
            f"holds tensors under {' and '.join(map(repr, usual))}, and which of them is the "
            "network is not plain: save the network's state dict alone"
        )
    if usual:
        return usual[0]
    # A dict of dicts may have figures beside them, such as the best accuracy as a tensor.
    own = any(isinstance(value, Tensor) and value.shape for value in entries.values())
    if holders and (own or len(holders) > 1):
        names = ", ".join(shown_key(key) for key in holders[:5])
        raise CheckpointError(
            f"holds tensors in {len(holders) + own} places ({names}"
            f"{', and its own entries' if own else ''}): save the network's state dict alone"
        )
    return holders[0] if holders else None


def _find_holders(content: object) -> set[int]:
    """Give the `id` of everything that could be a network or have one inside.

    That is a module, a dict with tensors, and every dict around one of these; an optimizer's
    state is none. Dicts can be in many others, or in themselves: each is visited once.
    """
    seen, waiting = {id(content)}, [content]
    around: dict[int, list[int]] = {}
    found: list[int] = []
    while waiting:
        value = waiting.pop()
        inside = () if _is_optimizer(value) else _entries(value).values()
        if _is_module(value) or any(isinstance(part, (Tensor, Unreadable)) for part in inside):
            found.append(id(value))
        for part in inside:
            if isinstance(part, (dict, Inert)):
                around.setdefault(id(part), []).append(id(value))
                if id(part) not in seen:
                    seen.add(id(part))
                    waiting.append(part)
    holders: set[int] = set()
    while found:
        holder = found.pop()
        if holder not in holders:
            holders.add(holder)
            found.extend(around.get(holder, ()))
    return holders


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
    lies in itself, or that thousands share one with thousands of parameters.
    """
    tensors: Tensors = {}
    waiting: list[tuple[str, object]] = [("", root)]
    parts = 0
    while waiting:
        prefix, module = waiting.pop()
        parts += 1 + sum(len(_part(module, name)) for name in _PARTS)
        if parts > _MOST_PARTS or len(prefix) > _LONGEST_PREFIX:
            raise CheckpointError(
                f"holds a pickled module with more than {_MOST_PARTS} parts, or one that holds "
                "itself: save its state dict"
            )
        for name, value in _own_tensors(module):
            tensors[prefix + name] = value
        children = _part(module, "_modules").items()
        below = [(f"{prefix}{name}.", child) for name, child in children if _is_module(child)]
        waiting.extend(reversed(below))
    return tensors


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
