"""Operating points as values: thresholds, the rates measured there, and what they rest on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reidkit.comparing import MEMORY, check_memory
from reidkit.errors import ArgumentError

CONFIDENCE = 0.95
"""How often an interval is meant to hold for other people."""

Verdict = Literal["same", "unsure", "different"]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of pairs or pictures with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold: two pictures show the same person where their score is at least this.

    Fields:
        asked: the false-accept rate that was asked for.
        threshold: a cosine, or for `euclidean` minus a distance.
        FAR: share of impostor pairs accepted there, at most `asked`; the interval is for the
            rate among *other* people, and knows that the threshold was chosen on these.
        TAR: share of genuine pairs accepted there.
    """

    asked: float
    threshold: float
    FAR: Rate
    TAR: Rate


@dataclass(frozen=True, slots=True)
class IdentificationPoint:
    """A threshold for searching a gallery that does not hold everybody.

    Fields:
        asked: the false-accept rate that was asked for.
        threshold: as that of `OperatingPoint`.
        FAR: share of pictures of people *not* in the gallery whose best match reaches it.
        DIR: share of pictures of people in the gallery whose best match is right and reaches it.
    """

    asked: float
    threshold: float
    FAR: Rate
    DIR: Rate


@dataclass(frozen=True, slots=True)
class EqualError:
    """Where as many impostor pairs are accepted as genuine pairs are refused."""

    threshold: float
    EER: Rate


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A rate that the data cannot support, why, and how much would be needed.

    `pairs_needed` counts impostor pairs (for identification, pictures of people who are not in
    the gallery); `people_needed` are at as many pictures each as there are now.
    """

    asked: float
    reason: str
    pairs_needed: int
    people_needed: int


@dataclass(frozen=True, slots=True)
class Control:
    """Random pairs of crops beside the genuine ones: a collapsed model scores both alike.

    `separation` is how often a genuine pair scores higher than a random one, ties counted half:
    1 is perfect, 0.5 is chance. The means are of scores.
    """

    pairs: int
    mean_genuine: float
    mean_impostor: float
    mean_random: float
    separation: float


@dataclass(frozen=True, slots=True)
class Population:
    """Who and what was compared.

    Fields:
        pictures: those compared; junk is not among them.
        people: how many different ones; of a label-free check tracks, and crops without a track.
        cameras: how many saw them.
        genuine_pairs, impostor_pairs: pairs of one person and of two.
        distractors: pictures with person id 0, which are nobody's.
        junk: pictures with person id -1 that were left out.
        unreadable: pictures that were asked for and have no vector; the notes name them.
    """

    pictures: int
    people: int
    cameras: int
    genuine_pairs: int
    impostor_pairs: int
    distractors: int = 0
    junk: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """How to calibrate.

    Fields:
        same_camera: take pairs of one camera as genuine too; they are near-duplicates and
            flatter the model.
        seed: the same seed gives the same numbers.
        replicates: how many times people are drawn again.
        unenrolled: share of the people left out of the gallery, for identification.
        repeats: how many galleries are made.
        memory: about how many bytes are taken up besides the vectors.
        zero_is_person: take person 0 as a person as any other (MSMT17 and tables may count from
            0), not as a distractor, somebody who is none of the others (Market-1501).
    """

    same_camera: bool = False
    seed: int = 0
    replicates: int = 1000
    unenrolled: float = 0.5
    repeats: int = 5
    memory: int = MEMORY
    zero_is_person: bool = False

    def __post_init__(self) -> None:
        check_memory(self.memory)
        for name, value, least in (
            ("seed", self.seed, 0),
            ("replicates", self.replicates, 100),
            ("repeats", self.repeats, 1),
        ):
            if value < least:
                raise ArgumentError(f"{name} is {value}, expected at least {least}")
        if not 0 < self.unenrolled < 1:
            raise ArgumentError(
                f"unenrolled is {self.unenrolled}, expected a share between 0 and 1"
            )


@dataclass(frozen=True, slots=True)
class OperatingPoints:
    """What `calibrate` found: thresholds for one model, one input contract and one metric.

    Fields:
        metric: `cosine` or `euclidean`.
        points: one for each rate that the data supports, the strictest first.
        unsupported: the other rates.
        equal_error: the EER.
        identification, unsupported_identification: as these two, for searching a gallery.
        population: what was compared.
        labelled: whether people were known; `False` for the label-free check.
        same_camera: whether pairs of one camera are among the genuine ones.
        control: random pairs, of the label-free check.
        notes: what a reader should know.
        model_sha256, contract_sha256: as those of the embeddings.
    """

    metric: str
    points: tuple[OperatingPoint, ...]
    unsupported: tuple[Unsupported, ...]
    equal_error: EqualError
    identification: tuple[IdentificationPoint, ...]
    unsupported_identification: tuple[Unsupported, ...]
    population: Population
    labelled: bool
    same_camera: bool
    control: Control | None = None
    notes: tuple[str, ...] = ()
    model_sha256: str | None = None
    contract_sha256: str | None = None

    def at(self, rate: float) -> OperatingPoint:
        """Give the point of a false-accept rate that was asked for.

        Raises:
            ArgumentError: it was not asked for, or the data did not support it.
        """
        for point in self.points:
            if math.isclose(point.asked, rate, rel_tol=1e-9):
                return point
        known = ", ".join(f"{point.asked:g}" for point in self.points)
        raise ArgumentError(
            f"there is no operating point at a false-accept rate of {rate:g}, only at {known}: "
            "calibrate with that rate and enough people"
        )


def judge(
    score: float,
    points: OperatingPoints,
    *,
    strict: float | None = None,
    loose: float | None = None,
) -> Verdict:
    """Say what a score means: `same` person, `unsure`, or `different`.

    `same` from the threshold of the false-accept rate `strict` on, `different` below that of
    `loose`, `unsure` between them. Without a rate it is the strictest and the loosest point.

    Raises:
        ArgumentError: no such point, or `strict` is above `loose`.
    """
    rates = [point.asked for point in points.points]
    strict = rates[0] if strict is None else strict
    loose = rates[-1] if loose is None else loose
    if strict > loose:
        raise ArgumentError(f"strict is {strict:g}, expected at most loose, {loose:g}")
    if score >= points.at(strict).threshold:
        return "same"
    return "unsure" if score >= points.at(loose).threshold else "different"
