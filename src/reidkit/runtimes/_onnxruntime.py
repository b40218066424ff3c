"""onnxruntime: the CPU, and CUDA or TensorRT where the installed build has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from reidkit.errors import ArgumentError, DeviceError, EngineError
from reidkit.package import EngineSpec, Inputs, Takes
from reidkit.runtimes import check_input, check_output

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_DEVICES = {provider: device for device, provider in _PROVIDERS.items()}
_ERRORS_ONLY = 3

TENSORRT_BATCHES = (1, 32, 256)
"""The smallest batch size of a TensorRT engine for any, the one it is tuned for, the largest."""


class OnnxRuntime:
    """A `Runtime` over an onnxruntime session with one input and one output."""

    name = "onnxruntime"
    takes: Takes = "tensor"

    def __init__(
        self, file: Path, engine: EngineSpec, *, device: str = "cpu", threads: int | None = None
    ) -> None:
        session, self.device = open_session(file, engine, device=device, threads=threads)
        self.batch = engine.batch
        self._session: ort.InferenceSession | None = session
        self._input = session.get_inputs()[0].name

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run the session once."""
        if self._session is None:
            raise EngineError("the runtime is closed")
        check_input(inputs, self.batch)
        try:
            (output,) = self._session.run(None, {self._input: inputs})
        except Exception as error:  # onnxruntime raises several unrelated types
            raise EngineError(f"onnxruntime failed on input {inputs.shape}: {error}") from error
        return check_output(output, len(inputs))

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def open_session(
    file: Path,
    engine: EngineSpec | None = None,
    *,
    device: str = "cpu",
    threads: int | None = None,
) -> tuple[ort.InferenceSession, str]:
    """Open a model file, and read back what really runs it; `engine` is a package's word on it.

    Raises:
        DeviceError: the device that was asked for is not the one that would run.
        EngineError: onnxruntime does not load the file.
    """
    kind, options = _provider(device)
    if kind == "tensorrt":
        options |= tensorrt_options(file, engine or EngineSpec(file.name, ""))
    session = _load(file, kind, options, threads)
    return session, _running_device(session, kind)


def trace_values(
    file: Path, inputs: Inputs, names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Run a model file on the CPU with its inner float32 values of these names as outputs.

    Raises:
        EngineError: onnxruntime does not load the file, or fails.
    """
    import onnx

    settings = ort.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    try:
        model = onnx.load_model(file)
        made = {name for node in model.graph.node for name in node.output}
        asked = [name for name in names if name in made]
        del model.graph.output[:]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in asked)
        session = ort.InferenceSession(
            model.SerializeToString(), settings, providers=[_PROVIDERS["cpu"]]
        )
        values = session.run(asked, {session.get_inputs()[0].name: inputs}) if asked else []
    except Exception as error:  # onnx and onnxruntime raise several unrelated types
        raise EngineError(f"onnxruntime does not show the inside of {file}: {error}") from error
    pairs = zip(asked, values, strict=True)
    return {name: value for name, value in pairs if value.dtype == np.float32}


def tensorrt_options(file: Path, engine: EngineSpec) -> dict[str, str]:
    """Give what the TensorRT provider is told: the precision, and where its engines are kept.

    They are kept beside the model file. An engine for any batch size is told for which: up to
    `TENSORRT_BATCHES[-1]`, so that it is built once and not anew for every size it meets.
    """
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(file.parent.resolve()),
        "trt_fp16_enable": str(int(engine.precision == "fp16")),
        "trt_int8_enable": str(int(engine.precision == "int8")),
    }
    if engine.batch is None:
        name, shape = _input_of(file)
        for key, batch in zip(("min", "opt", "max"), TENSORRT_BATCHES, strict=True):
            sizes = "x".join(map(str, (batch, *shape)))
            options[f"trt_profile_{key}_shapes"] = f"{name}:{sizes}"
    return options


def _input_of(file: Path) -> tuple[str, list[int]]:
    """Give the name of a model file's input, and the shape of one picture."""
    import onnx

    first = onnx.load_model(file, load_external_data=False).graph.input[0]
    return first.name, [size.dim_value for size in first.type.tensor_type.shape.dim[1:]]


def available_devices() -> list[str]:
    """Give the devices that the installed build of onnxruntime supports."""
    providers = ort.get_available_providers()
    return [device for device, provider in _PROVIDERS.items() if provider in providers]


def _provider(device: str) -> tuple[str, dict[str, str]]:
    """Split `cuda:1` into the device's kind and its provider's options."""
    kind, _, number = device.partition(":")
    if kind not in _PROVIDERS or (":" in device and not (kind != "cpu" and number.isdecimal())):
        known = ", ".join(_PROVIDERS)
        raise ArgumentError(f"device is {device!r}, expected one of {known}, or cuda:N")
    if _PROVIDERS[kind] not in ort.get_available_providers():
        raise DeviceError(
            f"this onnxruntime ({ort.__version__}) cannot run on {device}: it was built for "
            f"{', '.join(available_devices())}; "
            "pip install onnxruntime-gpu in place of onnxruntime for an NVIDIA GPU"
        )
    # fp32 is meant: the provider would round products to TF32 by default.
    exact = {"use_tf32": "0"} if kind == "cuda" else {}
    return kind, exact | ({"device_id": number} if number else {})


def _load(
    file: Path, kind: str, options: dict[str, str], threads: int | None
) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    settings.intra_op_num_threads = threads or 0
    if kind != "cpu":
        # A node that the GPU provider does not take is an error, not a silent trip to the CPU.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        return ort.InferenceSession(
            file, settings, providers=[_PROVIDERS[kind]], provider_options=[options]
        )
    except Exception as error:  # onnxruntime raises several unrelated types
        raise EngineError(f"onnxruntime does not load {file} on {kind}: {error}") from error


def _running_device(session: ort.InferenceSession, kind: str) -> str:
    """Read back which provider the session really runs on.

    Raises:
        DeviceError: it is not the one that was asked for.
    """
    first = session.get_providers()[0]
    if first != _PROVIDERS[kind]:
        raise DeviceError(
            f"asked for {kind}, but onnxruntime would run on {_DEVICES.get(first, first)}: "
            "look for a missing CUDA, cuDNN or TensorRT library"
        )
    return kind
