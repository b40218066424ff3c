"""An embeddings data set into a gallery, part by part: by this process, or by many tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reidkit.comparing import split_range
from reidkit.distributed._data_set import DataSet
from reidkit.distributed._tasks import HERE, SHARES, Tasks
from reidkit.errors import ArgumentError
from reidkit.gallery import (
    Gallery,
    Left,
    Naming,
    Refused,
    is_postgres,
    take_people,
)
from reidkit.records import Embeddings, Progress

_PARTS = 16
"""Parts that a task enrols at most."""

_NAMED = 1000
"""Refused crops that are named; all are counted."""


@dataclass(frozen=True, slots=True)
class Enrolling:
    """Where crops go and what is said of them.

    Fields:
        place: the gallery, and `package` its model package, which every task reads there; `None`
            for the one it was made with.
        camera: of all crops; by default each has its own.
        tags: of all crops.
        naming: how people are called: by number, or by their pictures' paths.
        zero_is_person: person 0 is somebody, not a distractor.
        actor: who is written into the audit.
    """

    place: str
    package: Path | None = None
    camera: str = ""
    tags: Sequence[str] = ()
    naming: Naming | None = None
    zero_is_person: bool = False
    actor: str = "library"


@dataclass(frozen=True, slots=True)
class EnrolledParts:
    """What became of the crops of a data set, in numbers; see `gallery.Enrolment`.

    `refused` names some of the `refused_count` crops.
    """

    crops: int = 0
    added: int = 0
    replaced: int = 0
    skipped: int = 0
    refused_count: int = 0
    refused: tuple[Refused, ...] = ()
    left: Left = Left()  # noqa: RUF009 - frozen

    def __add__(self, other: EnrolledParts) -> EnrolledParts:
        return EnrolledParts(
            self.crops + other.crops,
            self.added + other.added,
            self.replaced + other.replaced,
            self.skipped + other.skipped,
            self.refused_count + other.refused_count,
            (*self.refused, *other.refused)[:_NAMED],
            self.left + other.left,
        )


def enrol_parts(
    data: DataSet,
    enrolling: Enrolling,
    *,
    tasks: Tasks = HERE,
    progress: Progress | None = None,
) -> EnrolledParts:
    """Enrol the crops of a data set; those that are there already are known by their vectors.

    Several tasks can write to a PostgreSQL gallery at once, and reach it by its address. Its
    index, if it has one, is built by the database: faster after enrolling than before.

    Raises:
        ArgumentError: several tasks at once into a gallery in a folder, which one process writes.
        MismatchError: the vectors are of another model or input contract.
        GalleryError, StoreError: the gallery, or a part, cannot be used.
    """
    if tasks.at_once > 1 and not is_postgres(enrolling.place):
        raise ArgumentError(
            f"{enrolling.place} is a folder, which one process writes: enrol without an engine, or "
            "keep the gallery in PostgreSQL"
        )
    enrolled, rows = EnrolledParts(), 0
    _report(progress, 0, len(data))
    parts = len(data.parts)
    spans = split_range(parts, max(1, min(_PARTS, parts // (SHARES * tasks.at_once))))
    for span, done in tasks.run(_enrol, (data, enrolling), spans):
        enrolled += done
        rows += sum(data.rows[slice(*span)])
        _report(progress, rows, len(data))
    return enrolled


def _enrol(
    shared: tuple[DataSet, Enrolling], span: tuple[int, int]
) -> tuple[tuple[int, int], EnrolledParts]:
    """Enrol some parts; the gallery is opened once, since its package is checked then."""
    data, enrolling = shared
    enrolled = EnrolledParts()
    with Gallery.open(enrolling.place, package=enrolling.package) as gallery:
        for part in range(*span):
            enrolled += _enrol_part(gallery, data.read(part), enrolling)
    return span, enrolled


def _enrol_part(gallery: Gallery, found: Embeddings, enrolling: Enrolling) -> EnrolledParts:
    found, crops, left = take_people(
        found,
        camera=enrolling.camera,
        tags=enrolling.tags,
        naming=enrolling.naming,
        zero_is_person=enrolling.zero_is_person,
    )
    done = gallery.add_embeddings(found, crops, actor=enrolling.actor)
    return EnrolledParts(
        crops=len(crops),
        added=len(done.ids) - done.replaced,
        replaced=done.replaced,
        skipped=done.skipped,
        refused_count=len(done.refused),
        refused=done.refused[:_NAMED],
        left=left,
    )


def _report(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
