"""From which layer on does a picture's value depend on the other pictures of its batch?"""

from __future__ import annotations

from reidkit.certifying._certificate import Divergence, LayerError
from reidkit.certifying._layers import (
    Pixels,
    list_layers,
    measure_error,
    prepare,
    split_layers,
    trace,
    trace_alone,
)
from reidkit.package import Package

SAME = 1e-3
"""What the values of one file at two batch sizes may differ by, as a share of their spread."""


def find_batch_divergence(compiled: Package, source: Package, pictures: Pixels) -> Divergence:
    """Walk the compiled graph alone: the first value that depends on a picture's company.

    The pictures run as one batch and each alone; where a file takes one batch size only, each
    with copies of itself. An engine without a readable graph is asked for the values that the
    source's graph names.
    """
    inputs = prepare(compiled, pictures)
    errors: list[LayerError] = []
    for layers in split_layers(list_layers(compiled) or list_layers(source), len(pictures)):
        together, alone = trace(compiled, inputs, layers), trace_alone(compiled, inputs, layers)
        errors += [
            LayerError(
                layer.name, layer.operator, measure_error(together[layer.value], alone[layer.value])
            )
            for layer in layers
            # A value of another number of rows is not one of each picture: a mean over the
            # batch, or a constant. What is made with it shows.
            if layer.value in together and len(together[layer.value]) == len(alone[layer.value])
        ]
    first = next((error for error in errors if not error.error <= SAME), None)
    return Divergence(first, SAME, tuple(errors), _explain(first, len(errors), len(pictures)))


def _explain(first: LayerError | None, seen: int, pictures: int) -> str:
    if first is not None:
        return (
            f"from {first.layer} ({first.operator}) on, a picture's values depend on the other "
            f"pictures of its batch (seen with {pictures})"
        )
    if not seen:
        return (
            "the compiled file does not show its inner values: compile to another target to see "
            "where the pictures of a batch mix"
        )
    return (
        f"none of {seen} inner values depends on the other pictures of a batch of {pictures}: the "
        "engine's own kernels for another batch size are at fault"
    )
