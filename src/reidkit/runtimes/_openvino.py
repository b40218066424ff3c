"""OpenVINO: the CPU, and Intel's GPU or NPU where their drivers are installed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError, DeviceError, EngineError
from reidkit.package import EngineSpec, Inputs
from reidkit.runtimes import check_input, check_output
from reidkit.runtimes._openvino_library import explain, import_openvino, read_model

_DEVICE = re.compile(r"cpu|npu|gpu(:\d+)?")
_COMPUTES = {"fp32": "f32", "int8": "f32", "bf16": "bf16", "fp16": "f16"}
"""The floating point that a precision computes in; the float parts of int8 stay float32."""


class OpenVinoRuntime:
    """A `Runtime` over a compiled OpenVINO model with one input and one output."""

    name = "openvino"

    def __init__(
        self, file: Path, engine: EngineSpec, *, device: str = "cpu", threads: int | None = None
    ) -> None:
        asked = _find_device(device)
        model = read_model(file)
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise EngineError(
                f"{file} has {len(model.inputs)} inputs and {len(model.outputs)} outputs, "
                "expected one of each: reidkit package makes such a file"
            )
        settings = _settings(engine.precision, threads)
        compiled = _compile(model, asked, settings, file)
        _check_precision(compiled, engine.precision)
        self.batch = engine.batch
        self.takes = engine.takes
        self.device = _running_device(asked, compiled.get_property("EXECUTION_DEVICES"))
        self._request: Any = compiled.create_infer_request()

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run the model once."""
        if self._request is None:
            raise EngineError("the runtime is closed")
        check_input(inputs, self.batch, self.takes)
        try:
            # The input is only read; the output is a copy, which the next run leaves alone.
            found = self._request.infer({0: inputs}, share_inputs=True, share_outputs=False)
        except Exception as error:  # openvino raises several unrelated types
            raise EngineError(
                f"openvino failed on input {inputs.shape}: {explain(error)}"
            ) from error
        return check_output(found[0], len(inputs))

    def close(self) -> None:
        """Drop the compiled model."""
        self._request = None


def available_devices() -> list[str]:
    """Give the devices that openvino finds here, as `device` names them.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    return [_public_name(device) for device in import_openvino().Core().available_devices]


def trace_values(
    file: Path, inputs: Inputs, names: Sequence[str], *, precision: str = "fp32"
) -> dict[str, NDArray[np.float32]]:
    """Run a model on the CPU and give values inside it.

    Args:
        file: an IR or ONNX file.
        inputs: N rows of what the model takes; one of a fixed batch size runs them part by part.
        names: of tensors. Those that the model does not have, or no longer has because openvino
            fused what made them, are left out, and so are weights.
        precision: what the model computes in, as its package says.

    The values are float32 copies with N rows each. Reading a value keeps openvino from fusing
    what made it, which may round it in another way than the model as it is deployed.

    Raises:
        MissingExtraError: openvino is not installed.
        DeviceError, EngineError: the model does not load or run.
    """
    model = read_model(file)
    batch = _fixed_batch(model)
    found = {name: port for name, port in _find_ports(model) if name in set(names)}
    results = [model.add_outputs(port)[0] for port in found.values()]
    # By place, not by name: openvino gives one port all names of what was fused into it.
    places = [output.node.get_name() for output in model.outputs]
    wanted = [places.index(result.node.get_name()) for result in results]
    compiled = _compile(model, "CPU", _settings(precision, None), file)
    _check_precision(compiled, precision)
    parts = [_run_part(compiled, part, wanted) for part in _split(inputs, batch)]
    columns = [np.concatenate(column)[: len(inputs)] for column in zip(*parts, strict=True)]
    values = zip(found, columns, strict=True)
    return {name: value for name, value in values if len(value) == len(inputs)}


def _find_ports(model: Any) -> Iterator[tuple[str, Any]]:
    """Give every named value of a model that depends on its input, with the port it comes from."""
    for operation in model.get_ordered_ops():
        if operation.get_type_name() in ("Constant", "Result", "Parameter"):
            continue
        for port in operation.outputs():
            rank = port.get_partial_shape().rank
            if rank.is_dynamic or not rank.get_length() or not port.get_element_type().is_real():
                continue
            for name in sorted(port.get_names()):
                yield name, port


def _run_part(compiled: Any, part: Inputs, wanted: list[int]) -> list[NDArray[Any]]:
    try:
        found = compiled.create_infer_request().infer({0: part}, share_outputs=False)
    except Exception as error:  # openvino raises several unrelated types
        raise EngineError(f"openvino failed on input {part.shape}: {explain(error)}") from error
    return [np.asarray(found[place], np.float32) for place in wanted]


def _split(inputs: Inputs, batch: int | None) -> list[Inputs]:
    """Cut inputs into parts of one size, the last filled up with zeros."""
    if batch is None:
        return [inputs]
    filled = np.zeros((len(inputs) + -len(inputs) % batch, *inputs.shape[1:]), inputs.dtype)
    filled[: len(inputs)] = inputs
    return [filled[start : start + batch] for start in range(0, len(filled), batch)]


def _fixed_batch(model: Any) -> int | None:
    rows = model.input().get_partial_shape()[0]
    return None if rows.is_dynamic else int(rows.get_length())


def _find_device(device: str) -> str:
    """Turn `gpu:1` into openvino's `GPU.1`.

    Raises:
        ArgumentError: it is not a name of a device.
        DeviceError: openvino does not find that device here.
    """
    if not _DEVICE.fullmatch(device):
        raise ArgumentError(f"device is {device!r}, expected one of cpu, gpu, gpu:N, npu")
    asked = device.upper().replace(":", ".")
    present = import_openvino().Core().available_devices
    if not any(_is_same(asked, found) for found in present):
        raise DeviceError(
            f"openvino finds no {device} here, it finds {', '.join(map(_public_name, present))}: "
            "install the driver of the device, or choose another one"
        )
    return asked


def _is_same(asked: str, found: str) -> bool:
    """Say whether openvino's `GPU.1` is the device asked for; `GPU` is the first or only one."""
    return found.removesuffix(".0") == asked.removesuffix(".0")


def _public_name(device: str) -> str:
    return device.lower().replace(".", ":")


def _settings(precision: str, threads: int | None) -> dict[str, Any]:
    return {
        # Said always: openvino computes float32 models in bfloat16 on processors that have it.
        "INFERENCE_PRECISION_HINT": _COMPUTES[precision],
        # One picture or batch at a time, on all threads.
        "PERFORMANCE_HINT": "LATENCY",
        **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
    }


def _compile(model: Any, asked: str, settings: dict[str, Any], file: Path) -> Any:
    try:
        return import_openvino().Core().compile_model(model, asked, settings)
    except Exception as error:  # openvino raises several unrelated types
        raise EngineError(
            f"openvino does not load {file} on {_public_name(asked)}: {explain(error)}"
        ) from error


def _check_precision(compiled: Any, precision: str) -> None:
    """Read back which floating point the compiled model computes in.

    Raises:
        DeviceError: it is not what the package says.
    """
    types = import_openvino().Type
    names = {types.f32: "fp32", types.bf16: "bf16", types.f16: "fp16"}
    found = compiled.get_property("INFERENCE_PRECISION_HINT")
    asked = getattr(types, _COMPUTES[precision])
    if found != asked:
        raise DeviceError(
            f"asked for {names[asked]}, but openvino would compute in {names.get(found, found)} "
            "on this device: compile the package for a precision that it has"
        )


def _running_device(asked: str, running: list[str]) -> str:
    """Name the device that openvino says the compiled model runs on.

    Raises:
        DeviceError: it is not the one that was asked for, or there are several.
    """
    names = ", ".join(map(_public_name, running))
    if len(running) != 1 or not _is_same(asked, running[0]):
        raise DeviceError(f"asked for {_public_name(asked)}, but openvino would run on {names}")
    return names
