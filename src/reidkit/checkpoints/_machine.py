"""A machine that interprets one pickle without running anything of it (see the package).

The standard library decodes the instructions (`pickletools.genops`, which only reads); what
each does to the stack is written here, one short function an instruction.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from reidkit.checkpoints import _known
from reidkit.checkpoints._values import Inert, Name, Storage, Tensor, Unreadable
from reidkit.errors import CheckpointError, UnsafeCheckpointError

_MOST_WORK = 2_000_000
"""More instructions than any network needs by far (ResNet-50: 10 thousand), seconds of work."""

_COPIED = (list, tuple, set, dict)

_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, struct.error, EOFError, Warning)
"""What damaged instructions raise; a warning (of an odd escape in a text) where it is an error."""


@dataclass(slots=True, eq=False, repr=False)
class Machine:
    """The state of one interpretation: the stack, the stacks below the marks, the memo."""

    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)
    work: int = 0

    def charge(self, amount: int) -> None:
        """Count work; refuse the file where it is more than any network needs."""
        self.work += amount
        if self.work > _MOST_WORK:
            raise CheckpointError(f"has a pickle that takes more than {_MOST_WORK} steps")

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop_to_mark(self) -> list[Any]:
        """Take everything above the last mark."""
        values, self.stack = self.stack, self.below.pop()
        return values


def interpret(file: BytesIO) -> tuple[object, dict[str, Storage]]:
    """Interpret the pickle that starts where `file` stands; leave it behind the pickle.

    Gives what the pickle describes, and the storages it mentions by key.

    Raises:
        CheckpointError: no pickle, or a damaged one.
        UnsafeCheckpointError: it would run code.
    """
    machine, name = Machine(), ""
    start, position = file.tell(), 0
    try:
        for opcode, argument, place in pickletools.genops(file):
            name, position = opcode.name, place or 0
            machine.charge(1)
            _step(machine, name, argument)
        return machine.stack.pop(), machine.storages
    except _DAMAGE as error:
        raise CheckpointError(
            f"is damaged: its pickle (at byte {start}) breaks off at byte {position} ({name}): "
            f"{str(error)[:200]}; get the file again"
        ) from error


def _step(machine: Machine, name: str, argument: Any) -> None:
    if name in _CONSTANTS:
        machine.push(argument)
    elif name in _INSTRUCTIONS:
        _INSTRUCTIONS[name](machine, argument)
    else:
        shown = "" if argument is None else f" {ascii(argument)[:100]}"
        raise UnsafeCheckpointError(
            f"uses the pickle instruction {name}{shown}, which no checkpoint needs and an "
            "attack does: nothing of it was run"
        )


def _global(machine: Machine, argument: Any) -> None:
    module, _, attribute = argument.partition(" ")
    machine.push(_known.name_of(module, attribute))


def _stack_global(machine: Machine, _argument: Any) -> None:
    attribute, module = machine.stack.pop(), machine.stack.pop()
    machine.push(_known.name_of(module, attribute))


def _reduce(machine: Machine, _argument: Any) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    if isinstance(arguments, tuple):  # what is in the memo could be copied without end
        machine.charge(len(arguments))
        machine.charge(sum(len(part) for part in arguments if isinstance(part, _COPIED)))
    machine.push(_known.call(function, arguments))


def _instance(machine: Machine, argument: Any) -> None:
    arguments = machine.pop_to_mark()  # first: a text file may start like this instruction
    _global(machine, argument)
    _old_object(machine, [machine.stack.pop(), *arguments])


def _old_object(machine: Machine, values: list[Any]) -> None:
    kind, *arguments = values
    machine.push(_known.call(kind, tuple(arguments)) if arguments else _known.make_inert(kind))


def _new_object(machine: Machine, _argument: Any) -> None:
    _arguments, kind = machine.stack.pop(), machine.stack.pop()
    machine.push(_known.make_inert(kind))


def _new_object_extended(machine: Machine, _argument: Any) -> None:
    machine.stack.pop()
    _new_object(machine, None)


def _build(machine: Machine, _argument: Any) -> None:
    state = machine.stack.pop()
    target = machine.stack[-1]
    # The state of a container or a tensor is of no use (an OrderedDict's `_metadata`, a
    # tensor's hooks). Anything else has no state: whoever builds on it wants to change it.
    if isinstance(target, (dict, Tensor, Unreadable)):
        return
    if not isinstance(target, Inert):
        shown = target.text if isinstance(target, Name) else type(target).__name__
        raise UnsafeCheckpointError(
            f"sets attributes of {ascii(shown)[:100]}: nothing of it was run"
        )
    for part in state[:2] if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            machine.charge(len(part))
            target.state.update(part)


def _persistent(machine: Machine, _argument: Any) -> None:
    identity = machine.stack.pop()
    if not isinstance(identity, tuple) or len(identity) < 2:
        raise CheckpointError("is damaged: a persistent id in it is not a tuple")
    kind = identity[0].decode("latin-1") if isinstance(identity[0], bytes) else identity[0]
    if kind == "module":  # how the legacy format marks a class; source code may follow
        machine.push(identity[1])
    elif kind == "storage":
        machine.push(_remembered(machine, _known.storage_of(*identity[1:])))
    else:
        raise CheckpointError("is damaged: a persistent id in it is of no known kind")


def _persistent_text(_machine: Machine, _argument: Any) -> None:
    raise CheckpointError(
        "was saved with pickle protocol 0, which describes its storages by texts: save it again "
        "with the default protocol, torch.save(content, path)"
    )


def _remembered(machine: Machine, storage: Storage) -> Storage:
    known = machine.storages.setdefault(storage.key, storage)
    if (known.element, known.stored) != (storage.element, storage.stored):
        raise CheckpointError(
            f"is damaged: storage {ascii(storage.key)[:100]} is described as {known.stored} "
            f"{known.element} and as {storage.stored} {storage.element}"
        )
    return storage


def _set_items(machine: Machine, values: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, Inert):
        target = target.items
    if not isinstance(target, dict):
        raise CheckpointError(f"is damaged: it sets items of a {type(target).__name__}")
    target.update(_pairs(values))


def _pairs(values: list[Any]) -> dict[object, Any]:
    keys = (_known.hashable(key) for key in values[::2])
    return dict(zip(keys, values[1::2], strict=True))


def _append(machine: Machine, values: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Inert):
        raise CheckpointError(f"is damaged: it appends to a {type(target).__name__}")


def _set_item(machine: Machine, _argument: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set_items(machine, [key, value])


def _mark(machine: Machine, _argument: Any) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine, _argument: Any) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_to_mark()


def _tuple_of(count: int) -> Callable[[Machine, Any], None]:
    def take(machine: Machine, _argument: Any) -> None:
        values = [machine.stack.pop() for _ in range(count)]
        machine.push(tuple(reversed(values)))

    return take


def _add_items(machine: Machine, _argument: Any) -> None:
    values = machine.pop_to_mark()
    target = machine.stack[-1]
    if not isinstance(target, set):
        raise CheckpointError(f"is damaged: it adds members to a {type(target).__name__}")
    target.update(_known.hashable(value) for value in values)


def _put(machine: Machine, index: Any) -> None:
    machine.memo[index] = machine.stack[-1]


_PUSHED = """
INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
"""
_CONSTANTS = frozenset(_PUSHED.split())
"""The instructions that only push their argument."""

_INSTRUCTIONS: Mapping[str, Callable[[Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": lambda machine, _: machine.pop_to_mark().clear(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "LIST": lambda machine, _: machine.push(machine.pop_to_mark()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "DICT": lambda machine, _: machine.push(_pairs(machine.pop_to_mark())),
    "FROZENSET": lambda machine, _: machine.push({*map(_known.hashable, machine.pop_to_mark())}),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": lambda machine, _: _append(machine, [machine.stack.pop()]),
    "APPENDS": lambda machine, _: _append(machine, machine.pop_to_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: _set_items(machine, machine.pop_to_mark()),
    "ADDITEMS": _add_items,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
    "GET": lambda machine, index: machine.push(machine.memo[index]),
    "BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "INST": _instance,
    "OBJ": lambda machine, _: _old_object(machine, machine.pop_to_mark()),
    "NEWOBJ": _new_object,
    "NEWOBJ_EX": _new_object_extended,
    "BUILD": _build,
    "BINPERSID": _persistent,
    "PERSID": _persistent_text,
}
"""Every instruction that does more than that; any other refuses the file."""
