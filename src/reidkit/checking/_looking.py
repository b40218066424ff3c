"""Reading every picture once, in threads: can it be decoded, how large is it, how does it look?"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.errors import ImageError, UnreadableImage
from reidkit.machine import available_cores
from reidkit.package import InputSpec
from reidkit.records import Progress

THUMBNAIL = InputSpec(height=16, width=9)
"""How small a picture is remembered: 432 bytes, 43 MB for 100,000 of them."""

_CHUNK = 32


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What N pictures look like; rows of those that cannot be read are zero.

    Columns:
        readable: (N,) bool.
        shapes: (N, 2) int32, height and width in pixels.
        digests: (N, 2) uint64, a hash of the file's bytes.
        thumbnails: (N, 16, 9, 3) uint8 RGB.
    """

    readable: NDArray[np.bool_]
    shapes: NDArray[np.int32]
    digests: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]
    unreadable: tuple[UnreadableImage, ...]


def look_at(paths: NDArray[np.object_], progress: Progress | None = None) -> Looks:
    """Read and decode pictures; a path that stands there several times is read once."""
    places: dict[str, int] = {}
    rows = np.array([places.setdefault(path, len(places)) for path in paths], np.intp)
    looks = _look_at_each(list(places), progress)
    if len(places) == len(paths):
        return looks
    return Looks(
        looks.readable[rows],
        looks.shapes[rows],
        looks.digests[rows],
        looks.thumbnails[rows],
        looks.unreadable,
    )


def _look_at_each(paths: Sequence[str], progress: Progress | None) -> Looks:
    count = len(paths)
    looks = Looks(
        np.zeros(count, np.bool_),
        np.zeros((count, 2), np.int32),
        np.zeros((count, 2), np.uint64),
        np.zeros((count, THUMBNAIL.height, THUMBNAIL.width, 3), np.uint8),
        (),
    )
    unreadable: list[UnreadableImage] = []
    done = 0
    for number, failed in _run_in_threads(looks, paths):
        unreadable += failed
        done += number
        if progress is not None:
            progress(done, count)
    return Looks(looks.readable, looks.shapes, looks.digests, looks.thumbnails, tuple(unreadable))


def _run_in_threads(
    looks: Looks, paths: Sequence[str]
) -> Iterator[tuple[int, list[UnreadableImage]]]:
    """Fill the columns chunk by chunk; give each chunk's length and what could not be read."""
    workers = available_cores()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reidkit-checker")
    starts = iter(range(0, len(paths), _CHUNK))
    tasks: deque[tuple[int, Future[list[UnreadableImage]]]] = deque()
    try:
        while True:
            for start in islice(starts, 2 * workers - len(tasks)):
                chunk = paths[start : start + _CHUNK]
                tasks.append((len(chunk), pool.submit(_look_at_chunk, looks, start, chunk)))
            if not tasks:
                return
            number, task = tasks.popleft()
            yield number, task.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _look_at_chunk(looks: Looks, start: int, paths: Sequence[str]) -> list[UnreadableImage]:
    unreadable = []
    for row, path in enumerate(paths, start):
        try:
            data = preprocess.read_bytes(path)
            pixels = preprocess.decode_bytes(data, path)
        except ImageError as error:
            unreadable.append(UnreadableImage(path, error.reason))
            continue
        looks.shapes[row] = pixels.shape[:2]
        digest = hashlib.blake2b(data, digest_size=16).digest()
        looks.digests[row] = np.frombuffer(digest, np.uint64)
        looks.thumbnails[row] = preprocess.resize(pixels, THUMBNAIL)
        looks.readable[row] = True
    return unreadable
