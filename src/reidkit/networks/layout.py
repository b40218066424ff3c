"""Which tensors the checkpoint of a network holds, and which network a checkpoint is of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import IncompatibleCheckpointError
from reidkit.networks.backbones import backbone
from reidkit.networks.facts import ARCHITECTURES
from reidkit.networks.layers import AveragePool, Backbone, Block, Dense, Layer, Network, Pooling

Shape = tuple[int, ...]

GEM_POWER = "gem.p"
"""Where the power of the generalised mean sits in a state dict: (1,), above 0."""

_COUNTER = ".num_batches_tracked"
_LARGEST = float(np.finfo(np.float32).max)
_LONGEST = 120


def tensor_shapes(network: Network) -> dict[str, Shape]:
    """Give the shape of every tensor in the network's state dict, in the reference's order.

    The classifier is left out where `network.classes` is `None`; it has a bias exactly where
    there is no BNNeck. In the AIN networks an instance norm comes right after its convolution.
    """
    described = backbone(network)
    shapes = {f"{described.prefix}{name}": shape for name, shape in _backbone_shapes(described)}
    if network.pooling == "gem":
        shapes[GEM_POWER] = (1,)
    if network.bnneck:
        shapes.update(_batch_norm_shapes("bottleneck", network.embedding_size))
    if network.classes is not None:
        shapes["classifier.weight"] = (network.classes, network.embedding_size)
        if not network.bnneck:
            shapes["classifier.bias"] = (network.classes,)
    return shapes


def used_tensors(network: Network) -> tuple[str, ...]:
    """Name the tensors that the vectors depend on, in the reference's order.

    Left out are the classifier, the batch norms' counters and the leftovers.
    """
    described = backbone(network)
    unused = {f"{described.prefix}{name}" for name, _ in described.leftovers}
    return tuple(
        name
        for name in tensor_shapes(network)
        if name not in unused and not name.endswith(_COUNTER) and not _is_classifier(name)
    )


def recognise(
    tensors: Mapping[str, NDArray[Any]], *, architecture: str | None = None, last_stride: int = 1
) -> Network:
    """Find the network whose state dict this is, by names and shapes.

    Tensors that no vector depends on may be missing: the batch norms' `num_batches_tracked`, the
    classifier (with any number of classes), the unused `base.fc` of `resnet50_ibn_a`. The pooling
    is `gem` where there is a `gem.p`. The stride of the last stage leaves no trace in the
    tensors: `last_stride` has to say it where it is not 1. Where both `bottleneck.*` and
    `classifier.*` are missing, the checkpoint is taken for that of a network without BNNeck:
    nothing tells it from one that lost its BNNeck.

    Raises:
        IncompatibleCheckpointError: tensors are missing, unexpected, of the wrong shape, not
            floating point, or hold NaN, infinity or a negative variance; the message lists the
            first ten of each. With `architecture` none, it is compared to the nearest network.
        ArgumentError: `architecture` is unknown, or the network cannot have `last_stride`.
    """
    candidates = [architecture] if architecture else list(ARCHITECTURES)
    networks = [_network_like(name, tensors) for name in candidates]
    if not architecture and not any(
        name in tensors for network in networks for name in used_tensors(network)
    ):
        raise IncompatibleCheckpointError(
            f"none of the {len(tensors)} tensors ({_listed(list(tensors))}) belongs to a network "
            f"that reidkit builds ({', '.join(ARCHITECTURES)}): a network from elsewhere can be "
            "exported to ONNX and packaged with reidkit package"
        )
    differences = {network: _compare(network, tensors) for network in networks}
    nearest = min(differences, key=lambda network: differences[network].count)
    _check_differences(nearest, differences[nearest], named=architecture is not None)
    # Only now: a stride that this network cannot have is no news about the others.
    nearest = dataclasses.replace(nearest, last_stride=last_stride)
    _check_numbers(nearest, tensors)
    return nearest


def check_tensors(network: Network, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Refuse tensors that are not a complete, usable state dict of the network.

    A classifier is never required, and may be for any number of classes.

    Raises:
        IncompatibleCheckpointError: as for `recognise`.
    """
    _check_differences(network, _compare(network, tensors), named=True)
    _check_numbers(network, tensors)


def show_name(name: str) -> str:
    """Give a name as a message may show it: a file from anywhere chose its characters.

    Whatever is not printable ASCII is escaped, and a name of more than 120 characters is cut.
    """
    text = ascii(name)[1:-1]
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


@dataclass(frozen=True, slots=True)
class _Differences:
    """How a state dict departs from a network's layout."""

    missing: list[str]
    unexpected: list[str]
    wrong_shape: list[str]

    @property
    def count(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.wrong_shape)


def _backbone_shapes(described: Backbone) -> Iterator[tuple[str, Shape]]:
    """Give the shapes of a backbone's tensors, under names without its prefix."""
    for part in (*described.stem, *described.body):
        if isinstance(part, Block):
            for layer in _layers(part):
                yield from _layer_shapes(layer)
        elif not isinstance(part, AveragePool):
            yield from _layer_shapes(part)
    if described.dense:
        yield from _dense_shapes(described.dense)
    yield from described.leftovers


def _layers(block: Block) -> Iterator[Layer]:
    yield from block.layers
    for stream in block.streams:
        yield from stream
    yield from block.gate
    yield from block.exit
    if block.shortcut:
        yield block.shortcut


def _layer_shapes(layer: Layer) -> Iterator[tuple[str, Shape]]:
    yield (
        f"{layer.name}.weight",
        (layer.outputs, layer.inputs // layer.groups, layer.kernel, layer.kernel),
    )
    if layer.bias:
        yield f"{layer.name}.bias", (layer.outputs,)
    if layer.norm == "batch":
        yield from _batch_norm_shapes(layer.norm_name, layer.outputs)
    elif layer.norm == "instance":
        yield f"{layer.norm_name}.weight", (layer.outputs,)
        yield f"{layer.norm_name}.bias", (layer.outputs,)
    elif layer.norm == "half_instance":
        half = layer.outputs // 2
        yield f"{layer.norm_name}.IN.weight", (half,)
        yield f"{layer.norm_name}.IN.bias", (half,)
        yield from _batch_norm_shapes(f"{layer.norm_name}.BN", layer.outputs - half)


def _dense_shapes(dense: Dense) -> Iterator[tuple[str, Shape]]:
    yield f"{dense.name}.0.weight", (dense.outputs, dense.inputs)
    yield f"{dense.name}.0.bias", (dense.outputs,)
    yield from _batch_norm_shapes(f"{dense.name}.1", dense.outputs)


def _batch_norm_shapes(name: str, channels: int) -> Iterator[tuple[str, Shape]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)
    yield f"{name}{_COUNTER}", ()


def _is_classifier(name: str) -> bool:
    return name.startswith("classifier.")


def _network_like(architecture: str, tensors: Mapping[str, NDArray[Any]]) -> Network:
    """Give the network that this would be, if it is one of that architecture."""
    # Both references give the classifier a bias exactly where there is no BNNeck.
    bnneck = any(name.startswith("bottleneck.") for name in tensors) or (
        "classifier.weight" in tensors and "classifier.bias" not in tensors
    )
    pooling: Pooling = "gem" if GEM_POWER in tensors else "average"
    return Network(architecture, bnneck, classes=_classes(tensors), pooling=pooling)


def _classes(tensors: Mapping[str, NDArray[Any]]) -> int | None:
    """Give the number of people the classifier tells apart, `None` without a classifier."""
    shape = tensors["classifier.weight"].shape if "classifier.weight" in tensors else ()
    return int(shape[0]) if shape and shape[0] > 0 else None


def _compare(network: Network, tensors: Mapping[str, NDArray[Any]]) -> _Differences:
    expected = tensor_shapes(dataclasses.replace(network, classes=_classes(tensors)))
    used = used_tensors(network)
    shaped = {*used, *(name for name in expected if _is_classifier(name))}
    return _Differences(
        missing=[name for name in used if name not in tensors],
        unexpected=[name for name in tensors if name not in expected],
        wrong_shape=[
            f"{name} {tensors[name].shape}, expected {shape}"
            for name, shape in expected.items()
            if name in shaped and name in tensors and tensors[name].shape != shape
        ],
    )


def _check_differences(network: Network, differences: _Differences, *, named: bool) -> None:
    if differences.count == 0:
        return
    title = f"{network.architecture} {'with' if network.bnneck else 'without'} BNNeck"
    if network.pooling == "gem":
        title += f" pooled by {GEM_POWER}"
    if named:
        lines = [f"these tensors are not those of {title}:"]
    else:
        lines = [f"these tensors are those of no known network; the nearest is {title}:"]
    kinds = {
        "missing": differences.missing,
        "unexpected": differences.unexpected,
        "of another shape": differences.wrong_shape,
    }
    lines += [f"  {len(names)} {kind}: {_listed(names)}" for kind, names in kinds.items() if names]
    lines.append("Export the complete state dict that training saved for this network.")
    raise IncompatibleCheckpointError("\n".join(lines))


def _check_numbers(network: Network, tensors: Mapping[str, NDArray[Any]]) -> None:
    names = used_tensors(network)
    bad = [
        f"{name} ({trouble})"
        for name in names
        if (trouble := _trouble(name, tensors[name])) is not None
    ]
    if bad:
        raise IncompatibleCheckpointError(
            f"{len(bad)} of {len(names)} tensors are unusable: {_listed(bad)}; "
            "take a checkpoint from before the training went wrong"
        )


def _trouble(name: str, values: NDArray[Any]) -> str | None:
    """Say in a few words why a network cannot compute with these numbers."""
    # numpy does not count bfloat16, a type from outside, among its floating types.
    if not np.issubdtype(values.dtype, np.floating) and values.dtype.name != "bfloat16":
        return f"{values.dtype}, expected floating point"
    lowest, highest = float(values.min()), float(values.max())
    if not (lowest >= -_LARGEST and highest <= _LARGEST):
        return "holds NaN, infinity or a number beyond float32"
    if name.endswith(".running_var") and lowest < 0:
        return f"holds a negative variance, {lowest:g}"
    if name == GEM_POWER and lowest <= 0:
        return f"is the power {lowest:g} of a mean, expected above 0"
    return None


def _listed(names: list[str]) -> str:
    more = f", ... and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(map(show_name, names[:10])) + more
