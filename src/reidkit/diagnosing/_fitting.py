"""Which way of making them explains somebody's arrays best?

A hypothesis says how the pictures were turned, framed and resized, and which colour plane went
where. Whatever normalisation followed is `slope * level + offset` in each channel, so a straight
line is fitted by least squares; what it leaves, in levels, judges the hypothesis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.diagnosing._filters import FILTERS, FRAMINGS, STRETCHED, place
from reidkit.diagnosing._views import View, possible_views
from reidkit.package import InputSpec

Pictures = Sequence[NDArray[np.uint8]]

ROUNDING = 0.6
"""Levels, root mean square, that two faithful resizes may differ by: rounding in float or in
8 bits, once or twice."""

EXPLAINED = 1.5
"""Levels up to which a hypothesis explains the arrays: rounding and a JPEG decoder's."""

RELATED = 15.0
"""Levels up to which it is near enough to judge colours and normalisation by it."""

_CLEARLY = 0.7
"""A hypothesis replaces a plainer one when it leaves less than this share of what that leaves."""

_LOOKED_AT = 8
_KEPT = 3
_GREY = (0.299, 0.587, 0.114)

PLANES = ("red", "green", "blue", "grey")
ORDERS = {
    "rgb": (0, 1, 2),
    "bgr": (2, 1, 0),
    "rbg": (0, 2, 1),
    "grb": (1, 0, 2),
    "gbr": (1, 2, 0),
    "brg": (2, 0, 1),
    "grey, three times": (3, 3, 3),
}
"""Which plane each channel holds."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """How somebody made pictures of `size` (height, width) before normalising them."""

    view: View
    size: tuple[int, int]
    framing: str
    filter: str
    colour: str


class Fit(NamedTuple):
    """A hypothesis and what it leaves unexplained.

    `slopes` and `offsets` are per channel, `residual` is the root mean square in levels over
    the three channels.
    """

    hypothesis: Hypothesis
    slopes: tuple[float, float, float]
    offsets: tuple[float, float, float]
    residual: float


def predict(
    crops: Pictures, hypothesis: Hypothesis, contract: InputSpec
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resize and frame crops: (N, h, w, 3) float32 levels in RGB, and where they are pictures.

    The contract's own resize is done by the one function that does it for networks.
    """
    height, width = hypothesis.size
    levels = np.empty((len(crops), height, width, 3), np.float32)
    covered = np.ones((len(crops), height, width), np.bool_)
    own = hypothesis.framing == STRETCHED and hypothesis.filter == contract.resize
    sized = replace(contract, height=height, width=width)
    for index, crop in enumerate(crops):
        if own:
            levels[index] = preprocess.resize(crop, sized)
        else:
            how, framing = FILTERS[hypothesis.filter], FRAMINGS[hypothesis.framing]
            levels[index], covered[index] = place(crop, hypothesis.size, how, framing)
    return levels, covered


def find_fit(crops: Pictures, arrays: NDArray[Any], contract: InputSpec, *, layout: str) -> Fit:
    """Give the plainest hypothesis that explains the arrays about as well as the best one.

    A few pictures decide, all of them are fitted.
    """
    some = _telling(crops)
    few, seen = [crops[i] for i in some], arrays[some].astype(np.float64)
    best = _search(few, seen, contract, layout).hypothesis
    everything = arrays.astype(np.float64)
    stretched = replace(best, framing=STRETCHED)
    # A frame that has one colour around a few pictures may have none around all of them.
    fits = [
        fit
        for hypothesis in (best, stretched)
        for fit in _fit_all(crops, everything, contract, hypothesis, [best.view])
    ]
    return fits[0]


def _telling(crops: Pictures) -> list[int]:
    """Choose the largest pictures, where resize functions differ most, and some of the others."""
    largest = sorted(range(len(crops)), key=lambda i: -crops[i].size)[: _LOOKED_AT // 2]
    others = np.linspace(0, len(crops) - 1, _LOOKED_AT - len(largest)).astype(int)
    return sorted({*largest, *others.tolist()})


def _search(crops: Pictures, arrays: NDArray[np.float64], contract: InputSpec, layout: str) -> Fit:
    """Try views, then framings, then filters, as long as nothing explains a few pictures."""
    views = sorted(possible_views(arrays.shape), key=lambda view: view.layout != layout)
    fits: list[Fit] = []
    for framing in FRAMINGS:
        fits += _fit_views(crops, arrays, contract, framing, views)
        if framing == STRETCHED and _best(fits, 1)[0].residual <= ROUNDING:
            return _best(fits, 1)[0]
    fits = _best(fits, _KEPT)
    seen_in: dict[Hypothesis, list[View]] = {}
    for fit in fits:
        start = replace(fit.hypothesis, view=views[0], colour=contract.colour)
        seen_in.setdefault(start, []).append(fit.hypothesis.view)
    for start, turned in seen_in.items():
        for name in FILTERS:
            if name != contract.resize:
                other = replace(start, filter=name)
                fits += _fit_all(crops, arrays, contract, other, turned)
    return _best(fits, 1)[0]


def _fit_views(
    crops: Pictures,
    arrays: NDArray[np.float64],
    contract: InputSpec,
    framing: str,
    views: Sequence[View],
) -> list[Fit]:
    """Try every view in one framing with the contract's filter, the plainest first."""
    size = (contract.height, contract.width)
    fits: list[Fit] = []
    for wanted in dict.fromkeys((size, size[::-1])):
        fitting = [view for view in views if view.undo(arrays).shape[1:3] == wanted]
        if fitting:
            start = Hypothesis(fitting[0], wanted, framing, contract.resize, contract.colour)
            fits += _fit_all(crops, arrays, contract, start, fitting)
    return fits


def _fit_all(
    crops: Pictures,
    arrays: NDArray[np.float64],
    contract: InputSpec,
    start: Hypothesis,
    views: Iterable[View],
) -> list[Fit]:
    """Fit one prediction to the arrays seen in several ways, in the best colour order for each."""
    levels, covered = predict(crops, start, contract)
    planes = _planes(levels[covered])
    fits = []
    for view in views:
        pictures = view.undo(arrays)
        outside = pictures[~covered]
        # A frame around the picture has one colour; anything else there is no frame.
        if outside.size and np.any(np.ptp(outside, axis=0) > 1e-3 * np.ptp(pictures)):
            continue
        fits.append(_fit_colours(replace(start, view=view), planes, pictures[covered], contract))
    return fits


def _fit_colours(
    hypothesis: Hypothesis,
    planes: NDArray[np.float64],
    values: NDArray[np.float64],
    contract: InputSpec,
) -> Fit:
    """Fit each channel, (n, 3), to each plane, (n, 4), and choose the best order of planes."""
    mean, means = values.mean(axis=0), planes.mean(axis=0)
    values, planes = values - mean, planes - means
    spread = np.maximum((planes * planes).mean(axis=0), 1e-12)
    slopes = (values.T @ planes) / len(values) / spread  # (channel, plane)
    left = np.maximum((values * values).mean(axis=0)[:, None] - slopes**2 * spread, 0.0)
    squares = left / np.maximum(slopes**2, 1e-24)  # in levels
    channels = np.arange(3)
    own = ORDERS[contract.colour]
    orders = [own, *(order for order in ORDERS.values() if order != own)]
    residuals = [float(np.sqrt(squares[channels, order].mean())) for order in orders]
    choice = _plainest(residuals)
    chosen = orders[choice]
    slope = slopes[channels, chosen]
    offset = mean - slope * means[list(chosen)]
    name = next(name for name, order in ORDERS.items() if order == chosen)
    return Fit(
        replace(hypothesis, colour=name),
        (float(slope[0]), float(slope[1]), float(slope[2])),
        (float(offset[0]), float(offset[1]), float(offset[2])),
        residuals[choice],
    )


def _planes(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give red, green, blue and grey of pixels, (n, 3) -> (n, 4) float64."""
    colours = pixels.astype(np.float64)
    return np.column_stack([colours, colours @ np.array(_GREY)])


def _plainest(residuals: Sequence[float]) -> int:
    """Give the smallest, or the first (the contract's own) where that is not clearly larger."""
    best = int(np.argmin(residuals))
    clearly = residuals[0] > ROUNDING and residuals[best] < _CLEARLY * residuals[0]
    return best if clearly else 0


def _best(fits: Sequence[Fit], count: int) -> list[Fit]:
    """Give the best of fits in order of plainness, the winner first."""
    winner = fits[_plainest([fit.residual for fit in fits])]
    rest = sorted((fit for fit in fits if fit is not winner), key=lambda fit: fit.residual)
    return [winner, *rest[: count - 1]]
