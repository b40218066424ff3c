"""How often the intervals of operating points hold for other people, on people who are made up.

Vectors are scattered around people, who are scattered around nobody; the rates among 2,000 other
people of the same kind are counted, and an interval holds where it contains them. Beside it two
simpler intervals for the false-accept rate: from the number of pairs as if they were independent,
and percentiles of drawing people again. Besides, drawn pictures: of other people by the same
cameras, and by other cameras, for which no interval is meant.

The record is benchmarks/records/coverage.json, which ADR 12 quotes.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from machine import describe_machine
from reidkit import disk
from reidkit.datasets.drawn._pictures import TEST, TRAIN, Shot, draw_picture
from reidkit.operating import (
    OperatingPoints,
    Rate,
    Settings,
    Sightings,
    calibrate,
    calibrate_unlabelled,
)
from reidkit.operating._counting import Pairs, count_accepted
from reidkit.operating._people import arrange
from reidkit.operating._resampling import draw_weights
from reidkit.records import Embeddings, Samples

RECORD = Path(__file__).parent / "records" / "coverage.json"
RATES = (0.002, 0.01, 0.1)
OTHERS = 2000
REPLICATES = 1000
NORMAL = 1.959964

Held = defaultdict[str, list[tuple[bool, float]]]
"""Whether each interval held, and its width, by what it is an interval of."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of people: how many, with how many pictures each, how noisy, of how many numbers."""

    people: int
    fewest: int
    most: int
    noise: float
    size: int

    @property
    def name(self) -> str:
        """What the record calls it."""
        count = f"{self.fewest}" if self.fewest == self.most else f"{self.fewest} to {self.most}"
        return f"{self.people} people, {count} pictures, noise {self.noise:g}, {self.size} numbers"


KINDS = (
    Kind(30, 3, 3, 0.4, 12),
    Kind(50, 3, 3, 0.4, 12),
    Kind(50, 2, 12, 0.7, 12),
    Kind(100, 4, 4, 0.7, 12),
    Kind(100, 2, 8, 0.7, 32),
    Kind(200, 3, 3, 1.0, 32),
)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The scores (ascending) of impostor and genuine pairs among other people."""

    impostor: NDArray[np.float32]
    genuine: NDArray[np.float32]

    def accept(self, threshold: float) -> tuple[float, float]:
        """Give the false-accept and the true-accept rate of a threshold."""
        below = [np.searchsorted(scores, threshold) for scores in (self.impostor, self.genuine)]
        return (
            1 - float(below[0]) / len(self.impostor),
            1 - float(below[1]) / len(self.genuine),
        )

    def equal_error(self) -> float:
        """Give the equal error rate, by halving."""
        low, high = -1.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            accepted, found = self.accept(middle)
            low, high = (middle, high) if accepted > 1 - found else (low, middle)
        accepted, found = self.accept(low)
        return (accepted + 1 - found) / 2


def main() -> None:
    """Simulate all and write the record."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--draws", type=int, default=30, help="calibrations of each kind")
    arguments.add_argument("--drawn", type=int, default=16, help="sets of drawn pictures")
    arguments.add_argument("--record", type=Path, default=RECORD, help="the file to write")
    options = arguments.parse_args()
    kinds = {kind.name: measure(kind, options.draws) for kind in KINDS}
    results = {
        "draws": options.draws,
        "replicates": REPLICATES,
        "kinds": {name: summarise(name, held) for name, held in kinds.items()},
        "all_kinds": summarise("all kinds", join(list(kinds.values()))),
        "without_labels": summarise("without labels", measure_unlabelled(options.draws)),
        "drawn_sets": options.drawn,
        "drawn": summarise("drawn pictures", measure_drawn(options.drawn)),
    }
    options.record.parent.mkdir(exist_ok=True)
    disk.write_json(options.record, {"machine": describe_machine()} | results)


def measure(kind: Kind, draws: int) -> Held:
    """Calibrate on other people each time, and look whether the intervals hold."""
    held: Held = defaultdict(list)
    truth = find_truth(kind)
    for seed in range(draws):
        given = scatter(kind, seed)
        points = calibrate(
            given, rates=RATES, settings=Settings(seed=seed, replicates=REPLICATES, repeats=1)
        )
        note_points(held, points, truth)
        note_simpler(held, given, points, truth)
    return held


def measure_unlabelled(draws: int) -> Held:
    """Calibrate on footage of 80 people who walk by in fours, six crops of each."""
    kind, held = Kind(80, 6, 6, 0.4, 12), Held(list)
    truth = find_truth(kind)
    groups = np.repeat(np.arange(80), 6) // 4
    moments: NDArray[np.float64] = np.tile(np.arange(6.0), 80) + 100.0 * groups
    for seed in range(draws):
        given = scatter(kind, seed)
        tracks = given.samples.person_ids
        sightings = Sightings(given.samples.paths, groups % 2, moments, tracks)
        points = calibrate_unlabelled(
            given, sightings, rates=(0.05, 0.1, 0.2), settings=Settings(seed=seed)
        )
        note_points(held, points, truth)
    return held


def measure_drawn(sets: int) -> Held:
    """Calibrate on drawn pictures of 45 people; others by the same and by other cameras follow."""
    held: Held = defaultdict(list)
    given = [draw(seed, TEST) for seed in range(sets)]
    for seed in range(sets):
        points = calibrate(given[seed], rates=(0.005, 0.01, 0.1), settings=Settings(repeats=1))
        for which, others in (
            ("same cameras", draw(seed, TRAIN)),
            ("other cameras", given[(seed + 1) % sets]),
        ):
            truth = score_all(others)
            for point in points.points:
                note(held, f"FAR, {which}", point.FAR, truth.accept(point.threshold)[0])
    return held


def scatter(kind: Kind, seed: int) -> Embeddings:
    """Scatter pictures around people."""
    random = np.random.default_rng([seed, kind.people, kind.most, kind.size])
    counts = random.integers(kind.fewest, kind.most + 1, kind.people)
    centres = np.repeat(random.standard_normal((kind.people, kind.size)), counts, axis=0)
    vectors = centres + kind.noise * random.standard_normal(centres.shape)
    vectors[:, 0] += 1
    return embed(vectors, np.repeat(np.arange(1, kind.people + 1), counts))


def embed(vectors: NDArray[np.float64], persons: NDArray[np.int64]) -> Embeddings:
    """Give vectors names, and each picture of a person another camera."""
    names = [f"{row}.jpg" for row in range(len(vectors))]
    cameras = np.arange(len(vectors)) - np.searchsorted(persons, persons)
    return Embeddings(
        vectors.astype(np.float32), Samples.from_columns(names, persons, cameras.astype(np.int64))
    )


def draw(seed: int, group: int) -> Embeddings:
    """Draw 45 people, each once by three cameras; a vector is the colours of eight stripes."""
    shots = [Shot(group, person, camera, 0) for person in range(45) for camera in (1, 2, 3)]
    pictures = np.stack([draw_picture(seed, shot, (16, 32)) for shot in shots]).astype(np.float64)
    cameras = np.array([shot.camera for shot in shots])
    for camera in (1, 2, 3):
        own = pictures[cameras == camera]
        pictures[cameras == camera] = (own - own.mean(axis=(0, 1, 2))) / own.std(axis=(0, 1, 2))
    stripes = pictures[:, :, 4:12].reshape(len(shots), 8, 4, 8, 3).mean(axis=(2, 3))
    return embed(stripes.reshape(len(shots), -1), np.array([shot.person + 1 for shot in shots]))


def find_truth(kind: Kind) -> Truth:
    """Score two pictures of each of very many other people."""
    return score_all(scatter(Kind(OTHERS, 2, 2, kind.noise, kind.size), 10**6))


def score_all(given: Embeddings) -> Truth:
    """Score all pairs of pictures."""
    vectors = given.vectors / np.linalg.norm(given.vectors, axis=1, keepdims=True)
    persons = given.samples.person_ids
    impostor, genuine = [], []
    for row, person in enumerate(persons.tolist()):
        scores, same = vectors[row + 1 :] @ vectors[row], persons[row + 1 :] == person
        impostor.append(scores[~same])
        genuine.append(scores[same])
    return Truth(np.sort(np.concatenate(impostor)), np.sort(np.concatenate(genuine)))


def note_points(held: Held, points: OperatingPoints, truth: Truth) -> None:
    """Note which intervals hold the rates among the others."""
    for point in points.points:
        accepted, found = truth.accept(point.threshold)
        note(held, "FAR", point.FAR, accepted)
        note(held, f"FAR at {point.asked:g}", point.FAR, accepted)
        note(held, "TAR", point.TAR, found)
    note(held, "EER", points.equal_error.EER, truth.equal_error())


def note_simpler(held: Held, given: Embeddings, points: OperatingPoints, truth: Truth) -> None:
    """Note which simpler intervals hold."""
    people = arrange(given.samples)
    pairs = Pairs(given.vectors, people, "cosine")
    weights = draw_weights((people.known_units,), REPLICATES, 0)
    for point in points.points:
        rate, true = point.FAR.value, truth.accept(point.threshold)[0]
        (found,) = count_accepted(pairs, [point.threshold], [rate], weights)
        low, high = rate + np.percentile(found.deviations, (2.5, 97.5))
        note(held, "FAR, percentiles", Rate(rate, float(low), float(high)), true)
        reach = NORMAL * np.sqrt(rate * (1 - rate) / points.population.impostor_pairs)
        note(held, "FAR, pairs", Rate(rate, float(rate - reach), float(rate + reach)), true)


def note(held: Held, name: str, rate: Rate, true: float) -> None:
    """Note whether an interval holds, and how wide it is."""
    held[name].append((rate.low <= true <= rate.high, rate.high - rate.low))


def join(parts: list[Held]) -> Held:
    """Put what was noted of several kinds together."""
    names = dict.fromkeys(name for part in parts for name in part)
    return Held(list, {name: [each for part in parts for each in part[name]] for name in names})


def summarise(title: str, held: Held) -> dict[str, dict[str, float]]:
    """Say how many intervals there were, how many held, and how wide they are; print it, too.

    `times_as_wide` is the width of a simpler interval over that of the one in use, the median.
    """
    found: dict[str, dict[str, float]] = {}
    for name, noted in held.items():
        holds, widths = np.array([each[0] for each in noted]), np.array([each[1] for each in noted])
        found[name] = {"intervals": len(noted), "held": float(holds.mean())}
        if name in ("FAR, percentiles", "FAR, pairs"):
            ours = np.array([each[1] for each in held["FAR"]])
            found[name]["times_as_wide"] = float(np.median(widths / ours))
    shares = ", ".join(f"{name} {100 * each['held']:.0f} %" for name, each in found.items())
    print(f"{title}: {shares}", flush=True)
    return found


if __name__ == "__main__":
    main()
