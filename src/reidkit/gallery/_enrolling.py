"""Putting crops into a gallery: what is refused is named, what is there already is skipped."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError, ImageError, MismatchError, ShapeError
from reidkit.gallery._pictures import Picture, embed_pictures, keep_picture, read_picture
from reidkit.gallery._quality import Quality, judge_crop
from reidkit.gallery._stores import Store
from reidkit.gallery._values import EVERYTHING, Binding, Crops
from reidkit.models import Model, to_unit_length
from reidkit.records import Progress

_TOGETHER = 256
"""The most crops that are added in one transaction."""

_HELD_BYTES = 2**27
"""How many bytes of decoded pictures wait for each other at most, one round of reading apart."""

_LONGEST = 1e18
"""Squares of longer vectors overflow float32."""

_ROUND = 16
"""Files that are read at once."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A crop that was not taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What became of crops that were to be added.

    Fields:
        ids: of those that are in the gallery now, in the order given.
        replaced: how many of them took the place of the same picture of the same person.
        skipped: how many were there already and were left as they are.
        refused: the others.
    """

    ids: tuple[int, ...] = ()
    replaced: int = 0
    skipped: int = 0
    refused: tuple[Refused, ...] = ()


def join_enrolments(parts: Sequence[Enrolment]) -> Enrolment:
    """Put enrolments together."""
    return Enrolment(
        tuple(crop for part in parts for crop in part.ids),
        sum(part.replaced for part in parts),
        sum(part.skipped for part in parts),
        tuple(each for part in parts for each in part.refused),
    )


@dataclass(frozen=True, slots=True)
class Door:
    """What decides who comes in: the store, what its vectors are of, what is asked of crops."""

    store: Store
    binding: Binding
    quality: Quality
    actor: str


def enrol(
    door: Door,
    crops: Crops,
    vectors: NDArray[np.float32],
    pictures: Sequence[Picture | None],
) -> Enrolment:
    """Add crops with their vectors, (N, D) float32; see `Gallery.enrol`."""
    vectors = _check_vectors(crops, vectors, door.binding)
    crops = _with_digests(crops, vectors, pictures)
    _check_people(crops)
    first = _find_first(crops)
    if not first.all():
        kept_pictures = [picture for picture, keep in zip(pictures, first, strict=True) if keep]
        rest = enrol(door, crops.select(first), vectors[first], kept_pictures)
        return join_enrolments([rest, Enrolment(skipped=int(np.count_nonzero(~first)))])
    known = door.store.find_known(crops.people.tolist(), crops.digests.tolist())
    reasons = _judge(door, crops, vectors, pictures, known)
    kept = np.array([not reason for reason in reasons], np.bool_)
    refused = tuple(
        Refused(_name(crops, pictures, row), reason) for row, reason in enumerate(reasons) if reason
    )
    ids: NDArray[np.int64] = np.empty(0, np.int64)
    if kept.any():
        rule = door.store.kept_pictures()
        ids = door.store.upsert(
            crops.select(kept),
            vectors[kept],
            [
                None if picture is None else keep_picture(picture.pixels, rule)
                for picture, keep in zip(pictures, kept, strict=True)
                if keep
            ],
            binding=door.binding,
            actor=door.actor,
        )
    replaced = sum(1 for row in np.flatnonzero(kept) if known[row] is not None)
    return Enrolment(tuple(ids.tolist()), replaced, 0, refused)


def add_files(
    door: Door,
    crops: Crops,
    model: Callable[[], Model],
    *,
    batch: int | None = None,
    progress: Progress | None = None,
) -> Enrolment:
    """Read, embed and add the files that `crops.sources` name; see `Gallery.add`."""
    _check_people(crops)
    done: list[Enrolment] = []
    count = 0
    with ThreadPoolExecutor(thread_name_prefix="reidkit-reader") as pool:
        for read in _read_parts(crops.sources.tolist(), pool):
            part = crops.select(slice(count, count + len(read)))
            done.append(_add_read(door, part, read, model, batch))
            count += len(part)
            if progress is not None:
                progress(count, len(crops))
    return join_enrolments(done)


def _read_parts(
    paths: Sequence[str], pool: ThreadPoolExecutor
) -> Iterator[list[Picture | Refused]]:
    """Read files in order, as many at a time as one transaction and the memory take."""
    read: list[Picture | Refused] = []
    held = 0
    for start in range(0, len(paths), _ROUND):
        for each in pool.map(_read, paths[start : start + _ROUND]):
            read.append(each)
            held += each.pixels.nbytes if isinstance(each, Picture) else 0
        if len(read) >= _TOGETHER or held >= _HELD_BYTES:
            yield read
            read, held = [], 0
    if read:
        yield read


def _add_read(
    door: Door,
    crops: Crops,
    read: Sequence[Picture | Refused],
    model: Callable[[], Model],
    batch: int | None,
) -> Enrolment:
    """Add those files that could be read and are not there yet."""
    unreadable = tuple(each for each in read if isinstance(each, Refused))
    rows = np.array([row for row, each in enumerate(read) if isinstance(each, Picture)], np.intp)
    pictures = [each for each in read if isinstance(each, Picture)]
    crops = dataclasses.replace(crops.select(rows), digests=_column([p.digest for p in pictures]))
    known = door.store.find_known(crops.people.tolist(), crops.digests.tolist())
    new = np.array(
        [owner != person for owner, person in zip(known, crops.people, strict=True)], np.bool_
    )
    pictures = [picture for picture, wanted in zip(pictures, new, strict=True) if wanted]
    skipped = Enrolment((), 0, int(np.count_nonzero(~new)), unreadable)
    if not pictures:
        return skipped
    vectors = embed_pictures(model(), pictures, batch=batch)
    return join_enrolments([skipped, enrol(door, crops.select(new), vectors, pictures)])


def _judge(
    door: Door,
    crops: Crops,
    vectors: NDArray[np.float32],
    pictures: Sequence[Picture | None],
    known: Sequence[str | None],
) -> list[str]:
    """Say for each crop why it is refused; an empty text where it is taken."""
    reasons = []
    for picture, person, owner in zip(pictures, crops.people, known, strict=True):
        if owner is not None and owner != person:
            reasons.append("this very picture is enrolled as somebody else already")
        else:
            reasons.append("" if picture is None else judge_crop(picture.pixels, door.quality))
    owners: dict[str, str] = {}
    for row, (person, digest) in enumerate(zip(crops.people, crops.digests, strict=True)):
        if not reasons[row] and owners.setdefault(digest, person) != person:
            reasons[row] = "this very picture is to be enrolled as somebody else too"
    if door.quality.most_alike is not None:
        new = [row for row, owner in enumerate(known) if owner is None and not reasons[row]]
        for row, reason in _find_duplicates(door, vectors[new], door.quality.most_alike):
            reasons[new[row]] = reason
    return reasons


def _find_duplicates(
    door: Door, vectors: NDArray[np.float32], most: float
) -> Iterator[tuple[int, str]]:
    """Find the vectors too like one in the gallery, or one before them that is none itself."""
    if not len(vectors):
        return
    nearest = door.store.search(vectors, 1, EVERYTHING, binding=door.binding).scores[:, 0]
    taken: list[int] = []
    for row, score in enumerate(nearest.tolist()):
        if taken:
            score = max(score, float((vectors[taken] @ vectors[row]).max()))
        if score > most:
            yield row, f"a duplicate: its cosine with a crop that is there is {score:.4f}"
        else:
            taken.append(row)


def _read(path: str) -> Picture | Refused:
    try:
        return read_picture(path)
    except ImageError as error:
        return Refused(path, error.reason)


def _find_first(crops: Crops) -> NDArray[np.bool_]:
    """Mark the crops that do not repeat an earlier one: the same picture of the same person."""
    seen: set[tuple[str, str]] = set()
    first = np.ones(len(crops), np.bool_)
    for row, key in enumerate(zip(crops.people, crops.digests, strict=True)):
        first[row] = key not in seen
        seen.add(key)
    return first


def _name(crops: Crops, pictures: Sequence[Picture | None], row: int) -> str:
    picture = pictures[row]
    return picture.name if picture is not None else crops.sources[row] or f"crop {row}"


def _with_digests(
    crops: Crops, vectors: NDArray[np.float32], pictures: Sequence[Picture | None]
) -> Crops:
    """Know each crop by its picture's hash, or by that of its vector and source."""
    digests = []
    for row, picture in enumerate(pictures):
        if picture is not None:
            digests.append(picture.digest)
        else:
            data = vectors[row].tobytes() + crops.sources[row].encode(errors="surrogatepass")
            digests.append(crops.digests[row] or hashlib.sha256(data).hexdigest())
    # The gallery alone says when it took a crop: retention goes by that.
    now = np.full(len(crops), np.nan)
    return dataclasses.replace(crops, digests=_column(digests), added=now)


def _check_vectors(
    crops: Crops, vectors: NDArray[np.float32], binding: Binding
) -> NDArray[np.float32]:
    """Give the vectors at unit length.

    Raises:
        MismatchError: they are not as long as the gallery's.
        ShapeError: not one for each crop, or not finite.
    """
    if vectors.ndim == 2 and vectors.shape[1] != binding.dimension:
        raise MismatchError(
            f"the vectors have length {vectors.shape[1]}, those of this gallery "
            f"{binding.dimension}: they are of another model"
        )
    if vectors.dtype != np.float32 or vectors.shape != (len(crops), binding.dimension):
        raise ShapeError(
            f"vectors are {vectors.dtype} {vectors.shape}, expected float32 "
            f"({len(crops)}, {binding.dimension})"
        )
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not np.isfinite(lengths).all() or lengths.max(initial=0) > _LONGEST:
        raise ShapeError("vectors hold NaN, infinity, or values too large to be compared")
    return to_unit_length(vectors)


def _check_people(crops: Crops) -> None:
    nameless = int(np.count_nonzero(crops.people == ""))
    if nameless:
        raise ArgumentError(
            f"{nameless} of {len(crops)} crops have no person's name: where nobody is known, the "
            "track's name will do"
        )


def _column(values: Sequence[str]) -> NDArray[np.object_]:
    column = np.empty(len(values), np.object_)
    column[:] = values
    return column
