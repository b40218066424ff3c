"""A graph and what is known of it, into the folder of a package in the making."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

import reidkit
from reidkit.datasets.drawn import draw_crops
from reidkit.errors import ExportError
from reidkit.exporting._verifying import TOLERANCE, Witness, verify
from reidkit.package import (
    MINIMUM_REFERENCE_PICTURES,
    EngineSpec,
    InputSpec,
    ModelSpec,
    ReferencePictures,
    write_manifest,
    write_reference,
)
from reidkit.preprocess import prepare

MODEL_FILE = "model.onnx"
MAXIMUM_BYTES = 2**31 - 1
"""The size of the largest ONNX file that holds its weights itself."""

# An odd size on purpose, so that a package's resize is tested too.
_PICTURE = {"height": 144, "width": 60}
_SEED = 16


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A model that becomes a package if it passes verification.

    `write` puts the engine's files into a folder and describes them; the other fields, but for
    the tolerance, are those of `ModelSpec`. `provenance` names the tools that wrote the files.
    """

    write: Callable[[Path], EngineSpec]
    name: str
    architecture: str
    weights_sha256: str
    contract: InputSpec
    provenance: Mapping[str, str]
    tolerance: float = TOLERANCE


def fill_package(folder: Path, candidate: Candidate, witness: Witness) -> ModelSpec:
    """Write, verify and describe the candidate in a package folder in the making.

    Where the witness is the source itself, the provenance says under `compared_with_source`
    whether it could be heard (`yes` or `no`).

    Raises:
        ExportError: the model cannot be written, or fails verification.
    """
    engine = candidate.write(folder)
    file = folder / engine.file
    pixels = draw_crops(MINIMUM_REFERENCE_PICTURES, **_PICTURE, seed=_SEED)
    inputs = np.stack([prepare(picture, candidate.contract) for picture in pixels])
    verified = verify(file, engine, inputs, tolerance=candidate.tolerance, witness=witness)
    vectors = verified.vectors
    compared = {"compared_with_source": "yes" if verified.witnessed else "no"}
    spec = ModelSpec(
        name=candidate.name,
        architecture=candidate.architecture,
        embedding_size=vectors.shape[1],
        weights_sha256=candidate.weights_sha256,
        reference_sha256=write_reference(folder, ReferencePictures(pixels, vectors)),
        input=candidate.contract,
        engine=engine,
        # No time stamps: on one machine, the same source makes the same package. Another
        # machine's engine may round the reference vectors in another way, no other file differs.
        provenance={
            "reidkit": reidkit.__version__,
            **candidate.provenance,
            **(compared if witness.is_source else {}),
        },
    )
    write_manifest(folder, spec)
    return spec


def onnx_writer(model: onnx.ModelProto, batch: int | None = None) -> Callable[[Path], EngineSpec]:
    """Give what writes a model of that fixed batch size, `None` for any, into a package folder."""
    return lambda folder: write_model(folder / MODEL_FILE, model, batch)


def write_model(file: Path, model: onnx.ModelProto, batch: int | None = None) -> EngineSpec:
    """Write a model into one file and describe it to an engine.

    Raises:
        ExportError: it is too large for one file.
    """
    try:
        data = model.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf's two implementations raise different types
        raise ExportError(f"the model does not fit into one ONNX file: {error}") from error
    file.write_bytes(data)
    return EngineSpec(MODEL_FILE, hashlib.sha256(data).hexdigest(), batch=batch)


def sha256_tensors(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Give the hash of tensors by name, dtype, shape and values, whatever file they came in."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name])
        total.update(json.dumps([name, values.dtype.name, tensors[name].shape]).encode())
        total.update(values.reshape(-1).view(np.uint8).data)
    return total.hexdigest()
