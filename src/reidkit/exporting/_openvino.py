"""From an OpenVINO IR made elsewhere to a package."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reidkit import disk
from reidkit.errors import EngineError, ExportError
from reidkit.exporting._interface import Image
from reidkit.exporting._openvino_adapting import TYPES, Adapted, Wanted, adapt_ir, output_port
from reidkit.exporting._verifying import HALF_TOLERANCE, TOLERANCE, Witness
from reidkit.exporting._writing import Candidate, fill_package, sha256_tensors
from reidkit.package import MANIFEST, EngineSpec, Inputs, InputSpec, ModelSpec, Package
from reidkit.runtimes._openvino_library import (
    explain,
    import_openvino,
    read_model,
    write_model,
)

_FILE = "model.xml"


def package_openvino(
    model: str | Path,
    out: str | Path,
    *,
    contract: InputSpec,
    layout: Literal["nchw", "nhwc"] | None = None,
    output: str | None = None,
    overwrite: bool = False,
) -> Package:
    """Make a verified model package from an OpenVINO IR made elsewhere.

    The graph stays as it is; operations around it turn the package's `image` (N, 3, H, W) float32
    into what it takes, and what it gives into `embedding` (N, D) float32. A fixed batch size is
    set free where the graph allows it. The IR as it was is run too, and must give the same
    vectors.

    Args:
        model: the `.xml` file, with its `.bin` beside it; one picture input of float32, float16
            or uint8, and an output (N, D), (N, D, 1), (N, D, 1, 1) or (N, 1, 1, D) of floating
            point.
        out: the package's folder.
        contract: how pictures become the network's input; its `neck` is replaced by `output`.
        layout: where the input has its three channels, by default seen from its shape.
        output: which output is the vector; needed where there are several.
        overwrite: replace a package that exists.

    Raises:
        MissingExtraError: openvino is not installed.
        ArgumentError: `out` exists.
        ExportError: the files are not such a model, contradict the contract, or failed
            verification; nothing was written.
    """
    path = Path(model)
    contract = dataclasses.replace(contract, neck="output")
    with disk.new_folder(Path(out), marker=MANIFEST, overwrite=overwrite) as folder:
        sources = _hash_sources(path)
        wanted = Wanted(path, contract, layout, output)
        spec = _fill(folder, wanted, sources)
    return Package(Path(out), spec)


def _hash_sources(path: Path) -> dict[str, str]:
    """Give the hashes of both files of an IR, as the provenance names them."""
    weights = path.with_suffix(".bin")
    for file, what in ((path, "it"), (weights, f"{path} needs it: its weights are in it, and it")):
        if not file.is_file():
            raise ExportError(f"{file} does not exist: {what} must be copied along")
    return {
        "source": path.name,
        "source_sha256": disk.sha256_file(path),
        "source_weights_sha256": disk.sha256_file(weights),
    }


def _fill(folder: Path, wanted: Wanted, sources: Mapping[str, str]) -> ModelSpec:
    """Make the package with a free batch size, or with the model's own where it is not right."""
    model = _read(wanted.path)
    adapted = adapt_ir(model, wanted, free=True)
    try:
        return fill_package(folder, *_describe(wanted, adapted, sources))
    except ExportError:
        if adapted.batch is not None or adapted.image.batch is None:
            raise
    kept = adapt_ir(_read(wanted.path), wanted, free=False)
    return fill_package(folder, *_describe(wanted, kept, sources))


def _describe(
    wanted: Wanted, adapted: Adapted, sources: Mapping[str, str]
) -> tuple[Candidate, Witness]:
    source = _read(wanted.path)
    weights = _weights(source)
    reduced = _is_quantised(source) or any(
        values.dtype == np.float16 for values in weights.values()
    )
    candidate = Candidate(
        write=lambda folder: _write(folder, adapted, "int8" if _is_quantised(source) else "fp32"),
        name=wanted.path.stem,
        architecture="unknown",
        weights_sha256=sha256_tensors(weights),
        contract=wanted.contract,
        provenance={"openvino": import_openvino().__version__, **sources},
        tolerance=HALF_TOLERANCE if reduced else TOLERANCE,
    )
    return candidate, _source_itself(source, wanted, adapted.image)


def _read(path: Path) -> Any:
    try:
        return read_model(path)
    except EngineError as error:
        raise ExportError(
            f"{path} is not an OpenVINO model, or it or its .bin is damaged: {error}"
        ) from error


def _weights(model: Any) -> dict[str, NDArray[Any]]:
    constants = [op for op in model.get_ordered_ops() if op.get_type_name() == "Constant"]
    return {constant.get_friendly_name(): np.asarray(constant.data) for constant in constants}


def _is_quantised(model: Any) -> bool:
    return any(op.get_type_name() == "FakeQuantize" for op in model.get_ops())


def _write(folder: Path, adapted: Adapted, precision: str) -> EngineSpec:
    try:
        written = write_model(adapted.model, folder / _FILE)
    except Exception as error:  # openvino raises several unrelated types
        raise ExportError(f"openvino cannot write the model: {explain(error)}") from error
    sha256 = written.pop(_FILE)
    return EngineSpec(
        _FILE, sha256, "openvino", adapted.batch, precision=precision, companions=written
    )


def _source_itself(model: Any, wanted: Wanted, image: Image) -> Witness:
    """Let the model as it was testify."""

    def testify(inputs: Inputs) -> NDArray[np.float32]:
        fed = inputs.astype(TYPES[image.element])
        if image.layout == "nhwc":
            fed = np.ascontiguousarray(fed.transpose(0, 2, 3, 1))
        try:
            return _run(model, fed, wanted.output)
        except RuntimeError as error:
            raise EngineError(f"openvino does not run {wanted.path}: {explain(error)}") from error

    return Witness("the vectors of the IR it was made from", testify, is_source=True)


def _run(model: Any, fed: NDArray[Any], output: str | None) -> NDArray[np.float32]:
    """Run a model as it is over all inputs, in its own batch size."""
    rows = model.input().get_partial_shape()[0]
    batch = len(fed) if rows.is_dynamic else rows.get_length()
    short = -len(fed) % batch
    filled = np.concatenate([fed, np.repeat(fed[-1:], short, axis=0)])
    port = model.outputs[0] if output is None else output_port(model, output)
    place = [found.get_node() for found in model.outputs].index(port.get_node())
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    request = import_openvino().Core().compile_model(model, "CPU", settings).create_infer_request()
    parts = [
        request.infer({0: filled[start : start + batch]}, share_outputs=False)[place]
        for start in range(0, len(filled), batch)
    ]
    vectors = np.concatenate([part.reshape(batch, -1) for part in parts])
    return vectors[: len(fed)].astype(np.float32)
