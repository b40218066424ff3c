"""onnxruntime: an optimised graph, fp16 for GPUs, int8 by its static quantiser.

int8 is a graph with quantise and dequantise nodes around 8-bit convolutions: weights one scale a
channel, activations one scale a tensor from the extremes that calibration saw. What was tried
and measured is in docs/adr/0007-compiling.md.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
)

from reidkit import disk
from reidkit.compiling._bias import (
    correct_biases,
    measure_means,
    open_session,
    shift_output,
)
from reidkit.compiling._layers import OPERATORS, PASSING, list_float_nodes, read_graph
from reidkit.compiling._targets import Job, Support
from reidkit.errors import CompileError
from reidkit.machine import processor_features
from reidkit.package import EngineSpec

MODEL_FILE = "model.onnx"
CALIBRATION_BATCH = 8
QUANTISED = (*OPERATORS, *PASSING)
"""The operators that run in 8 bits. The sums of the residual blocks stay in float: rounding them
too would save a tenth of the time and add half as much noise again."""

_ERRORS_ONLY = 3
_GPU = "CUDAExecutionProvider"
_PER_CHANNEL_OPSET = 13
"""The first that can write one scale a channel."""


@dataclass(frozen=True, slots=True)
class Style:
    """How an engine wants its 8 bits: the activations' type, and the quantiser's options.

    `reduce_range` keeps the weights to 7 bits.
    """

    activations: QuantType
    reduce_range: bool = False
    options: Mapping[str, bool] = field(default_factory=dict)


def support() -> Support:
    """Say which precisions onnxruntime has here: fp16 only with a GPU build."""
    if _GPU in ort.get_available_providers():
        return Support(("fp32", "fp16", "int8"))
    return Support(
        ("fp32", "int8"), "fp16 needs a GPU: pip install onnxruntime-gpu on such a machine"
    )


def build(job: Job, folder: Path) -> EngineSpec:
    """Write `model.onnx` for onnxruntime into a package in the making.

    Raises:
        CompileError: the graph cannot be optimised, converted or quantised.
    """
    if (job.target.precision, job.target.device) == ("fp16", "cpu"):
        raise CompileError("fp16 is for GPUs: name one as the device (--device cuda)")
    makers = {"fp32": _optimise, "fp16": _halve, "int8": _quantise_for_cpu}
    source, file = read_source(job), folder / MODEL_FILE
    try:
        makers[job.target.precision](job, source, file)
    except CompileError:
        raise
    except Exception as error:  # the tools raise whatever the graph led them to
        raise CompileError(
            f"onnxruntime cannot make {job.target.precision} of {job.model_file}: {error}"
        ) from error
    return EngineSpec(
        MODEL_FILE,
        disk.sha256_file(file),
        runtime="onnxruntime",
        batch=_batch(job),
        precision=job.target.precision,
        target=job.target.name,
        device=job.target.device,
        float_layers=job.float_layers,
    )


def read_source(job: Job) -> onnx.ModelProto:
    """Read the source graph, with the batch size fixed where the target wants it.

    Raises:
        CompileError: the source is not an ONNX file.
    """
    if job.package.spec.engine.runtime != "onnxruntime":
        raise CompileError(
            f"{job.model_file} is not an ONNX file: {job.target.name} compiles packages that were "
            "made from a checkpoint or an .onnx file"
        )
    model = read_graph(job.model_file)
    if job.target.batch is not None:
        for value in (*model.graph.input, *model.graph.output):
            first = value.type.tensor_type.shape.dim[0]
            first.ClearField("dim_param")
            first.dim_value = job.target.batch
    return model


def _optimise(job: Job, source: onnx.ModelProto, file: Path) -> None:
    """Let onnxruntime fuse what it can on any processor, and keep the result.

    The fusions of one processor alone (its blocked layouts) are left to the session that loads
    the file, so that it runs on every machine.
    """
    settings = ort.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(file)
    ort.InferenceSession(source.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def _quantise_for_cpu(job: Job, source: onnx.ModelProto, file: Path) -> None:
    # Two products of 8 bits overflow the 16-bit sums of processors without VNNI.
    quantise(job, source, file, style=Style(QuantType.QUInt8, reduce_range=not has_wide_sums()))


def _halve(job: Job, source: onnx.ModelProto, file: Path) -> None:
    """Convert the graph to float16; input and output stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save_model(convert_float_to_float16(source, keep_io_types=True), file)


def quantise(job: Job, source: onnx.ModelProto, file: Path, *, style: Style) -> None:
    """Write the graph with its layers in 8 bits, and their means corrected.

    Raises:
        CompileError: there are no calibration pictures.
    """
    if job.calibration is None or not len(job.calibration):
        raise CompileError("int8 needs calibration pictures")
    batches = list(_split(job.calibration, _batch(job) or CALIBRATION_BATCH))
    if _opset(source) < _PER_CHANNEL_OPSET:
        source = version_converter.convert_version(source, _PER_CHANNEL_OPSET)
    plain = onnx.ModelProto()
    plain.CopyFrom(source)
    with _quietly():
        if "ranges" not in job.kept:
            job.kept["ranges"] = _measure_ranges(source, batches)
        quantiser = QDQQuantizer(
            plain,
            per_channel=True,
            reduce_range=style.reduce_range,
            weight_qType=QuantType.QInt8,
            activation_qType=style.activations,
            tensors_range=job.kept["ranges"],
            nodes_to_quantize=[],
            nodes_to_exclude=list_float_nodes(source, job.float_layers),
            op_types_to_quantize=list(QUANTISED),
            extra_options=dict(style.options),
        )
        quantiser.quantize_model()
    quantised = quantiser.model.model
    _correct(job, source, quantised, batches)
    onnx.save_model(quantised, file)


def _measure_ranges(source: onnx.ModelProto, batches: Sequence[NDArray[np.float32]]) -> Any:
    with tempfile.TemporaryDirectory() as name:
        plain = Path(name) / "source.onnx"
        onnx.save_model(source, plain)
        calibrator = create_calibrator(
            plain,
            list(QUANTISED),
            augmented_model_path=str(Path(name) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
            # The mean over batches of their extremes: single outliers do not stretch the scale.
            extra_options={"moving_average": True},
        )
        calibrator.collect_data(_Reader(batches, source.graph.input[0].name))
        return calibrator.compute_data()


def _correct(
    job: Job,
    source: onnx.ModelProto,
    quantised: onnx.ModelProto,
    batches: Sequence[NDArray[np.float32]],
) -> None:
    """Undo what rounding did to the means: of each convolution, then of the vector itself."""
    if "means" not in job.kept:
        job.kept["means"] = measure_means(source, batches)
        job.kept["vector"] = _mean_vector(source, batches)
    correct_biases(quantised, source, job.kept["means"])
    shift = (job.kept["vector"] - _mean_vector(quantised, batches)).astype(np.float32)
    shift_output(quantised, quantised.graph.output[0].name, shift)


def _mean_vector(
    model: onnx.ModelProto, batches: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    session, feed = open_session(model)
    means = [
        session.run(None, {feed: batch})[0].mean(axis=0, dtype=np.float64) for batch in batches
    ]
    mean: NDArray[np.float64] = np.mean(means, axis=0)
    return mean


def _batch(job: Job) -> int | None:
    return job.target.batch or job.package.spec.engine.batch


def _opset(model: onnx.ModelProto) -> int:
    version: int = max(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))
    return version


def has_wide_sums() -> bool:
    """Tell whether this processor adds 8-bit products in 32 bits (VNNI, or ARM's dot product)."""
    return bool(processor_features() & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands pictures to the quantiser, a batch at a time."""

    def __init__(self, batches: Sequence[NDArray[np.float32]], feed: str) -> None:
        self._batches = iter(batches)
        self._feed = feed

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Give the next batch, `None` at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {self._feed: batch}


def _split(inputs: NDArray[np.float32], size: int) -> Iterator[NDArray[np.float32]]:
    """Give batches of one size; what does not fill the last one is filled up from the start."""
    for start in range(0, len(inputs), size):
        yield np.take(inputs, range(start, start + size), axis=0, mode="wrap")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the quantiser from logging to the user's screen.

    It logs through the root logger, which gets a handler for it where it has none.
    """
    before, handlers = logging.root.manager.disable, logging.root.handlers[:]
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        logging.root.handlers[:] = handlers
