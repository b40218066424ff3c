"""What a wrong knob costs: the vectors of the right pipeline with that one knob turned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.diagnosing._fitting import ORDERS, Hypothesis, Pictures, predict
from reidkit.diagnosing._normalising import Normalisation, contract_normalisation
from reidkit.embedding import choose_batch
from reidkit.errors import EngineError
from reidkit.models import Model
from reidkit.package import Inputs, InputSpec, Triple

_GREY = np.array((0.299, 0.587, 0.114), np.float32)


class Cost(NamedTuple):
    """The smallest and the mean cosine with the right vectors, `None` where there are none."""

    smallest: float | None
    mean: float | None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A way of making a network's input: pictures as a hypothesis says, then a normalisation."""

    hypothesis: Hypothesis
    normalisation: Normalisation
    outside: Triple = (0.0, 0.0, 0.0)

    def make(self, crops: Pictures, contract: InputSpec) -> NDArray[np.float32]:
        """Make the arrays, in the layout of the hypothesis; `outside` is what frames pictures."""
        levels, covered = predict(crops, self.hypothesis, contract)
        order = ORDERS[self.hypothesis.colour]
        planes = np.concatenate([levels, (levels @ _GREY)[..., None]], axis=3)[..., order]
        slope, offset = (np.array(side, np.float32) for side in self.normalisation.line)
        values = planes * slope + offset
        values[~covered] = self.outside
        return self.hypothesis.view.apply(values)


def right_pipeline(contract: InputSpec, hypothesis: Hypothesis) -> Pipeline:
    """Give the contract's own pipeline."""
    return Pipeline(hypothesis, contract_normalisation(contract))


def right_inputs(crops: Pictures, model: Model) -> Inputs:
    """Make what the model should be given."""
    takes = model.runtime.takes
    inputs: Inputs = np.stack(
        [preprocess.prepare(crop, model.contract, takes=takes) for crop in crops]
    )
    return inputs


def embed_arrays(model: Model, arrays: NDArray[Any]) -> NDArray[np.float32] | None:
    """Give the arrays' vectors, (N, D), or `None` where the engine refuses them.

    Non-finite vectors count as refused: nobody takes them for good ones.
    """
    if model.runtime.takes == "pixels":
        inputs: Inputs = np.clip(np.rint(arrays), 0, 255).astype(np.uint8)
    else:
        inputs = arrays.astype(np.float32)
    batch = choose_batch(model, None)
    try:
        parts = [model.embed(inputs[i : i + batch]) for i in range(0, len(inputs), batch)]
    except EngineError:
        return None
    vectors = np.concatenate(parts)
    return vectors if np.isfinite(vectors).all() else None


def compare_vectors(right: NDArray[np.float32], found: NDArray[np.float32] | None) -> Cost:
    """Give the cosines between vectors, row by row."""
    if found is None:
        return Cost(None, None)
    first, second = right.astype(np.float64), found.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = np.minimum((first * second).sum(axis=1) / np.maximum(lengths, 1e-24), 1.0)
    return Cost(float(cosines.min()), float(cosines.mean()))


def cost_of(pipeline: Pipeline, crops: Pictures, model: Model, right: NDArray[np.float32]) -> Cost:
    """Give what a pipeline costs against the right vectors."""
    made = pipeline.make(crops, fed_contract(model))
    return compare_vectors(right, embed_arrays(model, made))


def fed_contract(model: Model) -> InputSpec:
    """Give the contract of what is fed: a model that takes pixels normalises inside."""
    if model.runtime.takes == "tensor":
        return model.contract
    return replace(model.contract, colour="rgb", scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
