"""All pictures of a data set in one table, and what two of them have to do with each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.checking._values import CAMERAS, KINDS, LEAK, PEOPLE, Picture
from reidkit.datasets.published import SPLITS
from reidkit.records import JUNK, Dataset, Samples

TRAIN, QUERY, GALLERY = range(3)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The N pictures of the three splits, one after the other.

    Columns:
        samples: paths, people and cameras (N).
        splits: (N,) int8, 0 train, 1 query, 2 gallery.
        known: (N,) bool, the picture is of somebody: no junk, no distractor of Market-1501.
    """

    samples: Samples
    splits: NDArray[np.int8]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.samples)

    def picture(self, row: int) -> Picture:
        """Give one row as a value."""
        return Picture(
            str(self.samples.paths[row]),
            SPLITS[self.splits[row]],
            int(self.samples.person_ids[row]),
            int(self.samples.camera_ids[row]),
        )

    def compare(self, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Say what is wrong with pairs of equal pictures: a mask (P, 3), by `KINDS`."""
        people, cameras = self.samples.person_ids, self.samples.camera_ids
        known = self.known[first] & self.known[second]
        same = people[first] == people[second]
        leak = (self.splits[first] == TRAIN) != (self.splits[second] == TRAIN)
        across = self.splits[first] + self.splits[second] == QUERY + GALLERY
        other = cameras[first] != cameras[second]
        return np.stack((leak, known & ~same, across & known & same & other), axis=1)

    def judge(self, rows: NDArray[np.intp]) -> tuple[str, ...]:
        """Say what is wrong with a group of equal pictures, by `KINDS`."""
        splits, known = self.splits[rows], self.known[rows]
        people, cameras = self.samples.person_ids[rows], self.samples.camera_ids[rows]
        found = {
            LEAK: bool((splits == TRAIN).any() and (splits != TRAIN).any()),
            PEOPLE: len(np.unique(people[known])) > 1,
            CAMERAS: _crosses_cameras(splits, people, cameras, known),
        }
        return tuple(kind for kind in KINDS if found[kind])


def list_rows(dataset: Dataset) -> Pictures:
    """Put the three splits one after the other."""
    sides = [dataset.split(split) for split in SPLITS]
    samples = Samples(
        np.concatenate([side.paths for side in sides]),
        np.concatenate([side.person_ids for side in sides]),
        np.concatenate([side.camera_ids for side in sides]),
    )
    splits = np.repeat(np.arange(3, dtype=np.int8), [len(side) for side in sides])
    nobody = (JUNK, 0) if dataset.name == "market1501" else (JUNK,)
    return Pictures(samples, splits, ~np.isin(samples.person_ids, nobody))


def _crosses_cameras(
    splits: NDArray[np.int8],
    people: NDArray[np.int64],
    cameras: NDArray[np.int64],
    known: NDArray[np.bool_],
) -> bool:
    """Tell whether a query meets its own person by another camera in the group's gallery."""
    seen: dict[int, set[int]] = {}
    for row in np.flatnonzero(known & (splits == GALLERY)).tolist():
        seen.setdefault(int(people[row]), set()).add(int(cameras[row]))
    return any(
        seen.get(int(people[row]), set()) - {int(cameras[row])}
        for row in np.flatnonzero(known & (splits == QUERY)).tolist()
    )
