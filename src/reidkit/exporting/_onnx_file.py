"""From a checkpoint of a known network to one .onnx file with the names somebody else expects."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from reidkit import checkpoints, disk
from reidkit.configs import Config
from reidkit.datasets.drawn import draw_crops
from reidkit.errors import ArgumentError, EngineError, ExportError
from reidkit.exporting._source import (
    UNFOLDED,
    Source,
    build,
    read_configured,
    read_source,
    run_unfolded,
)
from reidkit.exporting._verifying import Witness, relative_difference, run_file, verify
from reidkit.exporting._writing import write_model
from reidkit.networks.graph import INPUT, OPSET, OUTPUT
from reidkit.package import MINIMUM_REFERENCE_PICTURES, InputSpec
from reidkit.preprocess import prepare

OLDEST_OPSET = 11
_SPLIT_TAKES_SIZES = 13
"""The opset from which the sizes of a Split are an input and no attribute."""

_COMPARED = 3
"""The pictures that the network before folding is run over too."""


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """How an .onnx file looks from outside.

    Fields:
        image: the name of its input.
        vector: the name of its output.
        batch: the name of the free first axis of both.
        opset: the version of the operators it uses, 11 to 17.
        overwrite: replace a file that exists.
    """

    image: str = "image"
    vector: str = "class"
    batch: str = "-1"
    opset: int = OLDEST_OPSET
    overwrite: bool = False

    def __post_init__(self) -> None:
        if type(self.opset) is not int or not OLDEST_OPSET <= self.opset <= OPSET:
            raise ArgumentError(
                f"the opset is {self.opset!r}, expected a whole number from {OLDEST_OPSET} to "
                f"{OPSET}"
            )
        if not (self.image and self.vector and self.batch) or self.image == self.vector:
            raise ArgumentError(
                f"the input is called {self.image!r}, the output {self.vector!r} and the batch "
                f"axis {self.batch!r}, expected names, and two of them for input and output"
            )


@dataclass(frozen=True, slots=True)
class OnnxExport:
    """A verified .onnx file.

    Fields:
        file: where it is.
        sha256: of its bytes; the same weights and options always give the same.
        architecture: the network's name.
        last_stride: the stride of its last stage.
        embedding_size: the length D of its vectors.
        contract: how pictures become its input, and where the vector is taken.
        options: its names and opset.
        difference: the largest relative difference of its vectors from those of the network
            before its batch norms were folded, over three pictures at batch 1 and 3.
    """

    file: Path
    sha256: str
    architecture: str
    last_stride: int
    embedding_size: int
    contract: InputSpec
    options: OnnxOptions
    difference: float


def export_onnx(
    checkpoint: str | Path | checkpoints.Checkpoint,
    out: str | Path,
    *,
    architecture: str | None = None,
    last_stride: int = 1,
    contract: InputSpec | None = None,
    options: OnnxOptions | None = None,
) -> OnnxExport:
    """Make one verified .onnx file from a checkpoint of a network that reidkit knows.

    It takes (N, 3, H, W) float32 and gives (N, D) float32 for any N, not of unit length. It
    appears whole or not at all.

    Args:
        checkpoint: as for `export_package`.
        out: the file; its name ends in `.onnx`.
        architecture: as for `export_package`.
        last_stride: as for `export_package`.
        contract: as for `export_package`; the file holds no word of its mean and std.
        options: the names of input, output and batch axis, the opset, and whether to replace a
            file that exists.

    Raises:
        CheckpointError: the file is not a usable checkpoint of a known network.
        ArgumentError: an argument is outside its values, or `out` exists.
        ExportError: the exported model failed verification; nothing was written.
    """
    options = options or OnnxOptions()
    out = _check_free(Path(out), options)
    source = read_source(
        checkpoint, architecture=architecture, last_stride=last_stride, contract=contract
    )
    return _write(source, out, options)


def export_configured_onnx(
    config: Config,
    out: str | Path,
    *,
    checkpoint: str | Path | checkpoints.Checkpoint | None = None,
    options: OnnxOptions | None = None,
) -> OnnxExport:
    """Make one verified .onnx file of the network that a configuration describes.

    Args:
        config: what `configs.read_config` gave.
        out: the file; its name ends in `.onnx`.
        checkpoint: as for `export_package`; by default the configuration's `TEST.WEIGHT`.
        options: as for `export_onnx`.

    Raises:
        CheckpointError: the file is not a usable checkpoint, or contradicts the configuration.
        ArgumentError: there is no such network, the configuration names no checkpoint, or `out`
            exists.
        ExportError: the exported model failed verification; nothing was written.
    """
    options = options or OnnxOptions()
    out = _check_free(Path(out), options)
    return _write(read_configured(config, checkpoint), out, options)


def _check_free(out: Path, options: OnnxOptions) -> Path:
    if out.suffix.lower() != ".onnx":
        raise ArgumentError(f"{out} is not called .onnx: choose a name that ends so")
    if out.is_dir():
        raise ArgumentError(f"{out} is a folder: choose a file's name")
    if out.exists() and not options.overwrite:
        raise ArgumentError(f"{out} exists already: choose another name, or pass overwrite=True")
    return out


def _write(source: Source, out: Path, options: OnnxOptions) -> OnnxExport:
    model = build(source, fold=True)
    _lower(model, options.opset)
    _rename(model, options)
    with tempfile.TemporaryDirectory(prefix="reidkit-") as folder:
        made = Path(folder) / out.name
        difference = _verify(source, made, model)
        data = made.read_bytes()
        sha256 = disk.sha256_file(made)
    _check_free(out, options)
    out.parent.mkdir(parents=True, exist_ok=True)
    disk.write_bytes(out, data)
    return OnnxExport(
        file=out,
        sha256=sha256,
        architecture=source.network.architecture,
        last_stride=source.network.last_stride,
        embedding_size=source.network.embedding_size,
        contract=source.contract,
        options=options,
        difference=difference,
    )


def _lower(model: onnx.ModelProto, opset: int) -> None:
    """Write a graph in an older opset; Split is all in these graphs that ever changed."""
    opsets = [helper.make_opsetid("", opset)]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    model.ir_version = helper.find_min_ir_version_for(opsets)
    if opset >= _SPLIT_TAKES_SIZES:
        return
    sizes = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Split":
            tensor = sizes[node.input.pop()]
            node.attribute.append(helper.make_attribute("split", numpy_helper.to_array(tensor)))
            model.graph.initializer.remove(tensor)


def _rename(model: onnx.ModelProto, options: OnnxOptions) -> None:
    """Give the input, the output and the batch axis their names."""
    graph = model.graph
    names = {INPUT: options.image, OUTPUT: options.vector}
    taken = {tensor.name for tensor in graph.initializer}
    taken |= {name for node in graph.node for name in node.output}
    for name in sorted((taken - {OUTPUT}) & set(names.values())):
        raise ArgumentError(f"the network has an inner value called {name!r}: choose another name")
    for node in graph.node:
        node.name = names.get(node.name, node.name)
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = options.batch


def _verify(source: Source, file: Path, model: onnx.ModelProto) -> float:
    """Write and run a model; give how far its vectors are from the network's before folding."""
    engine = write_model(file, model)
    _check_form(file)
    pixels = draw_crops(MINIMUM_REFERENCE_PICTURES, height=144, width=60, seed=16)
    inputs = np.stack([prepare(picture, source.contract) for picture in pixels])
    few = inputs[:_COMPARED]
    try:
        expected = run_unfolded(file.parent, source, few)
        verify(file, engine, inputs, witness=Witness(UNFOLDED, lambda _: expected))
        found = [run_file(file, engine, few, sizes) for sizes in ([1] * _COMPARED, [_COMPARED])]
    except EngineError as error:
        raise ExportError(f"the exported model cannot be verified: {error}") from error
    return max(relative_difference(vectors, expected) for vectors in found)


def _check_form(file: Path) -> None:
    """Refuse a file that is not ONNX to the letter, whatever an engine makes of it."""
    try:
        onnx.checker.check_model(str(file), full_check=True)
    except Exception as error:  # the checker raises several unrelated types
        raise ExportError(f"the exported model is not valid ONNX: {error}") from error
