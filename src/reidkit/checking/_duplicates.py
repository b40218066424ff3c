"""Pictures that are there twice: by their bytes, and by how they look.

Looks are compared by a difference hash (Krawetz, "Kind of Like That", 2013): whether the grey
value rises from each column to the next in a picture of 9 x 8 pixels, 64 bits. Only hashes that
agree in one of four parts of 16 bits are compared, as any two do that differ in at most 3 bits,
and most that differ in 6; pairs whose hashes are near are then compared in colour. A picture that
was scaled or encoded again has a hash 0 to 4 bits away, and colours 1 of 255 away on average.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from reidkit.checking._looking import Looks
from reidkit.checking._rows import Pictures
from reidkit.checking._values import KINDS, Duplicates, NearPair, NearPairs

MAXIMUM_DISTANCE = 6
"""The most bits of 64 in which the hashes of pictures that look the same differ."""

SURE_DISTANCE = 3
"""Hashes that differ in no more bits are always compared."""

MAXIMUM_DIFFERENCE = 3.0
"""The most that their thumbnails differ, on average, of 255."""

LISTED_PAIRS = 1000
"""How many pairs are kept; the others are counted."""

_PARTS, _BITS = SURE_DISTANCE + 1, 16
_FURTHEST = 2048
"""Of pictures with an equal part, each is compared with as many that follow."""

_FURTHEST_EQUAL = 32
"""Of pictures with an equal hash (blank ones, mostly), with as many."""

_BLOCK = 8192


def find_duplicates(looks: Looks, rows: Pictures) -> tuple[Duplicates, ...]:
    """Group files with the same bytes, those with something wrong first."""
    readable = np.flatnonzero(looks.readable)
    order = readable[np.lexsort((readable, *looks.digests[readable].T))]
    digests = looks.digests[order]
    starts = np.flatnonzero((digests[1:] != digests[:-1]).any(axis=1)) + 1
    groups = [group for group in np.split(order, starts) if len(group) > 1]
    found = [
        Duplicates(tuple(rows.picture(row) for row in group.tolist()), rows.judge(group))
        for group in groups
    ]
    return tuple(sorted(found, key=lambda group: (*_rank(group.kinds), group.pictures[0].path)))


def find_near(looks: Looks, rows: Pictures) -> NearPairs:
    """Find pictures that look the same and have different bytes.

    Of files with the same bytes the first one stands for all. Time grows little faster than the
    number of pictures; memory beyond theirs is bounded.
    """
    readable = np.flatnonzero(looks.readable)
    distinct = np.sort(readable[np.unique(looks.digests[readable], axis=0, return_index=True)[1]])
    hashes = hash_thumbnails(looks.thumbnails, distinct)
    listed: list[tuple[tuple[int, ...], int, int, int]] = []
    suspicious = harmless = 0
    for left, right in list_candidates(hashes):
        first, second = distinct[left], distinct[right]
        alike = np.flatnonzero(_look_alike(looks.thumbnails, first, second))
        wrong = rows.compare(first[alike], second[alike])
        chosen = np.flatnonzero(wrong.any(axis=1))
        suspicious += len(chosen)
        harmless += len(alike) - len(chosen)
        distance = np.bitwise_count(hashes[left[alike]] ^ hashes[right[alike]])
        for pair in chosen.tolist():
            a, b = sorted((int(first[alike[pair]]), int(second[alike[pair]])))
            # False sorts before True: what is wrong comes first.
            listed.append((tuple((~wrong[pair]).tolist()), int(distance[pair]), a, b))
        if len(listed) > 2 * LISTED_PAIRS:
            listed = sorted(listed)[:LISTED_PAIRS]
    pairs = [
        NearPair(
            rows.picture(a),
            rows.picture(b),
            distance,
            tuple(kind for kind, right in zip(KINDS, unlike, strict=True) if not right),
        )
        for unlike, distance, a, b in sorted(listed)[:LISTED_PAIRS]
    ]
    return NearPairs(tuple(pairs), suspicious, harmless)


def hash_thumbnails(thumbnails: NDArray[np.uint8], chosen: NDArray[np.intp]) -> NDArray[np.uint64]:
    """Give the difference hash of thumbnails (N, 16, 9, 3): (C,) uint64 for those chosen."""
    hashes = np.empty(len(chosen), np.uint64)
    for start in range(0, len(chosen), _BLOCK):
        part = thumbnails[chosen[start : start + _BLOCK]]
        grey = part @ np.array([299, 587, 114], np.int32)
        grey = grey[:, ::2] + grey[:, 1::2]
        rises = grey[:, :, 1:] > grey[:, :, :-1]
        # Columns k and k + 4 make part k: each part spans the picture, so few are equal by chance.
        parts = rises.transpose(0, 2, 1).reshape(-1, 2, _PARTS, 8).transpose(0, 2, 1, 3)
        bits = np.packbits(parts.reshape(-1, 64), axis=1)
        hashes[start : start + _BLOCK] = bits.view(">u8")[:, 0]
    return hashes


def list_candidates(
    hashes: NDArray[np.uint64],
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Give pairs of hashes, (N,) uint64, that share a part and differ in at most 6 bits, once.

    All of them come, unless more than 2,048 hashes share a part or more than 32 are equal: then
    each is compared with so many of the next ones only.
    """
    for part in range(_PARTS):
        key = _cut(hashes, part)
        order = np.lexsort((hashes, key))
        ordered, key = hashes[order], key[order]
        left = np.arange(len(order))
        for shift in range(1, min(_FURTHEST, len(order))):
            left = left[: np.searchsorted(left, len(order) - shift)]
            left = left[key[left] == key[left + shift]]
            if not len(left):
                break
            difference = ordered[left] ^ ordered[left + shift]
            near = np.bitwise_count(difference) <= MAXIMUM_DISTANCE
            if shift > _FURTHEST_EQUAL:
                near &= difference != 0
            for earlier in range(part):  # the pair came with an earlier part already
                near &= _cut(difference, earlier) != 0
            found = left[near]
            if len(found):
                yield order[found], order[found + shift]


def _cut(hashes: NDArray[np.uint64], part: int) -> NDArray[np.uint64]:
    """Give one part of each hash."""
    return (hashes >> np.uint64(_BITS * part)) & np.uint64(2**_BITS - 1)


def _look_alike(
    thumbnails: NDArray[np.uint8], first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Compare pairs of thumbnails in colour."""
    alike = np.empty(len(first), np.bool_)
    for start in range(0, len(first), _BLOCK):
        block = slice(start, start + _BLOCK)
        difference = thumbnails[first[block]].astype(np.int16) - thumbnails[second[block]]
        alike[block] = np.abs(difference).mean(axis=(1, 2, 3)) <= MAXIMUM_DIFFERENCE
    return alike


def _rank(kinds: tuple[str, ...]) -> tuple[bool, ...]:
    return tuple(kind not in kinds for kind in KINDS)
