"""Calibration on own footage, where nobody knows who is who."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import VectorComparison
from reidkit.errors import CalibrationError, MismatchError, name_some
from reidkit.operating._calibrating import RATES
from reidkit.operating._crops import (
    Crops,
    Space,
    count_by_couple,
    count_by_unit,
    count_pairs,
    limit_units,
    number_units,
    vary_couples,
)
from reidkit.operating._grid import make_grid
from reidkit.operating._people import join, say_unreadable
from reidkit.operating._points import Control, OperatingPoints, Population, Settings
from reidkit.operating._resampling import draw_weights
from reidkit.operating._sightings import Sightings
from reidkit.operating._supporting import check_rates
from reidkit.operating._thresholds import AtThresholds, Scored, measure
from reidkit.records import Embeddings

_LEAST_SEPARATION = 0.8
"""A genuine pair that wins less often against a random one tells hardly more than chance."""

_BLIND_SPOTS = (
    "genuine pairs are halves of one track: one camera, shortly after one another; across "
    "cameras true-accept rates are lower",
    "impostors are people who appear together at one camera: strangers at other places and times "
    "may look more alike or less",
    "somebody who comes back is another track, so that intervals may be too narrow",
)


def calibrate_unlabelled(
    embeddings: Embeddings | Sequence[Embeddings],
    sightings: Sightings,
    *,
    rates: Sequence[float] = RATES,
    metric: str = "cosine",
    settings: Settings | None = None,
) -> OperatingPoints:
    """Calibrate without labels, on crops of own footage of which `sightings` tell when and where.

    Crops of one camera and moment show different people: impostor pairs (not two of one track).
    The earlier and the later half of one track show one person: genuine pairs, of at most 32
    crops of each half. Pairs of crops drawn at random are the control: they hardly ever show one
    person, and a model that scores them like genuine pairs has collapsed or does not see people.

    What this cannot see, and the notes say so too: genuine pairs of one camera are easier than
    those across cameras, so that true-accept rates are too good; impostors are people who appear
    together, alike in light and view; a person who comes back is another track. Thresholds and
    intervals are made as `calibrate` makes them, with tracks drawn again in place of people.

    Embeddings and sightings meet by path; what only one of them has is counted in a note. Person
    ids say nothing here.

    Raises:
        ArgumentError: a rate is not between 0 and 1, or an unknown metric.
        MismatchError: embeddings of two models, two vectors or two sightings of one picture, or
            no path that both sides have.
        CalibrationError: no moment shows two people, no track has two crops, or none of the
            rates is supported.
    """
    settings = settings or Settings()
    rates, metric = check_rates(rates), VectorComparison(metric).name
    whole = join(embeddings).embeddings
    crops, notes = _find_crops(whole, sightings)
    # One threshold more is that of the equal error.
    crops = limit_units(crops, settings.memory, thresholds=len(rates) + 1)
    grid = make_grid(whole.vectors, metric)
    space = Space(whole.vectors, metric, grid, settings.memory)
    units = int(crops.units.max()) + 1
    weights = draw_weights((units,), settings.replicates, settings.seed)
    scored, accepted = _count(crops, space, rates, weights)
    control = _compare_random(crops, space, scored, settings.seed)
    population = _count_population(crops, scored, unreadable=len(whole.unreadable))
    points, unsupported, equal_error = measure(
        scored, rates, accepted, weights=weights, population=population, labelled=False
    )
    return OperatingPoints(
        metric=metric,
        points=points,
        unsupported=unsupported,
        equal_error=equal_error,
        identification=(),
        unsupported_identification=(),
        population=population,
        labelled=False,
        same_camera=True,
        control=control,
        notes=(*_warn(control), *notes, *_BLIND_SPOTS),
        model_sha256=whole.model_sha256,
        contract_sha256=whole.contract_sha256,
    )


def _find_crops(embeddings: Embeddings, sightings: Sightings) -> tuple[Crops, list[str]]:
    """Find the crops that have a vector and a sighting, and say what only one side has.

    Raises:
        MismatchError: none has both, or a picture has two sightings or two vectors.
    """
    samples = embeddings.samples
    names, sighted = _name_all(samples.paths), _name_all(sightings.paths)
    places = _find_places(embeddings, names, sighted)
    found = np.array([places.get(name, -1) for name in sighted], np.int64)
    kept = np.flatnonzero(found >= 0)
    if not len(kept):
        raise MismatchError(
            f"no crop has both a vector and a sighting: the embeddings know "
            f"{name_some(samples.paths.tolist()[:1])}, the sightings "
            f"{name_some(sightings.paths.tolist()[:1])}; paths in a CSV file are relative to it"
        )
    _check_once(sightings, sighted)
    notes = []
    lost = sightings.paths[found < 0].tolist()
    if lost:
        notes.append(f"{len(lost):,} sightings have no vector: {name_some(lost)}")
    met = set(sighted)
    others = [str(samples.paths[row]) for row, name in enumerate(names) if name not in met]
    if others:
        notes.append(f"{len(others):,} pictures have no sighting: {name_some(others)}")
    rows, tracks = found[kept], sightings.tracks[kept]
    crops = Crops(
        rows, sightings.cameras[kept], sightings.moments[kept], tracks, number_units(tracks)
    )
    return crops, [*notes, *say_unreadable(embeddings)]


def _find_places(embeddings: Embeddings, names: list[str], sighted: list[str]) -> dict[str, int]:
    """Find the row of each picture; of equal vectors of one picture it is the first.

    Raises:
        MismatchError: a picture that was sighted has two different vectors.
    """
    places: dict[str, int] = {}
    doubtful: dict[str, str] = {}
    for row, name in enumerate(names):
        first = places.setdefault(name, row)
        if not np.array_equal(embeddings.vectors[first], embeddings.vectors[row]):
            doubtful[name] = f"{embeddings.samples.paths[row]} (rows {first} and {row})"
    wrong = [doubtful[name] for name in sighted if name in doubtful]
    if wrong:
        raise MismatchError(
            f"{len(wrong)} pictures with a sighting have two different vectors, and it is unclear "
            f"which to take: {name_some(wrong)}; embed them once"
        )
    return places


def _check_once(sightings: Sightings, names: list[str]) -> None:
    """Refuse two sightings of one picture.

    Raises:
        MismatchError: naming them.
    """
    first: dict[str, int] = {}
    twice = [
        f"{sightings.paths[earlier]} and {sightings.paths[row]} (sightings {earlier} and {row}, "
        "counted from 0)"
        for row, name in enumerate(names)
        if (earlier := first.setdefault(name, row)) != row
    ]
    if twice:
        raise MismatchError(f"two sightings name one picture: {name_some(twice)}; keep one of them")


def _name_all(paths: NDArray[np.object_]) -> list[str]:
    """Make paths absolute; `Path.resolve` would ask the disk for each."""
    return [os.path.abspath(path) for path in paths.tolist()]  # noqa: PTH100


def _count(
    crops: Crops, space: Space, rates: Sequence[float], weights: NDArray[np.float32]
) -> tuple[Scored, AtThresholds]:
    """Count all pairs by score, then above the thresholds as tracks are drawn again.

    Raises:
        CalibrationError: there are no genuine or no impostor pairs.
    """
    frames, halves = crops.group_frames(), crops.group_halves()
    genuine, impostor = count_pairs(halves, space), count_pairs(frames, space)
    if not impostor.any():
        raise CalibrationError(
            "no moment of a camera shows two people: sightings of one camera and moment need the "
            "same frame or time, and different tracks"
        )
    if not genuine.any():
        raise CalibrationError("no track has two crops: there is nothing to accept")
    scored = Scored(space.grid, genuine, impostor, np.zeros(len(weights), np.int64))
    places = scored.choose_places(rates).listed
    thresholds = [space.grid.threshold(place) for place in places]
    kin = count_by_unit(halves, space, thresholds=thresholds, units=len(weights))
    keys, counts = count_by_couple(frames, space, thresholds=thresholds, units=len(weights))
    scored = dataclasses.replace(scored, genuine_pairs=kin[-1])
    return scored, AtThresholds.divide(vary_couples(keys, counts, kin, weights))


def _count_population(crops: Crops, scored: Scored, *, unreadable: int) -> Population:
    return Population(
        pictures=len(crops),
        people=crops.count_people(),
        cameras=len(np.unique(crops.cameras)),
        genuine_pairs=int(scored.genuine.sum()),
        impostor_pairs=int(scored.impostor.sum()),
        unreadable=unreadable,
    )


def _compare_random(crops: Crops, space: Space, scored: Scored, seed: int) -> Control:
    """Compare genuine pairs with random ones."""
    grid, random = space.grid, count_pairs(crops.draw_random(seed), space)
    below = np.cumsum(random) - random
    wins = float(scored.genuine @ (below + random / 2))
    return Control(
        pairs=int(random.sum()),
        mean_genuine=grid.mean(scored.genuine),
        mean_impostor=grid.mean(scored.impostor),
        mean_random=grid.mean(random),
        separation=wins / float(scored.genuine.sum()) / float(random.sum()),
    )


def _warn(control: Control) -> list[str]:
    if control.separation >= _LEAST_SEPARATION:
        return []
    return [
        f"WARNING: a genuine pair scores higher than a random one in {control.separation:.0%} of "
        "all cases only (50% is chance): the model has collapsed or does not see people in these "
        "crops, and no threshold helps"
    ]
