"""How large each data set is by its authors' account, and why a copy may differ from it.

A difference is information: copies without junk, with masks, or of another version are in use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reidkit.records import JUNK, Dataset, Samples

SPLITS = ("train", "query", "gallery")


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a split; `None` where it is not published.

    `identities` are people (or vehicles), junk and Market-1501's distractors left out.
    """

    pictures: int
    identities: int | None
    cameras: int | None

    def agrees(self, published: Size) -> bool:
        """Tell whether nothing differs from what is published."""
        pairs = zip(
            (self.pictures, self.identities, self.cameras),
            (published.pictures, published.identities, published.cameras),
            strict=True,
        )
        return all(other in (None, own) for own, other in pairs)


@dataclass(frozen=True, slots=True)
class SplitSize:
    """One split's size beside the published one.

    `published` is `None` for a layout that is no one data set's. `explanation` says why a known
    difference is there; empty where there is none, or none is known.
    """

    split: str
    found: Size
    published: Size | None
    explanation: str = ""

    @property
    def agrees(self) -> bool:
        """Tell whether the split is as published, or nothing is published."""
        return self.published is None or self.found.agrees(self.published)


SIZES: dict[str, tuple[Size, Size, Size]] = {
    # Zheng et al., ICCV 2015, and the readme of the data: the gallery's 19,732 pictures are
    # 13,115 of people who are asked for, 2,798 distractors (0) and 3,819 of junk (-1).
    "market1501": (Size(12_936, 751, 6), Size(3_368, 750, 6), Size(19_732, 750, 6)),
    # Zheng et al., ICCV 2017, and the readme of DukeMTMC-reID: 702 + 408 people in the gallery.
    "dukemtmc": (Size(16_522, 702, 8), Size(2_228, 702, 8), Size(17_661, 1_110, 8)),
    # Wei et al., CVPR 2018: 30,248 + 2,373 pictures to train and to validate. Version 2 hides the
    # faces and leaves the lists as they are.
    "msmt17-v1": (Size(32_621, 1_041, 15), Size(11_659, 3_060, 15), Size(82_161, 3_060, 15)),
    "msmt17-v2": (Size(32_621, 1_041, 15), Size(11_659, 3_060, 15), Size(82_161, 3_060, 15)),
    # Zhong et al., CVPR 2017, and the readme of CUHK03-NP; cameras are the views of a pair.
    "cuhk03-labeled": (Size(7_368, 767, 2), Size(1_400, 700, 2), Size(5_328, 700, 2)),
    "cuhk03-detected": (Size(7_365, 767, 2), Size(1_400, 700, 2), Size(5_332, 700, 2)),
    # Liu et al., IEEE Trans. Multimedia 2018; which cameras the test has is not published.
    "veri776": (Size(37_778, 576, 20), Size(1_678, 200, None), Size(11_579, 200, None)),
    # Gray et al., PETS 2007: 632 pairs; the halves are the literature's custom.
    "viper": (Size(632, 316, 2), Size(316, 316, 1), Size(316, 316, 1)),
}
"""The sizes of train, query and gallery, by layout."""

_KNOWN: dict[tuple[str, str, int], str] = {
    ("market1501", "gallery", 15_913): "a copy without the 3,819 pictures of junk (-1), which are "
    "never scored: scores are the same",
    ("market1501", "gallery", 16_934): "a copy without the 2,798 distractors (0): scores come out "
    "higher than published ones",
    ("market1501", "gallery", 13_115): "a copy without junk and without the 2,798 distractors "
    "(0): scores come out higher than published ones",
    ("dukemtmc", "train", 15_618): "the number of Occluded-Duke, which is another set",
    ("dukemtmc", "query", 2_210): "the number of Occluded-Duke, which is another set",
    ("msmt17-v1", "train", 30_248): "without the 2,373 pictures of list_val.txt",
    ("msmt17-v2", "train", 30_248): "without the 2,373 pictures of list_val.txt",
    ("cuhk03-labeled", "train", 7_365): "the number of the detected boxes",
    ("cuhk03-labeled", "gallery", 5_332): "the number of the detected boxes",
    ("cuhk03-detected", "train", 7_368): "the number of the labelled boxes",
    ("cuhk03-detected", "gallery", 5_328): "the number of the labelled boxes",
    ("veri776", "train", 37_781): "the number of the first papers; the set as it is handed out "
    "has 3 pictures fewer",
}
"""Numbers of pictures that are known to differ, and why."""


def measure_split(samples: Samples, *, distractors: bool = False) -> Size:
    """Count pictures, identities and cameras; with `distractors`, person 0 is nobody.

    Junk counts among the pictures and cameras, not among the identities.
    """
    nobody = (JUNK, 0) if distractors else (JUNK,)
    people = np.unique(samples.person_ids)
    return Size(
        len(samples),
        int(np.count_nonzero(~np.isin(people, nobody))),
        len(np.unique(samples.camera_ids)),
    )


def compare_sizes(dataset: Dataset) -> tuple[SplitSize, SplitSize, SplitSize]:
    """Put the size of each split beside the published one and explain known differences.

    Nothing is published of a `table`. A set that follows Market-1501's layout and has none of its
    sizes is another set: then nothing is compared, either.
    """
    # A person 0 may be a person anywhere but in Market-1501.
    distractors = dataset.name == "market1501"
    sizes = [measure_split(dataset.split(s), distractors=distractors) for s in SPLITS]
    published: tuple[Size | None, ...] = SIZES.get(dataset.name, (None, None, None))
    if distractors and not any(_resembles(s, size) for s, size in zip(SPLITS, sizes, strict=True)):
        published = (None, None, None)
    train, query, gallery = (
        SplitSize(split, size, other, _explain(dataset.name, split, size, other))
        for split, size, other in zip(SPLITS, sizes, published, strict=True)
    )
    return train, query, gallery


def _resembles(split: str, size: Size) -> bool:
    """Tell whether a split has a number of pictures that Market-1501's copies have."""
    published = SIZES["market1501"][SPLITS.index(split)]
    known = ("market1501", split, size.pictures) in _KNOWN
    return known or size.pictures == published.pictures


def _explain(layout: str, split: str, found: Size, published: Size | None) -> str:
    if published is None or found.agrees(published):
        return ""
    known = _KNOWN.get((layout, split, found.pictures))
    if known:
        return known
    if found.pictures == published.pictures:
        return "the pictures are all there, but their names say other people or cameras"
    difference = found.pictures - published.pictures
    number = f"{abs(difference):,} picture{'s' * (abs(difference) != 1)}"
    if difference < 0:
        return f"{number} missing: unpacked in part, or another version or subset"
    return f"{number} more than published: copies, additions or another version"
