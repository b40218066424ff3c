"""From the most similar crops to people, with a verdict for each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError
from reidkit.gallery._stores import Store
from reidkit.gallery._thresholds import Thresholds, Verdict
from reidkit.gallery._values import EVERYTHING, Binding, Crops, Where, replace_people

MOST_PEOPLE = 1000
MOST_CROPS = 1000


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of a search: how many people, how many crops of each, among which crops."""

    people: int = 10
    crops: int = 5
    where: Where = EVERYTHING

    def __post_init__(self) -> None:
        for name, most in (("people", MOST_PEOPLE), ("crops", MOST_CROPS)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ArgumentError(f"{name} is {value}, expected 1 to {most}")


@dataclass(frozen=True, slots=True)
class CropMatch:
    """A crop that is like the one searched with; `time` in seconds since 1970 (UTC)."""

    crop: int
    score: float
    camera: str = ""
    time: float | None = None
    source: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PersonMatch:
    """A person who may be the one searched for.

    Fields:
        person: the name.
        verdict: what the best score means, by the package's operating point.
        best: the cosine of the most similar crop.
        mean: the mean cosine of all the person's crops that the filter leaves.
        crops: how many those are.
        matches: the most similar of them, best first.
    """

    person: str
    verdict: Verdict
    best: float
    mean: float
    crops: int
    matches: tuple[CropMatch, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found, the most similar person first.

    Fields:
        verdict: that of the first; `unknown` where there is nobody.
        reason: in words, why it is not `same`; empty where it is.
        people: who was found.
        thresholds: what the verdicts are by; `None` where the package was not calibrated: then
            every verdict is `unsure`.
        searched: the number of crops that the filter leaves.
    """

    verdict: Verdict
    reason: str
    people: tuple[PersonMatch, ...]
    thresholds: Thresholds | None
    searched: int


@dataclass(frozen=True, slots=True)
class Searched:
    """What is searched: a store, what its vectors must be of, and what their scores mean."""

    store: Store
    binding: Binding
    thresholds: Thresholds | None


def find_people(searched: Searched, query: NDArray[np.float32], asking: Asking) -> Answer:
    """Find the people whose best crop is most like a vector, (D,) float32 of unit length.

    Raises:
        MismatchError: the store was moved to another model.
    """
    store = searched.store
    count = store.count(asking.where)
    names = store.rank_people(query, asking.people, asking.where, binding=searched.binding)
    found = [_describe(searched, query, name, asking) for name in names]
    people = tuple(sorted((each for each in found if each), key=lambda person: -person.best))
    verdict, reason = _conclude(people, searched.thresholds, count)
    return Answer(verdict, reason, people, searched.thresholds, count)


def _describe(
    searched: Searched, query: NDArray[np.float32], name: str, asking: Asking
) -> PersonMatch | None:
    """Score all crops of a person; `None` where they were erased meanwhile."""
    store, thresholds = searched.store, searched.thresholds
    where = replace_people(asking.where, (name,))
    count = store.count(where)
    if not count:
        return None
    found = store.search(query[None], count, where, binding=searched.binding)
    kept = found.ids[0] >= 0
    ids, scores = found.ids[0][kept], found.scores[0][kept]
    if not len(ids):
        return None
    crops = store.read(ids[: asking.crops])
    by_id = dict(zip(ids.tolist(), scores.tolist(), strict=True))
    best = float(scores[0])
    return PersonMatch(
        person=name,
        verdict=thresholds.judge(best) if thresholds else "unsure",
        best=best,
        mean=float(scores.mean(dtype=np.float64)),
        crops=len(ids),
        matches=tuple(_list_matches(crops, by_id)),
    )


def _list_matches(crops: Crops, scores: dict[int, float]) -> list[CropMatch]:
    columns = (crops.ids, crops.cameras, crops.times, crops.sources, crops.tags)
    return [
        CropMatch(crop, scores[crop], camera, None if math.isnan(time) else time, source, tags)
        for crop, camera, time, source, tags in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def _conclude(
    people: tuple[PersonMatch, ...], thresholds: Thresholds | None, searched: int
) -> tuple[Verdict, str]:
    if not searched:
        return "unknown", "no crop in the gallery passes the filter"
    if not people:
        return "unknown", "whoever was most alike was erased during the search"
    best = people[0].best
    if thresholds is None:
        return "unsure", (
            "the model package has no operating point, so that no score can be said to mean the "
            "same person: calibrate it with reidkit calibrate"
        )
    verdict = thresholds.judge(best)
    if verdict == "same":
        return verdict, ""
    if verdict == "unsure":
        return verdict, (
            f"the best score, {best:.4f}, is below {thresholds.same:.4f}, which a stranger reaches "
            f"with a rate of {thresholds.same_far:g}, and not below {thresholds.unsure:.4f} "
            f"({thresholds.unsure_far:g})"
        )
    return verdict, (
        f"the best score, {best:.4f}, is below {thresholds.unsure:.4f}, which strangers reach with "
        f"a rate of {thresholds.unsure_far:g}"
    )
