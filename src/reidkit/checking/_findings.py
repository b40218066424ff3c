"""From what was found to sentences, and whether each makes scores wrong."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from reidkit.checking._people import ABSENT, JUNK_QUERY, SAME_CAMERA
from reidkit.checking._values import (
    CAMERAS,
    LEAK,
    PEOPLE,
    DatasetCheck,
    Duplicates,
    Finding,
    Picture,
)

EXAMPLES = 10
"""How many pictures, people or names a finding gives."""

_DUPLICATES = {
    LEAK: "in training and in the test: the network has seen the answers",
    PEOPLE: "given to different people: at most one of the names is right",
    CAMERAS: "of a query and its person by another camera: a hit that is no merit",
}

_REASONS = {
    JUNK_QUERY: "junk (person -1)",
    ABSENT: "of people who are absent from the gallery",
    SAME_CAMERA: "of people whom the gallery has from the query's own camera only",
}


def list_findings(check: DatasetCheck) -> DatasetCheck:
    """Give the check with its findings, those that make scores wrong first."""
    findings = (
        *_find_wrong_pictures(check),
        *_find_wrong_people(check),
        *_compare_sizes(check),
        *_find_alike(check),
        *_find_lesser(check),
    )
    ordered = sorted(findings, key=lambda finding: not finding.wrong)
    return dataclasses.replace(check, findings=tuple(ordered))


def _find_wrong_pictures(check: DatasetCheck) -> Iterator[Finding]:
    if check.unreadable:
        yield Finding(
            True,
            f"{_count(len(check.unreadable), 'picture')} cannot be read: repair or remove them",
            _some(f"{_shorten(check, path)}: {reason}" for path, reason in check.unreadable),
        )
    for kind, words in _DUPLICATES.items():
        groups = [group for group in check.duplicates if kind in group.kinds]
        if groups:
            text = f"{_count(len(groups), 'group')} of identical pictures {words}"
            yield Finding(True, text, _some(_word_group(check, group) for group in groups))


def _find_wrong_people(check: DatasetCheck) -> Iterator[Finding]:
    if check.shared_people:
        yield Finding(
            True,
            f"{_count(len(check.shared_people), 'person', 'people')} in training and in the test: "
            "the network has been trained on the answers, or each side counts from the same number",
            _some(f"person {person}" for person in check.shared_people),
        )
    if check.unscored:
        reasons = Counter(query.reason for query in check.unscored)
        words = ", ".join(
            f"{reasons[name]:,} {words}" for name, words in _REASONS.items() if reasons[name]
        )
        queries = _count(len(check.unscored), "query", "queries")
        yield Finding(
            not check.scored_queries,
            f"{queries} without a valid match, left out of scores: {words}"
            if check.scored_queries
            else f"no query can be scored: {words}",
            _some(
                f"{_word_picture(check, query.picture)}: {query.reason}" for query in check.unscored
            ),
        )


def _compare_sizes(check: DatasetCheck) -> Iterator[Finding]:
    for size in check.sizes:
        if not size.agrees:
            text = f"{size.split} is not of the published size: {size.explanation}"
            yield Finding(False, text)
        if not size.found.pictures:
            yield Finding(False, f"{size.split} has no pictures")


def _find_alike(check: DatasetCheck) -> Iterator[Finding]:
    harmless = [group for group in check.duplicates if not group.kinds]
    if harmless:
        yield Finding(
            False,
            f"{_count(len(harmless), 'group')} of identical pictures, without harm to scores",
            _some(_word_group(check, group) for group in harmless),
        )
    near = check.near
    if near.suspicious:
        pairs = (
            f"{_word_picture(check, pair.first)} ~ {_word_picture(check, pair.second)}: "
            f"{', '.join(pair.kinds)}"
            for pair in near.pairs
        )
        yield Finding(
            False,
            f"{_count(near.suspicious, 'pair')} of pictures that look the same and lie in training "
            "and test, belong to different people or give a query an easy hit: look at them",
            _some(pairs),
        )
    if near.harmless:
        yield Finding(
            False,
            f"{_count(near.harmless, 'pair')} of pictures look the same without harm to scores, "
            "as neighbouring frames of one person do",
        )


def _find_lesser(check: DatasetCheck) -> Iterator[Finding]:
    for side, where in (("train", "training"), ("test", "the test")):
        alone = [single for single in check.single_camera if single.side == side]
        if alone:
            yield Finding(
                False,
                f"{_count(len(alone), 'person', 'people')} in {where} seen by one camera only",
                _some(f"person {single.person_id}: camera {single.camera_id}" for single in alone),
            )
    if check.repeated_names:
        number = _count(len(check.repeated_names), "file name")
        yield Finding(
            False,
            f"{number} of several files: tools that go by names mix them up",
            _some(f"{name.name}: {len(name.paths)} files" for name in check.repeated_names),
        )
    if check.small:
        yield Finding(
            False,
            f"{_count(len(check.small), 'picture')} narrower than 16 pixels or lower than 32",
            _some(
                f"{_shorten(check, small.picture.path)}: {small.width} x {small.height}"
                for small in check.small
            ),
        )


def _word_group(check: DatasetCheck, group: Duplicates) -> str:
    more = f" and {len(group.pictures) - 3} more" if len(group.pictures) > 3 else ""
    return " = ".join(_word_picture(check, picture) for picture in group.pictures[:3]) + more


def _word_picture(check: DatasetCheck, picture: Picture) -> str:
    who = f"{picture.split}, person {picture.person_id}, camera {picture.camera_id}"
    return f"{_shorten(check, picture.path)} ({who})"


def _shorten(check: DatasetCheck, path: str) -> str:
    """Give a path relative to the data set where it lies in it."""
    root = Path(check.root)
    folder = root.parent if root.is_file() else root
    return path.removeprefix(f"{folder}{os.sep}")


def _some(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(islice(lines, EXAMPLES))


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
