"""Which pictures a drawn data set holds: names in Market-1501's manner, and what they show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from reidkit.datasets.drawn._people import between, chance
from reidkit.datasets.drawn._pictures import DISTRACTOR, JUNK, TEST, TRAIN, Shot
from reidkit.datasets.market1501 import FOLDERS

TRAIN_FOLDER, QUERY_FOLDER, GALLERY_FOLDER = FOLDERS.values()

JUNK_PER_CENT = 10
DISTRACTOR_PER_CENT = 15


@dataclass(frozen=True, slots=True)
class DrawnCounts:
    """How many pictures were drawn.

    `gallery` are the pictures of test people in `bounding_box_test`; `junk` (person id -1) and
    `distractors` (person id 0) lie in the same folder beside them and are counted apart.
    """

    train: int
    query: int
    gallery: int
    junk: int
    distractors: int


class Job(NamedTuple):
    """A picture to draw and the file it goes to, relative to the data set's root."""

    path: str
    shot: Shot


def plan_jobs(people: int, cameras: int, seed: int) -> tuple[list[Job], DrawnCounts]:
    """Give every picture of a data set.

    Train people are numbered 1 to `people`, test people on from there.
    """
    train = [
        _job(TRAIN_FOLDER, person, Shot(TRAIN, person, camera, number))
        for person in range(1, people + 1)
        for camera, count in _appearances(seed, TRAIN, person, cameras)
        for number in range(4 + count % 5)
    ]
    query, gallery = [], []
    for person in range(people + 1, 2 * people + 1):
        for camera, count in _appearances(seed, TEST, person, cameras):
            query.append(_job(QUERY_FOLDER, person, Shot(TEST, person, camera, 0)))
            gallery += [
                _job(GALLERY_FOLDER, person, Shot(TEST, person, camera, number))
                for number in range(1, 3 + count % 3)
            ]
    junk = list(_strays(seed, JUNK, _share(len(gallery), JUNK_PER_CENT), cameras))
    distractors = list(
        _strays(seed, DISTRACTOR, _share(len(gallery), DISTRACTOR_PER_CENT), cameras)
    )
    groups = (train, query, gallery, junk, distractors)
    return [job for group in groups for job in group], DrawnCounts(*map(len, groups))


def _appearances(seed: int, group: int, person: int, cameras: int) -> Iterator[tuple[int, int]]:
    """Give the cameras (2 to all, at most 6) that see a person, each with a number 0 to 59."""
    stream = chance(seed, 6, group, person)
    seen = between(stream, 2, min(cameras, 6))
    left = list(range(1, cameras + 1))
    chosen = sorted(left.pop(between(stream, 0, len(left) - 1)) for _ in range(seen))
    for camera in chosen:
        yield camera, between(stream, 0, 59)


def _strays(seed: int, group: int, count: int, cameras: int) -> Iterator[Job]:
    """Give pictures of nobody in particular: bad detections, and people who are never queried."""
    subjects = {
        JUNK: ("background", "half", "half", "pair"),
        DISTRACTOR: ("person", "person", "person", "background"),
    }[group]
    person_id = -1 if group == JUNK else 0
    for number in range(count):
        stream = chance(seed, 7, group, number)
        camera = between(stream, 1, cameras)
        subject = subjects[between(stream, 0, len(subjects) - 1)]
        # Three pictures of each passer-by: a wrong answer may come back from several cameras.
        shot = Shot(group, number // 3, camera, number, subject)
        yield _job(GALLERY_FOLDER, person_id, shot)


def _share(count: int, per_cent: int) -> int:
    return -(-count * per_cent // 100)


def _job(folder: str, person_id: int, shot: Shot) -> Job:
    person = "-1" if person_id == -1 else f"{person_id:04d}"
    frame = 151 + 25 * shot.number
    name = f"{person}_c{shot.camera}s1_{frame:06d}_01.jpg"
    return Job(f"{folder}/{name}", shot)
