"""Which normalisation is this straight line? A table of the usual mistakes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from reidkit.package import InputSpec, Triple


@dataclass(frozen=True, slots=True)
class Normalisation:
    """`(pixel * scale - mean) / std` in each channel, in the order of the channels.

    `rounds` is how often mean and std are applied; `rescaled` whether the scale is, too.
    """

    scale: float
    mean: Triple
    std: Triple
    rounds: int = 1
    rescaled: bool = False

    @property
    def line(self) -> tuple[Triple, Triple]:
        """The slope and the offset of each channel."""
        slope, offset = np.full(3, self.scale), np.zeros(3)
        for done in range(self.rounds):
            again = self.scale if done and self.rescaled else 1.0
            slope, offset = slope * again, offset * again
            slope, offset = slope / self.std, (offset - self.mean) / self.std
        return _triple(slope), _triple(offset)


class Difference(NamedTuple):
    """One knob of the normalisation: what is wrong with it, and the contract with it alone."""

    knob: str
    expected: str
    found: str
    applied: Normalisation


class _Option(NamedTuple):
    """A value a knob may have, `None` for the contract's own, and how to say it."""

    words: str
    value: Triple


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CAFFE = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_KNOWN = {"ImageNet's": IMAGENET, "CLIP's": _CLIP, "": _HALF, "ImageNet's x 255": _CAFFE}
_NO_MEAN, _NO_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def contract_normalisation(contract: InputSpec) -> Normalisation:
    """Give the contract's own."""
    return Normalisation(contract.scale, contract.mean, contract.std)


def compare(
    slopes: Triple, offsets: Triple, contract: InputSpec, *, slack: float
) -> list[Difference]:
    """Say which knobs make the contract's normalisation the fitted line; none where they agree.

    `slack` are the levels by which two normalisations may differ and still be the same one. Where
    several mistakes fit, those with the fewest wrong knobs are named; where none does, the mean
    and std that would give the line.
    """
    right = contract_normalisation(contract)
    if _is_near(right, slopes, offsets, slack):
        return []
    for rescaled in (False, True):
        twice = Normalisation(right.scale, right.mean, right.std, 2, rescaled)
        if _is_near(twice, slopes, offsets, slack):
            text = "applied twice" + (", the scale too" if rescaled else "")
            return [Difference("double normalisation", "applied once", text, twice)]
    fitting = [
        candidate
        for candidate in _candidates(contract)
        if _is_near(_combine(candidate), slopes, offsets, slack)
    ]
    if not fitting:
        return [_describe_line(slopes, offsets, right)]
    return _name(min(fitting, key=lambda options: _count_wrong(options, right)), right)


def _name(options: tuple[_Option, _Option, _Option], right: Normalisation) -> list[Difference]:
    """Give the knobs in which a candidate differs."""
    scale, mean, std = options
    differences = []
    if scale.value[0] != right.scale:
        wrong = Normalisation(scale.value[0], right.mean, right.std)
        differences.append(
            Difference("scale", f"pixels (0 to 255) x {right.scale:.6g}", scale.words, wrong)
        )
    wrong_mean, wrong_std = mean.value != right.mean, std.value != right.std
    wrong = Normalisation(
        right.scale,
        mean.value if wrong_mean else right.mean,
        std.value if wrong_std else right.std,
    )
    if wrong_mean and wrong_std:
        expected = f"mean {_say(right.mean)}, std {_say(right.std)}"
        found = _say_both(mean, std)
        differences.append(Difference("mean/std", expected, found, wrong))
    elif wrong_mean:
        differences.append(Difference("mean", _say(right.mean), mean.words, wrong))
    elif wrong_std:
        differences.append(Difference("std", _say(right.std), std.words, wrong))
    return differences


def _say_both(mean: _Option, std: _Option) -> str:
    if mean.value == _NO_MEAN and std.value == _NO_STD:
        return "neither applied"
    return f"mean {mean.words}, std {std.words}"


def _candidates(contract: InputSpec) -> Iterator[tuple[_Option, _Option, _Option]]:
    """Give every combination of the usual scales, means and stds."""
    scales = {
        contract.scale: "right",
        1.0: "0 to 255, not scaled",
        contract.scale / 255: "divided by 255 once more",
        1 / 255: "0 to 1: divided by 255",
        1 / 256: "divided by 256",
        1 / 127.5: "divided by 127.5",
        1 / 128: "divided by 128",
    }
    options = (
        [_Option(words, (scale,) * 3) for scale, words in scales.items()],
        _triples(contract.mean, 0, _Option("not subtracted", _NO_MEAN)),
        _triples(contract.std, 1, _Option("not divided by", _NO_STD)),
    )
    yield from itertools.product(*options)


def _triples(own: Triple, which: int, none: _Option) -> list[_Option]:
    """Give the usual values of mean (`which` is 0) or std (1), the contract's own first."""
    options = [_Option(_say(own), own), none]
    options.append(_Option(f"{_say(own[::-1])}: its channels reversed", own[::-1]))
    average = sum(own) / 3
    options += [_Option(f"{v:.6g} for all channels", (v,) * 3) for v in (average, *own)]
    for factor, words in ((255.0, "x 255"), (1 / 255, "/ 255")):
        values = tuple(value * factor for value in own)
        options.append(_Option(f"{_say(_triple(values))}: {words}", _triple(values)))
    for name, known in _KNOWN.items():
        values = known[which]
        label = f": {name}" if name else ""
        options.append(_Option(f"{_say(values)}{label}", values))
        options.append(_Option(f"{_say(values[::-1])}{label}, reversed", values[::-1]))
    if which == 0:
        options.append(_Option("1", (1.0, 1.0, 1.0)))
    distinct: dict[Triple, _Option] = {}
    for option in options:
        distinct.setdefault(option.value, option)
    return list(distinct.values())


def _count_wrong(
    options: tuple[_Option, _Option, _Option], right: Normalisation
) -> tuple[float, int]:
    """Count wrong knobs; a mean and std that belong together are hardly more than one."""
    scale, mean, std = options
    wrong_scale = scale.value[0] != right.scale
    wrong_mean, wrong_std = mean.value != right.mean, std.value != right.std
    together = mean.words.split(":")[-1] == std.words.split(":")[-1] or (
        mean.value == _NO_MEAN and std.value == _NO_STD
    )
    pair = 1.5 if wrong_mean and wrong_std and together else wrong_mean + wrong_std
    return wrong_scale + pair, int(wrong_scale)


def _combine(options: tuple[_Option, _Option, _Option]) -> Normalisation:
    scale, mean, std = options
    return Normalisation(scale.value[0], mean.value, std.value)


def _is_near(which: Normalisation, slopes: Triple, offsets: Triple, slack: float) -> bool:
    """Tell whether two lines differ by at most `slack` levels from black to white."""
    slope, offset = (np.array(side) for side in which.line)
    at_black = offset - offsets
    at_white = at_black + 255 * (slope - slopes)
    apart = np.maximum(abs(at_black), abs(at_white)) / np.maximum(abs(slope), 1e-12)
    return bool(apart.max() <= slack)


def _describe_line(slopes: Triple, offsets: Triple, right: Normalisation) -> Difference:
    """Say a line that nobody knows as the mean and std that would make it."""
    slope = np.array(slopes)
    expected = f"mean {_say(right.mean)}, std {_say(right.std)}"
    if np.all(slope > 1e-12):
        std, mean = right.scale / slope, -np.array(offsets) / slope * right.scale
        applied = Normalisation(right.scale, _triple(mean), _triple(std))
        found = f"mean {_say(applied.mean)}, std {_say(applied.std)} in effect"
        return Difference("mean/std", expected, found, applied)
    safe = np.where(abs(slope) < 1e-12, 1e-12, slope)
    applied = Normalisation(1.0, _triple(-np.array(offsets) / safe), _triple(1 / safe))
    found = f"pixel x {_say(slopes)} + {_say(offsets)}"
    return Difference("mean/std", expected, found, applied)


def _say(triple: Triple) -> str:
    if len(set(triple)) == 1:
        return f"{triple[0]:.4g}"
    return "(" + ", ".join(f"{value:.4g}" for value in triple) + ")"


def _triple(values: Iterable[float]) -> Triple:
    first, second, third = (float(value) for value in values)
    return first, second, third
