"""A stand-in for pyACL, the toolkit's module `acl`, that is strict where the real one crashes.

It keeps device memory of its own, checks the order and the sizes of what is asked of it, and knows
at the end what was not given back. A wrong use is an `AssertionError`, so that no code under test
takes it for a return code. It can be told to fail at any one call.

A model is a file that starts with the magic of a real one and says in JSON what it takes; what it
computes is a numpy function that the test gives.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit.runtimes._ascend_model import ACL_TYPES

Arrays = list[NDArray[Any]]
Compute = Callable[[Arrays], Sequence[NDArray[Any]]]

FAILED = 507899
HIDDEN = "ascend_mbatch_shape_data"
REPEATED = 100002
TYPE_NUMBERS = {dtype.name: number for number, dtype in ACL_TYPES.items()}


def write_om(path: Path, inputs: dict[str, tuple[str, list[int]]], **facts: object) -> Path:
    """Write a model file.

    `inputs` gives the type and shape of each input by name; `facts` are `batch`, `hw` or `dims`,
    lists of gears, `outputs`, the names of the outputs, `soc`, the chip it is compiled for, and
    `types`, type numbers for the outputs that are not those of the arrays computed.
    """
    path.write_bytes(b"IMOD" + json.dumps({"inputs": inputs, **facts}).encode())
    return path


@dataclass
class Model:
    inputs: dict[str, tuple[str, list[int]]]
    compute: Compute
    batch: list[int] = field(default_factory=list)
    hw: list[list[int]] = field(default_factory=list)
    dims: list[list[int]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=lambda: ["class"])
    soc: str = "Ascend310P3"
    types: list[int] = field(default_factory=list)

    @property
    def gears(self) -> list[tuple[int, ...]]:
        return [(size,) for size in self.batch] or [tuple(g) for g in self.hw or self.dims]

    @property
    def settings(self) -> Sequence[tuple[int, ...] | None]:
        """Give the gears, or None once where there are none."""
        return self.gears or [None]

    @property
    def names(self) -> list[str]:
        return [*self.inputs, *([HIDDEN] if self.gears else [])]

    def shapes(self, gear: tuple[int, ...] | None) -> list[tuple[int, ...]]:
        """Give the shapes of the inputs under a gear; -1 where it is None."""
        shapes = [shape for _, shape in self.inputs.values()]
        if gear is None:
            return [tuple(shape) for shape in shapes]
        sizes = iter(gear)
        if self.dims:
            return [tuple(next(sizes) for _ in shape) for shape in shapes]
        return [self._fill(shape, gear) for shape in shapes]

    @staticmethod
    def _fill(shape: list[int], gear: tuple[int, ...]) -> tuple[int, ...]:
        sizes = iter(gear)
        return tuple(next(sizes) if size == -1 else size for size in shape)

    def run(self, arrays: Arrays) -> Arrays:
        made = [np.asarray(array, order="C") for array in self.compute(arrays)]
        assert len(made) == len(self.outputs), "the test's function gives other outputs"
        return made

    def dtypes(self) -> list[np.dtype[Any]]:
        return [np.dtype(name) for name, _ in self.inputs.values()]

    def zeros(self, gear: tuple[int, ...] | None) -> Arrays:
        shapes = [[abs(size) for size in shape] for shape in self.shapes(gear)]
        return [np.zeros(s, d) for s, d in zip(shapes, self.dtypes(), strict=True)]

    def input_sizes(self) -> list[int]:
        if any(-1 in shape for shape in self.shapes(None)) and not self.gears:
            return [0] * len(self.inputs)
        every = [[a.nbytes for a in self.zeros(gear)] for gear in self.settings]
        sizes = [max(sizes) for sizes in zip(*every, strict=True)]
        return [*sizes, *([8] if self.gears else [])]

    def largest_outputs(self) -> Arrays:
        every = [self.run(self.zeros(gear)) for gear in self.settings]
        return [max(arrays, key=lambda array: array.nbytes) for arrays in zip(*every, strict=True)]


class FakeAcl:
    """The module: install it with `install`."""

    def __init__(self, compute: Compute, *, devices: int = 1, soc: str = "Ascend310P3") -> None:
        self.compute, self.devices, self.soc = compute, devices, soc
        self.calls: list[str] = []
        self.executed = 0
        self.fail_at: int | None = None
        self.fail_code, self.fail_text = FAILED, ""
        self.initialised = self.finalised = False
        self._message: str | None = None
        self._threads: dict[int, int | None] = {}
        self._handles = itertools.count(1 << 44, 1 << 24)
        self._set_devices: set[int] = set()
        self._contexts: set[int] = set()
        self._models: dict[int, Model] = {}
        self._descriptors: dict[int, int | None] = {}
        self._gears: dict[int, tuple[int, ...]] = {}
        self._memory: dict[int, bytearray] = {}
        self._written: dict[int, int] = {}
        self._buffers: dict[int, tuple[int, int]] = {}
        self._datasets: dict[int, list[int]] = {}
        self._owners: dict[int, int | None] = {}
        self.rt, self.mdl = self._rt(), self._mdl()
        self.util = SimpleNamespace()

    def leaks(self) -> dict[str, int]:
        """Count what was not given back."""
        held: dict[str, Any] = {
            "devices": self._set_devices,
            "contexts": self._contexts,
            "models": self._models,
            "descriptors": self._descriptors,
            "memory": self._memory,
            "buffers": self._buffers,
            "datasets": self._datasets,
        }
        return {name: len(things) for name, things in held.items() if things}

    # --- the module's own functions

    def init(self) -> int:
        if self._fails("init"):
            return self.fail_code
        assert not self.finalised, "init after finalize"
        if self.initialised:
            return REPEATED
        self.initialised = True
        return 0

    def finalize(self) -> int:
        self.calls.append("finalize")
        assert self.initialised, "finalize before init, or twice"
        assert not self.leaks(), f"finalize with {self.leaks()}"
        self.initialised, self.finalised = False, True
        return 0

    def get_recent_err_msg(self) -> str | None:
        message, self._message = self._message, None
        return message

    def get_soc_name(self) -> str | None:
        return None if self._fails("get_soc_name") else self.soc

    def create_data_buffer(self, pointer: int, size: int) -> int:
        if self._fails("create_data_buffer"):
            return 0
        assert size == len(self._memory[pointer]), "a buffer of another size than its memory"
        return self._keep(self._buffers, (pointer, size))

    def destroy_data_buffer(self, buffer: int) -> int:
        if self._refuses("destroy_data_buffer", self._buffers, buffer):
            return self.fail_code
        assert buffer in self._buffers, "a buffer was destroyed twice"
        del self._buffers[buffer]
        return 0

    # --- acl.rt

    def _rt(self) -> SimpleNamespace:
        return SimpleNamespace(
            set_device=self._set_device,
            reset_device=self._reset_device,
            create_context=self._create_context,
            destroy_context=self._destroy_context,
            set_context=self._set_context,
            malloc=self._malloc,
            free=self._free,
            memcpy=self._memcpy,
        )

    def _set_device(self, device: int) -> int:
        if self._fails("set_device"):
            return self.fail_code
        assert self.initialised, "set_device before init"
        if device not in range(self.devices):
            self._message = "EL0003: The argument is invalid. invalid device id"
            return 107001
        self._set_devices.add(device)
        return 0

    def _reset_device(self, device: int) -> int:
        if self._refuses("reset_device", self._set_devices, device):
            return self.fail_code
        assert device in self._set_devices, "a device was reset twice"
        assert not self._contexts, "reset_device ends contexts that are in use"
        self._set_devices.remove(device)
        return 0

    def _create_context(self, device: int) -> tuple[int, int]:
        if self._fails("create_context"):
            return 0, self.fail_code
        assert device in self._set_devices, "create_context before set_device"
        context = next(self._handles)
        self._contexts.add(context)
        self._threads[threading.get_ident()] = context
        return context, 0

    def _destroy_context(self, context: int) -> int:
        if self._refuses("destroy_context", self._contexts, context):
            return self.fail_code
        assert context in self._contexts, "a context was destroyed twice"
        held = self._holds(context, self._memory, self._models)
        assert not held, "destroy_context before free and unload"
        self._contexts.remove(context)
        return 0

    def _set_context(self, context: int) -> int:
        if self._fails("set_context"):
            return self.fail_code
        assert context in self._contexts, "set_context after destroy_context"
        self._threads[threading.get_ident()] = context
        return 0

    def _malloc(self, size: int, policy: int) -> tuple[int, int]:
        if self._fails("malloc"):
            return 0, self.fail_code
        self._check_context()
        assert size > 0, "malloc of nothing"
        assert policy in (0, 1, 2), "malloc with another policy"
        # What was never written reads as noise, never as zeros.
        return self._keep(self._memory, bytearray(b"\xa5" * size)), 0

    def _free(self, pointer: int) -> int:
        if self._refuses("free", self._memory, pointer):
            return self.fail_code
        self._check_context()
        assert pointer in self._memory, "memory was freed twice"
        assert all(at != pointer for at, _ in self._buffers.values()), "free of memory in a buffer"
        del self._memory[pointer]
        self._written.pop(pointer, None)
        return 0

    def _memcpy(self, to: int, most: int, source: int, count: int, kind: int) -> int:
        if self._fails("memcpy"):
            return self.fail_code
        self._check_context()
        assert count <= most, "memcpy of more than the destination holds"
        if kind == 1:
            assert most <= len(self._memory[to]), "memcpy past the end of device memory"
            assert source not in self._memory, "memcpy to the device from the device"
            self._memory[to][:count] = ctypes.string_at(source, count)
            self._written[to] = count
        else:
            assert kind == 2, "memcpy of another kind"
            assert count <= len(self._memory[source]), "memcpy past the end of device memory"
            assert to not in self._memory, "memcpy to the host to the device"
            ctypes.memmove(to, bytes(self._memory[source][:count]), count)
        return 0

    # --- acl.mdl

    def _mdl(self) -> SimpleNamespace:
        return SimpleNamespace(
            load_from_file=self._load,
            unload=self._unload,
            create_desc=self._create_descriptor,
            get_desc=self._fill_descriptor,
            destroy_desc=self._destroy_descriptor,
            get_num_inputs=self._reads("get_num_inputs", lambda m: len(m.names), 0),
            get_num_outputs=self._reads("get_num_outputs", lambda m: len(m.outputs), 0),
            get_input_name_by_index=self._reads("input_name", lambda m, i: m.names[i], ""),
            get_output_name_by_index=self._reads("output_name", lambda m, i: m.outputs[i], ""),
            get_input_size_by_index=self._reads("input_size", lambda m, i: m.input_sizes()[i], 0),
            get_output_size_by_index=self._reads("output_size", _output_size, 0),
            get_input_data_type=self._reads("input_type", _input_type, -1),
            get_output_data_type=self._reads("output_type", _output_type, -1),
            get_input_dims=self._answers("input_dims", lambda m, i: _dims(m.shapes(None)[i])),
            get_output_dims=self._answers(
                "output_dims", lambda m, i: _dims(m.largest_outputs()[i].shape)
            ),
            get_cur_output_dims=self._answers("cur_output_dims", self._current_dims),
            get_dynamic_batch=self._answers(
                "dynamic_batch", lambda m: {"batchCount": len(m.batch), "batch": list(m.batch)}
            ),
            get_dynamic_hw=self._answers(
                "dynamic_hw", lambda m, _: {"hwCount": len(m.hw), "hw": list(m.hw)}
            ),
            get_input_dynamic_gear_count=self._answers("gear_count", lambda m, _: len(m.dims)),
            get_input_dynamic_dims=self._answers(
                "dynamic_dims", lambda m, _, count: [_dims(gear) for gear in m.dims[:count]]
            ),
            set_dynamic_batch_size=self._set_gear,
            set_dynamic_hw_size=self._set_gear,
            set_input_dynamic_dims=lambda model, data, at, dims: self._set_gear(
                model, data, at, *dims["dims"]
            ),
            create_dataset=self._create_dataset,
            add_dataset_buffer=self._add_buffer,
            destroy_dataset=self._destroy_dataset,
            execute=self._execute,
        )

    def _load(self, path: str) -> tuple[int, int]:
        if self._fails("load_from_file"):
            return 0, self.fail_code
        self._check_context()
        data = Path(path).read_bytes()
        if not data.startswith(b"IMOD"):
            return 0, 145000
        try:
            facts = json.loads(data[4:])
        except ValueError:
            return 0, 545005
        model = Model(compute=self.compute, **facts)
        if model.soc != self.soc:
            self._message = (
                f"EE1001: The argument is invalid. Reason: supported socVersion {self.soc}, "
                f"but the model socVersion is {model.soc}"
            )
            return 0, 545000
        return self._keep(self._models, model), 0

    def _unload(self, model: int) -> int:
        if self._refuses("unload", self._models, model):
            return self.fail_code
        assert model in self._models, "a model was unloaded twice"
        held = self._holds(self._owners[model], self._datasets, self._buffers, self._memory)
        assert not held, "unload before the datasets"
        del self._models[model]
        return 0

    def _create_descriptor(self) -> int:
        return 0 if self._fails("create_desc") else self._keep(self._descriptors, None)

    def _fill_descriptor(self, descriptor: int, model: int) -> int:
        if self._fails("get_desc"):
            return self.fail_code
        assert model in self._models, "get_desc before load_from_file"
        assert descriptor in self._descriptors, "get_desc before create_desc"
        self._descriptors[descriptor] = model
        return 0

    def _destroy_descriptor(self, descriptor: int) -> int:
        if self._refuses("destroy_desc", self._descriptors, descriptor):
            return self.fail_code
        assert descriptor in self._descriptors, "a descriptor was destroyed twice"
        del self._descriptors[descriptor]
        return 0

    def _reads(self, name: str, read: Callable[..., Any], nothing: object) -> Callable[..., Any]:
        """Make a function that gives a value without a return code."""

        def call(descriptor: int, *arguments: int) -> Any:
            return nothing if self._fails(name) else read(self._described(descriptor), *arguments)

        return call

    def _answers(self, name: str, read: Callable[..., Any]) -> Callable[..., Any]:
        """Make a function that gives a value and a return code."""

        def call(descriptor: int, *arguments: int) -> tuple[Any, int]:
            if self._fails(name):
                return {}, self.fail_code
            return read(self._described(descriptor), *arguments), 0

        return call

    def _described(self, descriptor: int) -> Model:
        model = self._descriptors[descriptor]
        assert model is not None, "a descriptor was read before get_desc"
        return self._models[model]

    def _current_dims(self, model: Model, index: int) -> dict[str, Any]:
        gear = next(iter(self._gears.values()), None)
        assert not model.gears or gear is not None, "output shapes were read before a gear was set"
        return _dims(model.run(model.zeros(gear))[index].shape)

    def _set_gear(self, model: int, dataset: int, index: int, *gear: int) -> int:
        if self._fails("set_gear"):
            return self.fail_code
        self._check_context()
        known = self._models[model]
        assert index == len(known.inputs), "the gear was set on another input than the hidden one"
        assert len(self._datasets[dataset]) == len(known.names), "set_gear before the buffers"
        assert tuple(gear) in known.gears, "the gear is none of the model's"
        self._gears[dataset] = gear
        return 0

    def _create_dataset(self) -> int:
        return 0 if self._fails("create_dataset") else self._keep(self._datasets, [])

    def _add_buffer(self, dataset: int, buffer: int) -> tuple[int, int]:
        if self._fails("add_dataset_buffer"):
            return dataset, self.fail_code
        assert buffer in self._buffers, "a buffer was added after it was destroyed"
        self._datasets[dataset].append(buffer)
        return dataset, 0

    def _destroy_dataset(self, dataset: int) -> int:
        if self._refuses("destroy_dataset", self._datasets, dataset):
            return self.fail_code
        assert dataset in self._datasets, "a dataset was destroyed twice"
        del self._datasets[dataset]
        self._gears.pop(dataset, None)
        return 0

    def _execute(self, model: int, given: int, made: int) -> int:
        if self._fails("execute"):
            return self.fail_code
        self._check_context()
        known, gear = self._models[model], self._gears.get(given)
        assert not known.gears or gear is not None, "execute before a gear was set"
        pointers = self._pointers(given, known.input_sizes())
        arrays = []
        for zeros, pointer in zip(known.zeros(gear), pointers, strict=False):
            assert self._written.get(pointer) == zeros.nbytes, "the input was not filled"
            raw = bytes(self._memory[pointer][: zeros.nbytes])
            arrays.append(np.frombuffer(raw, zeros.dtype).reshape(zeros.shape))
        sizes = [array.nbytes for array in known.largest_outputs()]
        for array, pointer in zip(known.run(arrays), self._pointers(made, sizes), strict=True):
            self._memory[pointer][: array.nbytes] = array.tobytes()
        self.executed += 1
        return 0

    # --- what the checks need

    def _pointers(self, dataset: int, sizes: list[int]) -> list[int]:
        buffers = [self._buffers[buffer] for buffer in self._datasets[dataset]]
        assert [size for _, size in buffers] == sizes, "a dataset that is not full"
        return [pointer for pointer, _ in buffers]

    def _keep(self, things: dict[int, Any], thing: Any) -> int:
        handle = next(self._handles)
        things[handle] = thing
        self._owners[handle] = self._threads.get(threading.get_ident())
        return handle

    def _holds(self, context: int | None, *tables: dict[int, Any]) -> bool:
        """Say whether any thing in the tables was made in a context."""
        return any(self._owners[handle] == context for table in tables for handle in table)

    def _check_context(self) -> None:
        assert self._threads.get(threading.get_ident()) in self._contexts, (
            "no context is current in this thread"
        )

    def _refuses(self, name: str, things: dict[int, Any] | set[int], handle: int) -> bool:
        """Fail to release a thing if it is its turn; what stands on it is not checked then."""
        failing = self._fails(name)
        if failing:
            if isinstance(things, set):
                things.remove(handle)
            else:
                del things[handle]
        return failing

    def _fails(self, name: str) -> bool:
        self.calls.append(name)
        failing = len(self.calls) == self.fail_at
        if failing:
            self._message = self.fail_text or None
        return failing


def install(monkeypatch: pytest.MonkeyPatch, fake: object) -> None:
    """Have `import acl` give the stand-in; None makes it fail."""
    monkeypatch.setitem(sys.modules, "acl", fake)


def _dims(shape: Sequence[int]) -> dict[str, Any]:
    return {"name": "", "dimCount": len(shape), "dims": list(shape)}


def _output_size(model: Model, index: int) -> int:
    if 0 in model.input_sizes():
        return 0
    return model.largest_outputs()[index].nbytes


def _input_type(model: Model, index: int) -> int:
    return TYPE_NUMBERS[model.dtypes()[index].name]


def _output_type(model: Model, index: int) -> int:
    if model.types:
        return model.types[index]
    return TYPE_NUMBERS[model.largest_outputs()[index].dtype.name]
