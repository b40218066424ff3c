"""Tar files of pictures, as WebDataset writes them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from reidkit import preprocess
from reidkit.datasets.images import SUFFIXES
from reidkit.distributed._pieces import CAMERA, PERSON, Crop, blame
from reidkit.distributed._places import Place
from reidkit.records import JUNK

_BUFFER = 2**22
"""Bytes of a tar file that are asked for at once."""

_LARGEST_ID = 2**63 - 1


def read_tar(place: Place) -> Iterator[Crop]:
    """Read a tar file from front to back, sample by sample."""
    sample: list[_Member] = []
    key = ""
    try:
        with (
            place.open() as raw,
            io.BufferedReader(raw, _BUFFER) as file,
            tarfile.open(fileobj=file, mode="r:") as archive,
        ):
            kept: Any = archive
            for member in archive:
                kept.members = []  # of a large file that would be all its members
                if _is_wanted(member):
                    if _find_key(member.name) != key:
                        yield from _take_sample(place, sample)
                        sample, key = [], _find_key(member.name)
                    sample.append(_read_member(archive, member))
            fault = _find_fault_behind(archive, file)
    except FileNotFoundError:
        fault = "No such file"
    except (tarfile.TarError, EOFError) as error:
        fault = f"the shard is damaged: {error}"
    yield from _take_sample(place, sample)
    if fault:
        yield blame(place, fault)


class _Member(NamedTuple):
    """A file in a tar file, or why it was not read."""

    name: str
    data: bytes
    fault: str = ""

    @property
    def is_picture(self) -> bool:
        return PurePosixPath(self.name).suffix.lower() in SUFFIXES


def _is_wanted(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    shown = not path.name.startswith(".")
    return not member.isdir() and shown and path.suffix.lower() in SUFFIXES | {".json"}


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> _Member:
    if not member.isreg():
        return _Member(member.name, b"", "a link, or no file")
    if member.size > preprocess.MAXIMUM_BYTES:
        return _Member(member.name, b"", f"{member.size} bytes is too large for a picture")
    found = archive.extractfile(member)
    return _Member(member.name, found.read() if found is not None else b"")


def _find_key(name: str) -> str:
    """Give what the files of one sample share: the name up to its first dot."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _take_sample(place: Place, sample: Sequence[_Member]) -> Iterator[Crop]:
    """Give the pictures of a sample, with the ids that its .json file says."""
    ids = [member.data for member in sample if not member.is_picture]
    try:
        said = json.loads(ids[0]) if ids else {}
        person, camera = (_as_id(said.get(name, JUNK)) for name in (PERSON, CAMERA))
        fault = ""
    except (ValueError, AttributeError) as error:
        person, camera, fault = JUNK, JUNK, f"its .json file is damaged: {error}"
    for member in sample:
        if member.is_picture:
            why = member.fault or fault
            yield Crop(f"{place}/{member.name}", person, camera, member.data, why)


def _as_id(value: object) -> int:
    if type(value) is not int or abs(value) > _LARGEST_ID:
        raise ValueError(f"{value!r} is not a whole number of 64 bits")
    return value


def _find_fault_behind(archive: tarfile.TarFile, file: IO[bytes]) -> str:
    """Say what is wrong where reading ended: tarfile takes damage for the end of the file."""
    file.seek(archive.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        return "the shard is damaged: it was cut off"
    return "" if block.count(0) == len(block) else "the shard is damaged: no tar header"
