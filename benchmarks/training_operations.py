"""How much there is to compute in a network, counted from the tables that it is built from."""

from __future__ import annotations

from reidkit.networks import Network, backbone
from reidkit.networks.facts import Pool
from reidkit.networks.layers import AveragePool, Block, Layer

Size = tuple[int, int]
"""Height and width of a map."""


def count_operations(network: Network, height: int, width: int) -> int:
    """Count the floating point operations of one picture's forward pass.

    Two for each product and its sum in convolutions and the dense layer; norms, activations,
    pooling and the classifier are left out, they are below one per cent. A step of training takes
    three times as many: the gradients of the inputs and those of the weights take as much each.
    """
    described = backbone(network)
    total, size = 0, (height, width)
    for part in (*described.stem, described.pool, *described.body):
        operations, size = _count_part(part, size)
        total += operations
    if described.dense is not None:
        total += 2 * described.dense.inputs * described.dense.outputs
    return total


def _count_part(part: Layer | Block | Pool | AveragePool, size: Size) -> tuple[int, Size]:
    if isinstance(part, Pool):
        return 0, _pooled(size, part)
    if isinstance(part, AveragePool):
        return 0, (size[0] // part.size, size[1] // part.size)
    if isinstance(part, Layer):
        return _count_layers((part,), size)
    total, middle = _count_layers(part.layers, size)
    for stream in part.streams:
        # A stream's layers keep the size, and its gate sees one average a channel.
        total += _count_layers(stream, middle)[0] + _count_layers(part.gate, (1, 1))[0]
    operations, last = _count_layers(part.exit, middle)
    shortcut = () if part.shortcut is None else (part.shortcut,)
    return total + operations + _count_layers(shortcut, size)[0], last


def _count_layers(layers: tuple[Layer, ...], size: Size) -> tuple[int, Size]:
    total = 0
    for layer in layers:
        rows, columns = (
            (side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in size
        )
        size = rows, columns
        weights = layer.kernel**2 * layer.inputs // layer.groups * layer.outputs
        total += 2 * weights * rows * columns
    return total, size


def _pooled(size: Size, pool: Pool) -> Size:
    up = pool.stride - 1 if pool.ceil else 0
    rows, columns = (
        (side + 2 * pool.padding - pool.kernel + up) // pool.stride + 1 for side in size
    )
    return rows, columns
