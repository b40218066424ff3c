"""Weights from elsewhere into a network before it is trained: all of its backbone, or an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit import checkpoints, networks
from reidkit.errors import (
    ArgumentError,
    CheckpointError,
    IncompatibleCheckpointError,
    MissingExtraError,
    name_some,
)
from reidkit.networks import Network
from reidkit.training._network import ReidNetwork, copy_array

TIMM = "timm"
"""The source that means the weights which the library of this name fetches."""

_TIMM_NAMES = {
    **{f"resnet{depth}": f"resnet{depth}.tv_in1k" for depth in (18, 34, 50, 101, 152)},
    **{f"se_resnet{depth}": f"legacy_seresnet{depth}.in1k" for depth in (50, 101, 152)},
    **{f"se_resnext{depth}": f"legacy_seresnext{depth}_32x4d.in1k" for depth in (50, 101)},
    "senet154": "legacy_senet154.in1k",
}
"""What timm calls the ImageNet weights that the strong baseline starts from."""

_Arrays = Mapping[str, NDArray[Any]]


class Loaded(NamedTuple):
    """What became of pretrained weights.

    Fields:
        loaded: the network's tensors that were taken over.
        skipped: the tensors of the source that were not, under the source's names, such as a
            classifier of other classes.
        kept: the network's tensors that are as they were: its head, or a part of it.
    """

    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    kept: tuple[str, ...]


def load_pretrained(module: ReidNetwork, network: Network, source: str) -> Loaded:
    """Start a network from pretrained weights.

    Args:
        module: what `build_network` made of `network`.
        network: its description.
        source: a checkpoint file, or `timm` for the ImageNet weights that this library fetches.
            The file may be of a classifier of pictures (torchvision, timm, IBN-Net, torchreid's
            OSNet), of the strong baseline or reidkit with any number of people, or of anything
            around the same backbone: what stands before its names does not matter.

    The backbone is taken over whole; so are the power of the pooling and the BNNeck where the
    source has them. The classifier never is: it knows other people.

    Raises:
        CheckpointError: the file is not a usable checkpoint, or timm could not fetch the weights.
        IncompatibleCheckpointError: tensors of the backbone are missing, of another shape, or not
            finite; the message names them, and the module stays as it was.
        ArgumentError: timm has no weights for this network.
        MissingExtraError: timm is not installed.
    """
    tensors, shown = _read(network, source)
    shapes = networks.tensor_shapes(network)
    found = _match(network, tensors)
    _check(network, shown, {name: tensors[key] for name, key in found.items()})
    usable = {name: key for name, key in found.items() if tensors[key].shape == shapes[name]}
    own = module.state_dict()
    for name, key in usable.items():
        copy_array(own[name], tensors[key])
    taken = set(usable.values())
    return Loaded(
        loaded=tuple(usable),
        skipped=tuple(key for key in tensors if key not in taken),
        kept=tuple(name for name in shapes if name not in usable),
    )


def _read(network: Network, source: str) -> tuple[_Arrays, str]:
    """Give the source's tensors, and what a message calls it."""
    if source != TIMM:
        return checkpoints.read(source).tensors, Path(source).name
    if network.architecture not in _TIMM_NAMES:
        raise ArgumentError(
            f"timm has no weights for {network.architecture}, only for {', '.join(_TIMM_NAMES)}: "
            "name a checkpoint file"
        )
    name = _TIMM_NAMES[network.architecture]
    try:
        timm = import_module("timm")
    except ModuleNotFoundError as error:
        raise MissingExtraError("timm", "timm") from error
    try:
        state = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # a download fails in many ways
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"timm could not fetch {name} ({reason}): connect this machine, or name a file that "
            "was fetched elsewhere"
        ) from error
    return {key: tensor.numpy() for key, tensor in state.items()}, f"timm's {name}"


def _match(network: Network, tensors: _Arrays) -> dict[str, str]:
    """Find what the source calls the network's tensors: name -> the source's name.

    A BNNeck that is not complete is left out.
    """
    prefix = networks.backbone(network).prefix
    needed = _backbone_tensors(network)
    before = _find_prefix(tensors, [name.removeprefix(prefix) for name in needed])
    around = before.removesuffix(prefix)
    found = {}
    for name in networks.tensor_shapes(network):
        head = name.startswith(("gem.", "bottleneck."))
        key = around + name if head else before + name.removeprefix(prefix)
        if key in tensors and not name.startswith("classifier."):
            found[name] = key
    neck = [name for name in networks.used_tensors(network) if name.startswith("bottleneck.")]
    if not all(name in found for name in neck):
        found = {name: key for name, key in found.items() if not name.startswith("bottleneck.")}
    return found


def _find_prefix(tensors: _Arrays, names: list[str]) -> str:
    """Find what stands before the backbone's names in the source: what fits most of them."""
    first = names[0]
    prefixes = dict.fromkeys(key.removesuffix(first) for key in tensors if key.endswith(first))
    return max(
        prefixes,
        key=lambda prefix: sum(prefix + name in tensors for name in names),
        default="",
    )


def _backbone_tensors(network: Network) -> tuple[str, ...]:
    bare = dataclasses.replace(network, bnneck=False, classes=None, pooling="average")
    return networks.used_tensors(bare)


def _check(network: Network, shown: str, found: _Arrays) -> None:
    """Refuse what would leave a part of the backbone at random, or numbers that are none."""
    shapes = networks.tensor_shapes(network)
    needed = _backbone_tensors(network)
    present = {name: found[name] for name in needed if name in found}
    kinds = {
        "missing": [name for name in needed if name not in found],
        "of another shape": [
            f"{name} {values.shape}, expected {shapes[name]}"
            for name, values in present.items()
            if values.shape != shapes[name]
        ],
        "not finite numbers": [name for name, values in found.items() if not _is_finite(values)],
    }
    troubles = [
        f"{len(names)} {kind}: {name_some(names)}" for kind, names in kinds.items() if names
    ]
    if troubles:
        raise IncompatibleCheckpointError(
            f"{shown} cannot start {network.architecture}; of the {len(needed)} tensors of its "
            f"backbone are {'; '.join(troubles)}. Name a checkpoint of this network"
        )


def _is_finite(values: NDArray[Any]) -> bool:
    # The batch norms' counters are whole numbers, and the only scalars.
    return (values.dtype.kind == "f" or values.shape == ()) and bool(np.isfinite(values).all())
