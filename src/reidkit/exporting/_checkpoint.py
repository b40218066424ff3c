"""From a checkpoint of a known network to a package, without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reidkit import checkpoints, disk, networks
from reidkit.errors import ArgumentError, IncompatibleCheckpointError
from reidkit.exporting._verifying import Witness, run_file
from reidkit.exporting._writing import (
    Candidate,
    fill_package,
    onnx_writer,
    sha256_tensors,
    write_model,
)
from reidkit.networks import Network
from reidkit.package import MANIFEST, Inputs, InputSpec, Package

_WITNESSED = 2


def export_package(
    checkpoint: str | Path | checkpoints.Checkpoint,
    out: str | Path,
    *,
    architecture: str | None = None,
    last_stride: int = 1,
    contract: InputSpec | None = None,
    overwrite: bool = False,
) -> Package:
    """Make a verified model package from a checkpoint of a network that reidkit knows.

    Args:
        checkpoint: the file that training saved, or what `checkpoints.read` gave for it.
        out: the package's folder.
        architecture: one of `networks.ARCHITECTURES`; by default it is recognised.
        last_stride: the stride of the network's last stage, 1 or 2; no checkpoint records it.
        contract: how pictures become the network's input, by default the strong baseline's.
            Its `neck` says where the vector is taken, `after` or `before` the BNNeck. A network
            without BNNeck has one vector, and its package's contract says `output` whatever was
            asked.
        overwrite: replace a package that exists.

    The package's provenance says under `bnneck` whether the network has one (`yes` or `no`).

    Raises:
        CheckpointError: the file is not a usable checkpoint of a known network.
        ArgumentError: an argument is outside its values, or `out` exists.
        ExportError: the exported model failed verification; nothing was written.
    """
    with disk.new_folder(Path(out), marker=MANIFEST, overwrite=overwrite) as folder:
        name, read = _read(checkpoint)
        network = _recognise(name, read, architecture, last_stride)
        contract = _fit(contract or InputSpec(), network)
        candidate = _describe(name, read, network, contract)
        spec = fill_package(folder, candidate, _unfolded(folder, network, read.tensors, contract))
    return Package(Path(out), spec)


def _read(source: str | Path | checkpoints.Checkpoint) -> tuple[str | None, checkpoints.Checkpoint]:
    """Give the checkpoint and the name of its file, `None` where only the value is known."""
    if isinstance(source, (str, Path)):
        return Path(source).name, checkpoints.read(source)
    return None, source


def _recognise(
    name: str | None, read: checkpoints.Checkpoint, architecture: str | None, last_stride: int
) -> Network:
    try:
        return networks.recognise(read.tensors, architecture=architecture, last_stride=last_stride)
    except IncompatibleCheckpointError as error:
        what = f"{name or 'the checkpoint'} ({read.container}, {read.form})"
        raise IncompatibleCheckpointError(f"{what}: {error}") from error


def _fit(contract: InputSpec, network: Network) -> InputSpec:
    """Give the contract as the network keeps it."""
    if not network.bnneck:
        return dataclasses.replace(contract, neck="output")
    if contract.neck == "output":
        raise ArgumentError("neck is 'output', expected 'after' or 'before' for this network")
    return contract


def _describe(
    name: str | None, read: checkpoints.Checkpoint, network: Network, contract: InputSpec
) -> Candidate:
    used = {key: read.tensors[key] for key in networks.used_tensors(network)}
    return Candidate(
        write=onnx_writer(_build(network, used, contract, fold=True)),
        name=Path(name).stem if name else network.architecture,
        architecture=network.architecture,
        weights_sha256=sha256_tensors(used),
        contract=contract,
        provenance={
            "onnx": onnx.__version__,
            "bnneck": "yes" if network.bnneck else "no",
            "last_stride": str(network.last_stride),
            **({"source": name} if name else {}),
            "source_sha256": read.sha256,
        },
    )


def _build(
    network: Network, tensors: Mapping[str, NDArray[Any]], contract: InputSpec, *, fold: bool
) -> onnx.ModelProto:
    return networks.build_model(
        network,
        tensors,
        height=contract.height,
        width=contract.width,
        neck="after" if contract.neck == "after" else "before",
        fold=fold,
    )


def _unfolded(
    folder: Path, network: Network, tensors: Mapping[str, NDArray[Any]], contract: InputSpec
) -> Witness:
    """Let the network with its batch norms as they were trained check the folded one."""

    def testify(inputs: Inputs) -> NDArray[np.float32]:
        file = folder / "unfolded.onnx"
        try:
            engine = write_model(file, _build(network, tensors, contract, fold=False))
            return run_file(file, engine, inputs[:_WITNESSED])
        finally:
            file.unlink(missing_ok=True)

    return Witness("the vectors of the network before folding", testify)
