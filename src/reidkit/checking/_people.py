"""Who is where: people on both sides, queries without an answer, people of one camera."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from reidkit.checking._rows import TRAIN, Pictures
from reidkit.checking._values import Picture, RepeatedName, SingleCamera, UnscoredQuery
from reidkit.records import JUNK, Dataset
from reidkit.scoring import Protocol, find_scored

JUNK_QUERY, ABSENT, SAME_CAMERA = "junk", "person absent", "same camera only"


def find_shared_people(rows: Pictures) -> tuple[int, ...]:
    """List the people who are in training and in query or gallery."""
    people, train = rows.samples.person_ids, rows.splits == TRAIN
    shared = np.intersect1d(people[rows.known & train], people[rows.known & ~train])
    return tuple(shared.tolist())


def find_unscored(dataset: Dataset, protocol: Protocol) -> tuple[UnscoredQuery, ...]:
    """List the queries that scoring by a protocol drops, and why.

    A query is dropped that is junk, whose person is absent from the gallery, or whom the gallery
    has in pictures only that the protocol lets it not meet: those of its own camera.
    """
    query, gallery = dataset.query, dataset.gallery
    present = set(gallery.person_ids.tolist())
    found = []
    for row in np.flatnonzero(~find_scored(query, gallery, protocol)).tolist():
        person = int(query.person_ids[row])
        absent = SAME_CAMERA if person in present else ABSENT
        picture = Picture(str(query.paths[row]), "query", person, int(query.camera_ids[row]))
        found.append(UnscoredQuery(picture, JUNK_QUERY if person == JUNK else absent))
    return tuple(found)


def find_single_camera(rows: Pictures) -> tuple[SingleCamera, ...]:
    """List the people whom one camera alone saw, in training and in query and gallery."""
    train = rows.splits == TRAIN
    sides = (("train", rows.known & train), ("test", rows.known & ~train))
    return tuple(single for side, mask in sides for single in _find_on(rows, side, mask))


def find_repeated_names(rows: Pictures) -> tuple[RepeatedName, ...]:
    """List the file names that several files have: tools that go by names mix them up."""
    paths: dict[str, dict[str, None]] = {}
    for path in rows.samples.paths.tolist():
        paths.setdefault(PurePath(path).name, {})[path] = None
    return tuple(
        RepeatedName(name, tuple(where)) for name, where in paths.items() if len(where) > 1
    )


def _find_on(rows: Pictures, side: str, mask: NDArray[np.bool_]) -> list[SingleCamera]:
    people, cameras = rows.samples.person_ids[mask], rows.samples.camera_ids[mask]
    order = np.lexsort((cameras, people))
    people, cameras = people[order], cameras[order]
    found, starts, counts = np.unique(people, return_index=True, return_counts=True)
    # Sorted by camera within each person: one camera where the first is the last.
    alone = cameras[starts] == cameras[starts + counts - 1]
    return [
        SingleCamera(side, int(found[i]), int(cameras[starts[i]]), int(counts[i]))
        for i in np.flatnonzero(alone)
    ]
