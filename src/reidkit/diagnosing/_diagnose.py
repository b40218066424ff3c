"""Arrays and the pictures they were made from -> what differs from the contract."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.diagnosing import _normalising
from reidkit.diagnosing._checking import check_inputs
from reidkit.diagnosing._costs import (
    Cost,
    Pipeline,
    compare_vectors,
    cost_of,
    embed_arrays,
    fed_contract,
    right_inputs,
    right_pipeline,
)
from reidkit.diagnosing._diagnosis import Diagnosis, Finding
from reidkit.diagnosing._filters import FILTERS, STRETCHED
from reidkit.diagnosing._fitting import (
    EXPLAINED,
    RELATED,
    ROUNDING,
    Fit,
    Hypothesis,
    Pictures,
    find_fit,
    predict,
)
from reidkit.diagnosing._normalising import Difference, Normalisation
from reidkit.diagnosing._ordering import find_order
from reidkit.diagnosing._views import CHANNELS_FIRST, CHANNELS_LAST, View
from reidkit.errors import EngineError
from reidkit.models import Model
from reidkit.package import InputSpec, Triple


@dataclass(frozen=True, slots=True)
class _Knob:
    """A knob that is wrong, and the right pipeline with it."""

    name: str
    expected: str
    found: str
    pipeline: Pipeline


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """What is looked into: the pictures, the arrays, and what the contract makes of them."""

    model: Model
    crops: Pictures
    arrays: NDArray[Any]
    right: NDArray[Any]
    vectors: NDArray[np.float32]

    @property
    def contract(self) -> InputSpec:
        """The contract of what the engine is fed."""
        return fed_contract(self.model)

    @property
    def view(self) -> View:
        """The axes of what the engine is fed."""
        return View(CHANNELS_LAST if self.model.runtime.takes == "pixels" else CHANNELS_FIRST)

    @property
    def pipeline(self) -> Pipeline:
        """The right pipeline."""
        contract = self.contract
        size = (contract.height, contract.width)
        own = Hypothesis(self.view, size, STRETCHED, contract.resize, contract.colour)
        return right_pipeline(contract, own)


def diagnose(model: Model, crops: Sequence[NDArray[np.uint8]], arrays: NDArray[Any]) -> Diagnosis:
    """Say what somebody's preprocessing does otherwise than a model's contract.

    Args:
        model: the model whose contract counts.
        crops: up to 128 pictures, (h, w, 3) uint8 RGB, of any sizes.
        arrays: what the other code made of them, in the same order: (N, 3, H, W) or
            (N, H, W, 3), height and width possibly exchanged; float16, float32, float64 or
            uint8. For a model that takes pixels, uint8.

    Raises:
        ShapeError: the arrays cannot be an input of this model: type, axes, count or size.
        ArgumentError: they are not finite, or the pictures show nothing.
        EngineError: the engine fails on the right input.
    """
    check_inputs(model, crops, arrays)
    right = right_inputs(crops, model)
    vectors = embed_arrays(model, right)
    if vectors is None:
        raise EngineError(
            "the engine gives no finite vectors for the right input: reidkit verify says more"
        )
    case = _Case(model, crops, arrays, right, vectors)
    order, fit = _find_order_and_fit(case)
    findings = [_find_order_cost(case, order)] if order is not None else []
    if fit.residual > RELATED:
        findings.append(_give_up(case, fit))
    else:
        for knob in _wrong_knobs(case, fit, order):
            cost = cost_of(knob.pipeline, crops, model, vectors)
            findings.append(Finding(knob.name, knob.expected, knob.found, *cost))
        if fit.residual > EXPLAINED:
            findings.append(_name_rest(case, fit))
    return _conclude(case, fit, findings)


def _find_order_and_fit(case: _Case) -> tuple[NDArray[np.int64] | None, Fit]:
    """Give the order of the arrays, `None` for the given one, and the best fit in that order."""
    layout = case.view.layout
    fit = find_fit(case.crops, case.arrays, case.contract, layout=layout)
    if fit.residual <= EXPLAINED:
        return None, fit
    order = find_order(case.crops, case.arrays, case.contract)
    if np.array_equal(order, np.arange(len(order))):
        return None, fit
    other = find_fit([case.crops[i] for i in order], case.arrays, case.contract, layout=layout)
    if other.residual < min(fit.residual / 2, RELATED):
        return order, other
    return None, fit


def _find_order_cost(case: _Case, order: NDArray[np.int64]) -> Finding:
    moved = np.flatnonzero(order != np.arange(len(order)))
    if np.array_equal(order, np.arange(len(order))[::-1]):
        found = "reversed"
    else:
        shown = ", ".join(f"row {row} is picture {order[row]}" for row in moved[:3])
        found = f"{len(moved)} of {len(order)} moved: {shown}" + (" ..." if moved[3:].size else "")
    cost = compare_vectors(case.vectors, case.vectors[order])
    return Finding("picture order", "in name order", found, *cost)


def _wrong_knobs(case: _Case, fit: Fit, order: NDArray[np.int64] | None) -> Iterator[_Knob]:
    yield from _wrong_axes(case, fit.hypothesis)
    yield from _wrong_frame(case, fit, order)
    slack = 0.25 + 0.5 * fit.residual
    yield from _wrong_values(case, fit, slack)


def _wrong_axes(case: _Case, found: Hypothesis) -> Iterator[_Knob]:
    """Give layout, orientation and exchanged height and width where they are wrong."""
    right = case.pipeline
    own, view = right.hypothesis, found.view
    if view.layout != own.view.layout:
        wrong = replace(own, view=replace(own.view, layout=view.layout))
        names = (own.view.layout, view.layout)
        yield _Knob("layout", *names, replace(right, hypothesis=wrong))
    exchanged = found.size != own.size
    turned = View(own.view.layout, view.transposed, view.upside_down, view.mirrored)
    if exchanged:
        expected = f"{own.size[0]}x{own.size[1]} (height x width)"
        words = f"{found.size[0]}x{found.size[1]}"
        if view.transposed:
            words += f", then {view.orientation}"
        else:
            turned = replace(turned, upside_down=False, mirrored=False)
        wrong = replace(own, size=found.size, view=turned)
        yield _Knob("transposed size", expected, words, replace(right, hypothesis=wrong))
    if view.orientation != "upright" and not (exchanged and view.transposed):
        turned = View(own.view.layout, view.transposed, view.upside_down, view.mirrored)
        wrong = replace(own, view=turned)
        yield _Knob("orientation", "upright", view.orientation, replace(right, hypothesis=wrong))


def _wrong_frame(case: _Case, fit: Fit, order: NDArray[np.int64] | None) -> Iterator[_Knob]:
    """Give framing and filter where they are wrong."""
    right, found = case.pipeline, fit.hypothesis
    own = right.hypothesis
    if found.framing != own.framing:
        wrong = replace(own, framing=found.framing)
        outside, words = _frame_colour(case, fit, order)
        pipeline = Pipeline(wrong, right.normalisation, outside)
        yield _Knob("framing", own.framing, found.framing + words, pipeline)
    if found.filter != own.filter and fit.residual <= EXPLAINED:
        wrong = replace(own, filter=found.filter)
        names = (FILTERS[own.filter].name, FILTERS[found.filter].name)
        yield _Knob("resize", *names, replace(right, hypothesis=wrong))


def _frame_colour(case: _Case, fit: Fit, order: NDArray[np.int64] | None) -> tuple[Triple, str]:
    """Give what is around letterboxed pictures, as the right pipeline would make it of levels."""
    crops = case.crops if order is None else [case.crops[i] for i in order]
    _, covered = predict(crops, fit.hypothesis, case.contract)
    outside = fit.hypothesis.view.undo(case.arrays)[~covered]
    if not outside.size:
        return (0.0, 0.0, 0.0), ""
    values = outside.astype(np.float64).mean(axis=0)
    if np.all(abs(values) < 1e-6) and any(fit.offsets):
        return (0.0, 0.0, 0.0), ", filled with 0 after normalising"
    levels = np.clip((values - fit.offsets) / fit.slopes, 0, 255)
    slope, offset = case.pipeline.normalisation.line
    first, second, third = (float(v) for v in levels * slope + offset)
    return (first, second, third), f", filled with level {', '.join(f'{v:.0f}' for v in levels)}"


def _wrong_values(case: _Case, fit: Fit, slack: float) -> Iterator[_Knob]:
    """Give the colour order and the normalisation where they are wrong."""
    right, contract = case.pipeline, case.contract
    own, colour = right.hypothesis, fit.hypothesis.colour
    differences = _normalising.compare(fit.slopes, fit.offsets, contract, slack=slack)
    if colour != own.colour:
        wrong = replace(own, colour=colour)
        normalisation, words = right.normalisation, colour.upper()
        followed = replace(contract, mean=contract.mean[::-1], std=contract.std[::-1])
        if {colour, own.colour} == {"rgb", "bgr"} and differences:
            other = _normalising.compare(fit.slopes, fit.offsets, followed, slack=slack)
            if len(other) < len(differences):
                # The whole array is in the other order: one mistake, not two.
                differences = other
                normalisation = _normalising.contract_normalisation(followed)
                words += ", each colour with its own mean and std"
        pipeline = Pipeline(wrong, normalisation)
        yield _Knob("channel order", own.colour.upper(), words, pipeline)
    for difference in differences:
        yield _normalisation_knob(right, difference)


def _normalisation_knob(right: Pipeline, difference: Difference) -> _Knob:
    applied: Normalisation = difference.applied
    pipeline = replace(right, normalisation=applied)
    return _Knob(difference.knob, difference.expected, difference.found, pipeline)


def _name_rest(case: _Case, fit: Fit) -> Finding:
    """Say that the knobs found do not account for everything."""
    nearest = FILTERS[fit.hypothesis.filter].name
    words = (
        f"{fit.residual:.1f} levels remain (nearest resize: {nearest}): an unknown resize "
        "filter, a tone curve, an augmentation or a lossy copy of the pictures"
    )
    expected = f"{FILTERS[case.contract.resize].name}, and nothing else"
    return Finding("unexplained rest", expected, words, *_cost_as_is(case))


def _give_up(case: _Case, fit: Fit) -> Finding:
    found = fit.hypothesis
    nearest = ", ".join(
        (found.colour.upper(), found.view.orientation, FILTERS[found.filter].name, found.framing)
    )
    words = f"nothing known explains the arrays; nearest: {nearest}, {fit.residual:.1f} levels away"
    return Finding("unexplained", case.contract.describe(), words, *_cost_as_is(case))


def _cost_as_is(case: _Case) -> Cost:
    """Compare the vectors of the arrays as they are, their axes put right."""
    return compare_vectors(case.vectors, embed_arrays(case.model, _with_own_axes(case)))


def _with_own_axes(case: _Case) -> NDArray[Any]:
    """Give the arrays with the channels where the engine wants them; nothing else is changed."""
    arrays, own = case.arrays, case.view.layout
    axis = 1 if own == CHANNELS_FIRST else 3
    if arrays.shape[axis] == 3:
        return arrays
    return View(own).apply(View(CHANNELS_LAST if axis == 1 else CHANNELS_FIRST).undo(arrays))


def _conclude(case: _Case, fit: Fit, findings: list[Finding]) -> Diagnosis:
    arrays = _with_own_axes(case)
    difference = None
    if arrays.shape == case.right.shape:
        difference = float(abs(arrays.astype(np.float64) - case.right).max())
    notes = []
    if not findings and fit.residual > 1e-3:
        notes.append(
            f"within rounding: {fit.residual:.2g} levels of 0 to 255, root mean square"
            if fit.residual <= ROUNDING
            else f"{fit.residual:.2g} levels away, as another JPEG decoder would be"
        )
    if not _shrinks(case):
        notes.append(
            "no picture is larger than the network's input, so what your code does when pictures "
            "shrink (antialiasing) was not seen: try larger crops, too"
        )
    ordered = sorted(findings, key=lambda each: -2 if each.cosine is None else each.cosine)
    smallest = _cost_as_is(case).smallest
    return Diagnosis(
        not findings, tuple(ordered), smallest, difference, fit.residual, len(arrays), tuple(notes)
    )


def _shrinks(case: _Case) -> bool:
    height, width = case.contract.height, case.contract.width
    return any(c.shape[0] > 1.2 * height and c.shape[1] > 1.2 * width for c in case.crops)
