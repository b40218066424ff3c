"""Calls of the Ascend toolkit: their return codes, and memory on the device.

Functions take the `acl` module as their first argument: only `_ascend` imports it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from reidkit.errors import DeviceError, EngineError

_HUGE_PAGES_FIRST = 0

_HINTS = {
    r"507033|EL0*3\b": (
        "the device cannot be opened: check that `npu-smi info` lists it as OK, that this user "
        "belongs to the driver's group (HwHiAiUser), and that a container was given /dev/davinci*"
    ),
    "EE1001": (
        "the file may be compiled for another chip: compile the .onnx again with "
        "--soc_version=$(reidkit ascend soc)"
    ),
}
"""What helps, by the sign of it in a failure's text."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A dataset of the toolkit and the device memory that its buffers point to."""

    dataset: int
    pointers: tuple[int, ...]
    sizes: tuple[int, ...]


def check(acl: Any, doing: str, answer: Any) -> Any:
    """Give what a call answered besides its return code.

    Raises:
        DeviceError: it failed, because of the device or because the file is for another chip.
        EngineError: it failed otherwise.
    """
    value, code = answer if isinstance(answer, tuple) else (None, answer)
    if code != 0:
        raise failure(acl, f"{doing}: return code {code}")
    return value


def check_made(acl: Any, doing: str, handle: int | None) -> int:
    """Give the handle of what a call made; such calls have no return code but give 0.

    Raises:
        EngineError: nothing was made.
    """
    if not handle:
        raise failure(acl, doing)
    return handle


def free_later(acl: Any, resources: ExitStack, release: Callable[[int], Any], handle: int) -> None:
    """Have `resources` release what a call made, and check that as well."""
    what = getattr(release, "__name__", "a release")
    resources.callback(lambda: check(acl, f"{what} failed", release(handle)))


def failure(acl: Any, text: str) -> EngineError:
    """Make the error for a failed call: what the toolkit says of it, and what helps."""
    message = getattr(acl, "get_recent_err_msg", lambda: None)()
    text += f": {message}" if message else ""
    hint = next((hint for sign, hint in _HINTS.items() if re.search(sign, text)), None)
    return EngineError(text) if hint is None else DeviceError(f"{text}; {hint}")


def allocate(acl: Any, sizes: Sequence[int], resources: ExitStack) -> Memory:
    """Make a dataset with device memory of these sizes, and leave it to `resources` to free.

    Raises:
        EngineError: there is not enough memory on the device.
    """
    dataset = check_made(acl, "no dataset was made", acl.mdl.create_dataset())
    free_later(acl, resources, acl.mdl.destroy_dataset, dataset)
    pointers = []
    for size in sizes:
        answer = acl.rt.malloc(size, _HUGE_PAGES_FIRST)
        pointer = check(acl, f"no {size} bytes on the device", answer)
        free_later(acl, resources, acl.rt.free, pointer)
        buffer = check_made(acl, "no buffer was made", acl.create_data_buffer(pointer, size))
        free_later(acl, resources, acl.destroy_data_buffer, buffer)
        answer = acl.mdl.add_dataset_buffer(dataset, buffer)
        check(acl, "a buffer cannot be added to its dataset", answer)
        pointers.append(pointer)
    return Memory(dataset, tuple(pointers), tuple(sizes))
