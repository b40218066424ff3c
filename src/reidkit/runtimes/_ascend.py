"""pyACL under a `Session`: an `.om` of the real compiler on an Ascend chip.

The module `acl` comes with the chip's toolkit and is imported only when such a file is opened.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from reidkit.errors import DeviceError, EngineError
from reidkit.runtimes import _ascend_model as model
from reidkit.runtimes._ascend_calls import allocate, check, check_made, free_later
from reidkit.runtimes.sessions import Array, Run, check_arrays

_TO_DEVICE, _TO_HOST = 1, 2
_ALREADY_INITIALISED = 100002

_LOCK = threading.RLock()
_initialised: list[tuple[Any, int]] = []
"""The `acl` modules that are ready, each with the process it is ready in."""

_users: Counter[tuple[int, int, int]] = Counter()
"""Open sessions by (`acl` module, process, device)."""

_open_sessions: weakref.WeakSet[AclSession] = weakref.WeakSet()


class AclSession:
    """A `Session` over an `.om` file of the real compiler.

    A model with gears shows -1 for the sizes that they choose; `run` takes the gear that fits the
    arrays. Memory on the device is allocated once, for the largest gear. It may be used from any
    thread; runs of one session follow one another.

    Raises:
        DeviceError: no toolkit or no usable device here, or the file is for another chip.
        EngineError: the file does not load, or has a type or kind of shape that is not run.
    """

    def __init__(self, path: Path, *, device: int = 0) -> None:
        self._acl = acl = _import_acl(path)
        self._lock = threading.Lock()
        self._closed = False
        with ExitStack() as resources:
            _take_device(acl, device)
            resources.callback(_give_device, acl, device)
            opening = f"acl open device {device} failed"
            self._context = check(acl, opening, acl.rt.create_context(device))
            free_later(acl, resources, acl.rt.destroy_context, self._context)
            loading = f"load model from file failed, model file is {path}"
            self._model = check(acl, loading, acl.mdl.load_from_file(str(path)))
            free_later(acl, resources, acl.mdl.unload, self._model)
            self._descriptor = check_made(acl, "no descriptor was made", acl.mdl.create_desc())
            free_later(acl, resources, acl.mdl.destroy_desc, self._descriptor)
            answer = acl.mdl.get_desc(self._descriptor, self._model)
            check(acl, f"{path} does not describe itself", answer)
            facts = self._facts = model.describe(acl, self._descriptor, path)
            self._given = allocate(acl, facts.input_sizes, resources)
            self._made = allocate(acl, facts.output_sizes, resources)
            self._resources = resources.pop_all()
        self.inputs, self.outputs = facts.inputs, facts.outputs
        by_batch = facts.gears is not None and facts.gears.kind == "batch"
        choices = facts.gears.choices if by_batch and facts.gears else ()
        self.batch_gears: tuple[int, ...] = tuple(size for (size,) in choices)
        chip = acl.get_soc_name()
        self.device = f"npu:{device}" + (f" ({chip})" if chip else "")
        _open_sessions.add(self)

    def run(self, arrays: Sequence[Array]) -> Run:
        """Run the model once."""
        with self._lock:
            if self._closed:
                raise EngineError("the session is closed")
            check_arrays(arrays, self.inputs)
            # A context belongs to a thread until that thread, or another, takes it.
            check(self._acl, "the context is not usable", self._acl.rt.set_context(self._context))
            self._set_gear(arrays)
            started = time.perf_counter()
            self._send(arrays)
            sent = time.perf_counter()
            answer = self._acl.mdl.execute(self._model, self._given.dataset, self._made.dataset)
            check(self._acl, "the model failed", answer)
            computed = time.perf_counter()
            outputs = self._receive()
            received = time.perf_counter()
        return Run(
            outputs,
            computed=1000 * (computed - sent),
            sent=1000 * (sent - started),
            received=1000 * (received - computed),
        )

    def close(self) -> None:
        """Unload the model and free all that it has on the device."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with self._resources:
                answer = self._acl.rt.set_context(self._context)
                check(self._acl, "the context is not usable", answer)

    def _set_gear(self, arrays: Sequence[Array]) -> None:
        gears = self._facts.gears
        if gears is not None:
            gear = model.choose_gear(gears, arrays, self.inputs)
            model.set_gear(self._acl, self._model, self._given.dataset, gears, gear)

    def _send(self, arrays: Sequence[Array]) -> None:
        for index, spec, array in zip(self._shown(), self.inputs, arrays, strict=True):
            array = np.asarray(array, order="C")
            pointer, size = self._given.pointers[index], self._given.sizes[index]
            if array.nbytes > size:
                raise EngineError(f"{spec.name} has {array.nbytes} bytes, the model takes {size}")
            answer = self._acl.rt.memcpy(pointer, size, array.ctypes.data, array.nbytes, _TO_DEVICE)
            check(self._acl, f"{spec.name} was not copied to the device", answer)

    def _receive(self) -> tuple[Array, ...]:
        outputs = []
        for index, spec in enumerate(self.outputs):
            shape = model.current_shape(self._acl, self._descriptor, index)
            pointer, size = self._made.pointers[index], self._made.sizes[index]
            if min(shape, default=1) < 0 or model.bytes_of(shape, spec.dtype) > size:
                raise EngineError(f"{spec.name} is {shape} {spec.dtype}, more than {size} bytes")
            output = np.empty(shape, spec.dtype)
            answer = self._acl.rt.memcpy(
                output.ctypes.data, output.nbytes, pointer, output.nbytes, _TO_HOST
            )
            check(self._acl, f"{spec.name} was not copied from the device", answer)
            outputs.append(output)
        return tuple(outputs)

    def _shown(self) -> list[int]:
        """Give the model's own numbers of the inputs that are not hidden."""
        gears = self._facts.gears
        hidden = None if gears is None else gears.input
        return [index for index in range(len(self._given.sizes)) if index != hidden]


def soc_name() -> str | None:
    """Give the name of this machine's chip as the toolkit knows it, such as `Ascend310P3`.

    None where there is no toolkit, or it sees no chip.
    """
    try:
        import acl
    except ImportError:
        return None
    return getattr(acl, "get_soc_name", lambda: None)() or None


def _import_acl(path: Path) -> Any:
    reason = ""
    try:
        import acl
    except ImportError as error:
        if error.name != "acl":  # it is there, but not the libraries that it needs
            reason = f" ({error})"
    else:
        if getattr(acl, "mdl", None) is not None:
            return acl
        reason = " (the module acl that is installed here is another one)"
    raise DeviceError(
        f"{path} was compiled by the real atc and needs an Ascend chip and its toolkit (pyACL, "
        f"module acl){reason}: run it on that machine after 'source .../set_env.sh', or compile "
        "the .onnx here with reidkit ascend atc"
    )


def _take_device(acl: Any, device: int) -> None:
    """Make the toolkit ready in this process, and open a device for its first session."""
    with _LOCK:
        _initialise(acl)
        key = (id(acl), os.getpid(), device)
        if not _users[key]:
            check(acl, f"acl open device {device} failed", acl.rt.set_device(device))
        _users[key] += 1


def _give_device(acl: Any, device: int) -> None:
    """Release a device after its last session: that would end the others' contexts."""
    with _LOCK:
        key = (id(acl), os.getpid(), device)
        _users[key] -= 1
        if not _users[key]:
            check(acl, f"device {device} cannot be released", acl.rt.reset_device(device))


def _initialise(acl: Any) -> None:
    """Initialise the toolkit once in a process, a forked one included.

    It can be finalised only once, and not be initialised again after that, so that finalising it
    with the last session would make that session the process's last: this waits for the exit.
    """
    process = os.getpid()
    if any(ready is acl and owner == process for ready, owner in _initialised):
        return
    answer = acl.init()
    if answer != _ALREADY_INITIALISED:  # else by other code in this process, which finalises it
        check(acl, "acl init failed", answer)
        atexit.register(_finalise, acl, process)
    _initialised.append((acl, process))


def _finalise(acl: Any, process: int) -> None:
    if os.getpid() != process:  # a forked child does not finalise for its parent
        return
    with ExitStack() as stack:  # whatever fails, the rest is done
        stack.callback(acl.finalize)
        for session in list(_open_sessions):
            stack.callback(session.close)
