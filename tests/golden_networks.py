"""The networks of `golden/network_features.npz`: their layouts, and the recipe of their weights.

The vectors were computed by the reference implementation of the strong baseline (torch, CPU,
float32) with exactly these weights and inputs:

    <name>_after, <name>_before  (3, D)    inputs(0), last stride 1
    <name>_stride2               (2, 128)  inputs(1), last stride 2, after the BNNeck, the first
                                           128 of D

`golden/network_keys.json.gz` says for each network: tensor name -> [shape, dtype], in order.
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
    data = json.loads(gzip.decompress((GOLDEN / "network_keys.json.gz").read_bytes()))
    return {
        network: {name: (tuple(shape), dtype) for name, (shape, dtype) in tensors.items()}
        for network, tensors in data.items()
    }


def features(name: str) -> NDArray[np.float32]:
    """Give the reference's vectors."""
    with np.load(GOLDEN / "network_features.npz") as arrays:
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
