"""From a torch module to a package: the one place here that needs torch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reidkit import disk
from reidkit.errors import ArgumentError, ExportError, MissingExtraError
from reidkit.exporting._adapting import adapt
from reidkit.exporting._foreign import holds_half, sha256_graph
from reidkit.exporting._verifying import HALF_TOLERANCE, TOLERANCE, Witness
from reidkit.exporting._writing import Candidate, fill_package, onnx_writer
from reidkit.package import MANIFEST, Inputs, InputSpec, Package

_OPSET = 18
"""The lowest that torch's exporter writes without converting."""


def export_module(
    module: Any,
    example: Any,
    *,
    out: str | Path,
    contract: InputSpec,
    name: str,
    overwrite: bool = False,
) -> Package:
    """Make a verified model package from any torch network, by torch's own exporter.

    Args:
        module: a `torch.nn.Module` that takes (N, 3, H, W) and gives (N, D), (N, D, 1) or
            (N, D, 1, 1); it is exported in evaluation mode and stays as it is.
        example: a tensor (B, 3, H, W) as the module takes it, on the module's device.
        out: the package's folder.
        contract: how pictures become the network's input; its `neck` is replaced by `output`.
        name: what people call the network.
        overwrite: replace a package that exists.

    Raises:
        MissingExtraError: torch or onnxscript is not installed (extra `torch`).
        ArgumentError: the example does not have the contract's size, or `out` exists.
        ExportError: the module fails on the example or returns anything but one tensor, torch
            could not export it, or it failed verification; nothing was written.
    """
    torch = _import_torch()
    _check_example(tuple(example.shape), contract)
    contract = dataclasses.replace(contract, neck="output")
    with disk.new_folder(Path(out), marker=MANIFEST, overwrite=overwrite) as folder:
        frozen = copy.deepcopy(module).eval()
        _run_module(torch, frozen, example)
        candidate = _describe(torch, frozen, example, contract, name)
        spec = fill_package(folder, candidate, _module_itself(torch, frozen, example))
    return Package(Path(out), spec)


def _import_torch() -> Any:
    for library in ("onnxscript", "torch"):
        try:
            found = import_module(library)
        except ModuleNotFoundError as error:
            raise MissingExtraError(library, "torch") from error
    return found


def _check_example(shape: tuple[int, ...], contract: InputSpec) -> None:
    expected = (3, contract.height, contract.width)
    if len(shape) != 4 or shape[1:] != expected or shape[0] < 1:
        raise ArgumentError(
            f"the example has shape {shape}, the contract needs (B, 3, {contract.height}, "
            f"{contract.width})"
        )


def _run_module(torch: Any, module: Any, pixels: Any) -> Any:
    """Give what the module makes of (B, 3, H, W) pixels: one tensor, a row for each picture.

    Raises:
        ExportError: it fails, or returns anything else.
    """
    name, shape, count = type(module).__name__, tuple(pixels.shape), len(pixels)
    try:
        with torch.no_grad():
            output = module(pixels)
    except Exception as error:  # whatever the module's code led to
        raise ExportError(f"{name} fails on pixels {shape}: {error}") from error
    if not isinstance(output, torch.Tensor) or output.ndim < 2 or len(output) != count:
        raise ExportError(
            f"{name} returned {_describe_output(torch, output)} for pixels {shape}, expected one "
            f"tensor ({count}, D), ({count}, D, 1) or ({count}, D, 1, 1): export a module that "
            "returns the vectors alone"
        )
    return output


def _describe_output(torch: Any, output: Any) -> str:
    if isinstance(output, torch.Tensor):
        return f"{type(output).__name__} {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with the keys {', '.join(map(repr, output))}"
    if isinstance(output, (tuple, list)):
        parts = ", ".join(type(part).__name__ for part in output)
        return f"{type(output).__name__} of {len(output)} ({parts})"
    return type(output).__name__


def _describe(torch: Any, module: Any, example: Any, contract: InputSpec, name: str) -> Candidate:
    source = type(module).__name__
    model = _export(torch, module, example)
    weights_sha256 = sha256_graph(model, source)
    tolerance = HALF_TOLERANCE if holds_half(model) else TOLERANCE
    adapted = adapt(model, contract, layout="nchw")
    return Candidate(
        write=onnx_writer(adapted.model, adapted.batch),
        name=name,
        architecture=source,
        weights_sha256=weights_sha256,
        contract=contract,
        provenance={
            "onnx": onnx.__version__,
            "torch": str(torch.__version__),
            "source": source,
        },
        tolerance=tolerance,
    )


def _export(torch: Any, module: Any, example: Any) -> onnx.ModelProto:
    # Torch takes a batch of one for a constant.
    example = torch.cat([example, example]) if len(example) == 1 else example
    try:
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["pixels"],
            output_names=["features"],
            opset_version=_OPSET,
            verbose=False,
        )
    except Exception as error:  # torch's exporter raises whatever the module's code led it to
        raise ExportError(
            f"torch could not export {type(module).__name__} for a free batch size: {error}"
        ) from error
    model: onnx.ModelProto = program.model_proto
    _remove_traces(model)
    return model


def _remove_traces(model: onnx.ModelProto) -> None:
    """Remove what torch notes of source files: it tells on the machine and changes the bytes."""
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in graph.initializer:
        tensor.ClearField("metadata_props")
        tensor.ClearField("doc_string")


def _module_itself(torch: Any, module: Any, example: Any) -> Witness:
    def testify(inputs: Inputs) -> NDArray[np.float32]:
        pixels = torch.from_numpy(inputs).to(example.device, example.dtype)
        output = _run_module(torch, module, pixels)
        vectors: NDArray[np.float32] = output.flatten(1).float().cpu().numpy()
        return vectors

    return Witness("the vectors of the module itself", testify, is_source=True)
