"""The layers of a network and the values that they give inside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.package import Inputs, Package
from reidkit.runtimes import trace_values

Pixels = Sequence[NDArray[np.uint8]]
"""A few decoded crops, (h, w, 3) uint8 RGB each."""

Values = dict[str, NDArray[np.float32]]
"""Inner values by name; the first axis has the same number of rows for each picture."""

_MOST_VALUES = 32
"""Inner values of one picture that are in memory at one time."""

_SILENT = ("Constant", "QuantizeLinear", "DequantizeLinear")
"""Operators that are no layers."""


class Layer(NamedTuple):
    """A node of a graph and the first value that it gives."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    value: str


def list_layers(package: Package) -> list[Layer]:
    """Give the nodes of an ONNX package in the order of its graph; of other engines none."""
    if package.engine_file.suffix != ".onnx":
        return []
    graph = onnx.load_model(package.engine_file, load_external_data=False).graph
    return [
        Layer(node.name or node.output[0], node.op_type, tuple(node.input), node.output[0])
        for node in graph.node
        if node.op_type not in _SILENT
    ]


def split_layers(layers: Sequence[Layer], pictures: int) -> Iterator[Sequence[Layer]]:
    """Give layers in groups whose values for so many pictures fit into memory together."""
    size = max(1, _MOST_VALUES // pictures)
    for start in range(0, len(layers), size):
        yield layers[start : start + size]


def prepare(package: Package, pictures: Pixels) -> Inputs:
    """Give pictures as the engine of a package takes them."""
    contract, takes = package.spec.input, package.spec.engine.takes
    return np.stack([preprocess.prepare(picture, contract, takes=takes) for picture in pictures])


def trace(package: Package, inputs: Inputs, layers: Sequence[Layer]) -> Values:
    """Give the values of layers that can be seen, for all pictures.

    A file that takes one batch size only runs as often as it must; its last batch is filled up
    with the first pictures.
    """
    size = package.spec.engine.batch or len(inputs)
    parts = []
    for start in range(0, len(inputs), size):
        batch = np.take(inputs, range(start, start + size), axis=0, mode="wrap")
        parts.append(_run(package, batch, layers, min(size, len(inputs) - start)))
    return _join(parts)


def trace_alone(package: Package, inputs: Inputs, layers: Sequence[Layer]) -> Values:
    """Give the same values where each picture runs alone, or fills a fixed batch with copies."""
    size = package.spec.engine.batch or 1
    return _join([_run(package, np.stack([row] * size), layers, 1) for row in inputs])


def measure_error(found: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Give |found - right| / |right - its mean over the pictures|: 0 is equal.

    Infinity where `found` has another shape, NaN or infinity.
    """
    if found.shape != right.shape or not np.isfinite(found).all():
        return float("inf")
    exact = right.astype(np.float64)
    spread = np.linalg.norm(exact - exact.mean(axis=0))
    scale = max(float(spread), 1e-6 * float(np.linalg.norm(exact)), 1e-30)
    return float(np.linalg.norm(found - exact) / scale)


def _run(package: Package, batch: Inputs, layers: Sequence[Layer], wanted: int) -> Values:
    """Give the values of the first `wanted` pictures; what is no row a picture is left out."""
    names = [layer.value for layer in layers]
    values = trace_values(package.engine_file, package.spec.engine, batch, names)
    return {
        name: value[: len(value) // len(batch) * wanted]
        for name, value in values.items()
        if value.ndim and len(value) % len(batch) == 0
    }


def _join(parts: Sequence[Values]) -> Values:
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
        if all(name in part for part in parts)
    }
