"""A checkpoint, the network it is of, and how pictures become that network's input."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reidkit import checkpoints, networks
from reidkit.configs import Config
from reidkit.errors import ArgumentError, IncompatibleCheckpointError
from reidkit.exporting._verifying import Witness, run_file
from reidkit.exporting._writing import write_model
from reidkit.networks import Network
from reidkit.package import Inputs, InputSpec

UNFOLDED = "the vectors of the network before folding"

_WITNESSED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A checkpoint that was recognised.

    `name` is that of its file, `None` where only the value is known; `contract` is as the
    network keeps it: without BNNeck its `neck` is `output`.
    """

    name: str | None
    read: checkpoints.Checkpoint
    network: Network
    contract: InputSpec

    def used_tensors(self) -> dict[str, NDArray[Any]]:
        """Give the tensors that the vectors depend on."""
        return {key: self.read.tensors[key] for key in networks.used_tensors(self.network)}


def read_source(
    checkpoint: str | Path | checkpoints.Checkpoint,
    *,
    architecture: str | None = None,
    last_stride: int = 1,
    contract: InputSpec | None = None,
) -> Source:
    """Read a checkpoint and recognise its network; parameters and errors as `export_package`."""
    name, read = _read(checkpoint)
    network = _recognise(name, read, architecture, last_stride)
    return Source(name, read, network, _fit(contract or InputSpec(), network))


def read_configured(
    config: Config, checkpoint: str | Path | checkpoints.Checkpoint | None = None
) -> Source:
    """Read a checkpoint of the network that a configuration describes.

    `checkpoint` is by default the configuration's `TEST.WEIGHT`.

    Raises:
        CheckpointError: the file is not a usable checkpoint, or one of another network.
        ArgumentError: there is no such network, or the configuration names no checkpoint.
    """
    if config.architecture not in networks.ARCHITECTURES:
        raise ArgumentError(
            f"MODEL.NAME is {config.architecture!r}, expected one of "
            f"{', '.join(networks.ARCHITECTURES)}"
        )
    name, read = _read(_weight(config) if checkpoint is None else checkpoint)
    shown = name or "the checkpoint"
    try:
        network = _recognise(name, read, config.architecture, config.last_stride)
    except IncompatibleCheckpointError:
        _refuse_other_network(config, shown, read)
        raise
    if network.bnneck != config.bnneck:
        has, says = ("has a", "no") if network.bnneck else ("has no", "bnneck")
        other = "bnneck" if network.bnneck else "no"
        raise IncompatibleCheckpointError(
            f"{shown} {has} BNNeck, but MODEL.NECK is {says!r}: write MODEL.NECK \"('{other}')\", "
            "or take the checkpoint that was trained with this configuration"
        )
    return Source(name, read, network, _fit(config.contract, network))


def build(source: Source, *, fold: bool) -> onnx.ModelProto:
    """Build the network's graph with the vector taken where the contract says."""
    contract = source.contract
    return networks.build_model(
        source.network,
        source.read.tensors,
        height=contract.height,
        width=contract.width,
        neck="after" if contract.neck == "after" else "before",
        fold=fold,
    )


def unfolded(folder: Path, source: Source) -> Witness:
    """Let the network with its batch norms as they were trained check the folded one."""
    return Witness(UNFOLDED, lambda inputs: run_unfolded(folder, source, inputs[:_WITNESSED]))


def run_unfolded(folder: Path, source: Source, inputs: Inputs) -> NDArray[np.float32]:
    """Run (N, 3, H, W) inputs through the network as it was trained: (N, D) vectors.

    `folder` holds its file meanwhile.

    Raises:
        EngineError: the engine does not load it, or fails.
    """
    file = folder / "unfolded.onnx"
    try:
        return run_file(file, write_model(file, build(source, fold=False)), inputs)
    finally:
        file.unlink(missing_ok=True)


def _weight(config: Config) -> Path:
    """Give the checkpoint that a configuration names; its own files hold a placeholder."""
    hint = "pass TEST.WEIGHT and the checkpoint's path behind the options"
    if not config.weight:
        raise ArgumentError(f"TEST.WEIGHT is empty: {hint}")
    path = Path(config.weight)
    if not path.exists():
        raise ArgumentError(f"TEST.WEIGHT is {config.weight!r}, which does not exist: {hint}")
    return path


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


def _refuse_other_network(config: Config, shown: str, read: checkpoints.Checkpoint) -> None:
    """Say it plainly where a checkpoint is one of another known network."""
    try:
        found = networks.recognise(read.tensors)
    except IncompatibleCheckpointError:
        return
    if found.architecture != config.architecture:
        raise IncompatibleCheckpointError(
            f"{shown} is a checkpoint of {found.architecture}, but MODEL.NAME is "
            f"{config.architecture!r}: write MODEL.NAME \"('{found.architecture}')\", or take the "
            "checkpoint that was trained with this configuration"
        )


def _fit(contract: InputSpec, network: Network) -> InputSpec:
    """Give the contract as the network keeps it."""
    if not network.bnneck:
        return dataclasses.replace(contract, neck="output")
    if contract.neck == "output":
        raise ArgumentError("neck is 'output', expected 'after' or 'before' for this network")
    return contract
