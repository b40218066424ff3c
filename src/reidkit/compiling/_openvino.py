"""OpenVINO: an IR in float32, or in int8 by NNCF's post-training quantisation."""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partialmethod
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.compiling._targets import Job, Support
from reidkit.errors import CompileError, EngineError, MissingExtraError
from reidkit.machine import processor_features
from reidkit.package import EngineSpec
from reidkit.runtimes._openvino_library import (
    explain,
    import_openvino,
    read_model,
    without_telemetry,
    write_model,
)

_FILE = "model.xml"
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8"}
_UNSUPPORTED = re.compile(r"does not support the following ONNX operations?: *([^\n]+)")
_WEIGHTED = frozenset({"Convolution", "GroupConvolution", "MatMul"})
_AROUND = frozenset({"Add", "Multiply", "Reshape", "Squeeze"})
"""What openvino makes of a layer's bias, behind the operation that has the weights."""

_EXACT = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Instructions that sum products of 8 bits in 32; without them two products share 16 bits."""


def support() -> Support:
    """Say which precisions openvino has on this machine's CPU."""
    try:
        core = import_openvino().Core()
    except MissingExtraError as error:
        return Support((), str(error))
    capabilities = _capabilities(core, "CPU")
    precisions = [name for name, needed in _CAPABILITIES.items() if needed in capabilities]
    hints = []
    if util.find_spec("nncf") is None and "int8" in precisions:
        precisions.remove("int8")
        hints.append("nncf is not installed: pip install 'reidkit[openvino]'")
    missing = [name for name in ("bf16", "fp16") if name not in precisions]
    if missing:
        hints.append(f"this processor does not compute in {' or '.join(missing)}")
    return Support(tuple(precisions), "; ".join(hints))


def build(job: Job, folder: Path) -> EngineSpec:
    """Compile a package's model into an IR: `model.xml` and `model.bin`.

    fp32, bf16 and fp16 are the same file: openvino converts to a smaller type when it loads the
    model, and `runtimes` holds it to the one that the package names. The weights stay float32.

    Raises:
        MissingExtraError: openvino or nncf is not installed.
        CompileError: the device does not compute in the precision, or openvino cannot convert
            the graph.
    """
    _check_precision(job.target.device, job.target.precision)
    model = _read(job)
    float_layers: tuple[str, ...] = ()
    if job.target.precision == "int8" and job.calibration is not None:
        found = _find_layers(model, job.float_layers)
        float_layers = tuple(found)
        ignored = {*found.values(), *_last_operations(model)}
        model = _quantise(model, job.calibration, sorted(ignored))
    batch = _fix_batch(model, job.target.batch)
    try:
        written = write_model(model, folder / _FILE)
    except Exception as error:  # openvino raises several unrelated types
        raise CompileError(f"openvino cannot write {job.model_file}: {explain(error)}") from error
    sha256 = written.pop(_FILE)
    return EngineSpec(
        file=_FILE,
        sha256=sha256,
        runtime="openvino",
        batch=batch,
        precision=job.target.precision,
        target="openvino",
        device=job.target.device,
        companions=written,
        float_layers=float_layers,
    )


def _capabilities(core: Any, device: str) -> list[str]:
    found: list[str] = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    return found


def _check_precision(device: str, precision: str) -> None:
    name = device.upper().replace(":", ".")
    try:
        capabilities = _capabilities(import_openvino().Core(), name)
    except RuntimeError as error:
        raise CompileError(f"openvino finds no {device} here: {explain(error)}") from error
    if _CAPABILITIES[precision] not in capabilities:
        works = ", ".join(name for name, need in _CAPABILITIES.items() if need in capabilities)
        raise CompileError(
            f"openvino does not compute in {precision} on {device} here, it does in {works}"
        )


def _read(job: Job) -> Any:
    """Read the model, with everything computed that does not depend on its input.

    Left as they are, biases that the converter reshapes at run time hide from NNCF.
    """
    from openvino.passes import ConstantFolding, Manager

    try:
        model = read_model(job.model_file)
    except EngineError as error:
        unsupported = _UNSUPPORTED.search(str(error))
        if unsupported is None:
            raise CompileError(str(error)) from error
        raise CompileError(
            f"openvino has no operator {unsupported[1]}, which {job.model_file} uses: export the "
            "network with standard operators"
        ) from error
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    return model


def _fix_batch(model: Any, batch: int | None) -> int | None:
    """Give the model its only batch size, if it is to have one; gives the one it has."""
    shape = model.input().get_partial_shape()
    if batch is not None and shape[0].is_dynamic:
        shape[0] = batch
        try:
            model.reshape(shape)
        except RuntimeError as error:
            raise CompileError(
                f"openvino cannot fix the batch size to {batch}: {explain(error)}"
            ) from error
    rows = model.input().get_partial_shape()[0]
    return None if rows.is_dynamic else int(rows.get_length())


def _find_layers(model: Any, names: Sequence[str]) -> dict[str, str]:
    """Give the operation with the weights for each layer that is still in the model, by name.

    openvino splits a layer with a bias in two and moves the layer's name to the second.
    """
    operations = {}
    for operation in reversed(model.get_ordered_ops()):
        for port in operation.outputs():
            operations.update(dict.fromkeys(port.get_names(), operation))
    operations.update({op.get_friendly_name(): op for op in model.get_ordered_ops()})
    found = {name: _weighted(operations.get(name)) for name in names}
    return {name: op.get_friendly_name() for name, op in found.items() if op is not None}


def _weighted(operation: Any) -> Any:
    """Walk from what gives a layer's output back to the operation that has its weights."""
    while operation is not None and operation.get_type_name() not in _WEIGHTED:
        if operation.get_type_name() not in _AROUND:
            return None
        sources = [port.get_source_output().get_node() for port in operation.inputs()]
        operation = next((op for op in sources if op.get_type_name() != "Constant"), None)
    return operation


def _last_operations(model: Any) -> list[str]:
    """Give the operations after the last one with weights: pooling, BNNeck.

    They cost next to nothing, and in 8 bits they would quantise the vector itself.
    """
    last: list[str] = []
    before: set[str] = set()
    for operation in reversed(model.get_ordered_ops()):
        name = operation.get_friendly_name()
        if operation.get_type_name() in _WEIGHTED or name in before:
            before.update(
                port.get_source_output().get_node().get_friendly_name()
                for port in operation.inputs()
            )
        elif operation.get_type_name() not in ("Constant", "Result"):
            last.append(name)
    return last


def _quantise(model: Any, calibration: NDArray[np.float32], ignored: Sequence[str]) -> Any:
    nncf = _import_nncf()
    parts = _split(model, calibration)
    # Chosen by the cosine to the float vectors, smallest and mean, of ResNet-18 and ResNet-50:
    # ranges from the least to the greatest value were far better than NNCF's averaged ones,
    # symmetric and asymmetric activations and the two bias corrections nearly the same.
    ranges = nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX
    try:
        with _silent():
            return nncf.quantize(
                model,
                nncf.Dataset(parts),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(parts),
                ignored_scope=nncf.IgnoredScope(names=list(ignored), validate=False),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=_overflow_fix(nncf),
                    activations_range_estimator_params=ranges,
                ),
            )
    except Exception as error:  # nncf raises whatever the graph led it to
        raise CompileError(f"nncf cannot quantise the model: {explain(error)}") from error


def _split(model: Any, calibration: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Cut calibration inputs into batches of the model's size, one picture where it takes any.

    The last of a fixed size is filled up with the first pictures.
    """
    rows = model.input().get_partial_shape()[0]
    size = 1 if rows.is_dynamic else rows.get_length()
    filled = np.resize(calibration, (-(-len(calibration) // size) * size, *calibration.shape[1:]))
    return [filled[start : start + size] for start in range(0, len(filled), size)]


def _overflow_fix(nncf: Any) -> Any:
    """Halve the range of weights where sums of products could overflow 16 bits unnoticed."""
    intel = platform.machine().lower() in ("x86_64", "amd64")
    exact = not intel or bool(_EXACT & processor_features())
    return nncf.OverflowFix.DISABLE if exact else nncf.OverflowFix.ENABLE


def _import_nncf() -> Any:
    """Import nncf, whose telemetry and logging stay its own affair.

    Raises:
        MissingExtraError: it is not installed.
    """
    kind = logging.getLoggerClass()
    try:
        with without_telemetry():
            import nncf
            from nncf.telemetry import decorator
    except ModuleNotFoundError as error:
        raise MissingExtraError("nncf", "openvino") from error
    finally:
        # nncf makes every logger of the process one of its own kind.
        logging.setLoggerClass(kind)
    # A program that imported nncf before reidkit did has its telemetry at work.
    decorator.telemetry = _NoTelemetry()
    return nncf


class _NoTelemetry:
    """What nncf reports its use to, and nobody reads."""

    def start_session(self, *_: Any, **__: Any) -> None:
        """Start nothing."""

    def send_event(self, *_: Any, **__: Any) -> None:
        """Send nothing."""

    def end_session(self, *_: Any, **__: Any) -> None:
        """End nothing."""


@contextmanager
def _silent() -> Iterator[None]:
    """Keep nncf's progress bars and messages off the terminal."""
    from nncf.common.logging.track_progress import track

    logger, draw = logging.getLogger("nncf"), track.__init__
    level = logger.level
    logger.setLevel(logging.ERROR)
    track.__init__ = partialmethod(draw, disable=True)
    try:
        yield
    finally:
        track.__init__ = draw
        logger.setLevel(level)
