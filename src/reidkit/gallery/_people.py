"""Crops of data sets' pictures: their people and cameras named by number, or by path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery._values import Crops
from reidkit.records import JUNK, Embeddings, Samples

Naming = Literal["folder", "stem"]


@dataclass(frozen=True, slots=True)
class Left:
    """How many crops of a data set show nobody that can be enrolled."""

    junk: int = 0
    distractors: int = 0

    def __add__(self, other: Left) -> Left:
        return Left(self.junk + other.junk, self.distractors + other.distractors)

    def describe(self) -> str:
        """Say it in words; empty where there are none."""
        parts = []
        if self.junk:
            parts.append(f"{self.junk:,} junk crops (person -1)")
        if self.distractors:
            parts.append(
                f"{self.distractors:,} distractors (person 0: nobody known; --zero-is-person if "
                "it is somebody)"
            )
        return " and ".join(parts)


def choose_people(samples: Samples, *, zero_is_person: bool) -> tuple[NDArray[np.bool_], Left]:
    """Mark the pictures (N,) that show somebody, and count the others."""
    junk = samples.person_ids == JUNK
    distractors = (samples.person_ids == 0) & (not zero_is_person)
    return ~(junk | distractors), Left(
        int(np.count_nonzero(junk)), int(np.count_nonzero(distractors))
    )


def take_people(
    embeddings: Embeddings,
    *,
    camera: str = "",
    tags: Sequence[str] = (),
    naming: Naming | None = None,
    zero_is_person: bool = False,
) -> tuple[Embeddings, Crops, Left]:
    """Give what can be enrolled of embeddings, as crops, and what is left out.

    By number, pictures of nobody are left out; by `naming` all have a name. See `make_crops`.
    """
    left = Left()
    if naming is None:
        keep, left = choose_people(embeddings.samples, zero_is_person=zero_is_person)
        embeddings = embeddings.select(keep)
    crops = make_crops(embeddings.samples, camera=camera, tags=tags, naming=naming)
    return embeddings, crops, left


def make_crops(
    samples: Samples,
    *,
    camera: str = "",
    tags: Sequence[str] = (),
    naming: Naming | None = None,
) -> Crops:
    """Make crops of samples; a camera below 0 is unknown.

    People are called by their numbers, or by `naming` like the picture's folder, or its file
    without the suffix: a track's name does where nobody is known.
    """
    cameras = [camera or (str(i) if i >= 0 else "") for i in samples.camera_ids.tolist()]
    return Crops.make(
        len(samples),
        people=_name_people(samples, naming),
        cameras=cameras,
        sources=list(samples.paths),
        tags=[tuple(tags)] * len(samples),
    )


def _name_people(samples: Samples, naming: Naming | None) -> list[str]:
    if naming is None:
        return [str(i) for i in samples.person_ids.tolist()]
    paths = [PurePath(path) for path in samples.paths]
    return [path.parent.name if naming == "folder" else _find_stem(path) for path in paths]


def _find_stem(path: PurePath) -> str:
    """Give the name without its suffix; a row of a table, `NAME.parquet#N`, keeps its number."""
    return path.name if "#" in path.suffix else path.stem
