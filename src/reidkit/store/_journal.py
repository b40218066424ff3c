"""What an unfinished embeddings folder notes of the batches that are on disk."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reidkit import disk
from reidkit.errors import UnreadableImage
from reidkit.records import Samples


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal.

    Fields:
        start: first row of the batch.
        crc32: checksum of the batch's bytes.
        pictures: the number that `stamp_files` gave for its pictures when they were read.
        unreadable: those of them that could not be decoded.
    """

    start: int
    crc32: int
    pictures: int
    unreadable: list[UnreadableImage]

    def line(self) -> bytes:
        """Give the entry as a line of JSON."""
        return json.dumps([self.start, self.crc32, self.pictures, self.unreadable]).encode() + b"\n"


def read_journal(path: Path) -> Iterator[Entry]:
    """Give the journal's entries; a torn or damaged line is passed over."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            start, checksum, pictures, images = json.loads(line)
            unreadable = [UnreadableImage(*image) for image in images]
            yield Entry(int(start), int(checksum), int(pictures), unreadable)


def fingerprint(samples: Samples) -> str:
    """Give a hash of which pictures these are and whom they show."""
    paths = [str(Path(path).absolute()) for path in samples.paths]
    return disk.sha256_json([paths, samples.person_ids.tolist(), samples.camera_ids.tolist()])


class Stamp(NamedTuple):
    """A checksum over facts of files, and how many bytes of facts there were."""

    number: int
    length: int

    def followed_by(self, other: Stamp) -> Stamp:
        """Give the stamp of these files and then the others, without looking at any."""
        # crc(a + b) = crc(b) ^ what len(b) bytes make of the first checksum. These bytes act on it
        # linearly, whatever they are, but for what they give from 0: take zeros.
        shifted, from_zero = self.number, 0
        for start in range(0, other.length, len(_ZEROS)):
            zeros = _ZEROS[: other.length - start]
            shifted, from_zero = zlib.crc32(zeros, shifted), zlib.crc32(zeros, from_zero)
        return Stamp(other.number ^ shifted ^ from_zero, self.length + other.length)


_ZEROS = bytes(2**16)


def stamp_files(paths: list[str]) -> Stamp:
    """Give a stamp whose number changes when one of the files does: its size or time of writing."""
    stamp, length = 0, 0
    for path in paths:
        try:
            status = Path(path).stat()
            text = f"{status.st_size} {status.st_mtime_ns}"
        except (OSError, ValueError):
            text = "missing"
        stamp, length = zlib.crc32(text.encode(), stamp), length + len(text)
    return Stamp(stamp, length)
