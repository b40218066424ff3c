"""A model on an Ascend chip: what its descriptor says, and its gears.

Functions take the `acl` module as their first argument: only `_ascend` imports it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reidkit.errors import EngineError
from reidkit.runtimes._ascend_calls import check, failure
from reidkit.runtimes.sessions import Array, TensorSpec

ACL_TYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype(np.float32),
    1: np.dtype(np.float16),
    2: np.dtype(np.int8),
    3: np.dtype(np.int32),
    4: np.dtype(np.uint8),
    6: np.dtype(np.int16),
    7: np.dtype(np.uint16),
    8: np.dtype(np.uint32),
    9: np.dtype(np.int64),
    10: np.dtype(np.uint64),
    11: np.dtype(np.float64),
    12: np.dtype(np.bool_),
}
"""The numbers that the toolkit gives to types of values."""

_OTHER_TYPES = {
    -1: "undefined",
    13: "string",
    16: "complex64",
    17: "complex128",
    27: "bfloat16",
    29: "int4",
    30: "uint1",
}

_Side = Literal["input", "output"]

_GEAR_INPUT = "ascend_mbatch_shape_data"
"""The hidden last input of a model with gears, which tells it the one to run."""

_AIPP_INPUT = "ascend_dynamic_aipp_data"

_GEAR_NAMES = {
    "batch": "batch sizes",
    "hw": "height x width",
    "dims": "sizes of all inputs in turn",
}


@dataclass(frozen=True, slots=True)
class Gears:
    """The shapes that a model was compiled for.

    Fields:
        kind: what a gear is: a batch size, a height and width, or the sizes of all inputs in turn.
        choices: the gears.
        input: the index of the hidden input.
    """

    kind: Literal["batch", "hw", "dims"]
    choices: tuple[tuple[int, ...], ...]
    input: int


@dataclass(frozen=True, slots=True)
class Description:
    """What a model's descriptor says; sizes are bytes of device memory for the largest gear.

    `input_sizes` has one more entry than `inputs` where the model has gears: the hidden input.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_sizes: tuple[int, ...]
    output_sizes: tuple[int, ...]
    gears: Gears | None


def describe(acl: Any, descriptor: int, path: Path) -> Description:
    """Read a loaded model's descriptor.

    Raises:
        EngineError: a call failed, or the model has a type or a kind of shape that is not run.
    """
    names = _read_names(acl, descriptor, "input")
    made = _read_names(acl, descriptor, "output")
    if _AIPP_INPUT in names:
        raise EngineError(
            f"{path} was compiled with dynamic AIPP, which is not supported: compile it again with "
            "aipp_mode static or without --insert_op_conf"
        )
    gears = _read_gears(acl, descriptor, names.index(_GEAR_INPUT)) if _GEAR_INPUT in names else None
    inputs = tuple(
        _describe_tensor(acl, descriptor, "input", index, name)
        for index, name in enumerate(names)
        if gears is None or index != gears.input
    )
    outputs = tuple(
        _describe_tensor(acl, descriptor, "output", index, name) for index, name in enumerate(made)
    )
    if gears is not None and gears.kind == "batch":
        outputs = tuple(_free_batch(spec, gears) for spec in outputs)
    taken = tuple(acl.mdl.get_input_size_by_index(descriptor, i) for i in range(len(names)))
    given = tuple(acl.mdl.get_output_size_by_index(descriptor, i) for i in range(len(made)))
    unknown = gears is None and any(-1 in spec.shape for spec in inputs)
    if unknown or 0 in (*taken, *given):
        raise EngineError(
            f"{path} was compiled for shapes that are only known when it runs (an input or output "
            "has size 0), which is not supported: compile it with fixed shapes or gears "
            "(--dynamic_batch_size, --dynamic_image_size, --dynamic_dims)"
        )
    return Description(inputs, outputs, taken, given, gears)


def choose_gear(
    gears: Gears, arrays: Sequence[Array], inputs: Sequence[TensorSpec]
) -> tuple[int, ...]:
    """Give the gear that fits the shapes of the arrays.

    Raises:
        EngineError: there is none; the message names those there are.
    """
    if gears.kind == "dims":
        wanted = {tuple(size for array in arrays for size in array.shape)}
    else:
        # What the shape in the model leaves free is the batch size, or height and width.
        wanted = {
            tuple(size for size, free in zip(a.shape, spec.shape, strict=True) if free == -1)
            for a, spec in zip(arrays, inputs, strict=True)
        } - {()}
    if len(wanted) == 1 and wanted <= set(gears.choices):
        return wanted.pop()
    shapes = " and ".join(str(array.shape) for array in arrays)
    raise EngineError(
        f"arrays of {shapes} fit none of the model's gears: {_GEAR_NAMES[gears.kind]} "
        f"{', '.join('x'.join(map(str, choice)) for choice in gears.choices)}"
    )


def set_gear(acl: Any, model: int, dataset: int, gears: Gears, gear: tuple[int, ...]) -> None:
    """Tell the model which gear it runs next.

    Raises:
        EngineError: it does not take it.
    """
    if gears.kind == "batch":
        answer = acl.mdl.set_dynamic_batch_size(model, dataset, gears.input, *gear)
    elif gears.kind == "hw":
        answer = acl.mdl.set_dynamic_hw_size(model, dataset, gears.input, *gear)
    else:
        sizes = {"name": "", "dimCount": len(gear), "dims": list(gear)}
        answer = acl.mdl.set_input_dynamic_dims(model, dataset, gears.input, sizes)
    check(acl, f"the gear {'x'.join(map(str, gear))} cannot be set", answer)


def current_shape(acl: Any, descriptor: int, index: int) -> tuple[int, ...]:
    """Give the shape of an output for the gear that is set.

    Raises:
        EngineError: the call failed.
    """
    answer = acl.mdl.get_cur_output_dims(descriptor, index)
    sizes = check(acl, f"output {index} does not say its shape", answer)
    return tuple(sizes["dims"])


def _read_gears(acl: Any, descriptor: int, hidden: int) -> Gears:
    batches = check(acl, "no batch gears were read", acl.mdl.get_dynamic_batch(descriptor))
    if batches["batchCount"]:
        return Gears("batch", tuple((size,) for size in sorted(batches["batch"])), hidden)
    sizes = check(acl, "no image gears were read", acl.mdl.get_dynamic_hw(descriptor, -1))
    if sizes["hwCount"]:
        return Gears("hw", tuple((height, width) for height, width in sizes["hw"]), hidden)
    answer = acl.mdl.get_input_dynamic_gear_count(descriptor, -1)
    count = check(acl, "gears were not counted", answer)
    answer = acl.mdl.get_input_dynamic_dims(descriptor, -1, count)
    gears = check(acl, "no gears were read", answer)
    return Gears("dims", tuple(tuple(gear["dims"]) for gear in gears), hidden)


def _read_names(acl: Any, descriptor: int, side: _Side) -> list[str]:
    count = getattr(acl.mdl, f"get_num_{side}s")(descriptor)
    read = getattr(acl.mdl, f"get_{side}_name_by_index")
    names = [read(descriptor, index) for index in range(count)]
    # These calls have no return code: what they could not read is nothing.
    if not names or not all(names):
        raise failure(acl, f"the names of the model's {side}s cannot be read: {names}")
    return names


def _describe_tensor(acl: Any, descriptor: int, side: _Side, index: int, name: str) -> TensorSpec:
    what = f"{side} {index}"
    number = getattr(acl.mdl, f"get_{side}_data_type")(descriptor, index)
    if number not in ACL_TYPES:
        kind = _OTHER_TYPES.get(number, f"of type number {number}")
        raise EngineError(f"{what} of the model, {name}, is {kind}, which is not supported")
    answer = getattr(acl.mdl, f"get_{side}_dims")(descriptor, index)
    sizes = check(acl, f"{what} does not say its shape", answer)
    return TensorSpec(name, ACL_TYPES[number], tuple(sizes["dims"]))


def _free_batch(spec: TensorSpec, gears: Gears) -> TensorSpec:
    # The toolkit gives an output the shape of the largest gear.
    if spec.shape[:1] == gears.choices[-1]:
        return TensorSpec(spec.name, spec.dtype, (-1, *spec.shape[1:]))
    return spec


def bytes_of(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Give the bytes of an array."""
    return math.prod(shape) * dtype.itemsize
