"""TensorRT through onnxruntime's provider: the graph, and the engine that the GPU's build made.

The provider builds its engine on the GPU that will run it and keeps it beside the graph, so that
loading the package later takes seconds. Not run on hardware yet: what is tested is what the
provider is asked for, and what is made of its answer.

Its 8 bits are signed and symmetric around 0, weights keep their floats beside their rounding, and
no two layers share a rounding: what onnxruntime's documentation asks of graphs for TensorRT.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import QuantType

from reidkit import disk
from reidkit.compiling import _onnxruntime
from reidkit.compiling._targets import Job, Support
from reidkit.errors import CompileError, EngineError
from reidkit.package import EngineSpec, InputSpec
from reidkit.runtimes import load_runtime

_PROVIDER = "TensorrtExecutionProvider"
_DEVICES = ("tensorrt", "cpu")
"""The device that the target has; `cpu` is what a caller that names none asks for."""

_STYLE = _onnxruntime.Style(
    QuantType.QInt8,
    options={
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "AddQDQPairToWeight": True,
        "DedicatedQDQPair": True,
        "QuantizeBias": False,
    },
)


def support() -> Support:
    """Say whether this onnxruntime has TensorRT's provider."""
    if _PROVIDER in ort.get_available_providers():
        return Support(("fp32", "fp16", "int8"), "not run on hardware yet")
    return Support(
        (), "needs an NVIDIA GPU with TensorRT: pip install onnxruntime-gpu in place of onnxruntime"
    )


def build(job: Job, folder: Path) -> EngineSpec:
    """Write `model.onnx` and the engine that the provider builds from it.

    Raises:
        CompileError: the device is another one, TensorRT does not take the graph, or the provider
            built no engine.
    """
    if job.target.device not in _DEVICES:
        raise CompileError(f"tensorrt runs on the device tensorrt, not on {job.target.device}")
    file = folder / _onnxruntime.MODEL_FILE
    source = _onnxruntime.read_source(job)
    if job.target.precision == "int8":
        _onnxruntime.quantise(job, source, file, style=_STYLE)
    else:
        onnx.save_model(source, file)
    engine = EngineSpec(
        file.name,
        disk.sha256_file(file),
        batch=job.target.batch or job.package.spec.engine.batch,
        precision=job.target.precision,
        target="tensorrt",
        device="tensorrt",
        float_layers=job.float_layers,
    )
    _run_once(file, engine, job.package.spec.input)
    built = sorted(path for path in folder.iterdir() if path.suffix in (".engine", ".profile"))
    if not any(path.suffix == ".engine" for path in built):
        raise CompileError(
            "TensorRT built no engine for any part of the graph: onnxruntime would run all of it "
            "elsewhere"
        )
    companions = {path.name: disk.sha256_file(path) for path in built}
    return dataclasses.replace(engine, companions=companions)


def _run_once(file: Path, engine: EngineSpec, contract: InputSpec) -> None:
    """Run a blank batch, which makes the provider build its engine beside the file."""
    blank = np.zeros((engine.batch or 1, 3, contract.height, contract.width), np.float32)
    try:
        runtime = load_runtime(file, engine, device="tensorrt")
        runtime.run(blank)
        runtime.close()
    except EngineError as error:
        raise CompileError(f"TensorRT does not run the graph: {error}") from error
