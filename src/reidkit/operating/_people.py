"""Who is compared with whom: pictures sorted by person, and who is drawn again as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import CalibrationError, MismatchError
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

    def list_genuine(
        self, start: int, stop: int, *, same_camera: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """List the genuine pairs of the pictures `start` to `stop` with later ones; (P,) each."""
        places = np.arange(start, stop)
        widths = self.ends[start:stop] - places - 1
        first = np.repeat(places, widths)
        within = np.arange(len(first)) - np.repeat(np.cumsum(widths) - widths, widths)
        second = first + 1 + within
        if not same_camera:
            differ = self.cameras[first] != self.cameras[second]
            first, second = first[differ], second[differ]
        return first, second


def join(embeddings: Embeddings | Sequence[Embeddings]) -> Embeddings:
    """Make one value of embeddings of one model; a picture that comes twice is taken once.

    Raises:
        MismatchError: they are of two models, or give one picture to two people.
        CalibrationError: there are none.
    """
    parts = [embeddings] if isinstance(embeddings, Embeddings) else list(embeddings)
    if not parts or not any(len(part) for part in parts):
        raise CalibrationError("there is nothing to calibrate on: the embeddings hold no pictures")
    for other in parts[1:]:
        check_same_model(parts[0], other)
    whole = parts[0]
    if len(parts) > 1:
        columns = zip(
            *((p.samples.paths, p.samples.person_ids, p.samples.camera_ids) for p in parts),
            strict=True,
        )
        whole = Embeddings(
            np.concatenate([part.vectors for part in parts]),
            Samples(*(np.concatenate(column) for column in columns)),
            whole.model_sha256,
            whole.contract_sha256,
        )
    repeated = _find_repeated(whole)
    return whole.select(~repeated) if repeated.any() else whole


def arrange(samples: Samples) -> People:
    """Sort pictures by person and leave junk out.

    Raises:
        CalibrationError: fewer than two people are known.
    """
    ids = samples.person_ids
    known = np.flatnonzero((ids != JUNK) & (ids != DISTRACTOR))
    known = known[np.argsort(ids[known], kind="stable")]
    strays = np.flatnonzero(ids == DISTRACTOR)
    people, persons = np.unique(ids[known], return_inverse=True)
    if len(people) < 2:
        raise CalibrationError(
            f"the pictures show {len(people)} known people (person ids above 0), and a threshold "
            "needs at least two: give embeddings with their person ids, or calibrate on own "
            "footage (--unlabelled)"
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
