"""Who is compared with whom: pictures sorted by person, and who is drawn again as one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import list_ranges
from reidkit.errors import CalibrationError, MismatchError, name_some
from reidkit.records import JUNK, Embeddings, Samples, check_same_model

DISTRACTOR = 0
"""The person id of somebody who is none of the others; two such pictures may show one person."""

MOST_UNITS = 4000
"""People are drawn again in at most as many groups; more would sharpen no interval."""

MOST_DISTRACTOR_UNITS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """M pictures sorted by person, those of nobody known (distractors) last.

    Columns:
        rows: (M,) int64, their rows among the embeddings.
        persons: (M,) int64, numbered from 0; distractors have numbers of their own.
        cameras: (M,) int64.
        units: (M,) int64, ascending: what is drawn again together. A person, some persons where
            there are very many, or some distractors.
        ends: (known,) int64, where the pictures of each known picture's person end.

    The first `known` pictures show `count` known people in `known_units` of the `unit_count` units.
    """

    rows: NDArray[np.int64]
    persons: NDArray[np.int64]
    cameras: NDArray[np.int64]
    units: NDArray[np.int64]
    ends: NDArray[np.int64]
    known: int
    count: int
    known_units: int
    unit_count: int

    def __len__(self) -> int:
        return len(self.rows)

    def unit_starts(self) -> NDArray[np.int64]:
        """Give where each unit's pictures start; (unit_count,)."""
        return np.searchsorted(self.units, np.arange(self.unit_count))

    def count_genuine(self, *, same_camera: bool) -> NDArray[np.int64]:
        """Count the genuine pairs of each unit, from the numbers of pictures alone; (U,)."""
        counts = _count_pairs(self.persons[: self.known], self.units, self.unit_count)
        if same_camera:
            return counts
        _, cameras = np.unique(self.cameras[: self.known], return_inverse=True)
        order = np.lexsort((cameras, self.persons[: self.known]))
        views = self.persons[order] * (int(cameras.max()) + 1) + cameras[order]
        return counts - _count_pairs(views, self.units[order], self.unit_count)

    def list_genuine(
        self, start: int, stop: int, *, same_camera: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """List the genuine pairs of the pictures `start` to `stop` with later ones; (P,) each."""
        second, owners = list_ranges(np.arange(start, stop) + 1, self.ends[start:stop])
        first = owners + start
        if not same_camera:
            differ = self.cameras[first] != self.cameras[second]
            first, second = first[differ], second[differ]
        return first, second


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """Embeddings from one or several places as one value.

    `sources` (N,) int64 says which of the places each row is from.
    """

    embeddings: Embeddings
    sources: NDArray[np.int64]

    def find_distractors(self, *, zero_is_person: bool) -> NDArray[np.bool_]:
        """Mark the pictures of distractors; (N,)."""
        return _find_distractors(self.embeddings.samples, zero_is_person=zero_is_person)

    def say_what_to_know(self, *, zero_is_person: bool) -> list[str]:
        """Say what was taken for granted of person ids, and what could not be read."""
        notes = []
        distractors = np.count_nonzero(self.find_distractors(zero_is_person=zero_is_person))
        if distractors:
            notes.append(
                f"{distractors:,} pictures of person 0 were taken as distractors, as in "
                "Market-1501: nobody of the others; where 0 is a person as any other (MSMT17, "
                "tables that count from 0) calibrate with --person-zero (zero_is_person)"
            )
        shared = self._count_shared(zero_is_person=zero_is_person)
        if shared:
            notes.append(
                f"{shared:,} person ids come in several of the embeddings and were taken as one "
                "person each, as in the query and the gallery of one data set; data sets that are "
                "numbered apart make strangers genuine pairs: calibrate them apart, or renumber"
            )
        return [*notes, *say_unreadable(self.embeddings)]

    def _count_shared(self, *, zero_is_person: bool) -> int:
        """Count the people whose pictures come from several places."""
        ids = self.embeddings.samples.person_ids
        known = (ids != JUNK) & ~self.find_distractors(zero_is_person=zero_is_person)
        pairs = np.unique(np.stack((ids[known], self.sources[known])), axis=1)
        _, places = np.unique(pairs[0], return_counts=True)
        return int(np.count_nonzero(places > 1))


def join(embeddings: Embeddings | Sequence[Embeddings]) -> Collected:
    """Make one value of embeddings of one model; a picture that comes twice is taken once.

    Vectors of one place stay where they are, on disk too; those of several are copied.

    Raises:
        MismatchError: they are of two models, or give one picture to two people.
        CalibrationError: there are none.
    """
    parts = [embeddings] if isinstance(embeddings, Embeddings) else list(embeddings)
    if not parts or not any(len(part) for part in parts):
        raise CalibrationError("there is nothing to calibrate on: the embeddings hold no pictures")
    for other in parts[1:]:
        check_same_model(parts[0], other)
    whole = parts[0] if len(parts) == 1 else _concatenate(parts)
    sources = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    repeated = _find_repeated(whole)
    if repeated.any():
        kept = dataclasses.replace(whole.select(~repeated), unreadable=whole.unreadable)
        return Collected(kept, sources[~repeated])
    return Collected(whole, sources)


def say_unreadable(embeddings: Embeddings) -> list[str]:
    """Count and name the pictures that were left out because they could not be read."""
    paths = [image.path for image in embeddings.unreadable]
    return [f"{len(paths):,} unreadable pictures left out: {name_some(paths)}"] if paths else []


def _concatenate(parts: list[Embeddings]) -> Embeddings:
    samples = [part.samples for part in parts]
    return Embeddings(
        np.concatenate([part.vectors for part in parts]),
        Samples(
            np.concatenate([each.paths for each in samples]),
            np.concatenate([each.person_ids for each in samples]),
            np.concatenate([each.camera_ids for each in samples]),
        ),
        parts[0].model_sha256,
        parts[0].contract_sha256,
        tuple(dict.fromkeys(image for part in parts for image in part.unreadable)),
    )


def arrange(samples: Samples, *, zero_is_person: bool = False) -> People:
    """Sort pictures by person and leave junk out; person 0 is a distractor unless told otherwise.

    Raises:
        CalibrationError: fewer than two people are known.
    """
    ids = samples.person_ids
    stray = _find_distractors(samples, zero_is_person=zero_is_person)
    known = np.flatnonzero((ids != JUNK) & ~stray)
    known = known[np.argsort(ids[known], kind="stable")]
    strays = np.flatnonzero(stray)
    people, persons = np.unique(ids[known], return_inverse=True)
    if len(people) < 2:
        raise CalibrationError(
            f"the pictures show {len(people)} known people (-1 is junk, 0 a distractor unless "
            "zero_is_person, --person-zero), and a threshold needs at least two: give embeddings "
            "with their person ids, or calibrate on own footage (--unlabelled)"
        )
    units = group(persons, len(people), MOST_UNITS)
    known_units = int(units[-1]) + 1
    stray_units = group(np.arange(len(strays)), len(strays), MOST_DISTRACTOR_UNITS) + known_units
    units = np.concatenate((units, stray_units))
    rows = np.concatenate((known, strays))
    return People(
        rows=rows,
        persons=np.concatenate((persons, len(people) + np.arange(len(strays)))),
        cameras=samples.camera_ids[rows],
        units=units,
        ends=np.searchsorted(persons, persons, side="right"),
        known=len(known),
        count=len(people),
        known_units=known_units,
        unit_count=int(units[-1]) + 1,
    )


def _count_pairs(
    numbers: NDArray[np.int64], units: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Count the pairs of equal (M,) numbers, ascending, in each of `count` units."""
    _, starts, sizes = np.unique(numbers, return_index=True, return_counts=True)
    sums = np.zeros(count, np.int64)
    np.add.at(sums, units[starts], sizes * (sizes - 1) // 2)
    return sums


def _find_distractors(samples: Samples, *, zero_is_person: bool) -> NDArray[np.bool_]:
    ids = samples.person_ids
    return np.zeros(len(ids), np.bool_) if zero_is_person else ids == DISTRACTOR


def group(numbers: NDArray[np.int64], count: int, most: int) -> NDArray[np.int64]:
    """Put `count` numbered things, in their order, into at most `most` groups."""
    return numbers if count <= most else numbers * most // count


def _find_repeated(embeddings: Embeddings) -> NDArray[np.bool_]:
    """Mark pictures that came before: the same path, and the same vector (paths may be made up)."""
    samples, first = embeddings.samples, dict[tuple[str, bytes], int]()
    repeated = np.zeros(len(samples), np.bool_)
    names: list[str] = samples.paths.tolist()
    times = Counter(names)
    for row, path in enumerate(names):
        if times[path] == 1:
            continue
        earlier = first.setdefault((path, embeddings.vectors[row].tobytes()), row)
        if earlier == row:
            continue
        if samples.person_ids[earlier] != samples.person_ids[row]:
            raise MismatchError(
                f"{path} shows person {samples.person_ids[earlier]} in one place and "
                f"{samples.person_ids[row]} in another: correct the person ids"
            )
        repeated[row] = True
    return repeated
