"""From an ONNX file made elsewhere to a package."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper, numpy_helper

from reidkit import disk
from reidkit.errors import EngineError, ExportError
from reidkit.exporting._adapting import adapt
from reidkit.exporting._interface import Layout
from reidkit.exporting._verifying import HALF_TOLERANCE, TOLERANCE, Witness, run_file
from reidkit.exporting._writing import (
    MAXIMUM_BYTES,
    Candidate,
    fill_package,
    onnx_writer,
    sha256_tensors,
)
from reidkit.networks.layout import show_name
from reidkit.package import MANIFEST, EngineSpec, Inputs, InputSpec, Package


def package_onnx(
    model: str | Path,
    out: str | Path,
    *,
    contract: InputSpec,
    layout: Literal["nchw", "nhwc"] | None = None,
    output: str | None = None,
    overwrite: bool = False,
) -> Package:
    """Make a verified model package from an ONNX file made elsewhere.

    The graph stays as it is; nodes around it turn the package's `image` (N, 3, H, W) float32
    into what it takes, and what it gives into `embedding` (N, D) float32. Weights in separate
    files are moved into the package's one file. A file that takes and gives these by itself is
    also run as it is, and must give the same vectors; the package's provenance says under
    `compared_with_source` whether it was (`yes` or `no`).

    Args:
        model: the file; one picture input of float32, float16 or uint8, and an output (N, D),
            (N, D, 1), (N, D, 1, 1) or (N, 1, 1, D) of floating point.
        out: the package's folder.
        contract: how pictures become the network's input; its `neck` is replaced by `output`.
        layout: where the input has its three channels, by default seen from its shape.
        output: which output is the vector; needed where there are several.
        overwrite: replace a package that exists.

    Raises:
        ArgumentError: `out` exists.
        ExportError: the file is not such a model, contradicts the contract, or failed
            verification; nothing was written.
    """
    path = Path(model)
    contract = dataclasses.replace(contract, neck="output")
    with disk.new_folder(Path(out), marker=MANIFEST, overwrite=overwrite) as folder:
        candidate, witness = _read_candidate(path, contract, layout, output)
        spec = fill_package(folder, candidate, witness)
    return Package(Path(out), spec)


def _read_candidate(
    path: Path, contract: InputSpec, layout: Layout | None, output: str | None
) -> tuple[Candidate, Witness]:
    loaded = read_model(path)
    source_sha256, weights_sha256 = disk.sha256_file(path), sha256_graph(loaded, str(path))
    tolerance = HALF_TOLERANCE if holds_half(loaded) else TOLERANCE
    adapted = adapt(loaded, contract, layout=layout, output=output)
    candidate = Candidate(
        write=onnx_writer(adapted.model, adapted.batch),
        name=path.stem,
        architecture="unknown",
        weights_sha256=weights_sha256,
        contract=contract,
        provenance={
            "onnx": onnx.__version__,
            "source": path.name,
            "source_sha256": source_sha256,
        },
        tolerance=tolerance,
    )
    engine = EngineSpec(path.name, source_sha256, batch=adapted.batch)
    return candidate, _source_itself(path, engine, converts=adapted.converts)


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file and the weights that lie beside it.

    Raises:
        ExportError: there is no such file, it is damaged, its weights are missing, or all
            together are too large for one file.
    """
    try:
        model = onnx.load_model(path, load_external_data=False)
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # protobuf's two implementations raise different types
        raise ExportError(f"{path} is not an ONNX model, or is damaged: {error}") from error
    if not model.graph.node or not model.graph.output:
        # Many a file of another kind parses as a model with nothing in it.
        raise ExportError(f"{path} is not an ONNX model: it holds no graph")
    _read_external_weights(path, model)
    return model


def _read_external_weights(path: Path, model: onnx.ModelProto) -> None:
    files = {
        path.parent / entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    size = sum(file.stat().st_size for file in files if file.is_file())
    if size > MAXIMUM_BYTES:
        raise ExportError(
            f"{path} has {size} bytes of weights, at most {MAXIMUM_BYTES} fit into the one file "
            "of a package: convert it to float16 first"
        )
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # a missing, short or forbidden file, each another type
        raise ExportError(
            f"the weights of {path} cannot be read: {error}; the files that were exported with "
            "it must lie beside it"
        ) from error


def sha256_graph(model: onnx.ModelProto, source: str) -> str:
    """Give the hash of a model's weights and operators; comments and tool versions are not in.

    The operators are in because weights may hide in them as constants. `source` is what
    messages call the model.

    Raises:
        ExportError: the bytes of a weight do not make an array of its shape and type.
    """
    weights = {tensor.name: _values(tensor, source) for tensor in model.graph.initializer}
    nodes = {f"node {i}": _node_bytes(node) for i, node in enumerate(model.graph.node)}
    functions = {
        f"function {function.domain}:{function.name}": np.frombuffer(
            function.SerializeToString(deterministic=True), np.uint8
        )
        for function in model.functions
    }
    return sha256_tensors({**weights, **nodes, **functions})


def _values(tensor: onnx.TensorProto, source: str) -> NDArray[Any]:
    if tensor.data_type == TensorProto.STRING:
        # Strings fit no array of fixed width, but a file has one way only of storing them.
        strings = TensorProto(
            dims=tensor.dims, data_type=tensor.data_type, string_data=tensor.string_data
        )
        return np.frombuffer(strings.SerializeToString(deterministic=True), np.uint8)
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # onnx raises several unrelated types
        raise ExportError(
            f"{source} is damaged: its weight {show_name(tensor.name)} cannot be read ({error}); "
            "export it again"
        ) from error


def _node_bytes(node: onnx.NodeProto) -> NDArray[np.uint8]:
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    bare.ClearField("doc_string")
    bare.ClearField("metadata_props")
    return np.frombuffer(bare.SerializeToString(deterministic=True), np.uint8)


def holds_half(model: onnx.ModelProto) -> bool:
    """Say whether a model computes in float16, wholly or in part."""
    half = onnx.TensorProto.FLOAT16
    graph = model.graph
    return any(tensor.data_type == half for tensor in graph.initializer) or any(
        value.type.tensor_type.elem_type == half for value in (*graph.input, *graph.output)
    )


def _source_itself(path: Path, engine: EngineSpec, *, converts: bool) -> Witness:
    """Let the file as it was testify, where the runtimes can feed it without an adapter."""

    def testify(inputs: Inputs) -> NDArray[np.float32] | None:
        if converts:
            return None
        try:
            return run_file(path, engine, inputs)
        except EngineError:
            # Sides written as -1, or shapes kept beside the file, stop the engine from running
            # the file as it is; the package has neither, and was run already. The provenance
            # says that there was no comparison.
            return None

    return Witness("the vectors of the file it was made from", testify, is_source=True)
