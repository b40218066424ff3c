"""The weights of a network before training."""

from __future__ import annotations

import zlib
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from reidkit.networks.layers import Network
from reidkit.networks.layout import GEM_POWER, tensor_shapes

GEM_START = 3.0
"""The power that the generalised mean starts from, the one of its paper."""


def initial_tensors(network: Network, *, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Make the state dict of an untrained network: He's initialisation, identity norms.

    Each tensor has its own stream of random numbers, so that one does not depend on the others.
    The power of a generalised mean starts at 3. The batch norms' counters are left out.
    """
    shapes = tensor_shapes(network).items()
    return {
        name: _initial_tensor(name, shape, seed)
        for name, shape in shapes
        if not name.endswith(".num_batches_tracked")
    }


def _initial_tensor(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    if name == GEM_POWER:
        return np.full(shape, GEM_START, np.float32)
    if len(shape) < 2:
        ones = name.endswith((".weight", ".running_var"))
        return np.full(shape, 1.0 if ones else 0.0, np.float32)
    random = np.random.default_rng([zlib.crc32(name.encode()), seed])
    # The strong baseline starts its classifier at 0.001; the rest starts at He's deviation.
    deviation = 0.001 if name == "classifier.weight" else sqrt(2 / prod(shape[1:]))
    return random.normal(0, deviation, shape).astype(np.float32)
