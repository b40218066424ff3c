"""Calibration on pictures whose people are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import VectorComparison
from reidkit.errors import CalibrationError
from reidkit.operating._counting import Pairs, count_accepted, count_scores
from reidkit.operating._grid import Grid, make_grid
from reidkit.operating._identifying import choose_points, identify
from reidkit.operating._people import Collected, People, arrange, join
from reidkit.operating._points import OperatingPoints, Population, Settings
from reidkit.operating._resampling import draw_weights
from reidkit.operating._supporting import check_rates
from reidkit.operating._thresholds import AtThresholds, Scored, measure
from reidkit.records import JUNK, Embeddings

RATES = (1e-4, 1e-3, 1e-2, 1e-1)
"""The false-accept rates that are asked for by default."""

_SCOPE = (
    "intervals are for other people whom the same cameras see; other cameras may move every rate "
    "by more: calibrate there again"
)


def calibrate(
    embeddings: Embeddings | Sequence[Embeddings],
    *,
    rates: Sequence[float] = RATES,
    metric: str = "cosine",
    settings: Settings | None = None,
) -> OperatingPoints:
    """Find the score from which on two pictures show the same person, at stated error rates.

    All pairs of different pictures are compared, those of several `embeddings` joined: (N, D)
    vectors of one model. Two pictures of one person (ids above 0) by different cameras are a
    genuine pair; pairs of one camera are near-duplicates that flatter a model and are taken only
    with `settings.same_camera`, or where there are no others, which a note then says. Pictures of
    two people are an impostor pair. A distractor (person id 0) is nobody known: it makes impostor
    pairs with every known person and none with other distractors; with `settings.zero_is_person`
    0 is a person as any other, and a note says so where it is not. Junk (-1) is left out. Equal
    ids in several `embeddings` mean one person, which a note says too.

    For each of the false-accept rates `rates`: the lowest threshold whose rate here is at most
    the asked one (on a grid, of steps of 1.5e-5 or finer for cosines), that rate, and the
    true-accept rate. The intervals (95 %) are for *other* people seen by the same cameras: people,
    not pairs, are drawn again, since the pairs of one person are no independent trials;
    `_resampling` says how, and how often the intervals held when measured. Besides, the equal
    error rate, and how well people are found in a gallery that lacks part of them: DIR at the
    fixed FARs of 0.01 and 0.1, whatever `rates` are.

    A rate is listed as unsupported where fewer than 30 false accepts can be expected, or where
    they come from too few people; nothing is extrapolated.

    Raises:
        ArgumentError: a rate is not between 0 and 1, or an unknown metric.
        MismatchError: the embeddings are of two models.
        CalibrationError: fewer than two people, no genuine pair, or none of the rates is
            supported.
    """
    settings = settings or Settings()
    rates, metric = check_rates(rates), VectorComparison(metric).name
    collected = join(embeddings)
    whole, zero = collected.embeddings, settings.zero_is_person
    people = arrange(whole.samples, zero_is_person=zero)
    pairs, notes = _pair(whole, people, metric, settings)
    settings = dataclasses.replace(settings, same_camera=pairs.same_camera)
    grid = make_grid(whole.vectors, metric)
    strays = people.unit_count - people.known_units
    weights = draw_weights((people.known_units, strays), settings.replicates, settings.seed)
    scored, accepted = _count(pairs, grid, rates, weights)
    population = _count_population(collected, people, scored, zero_is_person=zero)
    points, unsupported, equal_error = measure(
        scored, rates, accepted, weights=weights, population=population, labelled=True
    )
    answers = identify(whole.vectors, people, grid, metric=metric, settings=settings)
    identification, unsupported_too = choose_points(answers, people, grid, weights)
    return OperatingPoints(
        metric=metric,
        points=points,
        unsupported=unsupported,
        equal_error=equal_error,
        identification=identification,
        unsupported_identification=unsupported_too,
        population=population,
        labelled=True,
        same_camera=pairs.same_camera,
        notes=(*collected.say_what_to_know(zero_is_person=zero), *notes, _SCOPE),
        model_sha256=whole.model_sha256,
        contract_sha256=whole.contract_sha256,
    )


def _pair(
    embeddings: Embeddings, people: People, metric: str, settings: Settings
) -> tuple[Pairs, list[str]]:
    """Choose which pairs are genuine, and say what a reader should know of the choice.

    Raises:
        CalibrationError: there is no genuine pair.
    """
    pairs = Pairs(embeddings.vectors, people, metric, settings.same_camera, settings.memory)
    notes = []
    if not settings.same_camera:
        seen = people.count_genuine(same_camera=False)[: people.known_units]
        if not seen.any():
            pairs = dataclasses.replace(pairs, same_camera=True)
            notes.append("nobody was seen by two cameras")
        elif people.known_units == people.count and not seen.all():
            notes.append(
                f"{np.count_nonzero(seen == 0):,} people were seen by one camera only: they make "
                "no genuine pairs"
            )
    if not people.count_genuine(same_camera=pairs.same_camera).any():
        raise CalibrationError(
            "nobody has two pictures: without a genuine pair nothing can be said of a "
            "threshold's true-accept rate; give several pictures of each person"
        )
    if pairs.same_camera:
        notes.append(
            "genuine pairs of one camera are counted: they are near-duplicates, so that the "
            "true-accept rates are too good for people seen by several cameras"
        )
    return pairs, notes


def _count(
    pairs: Pairs, grid: Grid, rates: Sequence[float], weights: NDArray[np.float32]
) -> tuple[Scored, AtThresholds]:
    """Count all pairs by score, then above the thresholds as people are drawn again."""
    seen = pairs.people.count_genuine(same_camera=pairs.same_camera)
    scored = Scored(grid, *count_scores(pairs, grid), seen)
    places = scored.choose_places(rates).listed
    thresholds = [grid.threshold(place) for place in places]
    accepted = count_accepted(pairs, thresholds, scored.rates(places), weights)
    return scored, AtThresholds.divide(accepted)


def _count_population(
    collected: Collected, people: People, scored: Scored, *, zero_is_person: bool
) -> Population:
    embeddings = collected.embeddings
    distractors = collected.find_distractors(zero_is_person=zero_is_person)
    return Population(
        pictures=len(people),
        people=people.count,
        cameras=len(np.unique(people.cameras)),
        genuine_pairs=int(scored.genuine.sum()),
        impostor_pairs=int(scored.impostor.sum()),
        distractors=int(np.count_nonzero(distractors)),
        junk=int(np.count_nonzero(embeddings.samples.person_ids == JUNK)),
        unreadable=len(embeddings.unreadable),
    )
