"""The report of a data set's check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reidkit.checking import DatasetCheck, Duplicates, NearPair, Picture
from reidkit.reports._pages import check_path, render, write_page
from reidkit.reports._thumbnails import Thumbnail, make_thumbnail

SHOWN_GROUPS, SHOWN_PAIRS, SHOWN_PICTURES = 24, 36, 6
"""How many groups of identical pictures and pairs that look the same, and pictures a group."""

LISTED = 100
"""How many rows a table has at most."""

_KINDS = {
    "train and test": "in training and in the test",
    "different people": "given to different people",
    "other camera": "a query and its answer by another camera",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of the page and how the data set has it."""

    picture: Picture
    thumbnail: Thumbnail


@dataclass(frozen=True, slots=True)
class Company:
    """Pictures side by side, and what is wrong with them; empty where nothing is."""

    pictures: tuple[Shown, ...]
    count: int
    wrong: str


def write_dataset_report(path: str | Path, check: DatasetCheck) -> None:
    """Write the HTML report of a data set's check: verdict, sizes, findings, equal pictures.

    The file is written whole or not at all; missing parent folders are made. It shows at most 24
    groups of identical pictures and 36 pairs that look the same, the worst first, and stays near
    1 MB.

    Raises:
        ArgumentError: `path` is a folder.
    """
    path = Path(path)
    check_path(path)
    page = render(
        "dataset.html",
        check=check,
        wrong=[finding for finding in check.findings if finding.wrong],
        remarks=[finding for finding in check.findings if not finding.wrong],
        pictures=sum(size.found.pictures for size in check.sizes),
        published=any(size.published for size in check.sizes),
        groups=[_show_group(group) for group in check.duplicates[:SHOWN_GROUPS]],
        pairs=[_show_pair(pair) for pair in check.near.pairs[:SHOWN_PAIRS]],
        unreadable=check.unreadable[:LISTED],
        unscored=check.unscored[:LISTED],
    )
    write_page(path, page)


def _show_group(group: Duplicates) -> Company:
    shown = group.pictures
    # Both sides of what is wrong must be seen: one of each split and person comes first.
    first = {(p.split, p.person_id, p.camera_id): p for p in reversed(shown)}
    chosen = [*sorted(first.values(), key=shown.index), *shown]
    return _show(list(dict.fromkeys(chosen)), len(shown), group.kinds)


def _show_pair(pair: NearPair) -> Company:
    return _show([pair.first, pair.second], 2, pair.kinds)


def _show(pictures: Sequence[Picture], count: int, kinds: Sequence[str]) -> Company:
    shown = tuple(Shown(p, make_thumbnail(p.path)) for p in pictures[:SHOWN_PICTURES])
    return Company(shown, count, ", ".join(_KINDS[kind] for kind in kinds))
