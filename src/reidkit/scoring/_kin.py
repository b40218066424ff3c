"""Which gallery rows show each query's person, and which it never meets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.comparing import list_ranges
from reidkit.records import JUNK, DroppedQueries, Samples
from reidkit.scoring._protocols import Protocol


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of queries and gallery rows, query after query.

    Columns:
        queries: (P,) int64, ascending.
        rows: (P,) int64.
    """

    queries: NDArray[np.int64]
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Kin:
    """The gallery by person and camera, and each query's places in it.

    `order` (G,) lists the gallery by person, then camera, then row. `bounds` (Q, 4) are places
    in it: the query's person takes up 0 to 3, the pictures of this person that the query never
    meets 1 to 2. `by_camera` (G,) lists the gallery by camera and row, and `others` (Q, 2) are
    the places of what a query never meets whoever is in it (none but in cross-camera protocols).
    """

    order: NDArray[np.int64]
    bounds: NDArray[np.int64]
    by_camera: NDArray[np.int64]
    others: NDArray[np.int64]

    def select(self, queries: NDArray[np.intp] | slice) -> Kin:
        """Take some of the queries."""
        return Kin(self.order, self.bounds[queries], self.by_camera, self.others[queries])

    def count_own(self) -> NDArray[np.int64]:
        """Count the gallery pictures of each query's person, met or not; (Q,)."""
        return self.bounds[:, 3] - self.bounds[:, 0]

    def count_hits(self) -> NDArray[np.int64]:
        """Count the gallery pictures that are right answers; (Q,)."""
        widths = np.diff(self.bounds, axis=1)
        return widths[:, 0] + widths[:, 2]

    def find_hits(self, queries: slice) -> Pairs:
        """Give the right answers to some queries, numbered from 0."""
        edges = self.bounds[queries]
        return _merge(
            _list(self.order, edges[:, 0], edges[:, 1]),
            _list(self.order, edges[:, 2], edges[:, 3]),
        )

    def find_removed(self, queries: slice) -> Pairs:
        """Give what some queries, numbered from 0, never meet."""
        if len(self.by_camera):  # whoever is in them: the query's own person too
            others = self.others[queries]
            return _list(self.by_camera, others[:, 0], others[:, 1])
        edges = self.bounds[queries]
        return _list(self.order, edges[:, 1], edges[:, 2])


def find_kin(query: Samples, gallery: Samples, protocol: Protocol) -> Kin:
    """Sort the gallery, which holds no junk, by person and camera and find each query in it."""
    people = np.concatenate((query.person_ids, gallery.person_ids))
    cameras = np.concatenate((query.camera_ids, gallery.camera_ids))
    seen_by, camera = np.unique(cameras, return_inverse=True)
    # One number a person and camera: all cameras of one person are neighbours.
    person = np.unique(people, return_inverse=True)[1] * len(seen_by)
    asked, given = np.split(person + camera, [len(query)])
    order = np.argsort(given, kind="stable")
    found, person = given[order], person[: len(query)]
    start = np.searchsorted(found, person)
    end = np.searchsorted(found, person + len(seen_by))
    first = np.searchsorted(found, asked)
    last = np.searchsorted(found, asked, "right")
    own = (start, start) if protocol.removed == "nothing" else (first, last)
    bounds = (start, *own, end)
    by_camera, others = np.empty(0, np.int64), np.zeros((len(query), 2), np.int64)
    if protocol.removed == "camera":
        query_camera, gallery_camera = np.split(camera, [len(query)])
        by_camera = np.argsort(gallery_camera, kind="stable")
        seen = gallery_camera[by_camera]
        first_place = np.searchsorted(seen, query_camera)
        others = np.stack((first_place, np.searchsorted(seen, query_camera, "right")), axis=1)
    return Kin(order, np.stack(bounds, axis=1), by_camera, others)


def count_dropped(
    query: Samples, own: NDArray[np.int64], hits: NDArray[np.int64]
) -> DroppedQueries:
    """Count the queries that cannot be scored, by reason; `own`, `hits` are as `Kin` counts."""
    junk = query.person_ids == JUNK
    absent = ~junk & (own == 0)
    own_only = ~junk & ~absent & (hits == 0)
    return DroppedQueries(*(int(np.count_nonzero(reason)) for reason in (junk, absent, own_only)))


def explain_nothing_to_score(dropped: DroppedQueries) -> str:
    """Say why no query is left."""
    return (
        f"none of the {dropped.total} queries can be scored: {dropped.junk} are junk (person id "
        f"{JUNK}), {dropped.person_absent} show a person who is absent from the gallery, "
        f"{dropped.same_camera_only} one whom the gallery has from the query's own camera only; "
        "check that both sides are of one data set and that the camera ids are right"
    )


def _list(order: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Pairs:
    places, queries = list_ranges(starts, stops)
    return Pairs(queries, order[places])


def _merge(first: Pairs, second: Pairs) -> Pairs:
    if not len(second.queries):
        return first
    queries = np.concatenate((first.queries, second.queries))
    order = np.argsort(queries, kind="stable")
    return Pairs(queries[order], np.concatenate((first.rows, second.rows))[order])
