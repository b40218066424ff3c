"""Who is where: people on both sides, queries without an answer, people of one camera."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from reidkit.checking._rows import GALLERY, QUERY, TRAIN, Rows
from reidkit.checking._values import RepeatedName, SingleCamera, UnscoredQuery
from reidkit.records import JUNK

JUNK_QUERY, ABSENT, SAME_CAMERA = "junk", "person absent", "same camera only"


def find_shared_people(rows: Rows) -> tuple[int, ...]:
    """List the people who are in training and in query or gallery."""
    people, train = rows.samples.person_ids, rows.splits == TRAIN
    shared = np.intersect1d(people[rows.known & train], people[rows.known & ~train])
    return tuple(shared.tolist())


def find_unscored(rows: Rows) -> tuple[UnscoredQuery, ...]:
    """List the queries that Market-1501's protocol drops, and why.

    A query is dropped that is junk, whose person is absent from the gallery, or whom the gallery
    has from the query's own camera only.
    """
    people, cameras = rows.samples.person_ids, rows.samples.camera_ids
    seen: dict[int, set[int]] = {}
    for row in np.flatnonzero(rows.splits == GALLERY).tolist():
        seen.setdefault(int(people[row]), set()).add(int(cameras[row]))
    found = []
    for row in np.flatnonzero(rows.splits == QUERY).tolist():
        by = seen.get(int(people[row]), set())
        if people[row] == JUNK:
            reason = JUNK_QUERY
        elif not by:
            reason = ABSENT
        elif by == {int(cameras[row])}:
            reason = SAME_CAMERA
        else:
            continue
        found.append(UnscoredQuery(rows.picture(row), reason))
    return tuple(found)


def find_single_camera(rows: Rows) -> tuple[SingleCamera, ...]:
    """List the people whom one camera alone saw, in training and in query and gallery."""
    train = rows.splits == TRAIN
    sides = (("train", rows.known & train), ("test", rows.known & ~train))
    return tuple(single for side, mask in sides for single in _find_on(rows, side, mask))


def find_repeated_names(rows: Rows) -> tuple[RepeatedName, ...]:
    """List the file names that several files have: tools that go by names mix them up."""
    paths: dict[str, dict[str, None]] = {}
    for path in rows.samples.paths.tolist():
        paths.setdefault(PurePath(path).name, {})[path] = None
    return tuple(
        RepeatedName(name, tuple(where)) for name, where in paths.items() if len(where) > 1
    )


def _find_on(rows: Rows, side: str, mask: NDArray[np.bool_]) -> list[SingleCamera]:
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
