"""From a checkpoint of a known network to a package, without torch."""

from __future__ import annotations

from pathlib import Path

import onnx

from reidkit import checkpoints, disk
from reidkit.configs import Config
from reidkit.exporting import _source
from reidkit.exporting._source import Source, read_configured, read_source, unfolded
from reidkit.exporting._writing import Candidate, fill_package, onnx_writer, sha256_tensors
from reidkit.package import MANIFEST, InputSpec, ModelSpec, Package


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
        last_stride: the stride of the network's last stage, 1 or 2 (1 for OSNet); no checkpoint
            records it.
        contract: how pictures become the network's input, by default the strong baseline's.
            Its `neck` says where the vector is taken, `after` or `before` the BNNeck. A network
            without BNNeck has one vector, and its package's contract says `output` whatever was
            asked.
        overwrite: replace a package that exists.

    The package's provenance says under `bnneck` whether the network has one (`yes` or `no`), and
    under `pooling` where it pools in another way than by the average (`gem`).

    Raises:
        CheckpointError: the file is not a usable checkpoint of a known network.
        ArgumentError: an argument is outside its values, or `out` exists.
        ExportError: the exported model failed verification; nothing was written.
    """
    with disk.new_folder(Path(out), marker=MANIFEST, overwrite=overwrite) as folder:
        source = read_source(
            checkpoint, architecture=architecture, last_stride=last_stride, contract=contract
        )
        spec = _fill(folder, source)
    return Package(Path(out), spec)


def export_configured_package(
    config: Config,
    out: str | Path,
    *,
    checkpoint: str | Path | checkpoints.Checkpoint | None = None,
    overwrite: bool = False,
) -> Package:
    """Make a verified model package of the network that a configuration describes.

    Args:
        config: what `configs.read_config` gave.
        out: the package's folder.
        checkpoint: as for `export_package`; by default the configuration's `TEST.WEIGHT`.
        overwrite: replace a package that exists.

    Raises:
        CheckpointError: the file is not a usable checkpoint, or contradicts the configuration.
        ArgumentError: there is no such network, the configuration names no checkpoint, or `out`
            exists.
        ExportError: the exported model failed verification; nothing was written.
    """
    with disk.new_folder(Path(out), marker=MANIFEST, overwrite=overwrite) as folder:
        spec = _fill(folder, read_configured(config, checkpoint))
    return Package(Path(out), spec)


def _fill(folder: Path, source: Source) -> ModelSpec:
    return fill_package(folder, _describe(source), unfolded(folder, source))


def _describe(source: Source) -> Candidate:
    network, name = source.network, source.name
    return Candidate(
        write=onnx_writer(_source.build(source, fold=True)),
        name=Path(name).stem if name else network.architecture,
        architecture=network.architecture,
        weights_sha256=sha256_tensors(source.used_tensors()),
        contract=source.contract,
        provenance={
            "onnx": onnx.__version__,
            "bnneck": "yes" if network.bnneck else "no",
            "last_stride": str(network.last_stride),
            **({"pooling": network.pooling} if network.pooling != "average" else {}),
            **({"source": name} if name else {}),
            "source_sha256": source.read.sha256,
        },
    )
