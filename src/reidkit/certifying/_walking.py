"""Where does a compiled network leave its source? The first layer whose values diverge."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reidkit.certifying._certificate import Divergence, LayerError
from reidkit.certifying._layers import (
    Layer,
    Pixels,
    list_layers,
    measure_error,
    prepare,
    split_layers,
    trace,
)
from reidkit.models import Model, load_model
from reidkit.package import Inputs, Package
from reidkit.verifying import measure_cosines

LARGEST_ERRORS = {"fp32": 0.01, "fp16": 0.1, "bf16": 0.2, "int8": 0.6}
"""The error of an inner value that rounding explains, by precision."""

_WEIGHTED = ("Conv", "Gemm", "MatMul")
"""Operators with weights: of several that an engine made one, such a one is named."""

_EXPLAINED = 0.1
"""A change of the input explains a disagreement of which it leaves less than this share."""


def find_divergence(compiled: Package, source: Package, pictures: Pixels) -> Divergence:
    """Walk both graphs from the input on and compare every inner value that both have.

    `pictures` are a few decoded crops, (h, w, 3) uint8 RGB each. The error of a value is
    |compiled - source| / |source - its mean over the pictures|. Layers that an engine made one
    show the value of the last of them; the one with weights is named.
    """
    limit = LARGEST_ERRORS[compiled.spec.engine.precision]
    errors = tuple(_compare(compiled, source, pictures))
    first = next((error for error in errors if not error.error <= limit), None)
    knob = _find_knob(compiled, source, pictures)
    return Divergence(first, limit, errors, _explain(first, errors, knob, limit))


def _compare(compiled: Package, source: Package, pictures: Pixels) -> Iterator[LayerError]:
    ours, theirs = prepare(source, pictures), prepare(compiled, pictures)
    hidden: dict[str, Layer] = {}
    for layers in split_layers(list_layers(source), len(pictures)):
        right, found = trace(source, ours, layers), trace(compiled, theirs, layers)
        for layer in layers:
            named = _name_weighted(layer, hidden)
            if layer.value not in right or layer.value not in found:
                hidden[layer.value] = named
                continue
            error = measure_error(found[layer.value], right[layer.value])
            yield LayerError(named.name, named.operator, error)


def _name_weighted(layer: Layer, hidden: Mapping[str, Layer]) -> Layer:
    """Give the layer that a value is named after: a hidden one before it that has weights."""
    candidates = [*(hidden[name] for name in layer.inputs if name in hidden), layer]
    weighted = (each for each in candidates if each.operator in _WEIGHTED)
    return next(weighted, candidates[0])


def _find_knob(compiled: Package, source: Package, pictures: Pixels) -> str | None:
    """Say which change of its input makes the compiled file agree, `None` if none does."""
    with load_model(source) as model:
        right = _run(model, prepare(source, pictures))
    inputs = prepare(compiled, pictures)
    with load_model(compiled) as model:
        plain = _agreement(_run(model, inputs), right)
        found = {
            name: _agreement(_run(model, changed), right)
            for name, changed in _change(inputs, pixels=compiled.spec.engine.takes == "pixels")
        }
    best = max(found, key=lambda name: found[name])
    return best if 1 - found[best] < _EXPLAINED * (1 - plain) else None


def _change(inputs: Inputs, *, pixels: bool) -> Iterator[tuple[str, Inputs]]:
    """Give what conversions do to an input, with its name."""
    channels, across = (3, 2) if pixels else (1, 3)
    for order in itertools.permutations(range(3)):
        if order != (0, 1, 2):
            changed = np.take(inputs, order, axis=channels)
            yield f"its input's colour channels are put into the order {order}", changed
    yield "its input is mirrored", np.flip(inputs, across)


def _run(model: Model, inputs: Inputs) -> NDArray[np.float32]:
    size = model.runtime.batch or len(inputs)
    starts = range(0, len(inputs), size)
    return np.concatenate([model.run(inputs[start : start + size]) for start in starts])


def _agreement(vectors: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    return float(measure_cosines(vectors, right).min())


def _explain(
    first: LayerError | None, errors: Sequence[LayerError], knob: str | None, limit: float
) -> str:
    if knob is not None:
        return f"the compiled file agrees with its source where {knob}: undo that in the conversion"
    if not errors:
        return (
            "the compiled file does not show its inner values: compile to another target to compare"
        )
    if first is None:
        worst = max(errors, key=lambda error: error.error)
        return (
            f"no layer alone is to blame: none of {len(errors)} inner values is off by more than "
            f"{limit:g} of its spread, the worst is {worst.layer} ({worst.error:.3f})"
        )
    before = errors.index(first)
    agreed = f"{before} values before it agree" if before else "it is the first value"
    return (
        f"the first layer that diverges is {first.layer} ({first.operator}): its values are off by "
        f"{first.error:.3g} of their spread, {agreed}"
    )
