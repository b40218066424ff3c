"""Open-set identification: part of the people are not in the gallery.

Detection and identification rate (DIR) at a false-accept rate (FAR): Phillips, Grother and
Micheals, "Evaluation Methods in Face Recognition", Handbook of Face Recognition, 2011.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import Rows, VectorComparison, count_rows, spread
from reidkit.operating._grid import Grid, count_reaching, find_threshold
from reidkit.operating._people import People
from reidkit.operating._points import IdentificationPoint, Rate, Settings, Unsupported
from reidkit.operating._resampling import estimate_share
from reidkit.operating._supporting import EXPECTED, FEWEST_PEOPLE

IDENTIFICATION_RATES = (1e-2, 1e-1)
"""The false-accept rates of identification, whatever rates are asked for: its trials are pictures,
which are far fewer than pairs, and would hardly ever support lower ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The best matches of pictures in galleries that lack part of the people.

    Columns (one entry a picture and gallery):
        places: (A,) int32, the place of the best match's score on the grid.
        units: (A,) int64, whom the picture shows.
        enrolled: (A,) bool, whether the gallery holds the person.
        right: (A,) bool, whether the best match shows the same person.
    """

    places: NDArray[np.int32]
    units: NDArray[np.int64]
    enrolled: NDArray[np.bool_]
    right: NDArray[np.bool_]

    def count(self, people: People, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Count the chosen entries of each unit; (U,)."""
        return np.bincount(self.units[chosen], minlength=people.unit_count)


def identify(
    vectors: NDArray[np.float32],
    people: People,
    grid: Grid,
    *,
    metric: str,
    settings: Settings,
) -> Answers | None:
    """Search galleries that hold part of the people for all other pictures.

    For each, a seeded share of those whom several cameras saw (with `same_camera`, who have
    several pictures) is enrolled, by half of their cameras, at least one, and looked for in the
    pictures of the others. Everybody else is looked for in vain. `None` where nobody can be both
    in the gallery and looked for. `vectors` (N, D) are read where they are.
    """
    random = np.random.default_rng([settings.seed, 1])
    known = slice(0, people.known)
    views = np.arange(people.known) if settings.same_camera else people.cameras[known]
    pairs, views = np.unique(np.stack((people.persons[known], views)), axis=1, return_inverse=True)
    owners = pairs[0]
    candidates = np.flatnonzero(np.bincount(owners, minlength=people.count) > 1)
    if not len(candidates):
        return None
    size = min(max(1, round((1 - settings.unenrolled) * len(candidates))), people.count - 1)
    found = []
    for _ in range(settings.repeats):
        # Distractors have numbers above those of all people and are never enrolled.
        enrolled = np.zeros(people.count + len(people) - people.known, np.bool_)
        enrolled[random.choice(candidates, size, replace=False)] = True
        held = np.zeros(len(people), np.bool_)
        held[known] = (_choose_half(owners, random) & enrolled[owners])[views.reshape(-1)]
        found.append(
            _search(vectors, people, grid, held=held, metric=metric, memory=settings.memory)
        )
    columns = zip(*((a.places, a.units, a.enrolled, a.right) for a in found), strict=True)
    return Answers(*(np.concatenate(column) for column in columns))


def choose_points(
    answers: Answers | None, people: People, grid: Grid, weights: NDArray[np.float32]
) -> tuple[tuple[IdentificationPoint, ...], tuple[Unsupported, ...]]:
    """Give the points at `IDENTIFICATION_RATES`, and the rates that the data cannot support.

    People who are looked for are drawn again, as `weights` (U, B) say; the galleries stay.
    """
    points, unsupported = [], []
    for rate in IDENTIFICATION_RATES:
        missing = _find_missing(answers, people, rate)
        if answers is None or missing is not None:
            unsupported.append(missing or _say_nobody(rate))
            continue
        points.append(_measure(answers, people, grid, weights=weights, rate=rate))
    return tuple(points), tuple(unsupported)


def _measure(
    answers: Answers, people: People, grid: Grid, *, weights: NDArray[np.float32], rate: float
) -> IdentificationPoint:
    place = find_threshold(count_reaching(grid.count(answers.places[~answers.enrolled])), rate)
    accepted = answers.places >= place

    def share(asked: NDArray[np.bool_], found: NDArray[np.bool_]) -> Rate:
        within = answers.count(people, asked & found)
        return estimate_share(within, answers.count(people, asked), weights)

    return IdentificationPoint(
        rate,
        grid.threshold(place),
        FAR=share(~answers.enrolled, accepted),
        DIR=share(answers.enrolled, accepted & answers.right),
    )


def _choose_half(owners: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.bool_]:
    """Choose half of each person's views, at least one; `owners` (V,) ascend."""
    order = np.lexsort((random.random(len(owners)), owners))
    counts = np.bincount(owners)
    ranks = np.empty(len(owners), np.int64)
    ranks[order] = np.arange(len(owners)) - (np.cumsum(counts) - counts)[owners]
    chosen: NDArray[np.bool_] = ranks < np.maximum(1, counts[owners] // 2)
    return chosen


def _search(
    vectors: NDArray[np.float32],
    people: People,
    grid: Grid,
    *,
    held: NDArray[np.bool_],
    metric: str,
    memory: int,
) -> Answers:
    gallery, probes = np.flatnonzero(held), np.flatnonzero(~held)
    comparison = VectorComparison(metric)
    best, scores = np.empty(len(probes), np.int64), np.empty(len(probes), np.float32)
    blocks = comparison.score_blocks(
        Rows(vectors, people.rows[probes]),
        Rows(vectors, people.rows[gallery]),
        asked=np.arange(len(probes)),
        memory=memory,
    )
    for start, block in blocks:
        part = slice(start, start + len(block))
        best[part], scores[part] = _find_best(block)
    shown = people.persons[probes]
    return Answers(
        places=grid.place(comparison.word_scores(scores)),
        units=people.units[probes],
        enrolled=np.isin(shown, people.persons[gallery]),
        right=shown == people.persons[gallery[best]],
    )


def _find_best(
    block: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Give the best column of each row of (n, G) scores, the first of equal ones, and its score."""
    best = np.empty(len(block), np.int64)

    def work(start: int, stop: int) -> None:
        best[start:stop] = block[start:stop].argmax(axis=1)

    spread(work, len(block), step=count_rows(block.shape[1]))
    return best, block[np.arange(len(block)), best]


def _find_missing(answers: Answers | None, people: People, rate: float) -> Unsupported | None:
    """Say what the data lacks, or give `None` where it supports the rate."""
    if answers is None:
        return None
    needed = math.ceil(EXPECTED / rate)
    # A picture counts once, however many galleries it met.
    strangers = np.unique(answers.units[~answers.enrolled])
    sizes = np.bincount(people.units, minlength=people.unit_count)
    pictures = int(sizes[strangers].sum())
    if people.count < FEWEST_PEOPLE:
        reason = f"{people.count} people are fewer than {FEWEST_PEOPLE}"
    elif pictures < needed:
        reason = (
            f"{pictures:,} pictures of people who are not in the gallery give "
            f"{pictures * rate:.2g} false accepts, and it takes {EXPECTED}"
        )
    else:
        return None
    enough = math.ceil(people.count * max(1.0, needed / pictures))
    return Unsupported(rate, reason, needed, max(FEWEST_PEOPLE, enough))


def _say_nobody(rate: float) -> Unsupported:
    return Unsupported(
        rate,
        "nobody can be both in the gallery and looked for: it takes people seen by two cameras",
        math.ceil(EXPECTED / rate),
        FEWEST_PEOPLE,
    )
