"""What a check of a data set finds, as values."""

from __future__ import annotations

from dataclasses import dataclass

from reidkit.datasets.published import SplitSize
from reidkit.errors import UnreadableImage

LEAK = "train and test"
"""The pictures lie in training and in query or gallery."""

PEOPLE = "different people"
"""The names give them to different people."""

CAMERAS = "other camera"
"""A query and its person in the gallery, by another camera: a hit that is no merit."""

KINDS = (LEAK, PEOPLE, CAMERAS)
"""What can be wrong with equal pictures, the worst first."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as the data set has it."""

    path: str
    split: str
    person_id: int
    camera_id: int


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Files with the very same bytes; `kinds` of `KINDS` say what is wrong, empty: nothing."""

    pictures: tuple[Picture, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two pictures that look the same: `distance` is how many of 64 hash bits differ."""

    first: Picture
    second: Picture
    distance: int
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NearPairs:
    """Pictures that look the same and have different bytes.

    `pairs` are those with something wrong, the worst first, at most 1,000 of the `suspicious`
    there are. `harmless` counts pairs of one person and side, such as neighbouring frames.
    """

    pairs: tuple[NearPair, ...] = ()
    suspicious: int = 0
    harmless: int = 0


@dataclass(frozen=True, slots=True)
class UnscoredQuery:
    """A query without a valid match: `junk`, `person absent` or `same camera only`."""

    picture: Picture
    reason: str


@dataclass(frozen=True, slots=True)
class SingleCamera:
    """Somebody whom one camera alone saw, in training (`train`) or the rest (`test`)."""

    side: str
    person_id: int
    camera_id: int
    pictures: int


@dataclass(frozen=True, slots=True)
class RepeatedName:
    """One file name that several files have."""

    name: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SmallPicture:
    """A picture of few pixels."""

    picture: Picture
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found, in a sentence; `wrong` where it makes scores wrong.

    `examples` names at most ten of the pictures, people or files that it is about.
    """

    wrong: bool
    text: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DatasetCheck:
    """What `check_dataset` found.

    `shared_people` are in training and in the test. `findings` say all of it in sentences, those
    that make scores wrong first.
    """

    root: str
    layout: str
    sizes: tuple[SplitSize, SplitSize, SplitSize]
    scored_queries: int
    unreadable: tuple[UnreadableImage, ...]
    shared_people: tuple[int, ...]
    duplicates: tuple[Duplicates, ...]
    near: NearPairs
    unscored: tuple[UnscoredQuery, ...]
    single_camera: tuple[SingleCamera, ...]
    repeated_names: tuple[RepeatedName, ...]
    small: tuple[SmallPicture, ...]
    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> bool:
        """Tell whether something makes scores wrong."""
        return any(finding.wrong for finding in self.findings)
