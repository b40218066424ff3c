"""From a model package's operating points to what an answer may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reidkit.errors import MismatchError
from reidkit.operating import FILE, IdentificationPoint, OperatingPoint, read_operating_points
from reidkit.package import Package

Verdict = Literal["same", "unsure", "unknown"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The cosines from which on an answer says `same`, and `unsure`; below it says `unknown`.

    Fields:
        same, unsure: cosines; `unsure` is at most `same`.
        same_far, unsure_far: the false-accept rates that were asked for there.
        kind: `identification`, the rate at which somebody who is *not* in a gallery of the size
            that was calibrated on is taken for somebody who is; or `pairs`, that of two pictures
            of two people, where the package has nothing better.
    """

    same: float
    unsure: float
    same_far: float
    unsure_far: float
    kind: Literal["identification", "pairs"]

    def judge(self, score: float) -> Verdict:
        """Say what a cosine means."""
        if score >= self.same:
            return "same"
        return "unsure" if score >= self.unsure else "unknown"


def find_thresholds(package: Package) -> Thresholds | None:
    """Give the thresholds of a package: its strictest and its loosest point.

    Those for searching a gallery come first, since the rates of pairs say little of the best of
    many. `None` where the package was not calibrated.

    Raises:
        PackageError, FormatError, IntegrityError, MismatchError: there are operating points, and
            they cannot be used.
    """
    if not (package.folder / FILE).exists():
        return None
    points = read_operating_points(package)
    if points.metric == "euclidean" and not package.spec.input.unit_length:
        raise MismatchError(
            f"the operating points of {package.folder} are Euclidean distances of vectors of any "
            "length, and a gallery compares by cosine: calibrate with --metric cosine"
        )
    listed: tuple[IdentificationPoint | OperatingPoint, ...]
    kind: Literal["identification", "pairs"]
    listed, kind = points.identification, "identification"
    if not listed:
        listed, kind = points.points, "pairs"
    strict, loose = listed[0], listed[-1]  # the strictest comes first
    cosines = [_turn_to_cosine(point.threshold, points.metric) for point in (strict, loose)]
    return Thresholds(cosines[0], min(cosines), strict.asked, loose.asked, kind)


def _turn_to_cosine(threshold: float, metric: str) -> float:
    """Give the cosine of a threshold; for unit vectors d^2 = 2 - 2 cos."""
    return threshold if metric == "cosine" else 1 - threshold * threshold / 2
