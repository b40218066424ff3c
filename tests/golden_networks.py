"""The networks of `golden/network_features.npz`: their layouts, and the recipe of their weights.

The vectors were computed by the reference implementation of the strong baseline (torch, CPU,
float32) with exactly these weights and inputs:

    <name>_after, <name>_before  (3, D)    inputs(0), last stride 1
    <name>_stride2               (2, 128)  inputs(1), last stride 2, after the BNNeck, the first
                                           128 of D

`golden/network_keys.json.gz` says for each network: tensor name -> [shape, dtype], in order.

`golden/osnet_features.npz` and `golden/osnet_keys.json.gz` are the same for the OSNets, computed
by their papers' code with 751 classes. Its weights follow the recipe with two changes, without
which the biases of the dense layer would drown the pictures: the weights of norms are twice as
large, and that of `fc.0` has the deviation sqrt(2 / inputs).

    <name>_0  (3, 64)  inputs(0), the first 64 of 512
    <name>_1  (2, 64)  inputs(1)
"""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).parent / "golden"

SMALL = ("resnet18", "resnet34", "resnet50", "resnet50_noneck", "resnet50_ibn_a")
LARGE = (
    "resnet101",
    "resnet152",
    "se_resnet50",
    "se_resnet101",
    "se_resnet152",
    "se_resnext50",
    "se_resnext101",
    "senet154",
)


@functools.cache
def layouts() -> dict[str, dict[str, tuple[tuple[int, ...], str]]]:
    """Give network -> tensor name -> (shape, dtype) as the reference saves it."""
    return _layouts("network_keys.json.gz")


@functools.cache
def osnet_layouts() -> dict[str, dict[str, tuple[tuple[int, ...], str]]]:
    """Give OSNet -> tensor name -> (shape, dtype) as its papers' code saves it."""
    return _layouts("osnet_keys.json.gz")


def _layouts(file: str) -> dict[str, dict[str, tuple[tuple[int, ...], str]]]:
    data = json.loads(gzip.decompress((GOLDEN / file).read_bytes()))
    return {
        network: {name: (tuple(shape), dtype) for name, (shape, dtype) in tensors.items()}
        for network, tensors in data.items()
    }


def features(name: str) -> NDArray[np.float32]:
    """Give the reference's vectors."""
    return _features("network_features.npz", name)


def osnet_features(name: str, kind: int) -> NDArray[np.float32]:
    """Give the first 64 numbers of each vector that the papers' code gives for `inputs(kind)`."""
    return _features("osnet_features.npz", f"{name}_{kind}")


def _features(file: str, name: str) -> NDArray[np.float32]:
    with np.load(GOLDEN / file) as arrays:
        vectors: NDArray[np.float32] = arrays[name]
    return vectors


def inputs(kind: int) -> NDArray[np.float32]:
    """Give the inputs: 0, three of the usual size; 1, two of a size that no stride divides."""
    shape = ((3, 3, 256, 128), (2, 3, 75, 42))[kind]
    return np.random.default_rng([7, kind]).standard_normal(shape, dtype=np.float32)


@functools.lru_cache(maxsize=2)
def tensors(name: str) -> dict[str, NDArray[Any]]:
    """Give a network's state dict, the same for the reference and for us."""
    return {
        key: np.asarray(_values(key, shape)).astype(dtype)
        for key, (shape, dtype) in layouts()[name].items()
    }


@functools.lru_cache(maxsize=2)
def osnet_tensors(name: str) -> dict[str, NDArray[Any]]:
    """Give an OSNet's state dict, the same for its papers' code and for us."""
    return {
        key: np.asarray(_osnet_values(key, shape)).astype(dtype)
        for key, (shape, dtype) in osnet_layouts()[name].items()
    }


def _osnet_values(key: str, shape: tuple[int, ...]) -> Any:
    factor = 1.0
    if len(shape) == 1 and key.endswith("weight"):
        factor = 2.0
    elif key == "fc.0.weight":
        factor = 100 * float(np.sqrt(2 / shape[1]))
    return np.asarray(_values(key, shape)) * factor


def _values(key: str, shape: tuple[int, ...]) -> NDArray[Any] | int:
    random = np.random.default_rng([zlib.crc32(key.encode()), 0])
    if key.endswith("num_batches_tracked"):
        return 1000
    if key.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape)
    if key.endswith("running_mean"):
        return random.normal(0, 0.1, shape)
    if len(shape) == 4:
        return random.normal(0, np.sqrt(2 / (shape[1] * shape[2] * shape[3])), shape)
    if len(shape) == 2:
        return random.normal(0, 0.01, shape)
    if key.endswith("weight"):
        return random.uniform(0.2, 0.6, shape)
    return random.normal(0, 0.05, shape)
