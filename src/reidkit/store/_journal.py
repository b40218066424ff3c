"""What an unfinished embeddings folder notes of the batches that are on disk."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reidkit import disk
from reidkit.errors import UnreadableImage
from reidkit.records import Samples


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal.

    Fields:
        start: first row of the batch.
        crc32: checksum of the batch's bytes.
        pictures: what `stamp_files` gave for its pictures when they were read.
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


def stamp_files(paths: list[str]) -> int:
    """Give a number that changes when one of the files changes: its size or time of writing."""
    stamp = 0
    for path in paths:
        try:
            status = Path(path).stat()
            text = f"{status.st_size} {status.st_mtime_ns}"
        except (OSError, ValueError):
            text = "missing"
        stamp = zlib.crc32(text.encode(), stamp)
    return stamp
